"""rtnetlink through pyroute2, the stand-in that acts; /sys, /proc and `ip` observe."""

from __future__ import annotations

from errno import errorcode
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Link(Protocol):
    def __call__(self, name: str, kind: str, **attributes: object) -> int: ...


class Refusal(Protocol):
    def __call__(self, request: Callable[..., object], *arguments: object, **attributes: object) -> str: ...


@pytest.fixture
def route() -> Iterator[IPRoute]:
    """A socket to rtnetlink of the machine's own network namespace."""
    with IPRoute() as socket:
        yield socket


@pytest.fixture
def new_link(route: IPRoute) -> Link:
    """Create a device that is up and return its index."""

    def create(name: str, kind: str, **attributes: Any) -> int:
        route.link("add", ifname=name, kind=kind, **attributes)
        (index,) = route.link_lookup(ifname=name)
        route.link("set", index=index, state="up")
        return int(index)

    return create


@pytest.fixture
def refusal_of() -> Refusal:
    """Send a request and return the name of the errno in the kernel's NLMSG_ERROR, or "no error"."""

    def send(request: Callable[..., object], *arguments: object, **attributes: object) -> str:
        try:
            request(*arguments, **attributes)
        except NetlinkError as error:
            return errorcode[error.code]
        return "no error"

    return send
