"""Ethernet frames: written, put into a device, and taken from it by a packet socket, VLAN tags included."""

from __future__ import annotations

import select
import socket
import struct

ANY_PROTOCOL = 3  # ETH_P_ALL
EXPERIMENTAL = 0x88B5  # the type of the tests' frames, which nobody else sends
TAG = 0x8100
BROADCAST = "ff:ff:ff:ff:ff:ff"

_SOL_PACKET, _PACKET_AUXDATA = 263, 8
_OUTGOING = 4  # PACKET_OUTGOING
_VLAN_VALID, _VLAN_TPID_VALID = 0x10, 0x40
_AUXDATA = struct.Struct("=IIIHHHH")  # struct tpacket_auxdata
_QUIET_MILLISECONDS = 300


def frame(
    destination: str, source: str, payload: bytes = b"kernelproof", *, vlan: int | None = None, type: int = EXPERIMENTAL
) -> bytes:
    """Return a frame; with a VLAN, one tagged with 0x8100."""
    ends = bytes.fromhex((destination + source).replace(":", ""))
    tag = b"" if vlan is None else struct.pack("!HH", TAG, vlan)
    return ends + tag + struct.pack("!H", type) + payload.ljust(46, b"\0")


class Port:
    """A packet socket on a device.

    Args:
        device: Its name.
        type: Frames of which type it is about.
    """

    def __init__(self, device: str, type: int = EXPERIMENTAL) -> None:
        self._type = type
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        self._socket.bind((device, ANY_PROTOCOL))
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Put a frame into the device, to go out of it."""
        self._socket.send(data)

    def received(self) -> list[bytes]:
        """Return the tests' frames that the device received, when no more has come for 0.3 seconds."""
        found = []
        while self._poll.poll(_QUIET_MILLISECONDS):
            data, ancillary, _, address = self._socket.recvmsg(65536, socket.CMSG_SPACE(_AUXDATA.size))
            if address[2] != _OUTGOING:
                found.append(_with_tag(data, ancillary))
        return [data for data in found if _type_of(data) == self._type]


def _with_tag(data: bytes, ancillary: list[tuple[int, int, bytes]]) -> bytes:
    # The kernel takes the tag out of the frame and tells it beside.
    for level, kind, value in ancillary:
        if (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA):
            status, _, _, _, _, tci, tpid = _AUXDATA.unpack(value[: _AUXDATA.size])
            if status & _VLAN_VALID:
                type = tpid if status & _VLAN_TPID_VALID else TAG
                return data[:12] + struct.pack("!HH", type, tci) + data[12:]
    return data


def _type_of(data: bytes) -> int:
    place = 16 if data[12:14] in (b"\x81\x00", b"\x88\xa8") else 12
    return int.from_bytes(data[place : place + 2], "big")
