"""Names of keys, the detach matcher, and the reader of 2014."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from typing import Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelproof.impl.term import (
    DetachMatcher,
    EscapeError,
    Fed,
    UnknownKeyError,
    new_escape_proxy,
    parse_keys,
    to_bytes,
)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("ctrl-a,a", b"\x01a"),
        ("ctrl-@,ctrl-[,~,ctrl-o", bytes([0, 27, 126, 15])),
        ("DEL,+", b"\x7f+"),
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("ctrl-\\,ctrl-],ctrl-^,ctrl-_,ctrl-z", bytes([28, 29, 30, 31, 26])),
        (" ", b" "),
        ("", b""),
    ],
)
def test_names_of_keys(names: str, expected: bytes) -> None:
    """Each name is the byte that the key sends."""
    assert parse_keys(names) == to_bytes(names) == expected


@pytest.mark.parametrize("name", ["shift-z", "ctrl-", "ctrl-A", "ctrl-1", "ctrl-aa", "del", "é", "\x01", "", "a b"])
def test_unknown_key(name: str) -> None:
    """Another name is an error that says it and what there is."""
    with pytest.raises(UnknownKeyError, match=f"Unknown character: '{name}'; keys are") as caught:
        parse_keys(f"a,{name}")
    assert caught.value.key == name


class Matcher(Protocol):
    def feed(self, data: bytes, now: float) -> Fed: ...
    def deadline(self) -> float | None: ...
    def release(self) -> bytes: ...


class HoldForEver:
    """The proxy of 2016: what is held waits for the next key, and a mismatch starts from nothing."""

    def __init__(self, keys: bytes) -> None:
        self.keys = keys
        self.state = 0

    def feed(self, data: bytes, now: float) -> Fed:
        out = b""
        for at, byte in enumerate(data):
            if byte == self.keys[self.state]:
                self.state += 1
                if self.state == len(self.keys):
                    return Fed(out, True, data[at + 1 :])
            else:
                out += self.keys[: self.state] + bytes([byte])
                self.state = 0
        return Fed(out, False)

    def deadline(self) -> float | None:
        return None

    def release(self) -> bytes:
        return b""


@pytest.mark.rule("T1", ours=DetachMatcher, wrong=HoldForEver)
def test_held_key_comes_out_in_time(subject: Callable[[bytes], Matcher]) -> None:
    """A first key of the sequence is passed on after half a second at most."""
    matcher = subject(b"\x10\x11")
    assert matcher.feed(b"ls\x10", 7.0) == Fed(b"ls", False)
    assert matcher.deadline() == 7.5
    assert matcher.release() == b"\x10"
    assert matcher.deadline() is None


@pytest.mark.rule("T1")
def test_held_key_comes_out_with_the_next() -> None:
    """A key that breaks the sequence brings out the held ones, whole and in order; one that is late, first."""
    matcher = DetachMatcher(b"\x10\x11")
    assert matcher.feed(b"\x10", 0) == Fed(b"", False)
    assert matcher.feed(b"x", 0.1) == Fed(b"\x10x", False)
    assert matcher.feed(b"\x10", 1.0) == Fed(b"", False)
    assert matcher.feed(b"\x11", 1.5) == Fed(b"\x10\x11", False)
    assert matcher.feed(b"\x10", 2.0) == Fed(b"", False)
    assert matcher.feed(b"\x11rest", 2.4) == Fed(b"", True, b"rest")


@pytest.mark.rule("T1")
def test_hold_is_not_prolonged() -> None:
    """Further keys of the sequence do not prolong how long the first is held."""
    matcher = DetachMatcher(b"abc", hold_seconds=1)
    matcher.feed(b"a", 0)
    matcher.feed(b"b", 0.9)
    assert (matcher.held, matcher.deadline()) == (b"ab", 1)


@pytest.mark.rule("T1")
def test_single_key_is_never_held() -> None:
    """A sequence of one key holds nothing."""
    matcher = DetachMatcher(b"\x1d")
    assert matcher.feed(b"abc", 0) == Fed(b"abc", False)
    assert matcher.deadline() is None
    assert matcher.feed(b"d\x1de", 0) == Fed(b"d", True, b"e")


@pytest.mark.rule("T2", ours=DetachMatcher, wrong=HoldForEver)
@pytest.mark.parametrize("size", [1, 2, 4])
def test_overlapping_beginnings_detach(subject: Callable[[bytes], Matcher], size: int) -> None:
    """For a,a,b the keys a a a b detach, in one read or in four, and one a comes out."""
    matcher = subject(b"aab")
    fed = [matcher.feed(b"aaab"[at : at + size], 0) for at in range(0, 4, size)]
    assert b"".join(each.out for each in fed) == b"a"
    assert fed[-1].detached


def naive(keys: bytes, data: bytes) -> tuple[bytes, bool, bytes]:
    """What is before the sequence, whether it is there, and what is after it."""
    before, found, after = data.partition(keys) if keys else (data, b"", b"")
    return before, bool(found), after


TYPED = st.binary(max_size=80).map(lambda data: bytes(b"ab\x10"[byte % 3] for byte in data))


@pytest.mark.rule("T2")
@pytest.mark.rule("T+2")
@given(
    st.binary(max_size=6).map(lambda data: bytes(b"ab"[byte % 2] for byte in data)),
    TYPED,
    st.lists(st.integers(1, 40), min_size=1),
)
def test_what_comes_out_is_what_went_in(keys: bytes, typed: bytes, sizes: list[int]) -> None:
    """For every split into reads, what comes out and the detach sequence are the input, and it is found where it is."""
    matcher = DetachMatcher(keys)
    out, at, detached, rest = b"", 0, False, b""
    for number in range(len(typed) + 1):
        size = sizes[number % len(sizes)]
        piece = typed[at : at + size]
        at += size
        fed = matcher.feed(piece, 0)
        out += fed.out
        assert keys[: len(matcher.held)] == matcher.held
        assert len(matcher.held) < max(1, len(keys))
        if fed.detached:
            detached, rest = True, fed.rest + typed[at:]
            break
    out += matcher.release()
    assert (out, detached, rest) == naive(keys, typed)


@pytest.mark.rule("T2")
def test_sequence_over_the_border_of_a_long_piece() -> None:
    """A sequence that ends in a long piece is found, and one that begins at its end is held."""
    matcher = DetachMatcher(b"abc")
    assert matcher.feed(b"xa", 0) == Fed(b"x", False)
    assert matcher.feed(b"bc" + b"y" * 100, 0) == Fed(b"", True, b"y" * 100)
    assert matcher.feed(b"y" * 100 + b"ab", 0) == Fed(b"y" * 100, False)
    assert matcher.feed(b"x" * 100, 0) == Fed(b"ab" + b"x" * 100, False)


@pytest.mark.rule("T+2")
def test_time_is_linear_in_the_input() -> None:
    """Input made to mislead a matcher takes as long as any other of its length."""
    keys = b"a" * 200 + b"b"
    matcher = DetachMatcher(keys)
    start = time.process_time()
    for _ in range(200_000):
        matcher.feed(b"a", 0)
    single = time.process_time() - start
    start = time.process_time()
    matcher.feed(b"a" * 2_000_000, 0)
    assert time.process_time() - start < 10  # each byte beside each key would take a minute
    assert single < 5
    assert matcher.feed(b"b", 0).detached


def test_without_keys_everything_passes() -> None:
    """An empty sequence never matches and holds nothing."""
    matcher = DetachMatcher(b"")
    assert matcher.feed(b"\x10\x11", 0) == Fed(b"\x10\x11", False)
    assert matcher.deadline() is None


# The reader of 2014.


def test_proxy_passes_and_escapes() -> None:
    """What does not match passes; a sequence raises EscapeError, after what was before it."""
    assert new_escape_proxy(io.BytesIO(b"abc"), b"").read(10) == b"abc"
    assert new_escape_proxy(io.BytesIO(b"abc"), b"xy").read(10) == b"abc"
    for keys, data in ((b"a", b"a"), (b"ab", b"ab")):
        with pytest.raises(EscapeError, match="read escape sequence"):
            new_escape_proxy(io.BytesIO(data), keys).read(10)
    reader = new_escape_proxy(io.BytesIO(b"12abc"), b"ab")
    assert reader.read(10) == b"12"
    for _ in range(2):
        with pytest.raises(EscapeError):
            reader.read(10)
    assert reader.readable()


@pytest.mark.rule("T2")
@pytest.mark.parametrize("size", [1, 2, 3, 10])
def test_proxy_replays_what_was_no_sequence(size: int) -> None:
    """A beginning that comes to nothing is passed on, for every size of buffer."""
    reader = new_escape_proxy(io.BytesIO(b"aaxaay"), b"aab")
    out = b""
    while data := reader.read(size):
        out += data
    assert out == b"aaxaay"
    assert reader.read(0) == b""


@pytest.mark.rule("T1")
def test_proxy_does_not_hold_for_ever() -> None:
    """With a descriptor to wait for, a held beginning comes out after the hold time."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as file:
        reader = new_escape_proxy(file, b"\x10\x11", hold_seconds=0.05)
        os.write(writing, b"\x10")
        assert reader.read(10) == b"\x10"
        os.close(writing)
        assert reader.read(10) == b""


@pytest.mark.rule("T1")
def test_proxy_of_a_reader_that_does_not_wait() -> None:
    """Nothing to read now is None and no end: what comes later is read, a held beginning first."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with os.fdopen(reading, "rb", buffering=0) as file:
        reader = new_escape_proxy(file, b"\x10\x11", hold_seconds=0.05)
        assert reader.read(10) is None
        os.write(writing, b"later\x10")
        assert reader.read(10) == b"later"
        assert reader.read(10) == b"\x10"
        assert reader.read(10) is None
        os.write(writing, b"\x10\x11")
        os.close(writing)
        with pytest.raises(EscapeError):
            reader.read(10)
