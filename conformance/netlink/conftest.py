"""rtnetlink through `impl.netlink`, which acts; pyroute2, /sys, /proc and `ip` observe."""

from __future__ import annotations

import os
import select
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from pyroute2 import IPRoute

from kernelproof.conformance.netlink.frames import Port
from kernelproof.impl.netlink import Connection, Rtnl
from kernelproof.impl.netlink.endpoint import ROUTE, KernelSocket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kernelproof.conformance.conftest import InChild

NOBODY = 65534
DEVICES = Path("/sys/class/net")
PROC_IPV6 = Path("/proc/sys/net/ipv6/conf")
_GROUPS = (1, 3, 5, 7, 8, 9, 11, 19, 26)  # links, neighbours, addresses, routes, rules, MDB entries
_AGAIN_SECONDS = 0.1  # for what changes without a word


class Settled(Protocol):
    def __call__(self, read: Callable[[], object], wanted: object, *, seconds: float = 20) -> object: ...


class Open(Protocol):
    def __call__(
        self, protocol: int = ROUTE, *, strict: bool = False, extended: bool = False, groups: tuple[int, ...] = ()
    ) -> KernelSocket: ...


class OpenPort(Protocol):
    def __call__(self, device: str) -> Port: ...


class Pairs(Protocol):
    def __call__(self, *ports: str, master: str = "") -> list[Port]: ...


@pytest.fixture
def net() -> Iterator[Rtnl]:
    """rtnetlink of the machine's own network namespace, the one that acts."""
    with Rtnl() as rtnl:
        yield rtnl


@pytest.fixture
def plain() -> Iterator[Connection]:
    """A connection without strict checking."""
    with Connection(strict=False) as connection:
        yield connection


@pytest.fixture
def observer() -> Iterator[IPRoute]:
    """pyroute2 on a socket of its own, which only looks."""
    with IPRoute() as route:
        yield route


@pytest.fixture
def opened() -> Iterator[Open]:
    """Open a socket of the lowest layer, which sends and receives bytes."""
    sockets: list[KernelSocket] = []

    def open_one(
        protocol: int = ROUTE, *, strict: bool = False, extended: bool = False, groups: tuple[int, ...] = ()
    ) -> KernelSocket:
        sockets.append(KernelSocket(protocol, strict=strict, extended=extended, groups=groups))
        return sockets[-1]

    yield open_one
    for each in sockets:
        each.close()


@pytest.fixture
def unprivileged(in_child: InChild) -> Callable[[Callable[[], Any]], Any]:
    """Run a function in a child that is the user nobody, without any capability, and return its value."""

    def run(function: Callable[[], Any]) -> Any:
        def drop_and_call() -> Any:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            return function()

        return in_child(drop_and_call)

    return run


@pytest.fixture
def settled() -> Settled:
    """Read a value until it is the wanted one, or the time is over, and return what was read last.

    It is read again after each notification of the kernel's and every tenth of a second.
    """
    return _settled


def _settled(read: Callable[[], object], wanted: object, *, seconds: float = 20) -> object:
    deadline = time.monotonic() + seconds
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, ROUTE) as told:
        told.bind((0, sum(1 << group - 1 for group in _GROUPS)))
        poll = select.poll()
        poll.register(told, select.POLLIN)
        while (value := read()) != wanted and time.monotonic() < deadline:
            if poll.poll(_AGAIN_SECONDS * 1000):
                told.recv(1 << 16)
    return value


@pytest.fixture
def port() -> Iterator[OpenPort]:
    """Open a packet socket on a device."""
    ports: list[Port] = []

    def open_one(device: str) -> Port:
        ports.append(Port(device))
        return ports[-1]

    yield open_one
    for each in ports:
        each.close()


@pytest.fixture
def silent() -> None:
    """Devices made from now on have no IPv6, so that they send nothing by themselves."""
    if PROC_IPV6.exists():
        for scope in ("all", "default"):
            (PROC_IPV6 / scope / "disable_ipv6").write_text("1")


@pytest.fixture
def pairs(net: Rtnl, port: OpenPort, settled: Settled, silent: None) -> Pairs:
    """Make a veth pair for each port, "p0" with its far end "p0-far", and return packet sockets on the far ends.

    With a master, a bridge, the ports are its, and forward frames when this returns.
    """

    def make(*ports: str, master: str = "") -> list[Port]:
        above = {"master": net.index_of(master)} if master else {}
        for name in ports:
            net.link_add(name, "veth", peer={"name": f"{name}-far"}, **above)
            for end in (name, f"{name}-far"):
                net.link_set(end, up=True)
        # A device without carrier drops what it is to send, and the kernel notices the carrier in its own time.
        ends = [end for name in ports for end in (name, f"{name}-far")]
        for file in [DEVICES / end / "operstate" for end in ends]:
            assert settled(file.read_text, "up\n") == "up\n"
        for file in [DEVICES / name / "brport/state" for name in ports if master]:
            assert settled(file.read_text, "3\n") == "3\n"
        return [port(f"{name}-far") for name in ports]

    return make
