"""Input by bytes: what MIN and TIME make of a read."""

from __future__ import annotations

import os
import select
import time
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.impl.term import input_waiting, make_raw_state, restore, save

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelproof.conformance.seen import Seen
    from kernelproof.conformance.term.conftest import Pair


@pytest.fixture
def raw_pair(pair: Pair) -> Callable[[int, int], Pair]:
    """Put the slave in raw mode with a MIN and a TIME."""

    def make(minimum: int, tenths: int) -> Pair:
        taken = restore(pair.slave, make_raw_state(save(pair.slave)).changed(VMIN=minimum, VTIME=tenths))
        assert not taken.is_canonical
        return pair

    return make


def timed_read(fd: int, size: int) -> tuple[bytes, float]:
    """Read, and say how long it took in seconds."""
    start = time.monotonic()
    data = os.read(fd, size)
    return data, time.monotonic() - start


class Reader:
    """A process that reads once from the slave and tells what it got and how long that took."""

    def __init__(self, fd: int, size: int) -> None:
        self.said, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            data, seconds = timed_read(fd, size)
            os.write(writer, f"{seconds} {data.hex()}".encode())
            os._exit(0)
        os.close(writer)

    def has_answered(self, seconds: float) -> bool:
        """Whether it has read within a time."""
        poll = select.poll()
        poll.register(self.said, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def answer(self) -> bytes:
        assert self.has_answered(30)
        text = os.read(self.said, 10000).decode()
        os.waitpid(self.pid, 0)
        os.close(self.said)
        return bytes.fromhex(text.partition(" ")[2])


@behaviour("term.noncanon.polling-read")
def test_polling_read(raw_pair: Callable[[int, int], Pair], seen: Seen) -> None:
    """With MIN 0 and TIME 0 a read returns nothing at once, whether the descriptor waits or not."""
    pair = raw_pair(0, 0)
    waiting = os.read(pair.slave, 100)
    os.set_blocking(pair.slave, False)
    assert seen([waiting, os.read(pair.slave, 100)]) == [b"", b""]
    os.write(pair.master, b"ab")
    assert os.read(pair.slave, 100) == b"ab"


@behaviour("term.noncanon.timeout-read")
def test_read_with_a_timeout(raw_pair: Callable[[int, int], Pair], seen: Seen) -> None:
    """With MIN 0 and TIME 3 a read returns nothing after 0.3 s, and one byte as soon as it is there."""
    pair = raw_pair(0, 3)
    nothing, seconds = timed_read(pair.slave, 100)
    assert 0.25 < seconds < 2
    os.write(pair.master, b"a")
    something, seconds = timed_read(pair.slave, 100)
    assert seconds < 0.25
    assert seen([nothing, something]) == [b"", b"a"]


@behaviour("term.noncanon.blocking-min")
def test_read_waits_for_the_minimum(raw_pair: Callable[[int, int], Pair], seen: Seen) -> None:
    """With MIN 5 and TIME 0 a read waits until five bytes are there."""
    pair = raw_pair(5, 0)
    reader = Reader(pair.slave, 100)
    os.write(pair.master, b"abcd")
    early = reader.has_answered(1)
    os.write(pair.master, b"e")
    assert seen([early, reader.answer()]) == [False, b"abcde"]


@behaviour("term.noncanon.request-smaller-than-min")
def test_minimum_above_the_request(raw_pair: Callable[[int, int], Pair], seen: Seen) -> None:
    """With MIN 5 and TIME 0 a read of three bytes waits until five are there."""
    pair = raw_pair(5, 0)
    reader = Reader(pair.slave, 3)
    os.write(pair.master, b"abc")
    early = reader.has_answered(1)
    if not early:
        os.write(pair.master, b"de")
    got = reader.answer()
    assert seen([early, got]) == [False, b"abc"]


@behaviour("term.noncanon.interbyte-timer")
def test_time_between_bytes(raw_pair: Callable[[int, int], Pair], seen: Seen) -> None:
    """With MIN 5 and TIME 2 two bytes are read 0.2 s after the last, and without a byte the read waits."""
    pair = raw_pair(5, 2)
    reader = Reader(pair.slave, 100)
    without = reader.has_answered(1)
    os.write(pair.master, b"a")
    os.write(pair.master, b"b")
    start = time.monotonic()
    assert reader.has_answered(30)
    assert 0.1 < time.monotonic() - start < 2
    assert seen([without, reader.answer()]) == [False, b"ab"]


@behaviour("term.noncanon.interbyte-request-satisfied")
def test_request_ends_the_wait(raw_pair: Callable[[int, int], Pair], seen: Seen) -> None:
    """With MIN 5 and TIME 200 a read of three bytes returns when three are there, before MIN and before the timer."""
    pair = raw_pair(5, 200)
    os.write(pair.master, b"abc")
    data, seconds = timed_read(pair.slave, 3)
    assert seen(data) == b"abc"
    assert seconds < 10


@behaviour("term.noncanon.nonblock-beats-time")
def test_not_waiting_beats_the_timer(raw_pair: Callable[[int, int], Pair], seen: Seen) -> None:
    """With MIN 0 and TIME 5, on a descriptor that does not wait, a read without data gives EAGAIN at once."""
    pair = raw_pair(0, 5)
    os.set_blocking(pair.slave, False)
    start = time.monotonic()
    assert seen.errno_of(os.read, pair.slave, 100) == "EAGAIN"
    assert time.monotonic() - start < 0.4


@behaviour("term.noncanon.buffer-4095")
def test_at_most_4095_bytes_wait(raw_pair: Callable[[int, int], Pair], seen: Seen) -> None:
    """However much was typed, FIONREAD says 4095 bytes at most, and so much is there."""
    pair = raw_pair(1, 0)
    written = most = 0
    while select.select([], [pair.master], [], 0)[1]:
        try:
            written += os.write(pair.master, b"x" * 1000)
        except BlockingIOError:
            break
        most = max(most, input_waiting(pair.slave))
    assert written > 4095
    deadline = time.monotonic() + 10
    while (waiting := input_waiting(pair.slave)) < 4095 and time.monotonic() < deadline:
        pass  # a worker of the kernel hands on what was written, a part at a time
    # No more is asked for than is there: the worker may fill the room that a read makes while that still reads.
    assert seen([max(most, waiting), len(os.read(pair.slave, waiting))]) == [4095, 4095]
