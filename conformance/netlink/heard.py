"""What the kernel said, taken apart here: by struct alone, so that it shows what `impl.netlink` makes of it."""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from kernelproof.impl.netlink.endpoint import KernelSocket

ERROR, DONE = 2, 3
MULTI, ACK, ECHO, INTERRUPTED, FILTERED, DUMP = 0x2, 0x4, 0x8, 0x10, 0x20, 0x300
CAPPED, ACK_TLVS = 0x100, 0x200
SOL_NETLINK = 270
ADD_MEMBERSHIP, DROP_MEMBERSHIP, PKTINFO, NO_ENOBUFS = 1, 2, 3, 5
LISTEN_ALL_NSID, LIST_MEMBERSHIPS, CAP_ACK, EXT_ACK, STRICT = 8, 9, 10, 11, 12


class Heard(NamedTuple):
    """One message: its header's fields and what follows."""

    length: int
    type: int
    flags: int
    sequence: int
    port: int
    payload: bytes

    @property
    def code(self) -> int:
        """The error field of an NLMSG_ERROR or NLMSG_DONE."""
        return int(struct.unpack_from("=i", self.payload)[0])


def take_apart(datagram: bytes) -> list[Heard]:
    """Return the messages of a datagram."""
    found = []
    place = 0
    while place < len(datagram):
        length, kind, flags, sequence, port = struct.unpack_from("=IHHII", datagram, place)
        found.append(Heard(length, kind, flags, sequence, port, datagram[place + 16 : place + length]))
        place += rounded(length)
    return found


def rounded(length: int) -> int:
    """Return a length rounded up to 4."""
    return (length + 3) & ~3


def attributes(data: bytes) -> dict[int, bytes]:
    """Return attributes by number, without the flags in it."""
    found = {}
    while data:
        length, number = struct.unpack_from("=HH", data)
        found[number & 0x3FFF] = data[4:length]
        data = data[rounded(length) :]
    return found


def datagrams(socket: KernelSocket) -> list[bytes]:
    """Return all that can be read: the kernel answers before send(2) returns, and goes on with a dump at each read."""
    found = []
    while True:
        try:
            found.append(socket.receive()[0])
        except BlockingIOError:
            return found


def answers(socket: KernelSocket, data: bytes) -> list[Heard]:
    """Send a datagram and return all messages that come back."""
    socket.send(data)
    return [message for datagram in datagrams(socket) for message in take_apart(datagram)]


def options_of(own: KernelSocket) -> socket.socket:
    """Return the same socket as Python's, for its options; the caller closes it."""
    return socket.socket(fileno=os.dup(own.fileno()))


def set_option(own: KernelSocket, option: int, value: int = 1) -> None:
    """Set an option of a netlink socket.

    Raises:
        OSError: As the kernel has it.
    """
    with options_of(own) as same:
        same.setsockopt(SOL_NETLINK, option, value)
