"""Numbered messages between the runtime and the process that it makes, each a JSON text, with descriptors.

A message says at which operation of the plan its sender is; the other side knows which one must come. So two messages
can't be mistaken for each other, and an end without a report says how far the process had come.
"""

from __future__ import annotations

import _socket  # socket makes enums of its constants when it is imported: 5 ms
import os

from kernelproof.impl.libcontainer.config.jsontext import format_value, parse

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_BYTES = 1 << 17
_MOST_DESCRIPTORS = 16
_INT = 4


class ChannelError(Exception):
    """The other side said what was not expected of it."""


class Message:
    """One message: the number of the sender's operation, what it is, its values, its descriptors."""

    __slots__ = ("descriptors", "kind", "number", "values")

    def __init__(self, number: int, kind: str, values: dict[str, object], descriptors: tuple[int, ...]) -> None:
        self.number = number
        self.kind = kind
        self.values = values
        self.descriptors = descriptors


class Channel:
    """One end. It stays open until `close`, and over no exec."""

    __slots__ = ("_socket",)

    def __init__(self, end: _socket.socket) -> None:
        self._socket = end

    def fileno(self) -> int:
        """The descriptor."""
        return self._socket.fileno()

    def send(
        self, number: int, kind: str, values: dict[str, object] | None = None, descriptors: Sequence[int] = ()
    ) -> None:
        """Sends a message.

        Raises:
            OSError: EPIPE, ECONNRESET: nobody is there any more.
        """
        data = format_value([number, kind, values or {}]).encode()
        rights = b"".join([fd.to_bytes(_INT, "little") for fd in descriptors])
        ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)] if rights else []
        self._socket.sendmsg([data], ancillary, _socket.MSG_NOSIGNAL)

    def receive(self) -> Message | None:
        """Waits for a message; None: the other side is gone, and has said nothing more.

        Raises:
            ChannelError: what came is no message.
        """
        try:
            data, ancillary = self._receive()
        except ConnectionResetError:  # it ended with words unread: told once, before what it said itself
            data, ancillary = self._receive()
        descriptors = tuple(
            int.from_bytes(rights[at : at + _INT], "little")
            for level, kind, rights in ancillary
            if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS)
            for at in range(0, len(rights) - _INT + 1, _INT)
        )
        if not data:
            return None
        try:
            match parse(data):
                case [int(number), str(kind), dict(values)]:
                    return Message(number, kind, values, descriptors)
        except ValueError:
            pass
        for fd in descriptors:
            os.close(fd)
        raise ChannelError(f"no message: {data[:80]!r}")

    def _receive(self) -> tuple[bytes, list[tuple[int, int, bytes]]]:
        room = _socket.CMSG_SPACE(_MOST_DESCRIPTORS * _INT)
        data, ancillary, _, _ = self._socket.recvmsg(MOST_BYTES, room, _socket.MSG_CMSG_CLOEXEC)
        return data, ancillary

    def detach(self) -> int:
        """Gives the descriptor away."""
        return self._socket.detach()

    def close(self) -> None:
        """Closes this end."""
        self._socket.close()


def open_channel() -> tuple[Channel, Channel]:
    """A pair of ends, the runtime's first."""
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    return Channel(ours), Channel(theirs)


def channel_of(fd: int) -> Channel:
    """The end that a descriptor is, which is the channel's from here on."""
    return Channel(_socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, fd))
