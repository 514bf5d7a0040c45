"""Sockets: their addresses, their options, and who may ask."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from typing import TYPE_CHECKING, Any

from kernelproof import behaviour
from kernelproof.conformance.netlink import heard
from kernelproof.conformance.netlink.heard import SOL_NETLINK, answers
from kernelproof.conformance.netlink.shown import NO_ERROR, names, outcome
from kernelproof.impl.netlink import Rtnl, links
from kernelproof.impl.netlink.endpoint import KernelSocket

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.netlink.conftest import Open
    from kernelproof.conformance.seen import Seen

NO_SUCH_OPTION = 9999
ATOMIC = 0x400
LINK_GROUP, MDB_GROUP = 1, 26

_libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int) -> int:
    """Return the result of a call to libc.

    Raises:
        OSError: It was -1.
    """
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def bind(own: KernelSocket, address: bytes) -> int:
    """bind(2) with an address as bytes."""
    return checked(_libc.bind(own.fileno(), address, len(address)))


def kernel_address(port: int, family: int = socket.AF_NETLINK) -> bytes:
    """A struct sockaddr_nl."""
    return struct.pack("=HHII", family, 0, port, 0)


@behaviour("netlink.options.list-memberships", subject="impl")
def test_groups_are_listed(opened: Open) -> None:
    """NETLINK_LIST_MEMBERSHIPS tells a bit for each group that the socket is in, and the length that all take."""
    with heard.options_of(opened(groups=(LINK_GROUP, MDB_GROUP))) as same:
        listed = same.getsockopt(SOL_NETLINK, heard.LIST_MEMBERSHIPS, 64)
    bits = int.from_bytes(listed, "little")
    assert [number + 1 for number in range(len(listed) * 8) if bits >> number & 1] == [LINK_GROUP, MDB_GROUP]
    assert 4 <= len(listed) < 64
    assert len(listed) % 4 == 0


@behaviour("netlink.options.list-memberships-short-buffer", subject="impl")
def test_groups_are_counted_without_a_buffer(opened: Open) -> None:
    """With a buffer of length 0 NETLINK_LIST_MEMBERSHIPS succeeds and tells the length that is needed."""
    own = opened(groups=(LINK_GROUP,))
    with heard.options_of(own) as same:
        whole = same.getsockopt(SOL_NETLINK, heard.LIST_MEMBERSHIPS, 64)
    length = ctypes.c_uint(0)
    checked(_libc.getsockopt(own.fileno(), SOL_NETLINK, heard.LIST_MEMBERSHIPS, None, ctypes.byref(length)))
    assert length.value == len(whole) > 0


@behaviour("netlink.options.unknown-option", subject="impl")
def test_unknown_option_is_refused(opened: Open, seen: Seen) -> None:
    """An option that does not exist can be neither set nor read."""
    with heard.options_of(opened()) as same:
        found = [
            outcome(same.setsockopt, SOL_NETLINK, NO_SUCH_OPTION, 1),
            outcome(same.getsockopt, SOL_NETLINK, NO_SUCH_OPTION),
        ]
    assert seen(found) == ["ENOPROTOOPT", "ENOPROTOOPT"]


@behaviour("netlink.options.short-optval", subject="impl")
def test_option_shorter_than_a_number_is_refused(opened: Open, seen: Seen) -> None:
    """A value of one byte for an option that is a number is refused."""
    with heard.options_of(opened()) as same:
        assert outcome(same.setsockopt, SOL_NETLINK, heard.EXT_ACK, struct.pack("=i", 1)) == NO_ERROR
        assert seen.errno_of(same.setsockopt, SOL_NETLINK, heard.EXT_ACK, b"\1") == "EINVAL"


@behaviour("netlink.portid.first-socket-is-pid", subject="impl")
def test_first_socket_has_the_number_of_its_process(in_child: InChild) -> None:
    """The first socket of a process has the process's number as its port, and the second another."""

    def ports() -> list[int]:
        first, second = KernelSocket(), KernelSocket()
        return [os.getpid(), first.port, second.port]

    pid, first, second = in_child(ports)
    assert first == pid
    assert second not in (0, pid)


@behaviour("netlink.portid.chosen", subject="impl")
def test_port_can_be_chosen() -> None:
    """A socket that is bound to a free port has that port, and gets its answers there."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as own:
        own.bind((424242, 0))
        assert own.getsockname()[0] == 424242
        own.send(links.get_link("lo").encode(1))
        assert [message.port for message in heard.take_apart(own.recv(1 << 16))] == [424242]


@behaviour("netlink.portid.must-be-unique", subject="impl")
def test_port_is_one_socket_s(opened: Open, seen: Seen) -> None:
    """No second socket can be bound to a port."""
    own = opened()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as second:
        assert seen.errno_of(second.bind, (own.port, 0)) == "EADDRINUSE"


@behaviour("netlink.portid.reply-addressed-to-sender", subject="impl")
def test_reply_is_from_the_kernel_to_the_sender(opened: Open) -> None:
    """A reply names the port of who asked, and comes from port 0."""
    own = opened()
    own.send(links.get_link("lo").encode(1))
    with heard.options_of(own) as same:
        data, (port, groups) = same.recvfrom(1 << 16)
        assert [message.port for message in heard.take_apart(data)] == [same.getsockname()[0]]
    assert (port, groups) == (0, 0)
    assert own.port == heard.take_apart(data)[0].port


@behaviour("netlink.perm.get-is-unprivileged", subject="impl")
def test_anybody_reads_the_list_of_links(net: Rtnl, unprivileged: Callable[[Callable[[], Any]], Any]) -> None:
    """A process without any capability reads the list of links."""
    net.link_add("port0", "dummy")

    def read() -> list[str]:
        with Rtnl() as own:
            return sorted(link.name for link in own.links())

    assert unprivileged(read) == sorted(names())
    assert "port0" in names()


@behaviour("netlink.perm.atomic-flag", subject="impl")
def test_atomic_dump_needs_privilege(unprivileged: Callable[[Callable[[], Any]], Any], seen: Seen) -> None:
    """A dump with NLM_F_ATOMIC is refused to a process without CAP_NET_ADMIN."""

    def dump() -> str:
        with Rtnl() as own:
            request = links.list_links()
            return outcome(own.connection.messages, request._replace(flags=request.flags | ATOMIC))

    assert dump() == NO_ERROR
    assert seen(unprivileged(dump)) == "EPERM"


@behaviour("netlink.socket.unknown-protocol", subject="impl")
def test_unknown_protocol_is_refused(seen: Seen) -> None:
    """There is no netlink socket of a protocol that no family has."""
    assert seen.errno_of(KernelSocket, 31) == "EPROTONOSUPPORT"


@behaviour("netlink.socket.bind-short-address", subject="impl")
def test_short_address_is_refused(opened: Open, seen: Seen) -> None:
    """An address shorter than struct sockaddr_nl can't be bound to."""
    own = opened()
    assert outcome(bind, own, kernel_address(own.port)) == NO_ERROR
    assert seen.errno_of(bind, own, kernel_address(own.port)[:8]) == "EINVAL"


@behaviour("netlink.socket.bind-wrong-family", subject="impl")
def test_address_of_another_family_is_refused(opened: Open, seen: Seen) -> None:
    """An address of another family can't be bound to."""
    own = opened()
    assert outcome(bind, own, kernel_address(own.port)) == NO_ERROR
    assert seen.errno_of(bind, own, kernel_address(own.port, socket.AF_INET)) == "EINVAL"
    assert answers(own, links.get_link("lo").encode(1))[0].port == own.port
