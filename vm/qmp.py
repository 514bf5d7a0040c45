"""QEMU's control protocol as bytes: commands out, answers and events in. Pure.

Not the library `qemu.qmp`: it is an asyncio client, and every wait here must watch the control stream, the agent's
stream and the process in one poll(2) inside pytest's synchronous calls. An event loop a machine, in a thread of its
own, would be more code than these lines, and two tasks more to lose on Ctrl-C.

Source: QEMU 10.0, docs/interop/qmp-spec.rst.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

MAX_LINE = 1024 * 1024


class QmpError(Exception):
    """QEMU refused a command, or what it said is no QMP."""


def encode_command(name: str, arguments: Mapping[str, object]) -> bytes:
    """One command as a line."""
    return json.dumps({"execute": name, "arguments": arguments}, separators=(",", ":")).encode("ascii") + b"\n"


class QmpReader:
    """Cuts the control stream into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Append what was read from the stream."""
        self._buffer += data

    def take(self) -> dict[str, object] | None:
        """The next message, or None until more is fed.

        Raises:
            QmpError: a line of more than `MAX_LINE` bytes, or one that is no JSON object.
        """
        end = self._buffer.find(b"\n")
        if end < 0:
            if len(self._buffer) > MAX_LINE:
                raise QmpError(f"a line of more than {MAX_LINE} bytes")
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        try:
            message = json.loads(line)
        except ValueError as error:
            raise QmpError(f"not JSON: {line[:200]!r}") from error
        if not isinstance(message, dict):
            raise QmpError(f"not an object: {line[:200]!r}")
        return message


def read_answer(message: Mapping[str, object]) -> object:
    """What a command returned.

    Raises:
        QmpError: it was refused; the text is QEMU's.
    """
    error = message.get("error")
    if error is not None:
        text = error.get("desc", error) if isinstance(error, dict) else error
        raise QmpError(str(text))
    if "return" not in message:
        raise QmpError(f"neither answer nor event: {message!r}")
    return message["return"]
