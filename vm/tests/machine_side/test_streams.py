"""Streams side by side: windows, ends, and readers that go away."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator

import pytest

from kernelproof.vm.guest.frames import BYTES, JSON, FrameError, FrameReader, decode_message
from kernelproof.vm.guest.streams import WINDOW, Streams


class Wire:
    """Two ends joined; frames wait in between."""

    def __init__(self) -> None:
        self.queues: list[list[bytes]] = [[], []]
        self.ends = [Streams(self.queues[0].append), Streams(self.queues[1].append)]

    def carry(self, source: int) -> int:
        """Hand over what one end sent; returns how many bytes of data that was."""
        total = 0
        while self.queues[source]:
            reader = FrameReader()
            reader.feed(self.queues[source].pop(0))
            frame = reader.take()
            assert frame is not None
            if frame[0] == BYTES:
                total += len(frame[1]) - 4
                self.ends[1 - source].take_data(frame[1])
            else:
                assert self.ends[1 - source].take_message(decode_message(frame[1]))
        return total

    def turn(self) -> bool:
        """One round of poll at both ends; whether anything was ready."""
        busy = False
        for number, end in enumerate(self.ends):
            poll = select.poll()
            for descriptor, events in end.wanted().items():
                poll.register(descriptor, events)
            for descriptor, events in poll.poll(0):
                end.handle(descriptor, events)
                busy = True
            self.carry(number)
        return busy


@pytest.fixture
def pipes() -> Iterator[list[int]]:
    """Reading and writing ends of two pipes."""
    descriptors = [*os.pipe(), *os.pipe()]
    yield descriptors
    for descriptor in descriptors:
        try:
            os.close(descriptor)
        except OSError:
            continue


def test_bytes_and_their_end(pipes: list[int]) -> None:
    """What is read at one end is written at the other, and its end comes behind it."""
    wire, ended = Wire(), []
    wire.ends[0].read_from(7, pipes[0], on_end=lambda: ended.append("source"))
    wire.ends[1].write_to(7, pipes[3], on_end=lambda: ended.append("sink"))
    os.write(pipes[1], b"hello")
    os.close(pipes[1])
    while wire.turn():
        pass
    assert os.read(pipes[2], 100) == b"hello"
    assert ended == ["source", "sink"]
    assert not wire.ends[0].reads(7)
    assert not wire.ends[1].writes(7)


def test_window(pipes: list[int]) -> None:
    """Of a stream that nobody takes no more than a window is sent; what is taken lets as much follow."""
    wire = Wire()
    with open("/dev/zero", "rb", buffering=0) as endless:
        wire.ends[0].read_from(7, endless.fileno())
        wire.ends[1].write_to(7, pipes[3])
        sent = 0
        while wire.ends[0].wanted():
            wire.ends[0].handle(endless.fileno(), select.POLLIN)
            sent += wire.carry(0)
        assert sent == WINDOW
        assert wire.ends[1].held(7) == WINDOW
        taken = 0
        while not wire.ends[0].wanted():
            wire.ends[1].handle(pipes[3], select.POLLOUT)
            taken += len(os.read(pipes[2], 65536))
            wire.carry(1)
        assert WINDOW // 4 <= taken < WINDOW // 2


def test_reader_that_goes_away(pipes: list[int]) -> None:
    """When nobody reads a stream any more its source is told, and reads no further."""
    wire, ended = Wire(), []
    wire.ends[0].read_from(7, pipes[0], on_end=lambda: ended.append("source"))
    wire.ends[1].write_to(7, pipes[3], on_end=lambda: ended.append("sink"))
    os.close(pipes[2])
    os.write(pipes[1], b"x")
    while wire.turn():
        pass
    assert sorted(ended) == ["sink", "source"]
    assert wire.ends[0].wanted() == {}


def test_full_disc() -> None:
    """A file that can't take more is an error, not the end of a stream."""
    wire = Wire()
    with open("/dev/full", "wb", buffering=0) as full:
        wire.ends[1].write_to(7, full.fileno())
        wire.ends[1].take_data(b"\0\0\0\7data")
        with pytest.raises(OSError, match="No space left"):
            wire.ends[1].handle(full.fileno(), select.POLLOUT)


def test_function_in_place_of_a_descriptor() -> None:
    """A function takes data as it comes, and the window never closes."""
    wire, taken = Wire(), bytearray()
    wire.ends[1].write_to(7, None, on_data=taken.extend)
    with open("/dev/zero", "rb", buffering=0) as endless:
        wire.ends[0].read_from(7, endless.fileno())
        for _ in range(100):
            assert wire.turn()
    assert len(taken) > 2 * WINDOW


def test_draining_comes_to_an_end() -> None:
    """What is drained of a source that never ends is no more than any pipe holds."""
    wire, taken = Wire(), bytearray()
    wire.ends[1].write_to(7, None, on_data=taken.extend)
    with open("/dev/zero", "rb", buffering=0) as endless:
        wire.ends[0].read_from(7, endless.fileno())
        turns = 0
        while not wire.ends[0].drain(7):
            wire.carry(0)
            wire.carry(1)
            turns += 1
            assert turns < 100
        wire.carry(0)
    assert 1024 * 1024 <= len(taken) < 2 * 1024 * 1024


def test_what_comes_late_is_dropped(pipes: list[int]) -> None:
    """What was under way when a stream was stopped is no error."""
    wire = Wire()
    wire.ends[1].write_to(7, pipes[3])
    wire.ends[1].stop_writing(7)
    wire.ends[1].take_data(b"\0\0\0\7late")
    assert wire.ends[1].take_message({"kind": "credit", "stream": 7, "bytes": 1})


@pytest.mark.parametrize(
    ("payload", "seen"),
    [
        (b"\0\0", "too few"),
        (b"\0\0\0\7" + bytes(WINDOW + 1), "1 bytes more than its window"),
    ],
    ids=["short", "flood"],
)
def test_wrong_data(payload: bytes, seen: str) -> None:
    """Data without a number, or more than the window, is refused."""
    end = Streams(list[bytes]().append)
    end.write_to(7, 0)
    with pytest.raises(FrameError, match=seen):
        end.take_data(payload)


def test_data_after_the_end() -> None:
    """A stream that ended does not go on, while the rest of it is still held."""
    end = Streams(list[bytes]().append)
    end.write_to(7, 0)
    end.take_data(b"\0\0\0\7x")
    end.take_data(b"\0\0\0\7")
    with pytest.raises(FrameError, match="after its end"):
        end.take_data(b"\0\0\0\7y")


@pytest.mark.parametrize(
    "message",
    [
        {"kind": "credit", "stream": "7", "bytes": 1},
        {"kind": "credit", "stream": True, "bytes": 1},
        {"kind": "credit", "stream": 7, "bytes": 0},
        {"kind": "credit", "stream": 7, "bytes": WINDOW + 1},
        {"kind": "credit", "stream": 7, "bytes": 1},
        {"kind": "reset"},
    ],
    ids=["text", "bool", "nothing", "too-much", "unsent", "reset-of-nothing"],
)
def test_wrong_messages(message: dict[str, object]) -> None:
    """Credit for what was not sent, or that is no number, is refused."""
    end = Streams(list[bytes]().append)
    end.read_from(7, 0)
    with pytest.raises(FrameError):
        end.take_message(message)


def test_other_messages() -> None:
    """A message that is not about streams is left to others."""
    assert not Streams(list[bytes]().append).take_message({"kind": "leave"})
    assert JSON != BYTES
