"""Datagrams: what waits for its receiver, what is dropped, what is told of it."""

from __future__ import annotations

import fcntl
import select
import socket
import struct
import termios
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.socket.conftest import SYSCTL, port_of
from kernelproof.impl.listenbuffer import Address, GatedListener
from kernelproof.impl.listenbuffer.listening import Choices, bind

if TYPE_CHECKING:
    from kernelproof.conformance.seen import Seen
    from kernelproof.conformance.socket.conftest import Client, Listen

SO_RXQ_OVFL = 40
LOOPBACK = Address("udp4", "127.0.0.1", 0)


def row_of(port: int) -> dict[str, int]:
    """Bytes in the receive buffer and datagrams dropped of the UDP socket at a port, by /proc/net/udp."""
    for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].split(":")[1], 16) == port:
            return {"waiting": int(fields[4].split(":")[1], 16), "dropped": int(fields[12])}
    raise LookupError(f"no UDP socket has port {port}")


@pytest.fixture
def udp(listening: Listen) -> GatedListener:
    """A UDP receiver on the loopback address, its gate open."""
    return listening("udp://127.0.0.1:0")


@pytest.fixture
def closed_port() -> tuple[str, int]:
    """An address at which nobody receives."""
    bound, _ = bind(LOOPBACK, Choices())
    with bound:
        host, port = bound.getsockname()
    return host, port


@behaviour("socket.udp.queued-before-recv")
def test_datagrams_wait_for_their_receiver(listening: Listen, client: Client, seen: Seen) -> None:
    """What was sent while the gate was shut waits: FIONREAD is the next one's size, and all come later."""
    receiver = listening("udp://127.0.0.1:0", is_open=False)
    sender = client(receiver)
    for size in (3, 50, 7):
        sender.send(b"x" * size)
    number = bytearray(4)
    fcntl.ioctl(receiver.real_fileno(), termios.FIONREAD, number)
    assert row_of(port_of(receiver))["waiting"] == receiver.pending()
    receiver.activate()
    sizes = [len(receiver.recv(100)) for _ in range(3)]
    assert seen([struct.unpack("i", number)[0], *sizes]) == [3, 3, 50, 7]


@behaviour("socket.udp.overflow-drops-newest")
def test_a_full_buffer_drops_what_comes(listening: Listen, client: Client, seen: Seen) -> None:
    """Each send succeeds, the first datagrams are kept, and SO_RXQ_OVFL and `dropped` tell how many were not."""
    receiver = listening("udp://127.0.0.1:0", is_open=False)
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    receiver.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
    sender = client(receiver)
    sizes = [sender.send(struct.pack("=I", number) + bytes(499)) for number in range(100)]
    assert sizes == [503] * 100
    lost = row_of(port_of(receiver))["dropped"]
    assert receiver.dropped() == lost
    receiver.activate()
    kept = [struct.unpack_from("=I", receiver.recv(600))[0] for _ in range(100 - lost)]
    assert kept == list(range(100 - lost))
    sender.send(b"last")
    data, ancillary, _, _ = receiver.recvmsg(100, 100)
    assert data == b"last"
    told = [struct.unpack("=I", value)[0] for level, kind, value in ancillary if (level, kind) == (1, SO_RXQ_OVFL)]
    assert seen([0 < lost < 100, told == [lost]]) == [True, True]


@behaviour("socket.udp.rcvbuf-doubled")
def test_the_receive_buffer_is_doubled(udp: GatedListener, seen: Seen) -> None:
    """SO_RCVBUF reads twice what was set, and at most twice rmem_max; the queue's limit is that."""
    highest = int((SYSCTL / "core/rmem_max").read_text())
    limits = []
    for asked in (10_000, 20_000, highest * 4):
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, asked)
        limits.append(udp.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF))
        queue = udp.queue()
        assert queue is not None
        assert queue.limit == limits[-1]
    assert seen(limits) == [20_000, 40_000, 2 * highest]


