"""Frames: whole, cut, too long, and of the wrong kind."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelproof.vm.guest import frames
from kernelproof.vm.guest.frames import (
    BYTES,
    JSON,
    MAX_PAYLOAD,
    FrameError,
    FrameReader,
    decode_message,
    encode_frame,
    encode_message,
)

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def test_bytes_of_a_frame() -> None:
    """A frame is the length of its payload, its kind, its payload."""
    assert encode_frame(BYTES, b"abc") == b"\0\0\0\3Babc"
    assert encode_message({"kind": "ping"}) == b'\0\0\0\x0fJ{"kind":"ping"}'


@given(st.dictionaries(st.text(), PLAIN, max_size=5))
def test_message_survives(message: dict[str, object]) -> None:
    """A message of plain values comes out as it went in."""
    reader = FrameReader()
    reader.feed(encode_message(message))
    frame = reader.take()
    assert frame is not None
    assert frame[0] == JSON
    assert decode_message(frame[1]) == message
    assert reader.take() is None
    assert reader.pending == 0


@given(st.lists(st.tuples(st.sampled_from([JSON, BYTES]), st.binary(max_size=50)), max_size=6), st.data())
def test_any_cut(sent: list[tuple[bytes, bytes]], data: st.DataObject) -> None:
    """However the stream is cut into reads, the same frames come out, and no earlier than they are whole."""
    stream = b"".join(encode_frame(kind, payload) for kind, payload in sent)
    reader, got, start = FrameReader(), [], 0
    while start < len(stream):
        end = data.draw(st.integers(start + 1, len(stream)))
        reader.feed(stream[start:end])
        while (frame := reader.take()) is not None:
            got.append(frame)
        start = end
    assert got == sent
    assert reader.pending == 0


def test_truncated_frame() -> None:
    """A frame that lacks one byte is no frame yet."""
    reader = FrameReader()
    whole = encode_frame(JSON, b"{}")
    reader.feed(whole[:-1])
    assert reader.take() is None
    assert reader.pending == len(whole) - 1
    reader.feed(whole[-1:])
    assert reader.take() == (JSON, b"{}")


@pytest.mark.parametrize("length", [MAX_PAYLOAD + 1, 0xFFFFFFFF])
def test_oversized_frame_is_refused_from_its_header(length: int) -> None:
    """A header that announces too much is refused before any of the payload is awaited."""
    reader = FrameReader()
    reader.feed(struct.pack("!Ic", length, JSON))
    with pytest.raises(FrameError, match="announced"):
        reader.take()


def test_largest_frame() -> None:
    """A payload of exactly the limit passes; one byte more is refused by the sender."""
    reader = FrameReader()
    reader.feed(encode_frame(BYTES, bytes(MAX_PAYLOAD)))
    frame = reader.take()
    assert frame is not None
    assert len(frame[1]) == MAX_PAYLOAD
    with pytest.raises(FrameError, match="a frame holds at most"):
        encode_frame(BYTES, bytes(MAX_PAYLOAD + 1))


@pytest.mark.parametrize("kind", [b"j", b"\0", b"X"])
def test_unknown_kind(kind: bytes) -> None:
    """A frame of a kind that does not exist is refused."""
    reader = FrameReader()
    reader.feed(struct.pack("!Ic", 0, kind))
    with pytest.raises(FrameError, match="unknown kind"):
        reader.take()


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"[]",
        b"3",
        b"null",
        b'"text"',
        b"\xff{}",
        b'{"a":',
        b"{} {}",
        b"[" * 100_000,
        b'{"n":' + b"9" * 5000 + b"}",
    ],
    ids=["empty", "open", "list", "number", "null", "text", "not-utf8", "cut", "two", "deep", "huge-integer"],
)
def test_payload_that_is_no_message(payload: bytes) -> None:
    """What is no JSON object in UTF-8 is refused."""
    with pytest.raises(FrameError):
        decode_message(payload)


@pytest.mark.parametrize(
    "value", [object(), b"bytes", float("nan"), float("inf"), {1, 2}], ids=["object", "bytes", "nan", "infinity", "set"]
)
def test_value_that_is_not_plain(value: object) -> None:
    """What JSON has no word for is not sent."""
    with pytest.raises(FrameError, match="not plain data"):
        encode_message({"value": value})


def test_value_that_holds_itself() -> None:
    """A value that holds itself is not sent."""
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(FrameError, match="not plain data"):
        encode_message({"value": loop})


def test_protocol_is_one() -> None:
    """The protocol's number changes only on purpose: both sides of a cached template must agree on it."""
    assert frames.PROTOCOL == 1
