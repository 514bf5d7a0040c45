"""sock_diag: sockets of this process are found with their queues; what the kernel cannot have sent is refused."""

from __future__ import annotations

import os
import socket
import struct

import pytest

from kernelproof.impl.netlink.connection import Connection
from kernelproof.impl.netlink.errors import NetlinkError, WireError
from kernelproof.impl.netlink.sock_diag import (
    LISTEN,
    SOCK_DIAG,
    Queue,
    inet_request,
    parse_inet,
    parse_unix,
    read_inet_sockets,
    read_unix_socket,
    read_unix_sockets,
    unix_request,
)
from kernelproof.impl.netlink.wire import Message


def answer(kind: int, payload: bytes) -> Message:
    """A message as the kernel would send it."""
    return Message(kind, 0, 1, 1, payload)


def test_a_question_for_one_socket() -> None:
    """The request names the inode, asks for name, peer and queue, and leaves the cookie open."""
    body = unix_request(4711).body
    assert struct.unpack("=BBHIIIII", body) == (1, 0, 0, 2**32 - 1, 4711, 0x15, 2**32 - 1, 2**32 - 1)


def test_a_question_for_sockets_of_ip() -> None:
    """It asks for a family, a protocol and some states, by sock_diag's own kind of message, and for nothing else."""
    asked = inet_request(socket.AF_INET, socket.IPPROTO_TCP, 1 << LISTEN)
    assert (asked.type, asked.flags) == (20, 0)  # SOCK_DIAG_BY_FAMILY
    assert struct.unpack("=BBBBI", asked.body[:8]) == (2, 6, 0, 0, 1 << LISTEN)


def test_a_unix_answer() -> None:
    """Name, peer and queue are read from an answer's attributes, and a missing one is None."""
    header = struct.pack("=BBBBIII", 1, 1, 10, 0, 99, 0, 0)
    queue = struct.pack("=HHII", 12, 4, 3, 128)
    name = struct.pack("=HH", 6, 0) + b"\0n" + b"\0\0"
    found = parse_unix(answer(20, header + name + queue))
    assert found == (99, 1, 10, b"\0n", None, Queue(3, 128))
    assert parse_unix(answer(20, header)).queue is None


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        struct.pack("=BBBBIII", 2, 1, 10, 0, 99, 0, 0),
        struct.pack("=BBBBIII", 1, 1, 10, 0, 99, 0, 0) + struct.pack("=HHI", 8, 4, 3),
        struct.pack("=BBBBIII", 1, 1, 10, 0, 99, 0, 0) + struct.pack("=HH", 400, 4),
    ],
    ids=["empty", "family", "short-queue", "lying-length"],
)
def test_answers_that_cannot_be(payload: bytes) -> None:
    """An answer that is short, of another family, or lies about a length is refused."""
    with pytest.raises(WireError):
        parse_unix(answer(20, payload))


def test_an_inet_answer() -> None:
    """Addresses, ports in network byte order, queue, owner and inode are read."""
    address = socket.inet_aton("127.0.0.1") + bytes(12)
    ports = struct.pack("!HH", 80, 0)
    numbers = struct.pack("=IIIIIIII", 0, 0, 0, 0, 3, 128, 1000, 77)
    found = parse_inet(answer(20, struct.pack("=BBBB", 2, 10, 0, 0) + ports + address + bytes(16) + numbers))
    assert found == (2, 10, "127.0.0.1", 80, "0.0.0.0", 0, Queue(3, 128), 1000, 77)
    with pytest.raises(WireError):
        parse_inet(answer(20, struct.pack("=BBBB", 1, 10, 0, 0) + ports + address + bytes(16) + numbers))


@pytest.fixture
def listener() -> socket.socket:
    """A unix listener with one client in its queue."""
    made = socket.socket(socket.AF_UNIX)
    made.bind("")
    made.listen(5)
    return made


def ask(inode: int) -> object:
    """Ask the kernel, or skip where it has no unix_diag."""
    try:
        return read_unix_socket(inode)
    except NetlinkError as error:
        pytest.skip(f"this kernel has no unix_diag: {error}")


def test_a_socket_of_this_process(listener: socket.socket) -> None:
    """A listener is found by its inode, with its name and the number of those who wait; an unknown inode is ENOENT."""
    with listener, socket.socket(socket.AF_UNIX) as client:
        inode = os.fstat(listener.fileno()).st_ino
        ask(inode)
        client.connect(listener.getsockname())
        found = read_unix_socket(inode)
        assert (found.inode, found.type, found.state) == (inode, socket.SOCK_STREAM, LISTEN)
        assert (found.name, found.queue) == (listener.getsockname(), Queue(1, 5))
        with Connection(SOCK_DIAG, strict=False) as connection:
            assert inode in {one.inode for one in read_unix_sockets(connection, 1 << LISTEN)}
    with pytest.raises(NetlinkError, match="No such file or directory"):
        read_unix_socket(inode)


def test_ip_sockets_of_this_process() -> None:
    """A TCP listener is among those of its family and state."""
    with socket.create_server(("127.0.0.1", 0), backlog=7) as made, Connection(SOCK_DIAG, strict=False) as connection:
        try:
            found = read_inet_sockets(connection, socket.AF_INET, socket.IPPROTO_TCP, 1 << LISTEN)
        except NetlinkError as error:
            pytest.skip(f"this kernel has no tcp_diag: {error}")
        (own,) = [one for one in found if one.port == made.getsockname()[1]]
        assert (own.address, own.state, own.queue) == ("127.0.0.1", LISTEN, Queue(0, 7))
