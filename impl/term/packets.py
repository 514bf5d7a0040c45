"""Packet mode of a master: a read says whether it has output, or what the program did to the terminal.

    set_packet_mode(pair.master, True)
    packet = read_packet(pair.master)
    if packet.events & PacketEvent.FLUSH_READ: ...      # input that was not read is gone: drop ours too

poll(2) reports POLLPRI while an event waits.

Source: TIOCPKT(2const).
"""

from __future__ import annotations

import os
import struct
import termios
from enum import IntFlag
from typing import NamedTuple

from kernelproof.impl.term.calls import control


class PacketEvent(IntFlag):
    """What happened to the terminal; 0 is output."""

    FLUSH_READ = 0x01  # input was thrown away
    FLUSH_WRITE = 0x02
    STOP = 0x04  # output is suspended
    START = 0x08
    NO_STOP = 0x10  # the START and STOP characters are others than ^Q and ^S, or off
    DO_STOP = 0x20  # they are ^Q and ^S
    IOCTL = 0x40


class Packet(NamedTuple):
    """One read: output, or what happened."""

    events: PacketEvent
    data: bytes


def set_packet_mode(master: int, on: bool) -> None:
    """Switch packet mode on or off.

    Raises:
        OSError: ENOTTY no master; EBADF.
    """
    control(master, "TIOCPKT", termios.TIOCPKT, struct.pack("i", on))


def parse_packet(read: bytes) -> Packet:
    """Return what a read from a master in packet mode means.

    Raises:
        EOFError: it is empty.

    >>> parse_packet(bytes([0]) + b"output")
    Packet(events=<PacketEvent: 0>, data=b'output')
    """
    if not read:
        raise EOFError("the other side of the terminal is closed")
    return Packet(PacketEvent(read[0]), read[1:])


def read_packet(master: int, limit_bytes: int = 65535) -> Packet:
    """Read once from a master in packet mode.

    Args:
        master: its descriptor.
        limit_bytes: what a packet may hold at most, its first byte included.

    Raises:
        EOFError: the other side is closed.
        OSError: EIO likewise, on Linux; EAGAIN nothing is there, on a descriptor that does not block.
    """
    return parse_packet(os.read(master, limit_bytes))