@behaviour("socket.udp.rcvbuf-minimum")
def test_the_smallest_receive_buffer(udp: GatedListener, seen: Seen) -> None:
    """The smallest receive buffer, after doubling, is 256 bytes."""
    udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    queue = udp.queue()
    assert queue is not None
    assert queue.limit == seen(udp.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)) == 256


@behaviour("socket.udp.truncation")
def test_a_long_datagram_is_cut(udp: GatedListener, client: Client, seen: Seen) -> None:
    """Of a datagram longer than the buffer the rest is gone, and MSG_TRUNC says so."""
    sender = client(udp)
    sender.send(b"abcdef")
    sender.send(b"next")
    data, _, flags, _ = udp.recvmsg(4)
    whole, _, no_flags, _ = udp.recvmsg(4)
    assert (data, whole) == (b"abcd", b"next")
    assert seen([bool(value & socket.MSG_TRUNC) for value in (flags, no_flags)]) == [True, False]


@behaviour("socket.udp.msg-trunc-real-length")
def test_the_real_length_is_told(udp: GatedListener, client: Client, seen: Seen) -> None:
    """With MSG_TRUNC recv gives the real length of a datagram that was longer than the buffer."""
    client(udp).send(b"x" * 1000)
    buffer = bytearray(10)
    assert seen(udp.recv_into(buffer, 10, socket.MSG_TRUNC)) == 1000
    assert buffer == b"x" * 10


@behaviour("socket.udp.zero-length")
def test_an_empty_datagram_is_one(udp: GatedListener, client: Client, seen: Seen) -> None:
    """A datagram of no bytes arrives as such, before the next one, and ends nothing."""
    sender = client(udp)
    sender.send(b"")
    sender.send(b"x")
    assert select.select([udp.real_fileno()], [], [], 10)[0]
    data, peer = udp.recvfrom(10)
    assert (data, peer) == (b"", sender.getsockname())
    assert seen([len(data), len(udp.recv(10))]) == [0, 1]


@behaviour("socket.udp.refused-when-connected")
def test_a_closed_port_is_told_the_next_time(udp: GatedListener, closed_port: tuple[str, int], seen: Seen) -> None:
    """On a connected UDP socket the send after one to a closed port gives ECONNREFUSED."""
    udp.connect(closed_port)
    answers = [seen.errno_of(udp.send, b"x"), seen.errno_of(udp.send, b"x")]
    assert udp.getpeername() == closed_port
    assert seen(answers) == ["no error", "ECONNREFUSED"]


@behaviour("socket.udp.refused-unconnected")
def test_a_closed_port_is_told_without_a_connection(
    udp: GatedListener, closed_port: tuple[str, int], seen: Seen
) -> None:
    """On an unconnected UDP socket the send after one to a closed port gives ECONNREFUSED too."""
    assert udp.sendto(b"x", closed_port) == 1
    assert seen.errno_of(udp.sendto, b"x", closed_port) == "ECONNREFUSED"


@behaviour("socket.udp.broadcast-eacces")
def test_broadcasts_must_be_asked_for(udp: GatedListener, seen: Seen) -> None:
    """Sending to a broadcast address gives EACCES until SO_BROADCAST is set."""
    target = ("127.255.255.255", 9)
    answers = [seen.errno_of(udp.sendto, b"x", target)]
    udp.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    answers.append(seen.errno_of(udp.sendto, b"x", target))
    assert seen(answers) == ["EACCES", "no error"]


@behaviour("socket.udp.too-long")
def test_a_datagram_has_a_largest_size(udp: GatedListener, listening: Listen, seen: Seen) -> None:
    """70000 bytes give EMSGSIZE, and nothing arrives."""
    target = listening("udp://127.0.0.1:0")
    refused = seen.errno_of(udp.sendto, bytes(70_000), target.getsockname())
    assert row_of(port_of(target)) == {"waiting": 0, "dropped": 0}
    assert refused == "EMSGSIZE"
