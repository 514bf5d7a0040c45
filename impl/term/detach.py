"""Find a sequence of keys in what is typed, without keeping back more than it has to, or longer than it has to.

A state machine without a clock and without a descriptor, for any event loop:

    matcher = DetachMatcher(parse_keys("ctrl-p,ctrl-q"))
    fed = matcher.feed(data, now)     # send fed.out; fed.detached says that the sequence is complete
    matcher.deadline()                # when to call release(), if nothing else was typed until then

The first keys of the sequence are held until the next key shows what they were, or for half a second: who types
ctrl-p in a shell wants it to arrive.
"""

from __future__ import annotations

import io
import select
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from kernelproof.impl.term.calls import poll_until
from kernelproof.impl.term.errors import EscapeError

HOLD_SECONDS = 0.5


class Fed(NamedTuple):
    """What became of a piece of input."""

    out: bytes  # to be passed on
    detached: bool  # the sequence is complete
    rest: bytes = b""  # what came after it


class DetachMatcher:
    """Finds a sequence of keys in a stream of bytes.

    Everything that is fed comes out again, in order and once: in `out`, or as the detach sequence and the rest. Time is
    linear in the input, whatever the sequence.

    Args:
        keys: the sequence; empty matches never.
        hold_seconds: how long a beginning of the sequence is held at most. A sequence of one key is never held.
    """

    __slots__ = ("_failure", "_held_since", "_hold_seconds", "_keys", "_state")

    def __init__(self, keys: bytes, hold_seconds: float = HOLD_SECONDS) -> None:
        self._keys = bytes(keys)
        self._hold_seconds = hold_seconds
        self._failure = _failure_links(self._keys)
        self._state = 0  # how many keys of the sequence are held
        self._held_since = 0.0

    @property
    def held(self) -> bytes:
        """The beginning of the sequence that is held at the moment."""
        return self._keys[: self._state]

    def deadline(self) -> float | None:
        """Return when `release` is due, on the clock of `now`; None if nothing is held."""
        return self._held_since + self._hold_seconds if self._state else None

    def release(self) -> bytes:
        """Return what is held, to be passed on; the sequence begins anew."""
        out = self.held
        self._state = 0
        return out

    def feed(self, data: bytes, now: float) -> Fed:
        """Take a piece of input.

        Args:
            data: what was typed.
            now: the time, on any clock that only goes forward; what was held for too long comes out first.
        """
        if not self._keys or not data:
            return Fed(data, False)
        late = b""
        if self._state and now >= self._held_since + self._hold_seconds:
            late = self.release()
        held = self.held
        whole = held + data
        end = self._advance(data, len(held))
        if end >= 0:
            self._state = 0
            return Fed(late + whole[: end - len(self._keys)], True, whole[end:])
        if self._state and self._state <= len(data):  # else what was held before is still held
            self._held_since = now
        return Fed(late + whole[: len(whole) - self._state], False)

    def _advance(self, data: bytes, already: int) -> int:
        """Move on by the input; return where the sequence ends, counted with the `already` held bytes, or -1."""
        start = 0
        if len(data) > 4 * len(self._keys):
            # The search in C finds a sequence that lies in the data; at its edges the state machine looks.
            edge = len(self._keys) - 1
            end = self._step(data[:edge])
            if end >= 0:
                return already + end
            at = data.find(self._keys)
            if at >= 0:
                return already + at + len(self._keys)
            self._state = 0
            start = len(data) - edge
        end = self._step(data[start:])
        return already + start + end if end >= 0 else -1

    def _step(self, data: bytes) -> int:
        """Move the state machine on, byte by byte; return how many bytes completed the sequence, or -1."""
        keys, failure, state = self._keys, self._failure, self._state
        for count, byte in enumerate(data, 1):
            while state and keys[state] != byte:
                state = failure[state - 1]
            if keys[state] == byte:
                state += 1
                if state == len(keys):
                    return count
        self._state = state
        return -1


def _failure_links(keys: bytes) -> tuple[int, ...]:
    """Return for each beginning of the keys the length of its longest proper end that is a beginning too."""
    links = [0] * len(keys)
    length = 0
    for index in range(1, len(keys)):
        while length and keys[length] != keys[index]:
            length = links[length - 1]
        length += keys[length] == keys[index]
        links[index] = length
    return tuple(links)


class Reader(Protocol):
    """Something to read bytes from."""

    def read(self, size: int, /) -> bytes | None: ...


class EscapeProxy(io.RawIOBase):
    """A reader that raises EscapeError when the detach sequence was typed, and passes on everything else.

    Where the reader has a descriptor, a beginning of the sequence is passed on after the hold time, as with
    DetachMatcher; without one nothing can be known while a read waits, and it comes with the next input.

    Args:
        reader: to read from, unbuffered.
        keys: the sequence; empty passes on everything.
        hold_seconds: how long a beginning of the sequence is held.
        clock: the time in seconds, only going forward.
    """

    def __init__(
        self,
        reader: Reader,
        keys: bytes,
        hold_seconds: float = HOLD_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._reader = reader
        self._matcher = DetachMatcher(keys, hold_seconds)
        self._clock = clock
        self._ready = bytearray()  # to be passed on
        self._has_ended = False
        self._is_detached = False

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: object, /) -> int | None:
        """Read into a buffer; 0 at the end, None if the reader does not wait and there is nothing now.

        Raises:
            EscapeError: the sequence was typed, and all before it was passed on.
        """
        view = memoryview(buffer)  # type: ignore[arg-type]
        if not len(view):
            return 0
        while not self._ready:
            if self._is_detached:
                raise EscapeError
            if self._has_ended:
                return 0
            if not self._read_more(len(view)):
                return None
        count = min(len(view), len(self._ready))
        view[:count] = self._ready[:count]
        del self._ready[:count]
        return count

    def _read_more(self, size: int) -> bool:
        # Whether there was more, or the end.
        if self._matcher.held and not self._is_readable_in_time():
            self._ready += self._matcher.release()
            return True
        data = self._reader.read(size)
        if data is None:
            return False
        if not data:
            self._has_ended = True
            self._ready += self._matcher.release()
            return True
        fed = self._matcher.feed(data, self._clock())
        self._ready += fed.out
        self._is_detached = fed.detached
        return True

    def _is_readable_in_time(self) -> bool:
        deadline = self._matcher.deadline()
        fd = _descriptor(self._reader)
        if fd is None or deadline is None:
            return True
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll_until(poll, deadline, self._clock))


def _descriptor(reader: Reader) -> int | None:
    try:
        fileno = getattr(reader, "fileno", None)
        return int(fileno()) if callable(fileno) else None
    except io.UnsupportedOperation:
        return None


new_escape_proxy = EscapeProxy  # the name of 2014
