"""What a network namespace has for itself: devices, ports, abstract addresses, and its view in /proc/net."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernelproof import behaviour
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare
from kernelproof.impl.netlink import Rtnl

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.seen import Seen

ABSTRACT = "\0kernelproof"


def devices(table: str = "/proc/self/net/dev") -> set[str]:
    """The devices that a file of /proc lists."""
    return {line.split(":")[0].strip() for line in Path(table).read_text().splitlines() if ":" in line}


def here_and_inside(in_child: InChild, function: Callable[[], Any]) -> list[Any]:
    """What a function gives in this network namespace, and in a new one."""

    def inside() -> Any:
        unshare(CloneFlag.NEWNET)
        return function()

    return [in_child(function), in_child(inside)]


@behaviour("namespaces.net.abstract-sockets-isolated")
def test_abstract_address(in_child: InChild, seen: Seen) -> None:
    """An abstract socket of another network namespace is not there: ECONNREFUSED."""

    def connect() -> str:
        with socket.socket(socket.AF_UNIX) as client:
            return seen.errno_of(client.connect, ABSTRACT)

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(ABSTRACT)
        server.listen()
        assert seen(here_and_inside(in_child, connect)) == ["no error", "ECONNREFUSED"]


@behaviour("namespaces.net.ports-isolated")
def test_port_of_each_namespace(in_child: InChild, seen: Seen) -> None:
    """Port 80 can be bound in each network namespace, and once only in one."""

    def bind() -> str:
        with socket.socket() as server:
            return seen.errno_of(server.bind, ("0.0.0.0", 80))

    with socket.socket() as server:
        server.bind(("0.0.0.0", 80))
        assert seen(here_and_inside(in_child, bind)) == ["EADDRINUSE", "no error"]


@behaviour("namespaces.net.fresh-namespace-has-only-lo")
def test_new_network_namespace_has_no_old_device(in_child: InChild, seen: Seen) -> None:
    """A network namespace fresh from unshare(2) lists none of the devices of the one it was created from."""
    with Rtnl() as net:
        net.link_add("left", "veth", peer={"name": "right"})
    old = devices() - {"lo"}  # every namespace has one of its own by that name
    assert old >= {"left", "right"}
    _, inside = here_and_inside(in_child, lambda: sorted(devices()))
    assert "lo" in inside
    assert seen(sorted(old.intersection(inside))) == []


@behaviour("namespaces.net.proc-net-follows-reader")
def test_proc_net_is_the_readers(in_child: InChild, seen: Seen) -> None:
    """/proc/net leads to the reader's own network namespace."""

    def look() -> list[Any]:
        with Rtnl() as net:
            net.link_add(f"only{os.getpid()}", "dummy")
        mine = {f"only{os.getpid()}"}
        return [os.readlink("/proc/net"), devices("/proc/net/dev") == devices(f"/proc/{os.getpid()}/net/dev") >= mine]

    assert os.path.islink("/proc/net")
    outside, inside = here_and_inside(in_child, look)
    assert seen([outside, inside]) == [["self/net", True]] * 2
    assert len([name for name in devices() if name.startswith("only")]) == 1
