"""What a network namespace has for itself: devices, ports, abstract addresses, and its view in /proc/net."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernelproof import behaviour
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare
from kernelproof.impl.netlink import Generic, Rtnl, wait_until_link

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelproof.conformance.conftest import Companion, InChild, Talk
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


def make_device(name: str) -> None:
    """Make an Ethernet device of L2TP: the kernel's other virtual devices have link operations, by which they die."""
    here = socket.inet_aton("127.0.0.1")
    with Rtnl() as net:
        net.link_set("lo", up=True)
    u16, u32 = struct.Struct("=H").pack, struct.Struct("=I").pack
    ports = [(26, u16(1701)), (27, u16(1701))]
    with Generic() as generic:
        generic.ask("l2tp", 1, [(9, u32(1)), (10, u32(1)), (7, b"\3"), (2, u16(0)), (24, here), (25, here), *ports])
        generic.ask("l2tp", 5, [(9, u32(1)), (11, u32(1)), (12, u32(1)), (1, u16(5)), (8, name.encode() + b"\0")])


@behaviour("namespaces.net.physical-device-returns")
def test_physical_device_comes_back(companion: Companion, in_child: InChild, seen: Seen) -> None:
    """A physical device of a namespace that is freed is in the initial namespace, not in that of the parent process."""
    make_device("physical")

    def have_a_child(talk: Talk) -> None:
        unshare(CloneFlag.NEWNET)
        child = companion(live)
        talk.ask([os.getpid(), child.hear()])
        child.say()
        os.waitpid(child.pid, 0)
        talk.hear()
        talk.say(sorted(devices()))

    def live(talk: Talk) -> None:
        unshare(CloneFlag.NEWNET)
        talk.ask(os.getpid())

    parent = companion(have_a_child)
    _, inner = parent.hear()
    with Rtnl() as net:
        net.link_set("physical", namespace_pid=inner)
    moved = "physical" in devices(f"/proc/{inner}/net/dev") and "physical" not in devices()
    parent.say()
    wait_until_link("physical", lambda link: link is not None, timeout_seconds=30)
    assert seen([moved, "physical" in devices(), "physical" in parent.ask()]) == [True, True, False]
