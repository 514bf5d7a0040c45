"""The bytes between host and guest: frames, each a length, a kind and a payload.

A frame is `!I` (length of the payload, at most `MAX_PAYLOAD`), one byte kind, the payload. Kind `J` holds a JSON object
in UTF-8, kind `B` raw bytes that a `J` frame announced. Pure, standard library only, used by both sides. It bounds
and parses; it judges no content: the host validates messages in `kernelproof.vm.channel`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping

PROTOCOL = 1  # in every message as "protocol"; raised when either side would misread the other

AGENT_DIED = "kernelproof: AGENT DIED status"  # PID 1 says it on the console, the host looks for it there

JSON = b"J"
BYTES = b"B"
MAX_PAYLOAD = 16 * 1024 * 1024

_HEADER = struct.Struct("!Ic")
# Made once: every clone pays for each piece of code that it runs for the first time.
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_DECODER = json.JSONDecoder()


class FrameError(ValueError):
    """The bytes are no frame, or the value does not fit into one."""


def encode_header(kind: bytes, length: int) -> bytes:
    """The first five bytes of a frame; of no frame at all if `length` is negative."""
    return _HEADER.pack(length, kind) if length >= 0 else b""


def encode_frame(kind: bytes, payload: bytes) -> bytes:
    """One frame as bytes.

    Args:
        kind: `JSON` or `BYTES`.
        payload: At most `MAX_PAYLOAD` bytes.

    Raises:
        FrameError: the payload is too long.
    """
    if len(payload) > MAX_PAYLOAD:
        raise FrameError(f"payload of {len(payload)} bytes, a frame holds at most {MAX_PAYLOAD}")
    return encode_header(kind, len(payload)) + payload


def encode_message(message: Mapping[str, object]) -> bytes:
    """A `J` frame that holds `message`.

    Raises:
        FrameError: it holds what JSON has no word for, or is too long.
    """
    try:
        text = _ENCODER.encode(message)
    except (TypeError, ValueError, RecursionError) as error:
        raise FrameError(f"not plain data: {error}") from error
    return encode_frame(JSON, text.encode("ascii"))


def decode_message(payload: bytes) -> dict[str, object]:
    """The object in the payload of a `J` frame, without white space around it.

    Raises:
        FrameError: not UTF-8, not JSON, nested too deeply, or not an object.
    """
    try:
        text = payload.decode("utf-8")
        message, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError) as error:
        raise FrameError(f"no JSON object in UTF-8: {error}") from error
    if end != len(text):
        raise FrameError(f"{len(text) - end} characters behind the object")
    if not isinstance(message, dict):
        raise FrameError(f"a JSON {type(message).__name__}, not an object")
    return message


class FrameReader:
    """Cuts a stream of bytes into frames; it never holds more than one frame and one feed."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Append what was read from the stream."""
        self._buffer += data

    def take(self) -> tuple[bytes, bytes] | None:
        """The next whole frame as (kind, payload), or None until more is fed.

        Raises:
            FrameError: an unknown kind or too long a payload is announced; the stream can't be read any further.
        """
        if len(self._buffer) < _HEADER.size:
            return None
        length, kind = _HEADER.unpack_from(self._buffer)
        if kind not in (JSON, BYTES):
            raise FrameError(f"unknown kind of frame {kind!r}")
        if length > MAX_PAYLOAD:
            raise FrameError(f"a frame of {length} bytes announced, at most {MAX_PAYLOAD} are allowed")
        end = _HEADER.size + length
        if len(self._buffer) < end:
            return None
        payload = bytes(memoryview(self._buffer)[_HEADER.size : end])
        del self._buffer[:end]
        return kind, payload

    @property
    def pending(self) -> int:
        """Bytes fed that belong to no whole frame yet."""
        return len(self._buffer)
