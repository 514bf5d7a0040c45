"""Messages with descriptors between processes of one user: one JSON object a packet, sockets by SCM_RIGHTS.

What comes in is data from another process: its size, shape and number of descriptors are bounded and looked at.
Descriptors are close-on-exec from their arrival on; those that nobody takes are closed.

Sources: unix(7), SCM_RIGHTS (at most 253 a message; what does not fit is closed); recvmsg(2), MSG_CMSG_CLOEXEC.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import time
from array import array
from collections.abc import Sequence
from typing import Final, NamedTuple

from kernelproof.impl.listenbuffer.errors import HandOverRefused

VERSION: Final = 1
SIZE_MAX: Final = 65536
DESCRIPTORS_MAX: Final = 250
REASON_MAX: Final = 1000
_UCRED: Final = struct.Struct("3i")
_CLOEXEC: Final = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class Message(NamedTuple):
    """One message: its kind, its fields, and the descriptors that came with it."""

    kind: str
    fields: dict[str, object]
    descriptors: tuple[int, ...]

    def text(self, key: str) -> str:
        """Return a field that is text.

        Raises:
            HandOverRefused: It is missing or no text.
        """
        value = self.fields.get(key)
        if not isinstance(value, str):
            raise HandOverRefused(f"the other side's {self.kind!r} lacks {key!r}")
        return value

    def close(self) -> None:
        """Close the descriptors that came with it."""
        for descriptor in self.descriptors:
            os.close(descriptor)


def send(connection: socket.socket, kind: str, descriptors: Sequence[int] = (), **fields: object) -> None:
    """Send one message.

    Raises:
        HandOverRefused: It is larger than the other side would take.
        OSError: The other side is gone (EPIPE), or there is no room (ETOOMANYREFS, EMSGSIZE).
    """
    text = json.dumps({"version": VERSION, "kind": kind, **fields}).encode()
    if len(text) > SIZE_MAX or len(descriptors) > DESCRIPTORS_MAX:
        raise HandOverRefused(
            f"a message of {len(text)} bytes and {len(descriptors)} descriptors is too large: at most {SIZE_MAX} bytes "
            f"and {DESCRIPTORS_MAX} descriptors"
        )
    # Not socket.send_fds and socket.recv_fds: they drop the flags that they are given.
    passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))] if descriptors else []
    connection.sendmsg([text], passed, socket.MSG_NOSIGNAL)


def refuse(connection: socket.socket, refused: Exception) -> None:
    """Tell the other side why it is refused; what it said itself may be in there, and is cut.

    Raises:
        OSError: As for `send`.
    """
    send(connection, "refused", reason=str(refused)[:REASON_MAX])


def receive(connection: socket.socket, timeout_seconds: float) -> Message | None:
    """Receive one message; None at the end of the connection.

    Raises:
        TimeoutError: None came in time.
        HandOverRefused: It is none of ours, or of another version.
        OSError: The connection broke (ECONNRESET).
    """
    deadline = time.monotonic() + timeout_seconds
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise TimeoutError(f"no answer within {timeout_seconds:g} s")
    space = socket.CMSG_LEN(DESCRIPTORS_MAX * array("i").itemsize)
    data, ancillary, flags, _ = connection.recvmsg(SIZE_MAX, space, _CLOEXEC)
    descriptors = _descriptors_in(ancillary)
    try:
        return _parse(data, tuple(descriptors), flags)
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise


def _descriptors_in(ancillary: list[tuple[int, int, bytes]]) -> array[int]:
    found = array("i")
    for level, kind, value in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(value[: len(value) - len(value) % found.itemsize])
    return found


def _parse(data: bytes, descriptors: tuple[int, ...], flags: int) -> Message | None:
    if not data:
        return None
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        raise HandOverRefused("the other side's message is too large, or its descriptors are too many for this process")
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise HandOverRefused(f"the other side does not speak our protocol: {error}") from None
    if not isinstance(fields, dict) or not isinstance(fields.get("kind"), str):
        raise HandOverRefused("the other side does not speak our protocol")
    if fields.get("version") != VERSION:
        raise HandOverRefused(f"the other side speaks version {fields.get('version')!r}, this one {VERSION}")
    return Message(fields.pop("kind"), fields, descriptors)


def expect(connection: socket.socket, kinds: Sequence[str], timeout_seconds: float) -> Message:
    """Receive a message of one of some kinds.

    Raises:
        HandOverRefused: The other side refuses, closes, or says something else.
        TimeoutError: None came in time.
    """
    message = receive(connection, timeout_seconds)
    if message is None:
        raise HandOverRefused("the other side has closed the connection")
    if message.kind in kinds:
        return message
    message.close()
    if message.kind == "refused":
        raise HandOverRefused(message.text("reason"))
    raise HandOverRefused(f"expected {' or '.join(kinds)}, got {message.kind!r}")


def check_peer(connection: socket.socket) -> None:
    """Refuse a peer of another user.

    Raises:
        HandOverRefused: It is neither root nor this process's user.
    """
    if hasattr(socket, "SO_PEERCRED"):
        _, uid, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        if uid not in (0, os.geteuid()):
            raise HandOverRefused(f"the other side runs as uid {uid}")
