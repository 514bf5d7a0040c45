"""Streams of bytes side by side over one channel, each with a window of its own; used by both ends.

While a conversation of kind `attend` goes on, a `B` frame is `!I` (the stream's number) and data; one without data ends
that stream in that direction. Two messages belong to it: `credit` (`stream`, `bytes`: so much was taken, so much more
may come) and `reset` (`stream`: nobody reads it any more). A sender never has more than `WINDOW` bytes under way, so
one stream that nobody reads neither stops the others nor fills memory. Standard library only.
"""

from __future__ import annotations

import errno
import os
import select
import struct
from collections.abc import Callable, Mapping

from kernelproof.vm.guest.frames import BYTES, FrameError, encode_frame, encode_message

WINDOW = 256 * 1024  # bytes of a stream under way
STDIN, STDOUT, STDERR = 0, 1, 2
FIRST_CONNECTION = 16

_PIECE = 32 * 1024
_OWED = WINDOW // 4  # credit is given back in pieces: not a message for each key that is pressed
_DRAINED = 1024 * 1024  # pipe(7): what an ordinary user may make a pipe hold
_NUMBER = struct.Struct("!I")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no end of a stream, but bytes that would be lost
# What a write to a blocking descriptor may be, that poll(2) called ready, without waiting: pipe(7), PIPE_BUF.
BLOCKING_PIECE = 4096

Nothing = Callable[[], None]


def nothing() -> None:
    """Do nothing: what ends without consequences."""


class _Source:
    """A descriptor whose bytes are sent."""

    def __init__(self, descriptor: int, on_end: Nothing, on_data: Callable[[bytes], object]) -> None:
        self.descriptor = descriptor
        self.on_end = on_end
        self.on_data = on_data
        self.credit = WINDOW
        self.drained = 0


class _Sink:
    """Where a stream's bytes go."""

    def __init__(self, descriptor: int | None, on_data: Callable[[bytes], object], on_end: Nothing, piece: int) -> None:
        self.descriptor = descriptor  # None: to `on_data` only
        self.on_data = on_data
        self.on_end = on_end
        self.piece = piece
        self.held = bytearray()
        self.allowed = WINDOW
        self.owed = 0
        self.ended = False


class Streams:
    """The streams of one conversation.

    Args:
        send: Takes a whole frame.
    """

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._sources: dict[int, _Source] = {}
        self._sinks: dict[int, _Sink] = {}

    def read_from(
        self, number: int, descriptor: int, on_end: Nothing = nothing, on_data: Callable[[bytes], object] = bytes
    ) -> None:
        """Send what a descriptor gives, to its end.

        Args:
            number: The stream.
            descriptor: Not closed here.
            on_end: Called when it is read no more: it ended, or the other side wants no more of it.
            on_data: Is shown all that is read, before it is sent.
        """
        self._sources[number] = _Source(descriptor, on_end, on_data)

    def write_to(
        self,
        number: int,
        descriptor: int | None,
        on_data: Callable[[bytes], object] = bytes,
        on_end: Nothing = nothing,
        piece: int = BLOCKING_PIECE,
    ) -> None:
        """Write what comes on a stream to a descriptor.

        Args:
            number: The stream.
            descriptor: Not closed here. None: `on_data` alone takes it.
            on_data: Is shown all that comes, as it comes.
            on_end: Called when all is written, or nobody reads any more.
            piece: Bytes of one write.
        """
        self._sinks[number] = _Sink(descriptor, on_data, on_end, piece)

    def reads(self, number: int) -> bool:
        """Whether a stream is still read from here."""
        return number in self._sources

    def writes(self, number: int) -> bool:
        """Whether something may still come on a stream, or is held."""
        return number in self._sinks

    def held(self, number: int) -> int:
        """Bytes of a stream that came and are not written yet."""
        return len(self._sinks[number].held) if number in self._sinks else 0

    def wanted(self, *, reading: bool = True) -> dict[int, int]:
        """What poll(2) is to watch, by descriptor.

        Args:
            reading: Whether more may be sent now.
        """
        wanted: dict[int, int] = {}
        for source in self._sources.values():
            if reading and source.credit > 0:
                wanted[source.descriptor] = select.POLLIN
        for sink in self._sinks.values():
            if sink.descriptor is not None and sink.held:
                wanted[sink.descriptor] = wanted.get(sink.descriptor, 0) | select.POLLOUT
        return wanted

    def handle(self, descriptor: int, events: int) -> None:
        """Do what poll(2) says can be done.

        Raises:
            OSError: as read(2) and write(2) refuse, where it is not the end of a stream.
        """
        if events & ~select.POLLOUT:
            for number, source in list(self._sources.items()):
                if source.descriptor == descriptor and source.credit > 0:
                    self._read(number, source)
        if events & ~select.POLLIN:
            for number, sink in list(self._sinks.items()):
                if sink.descriptor == descriptor and sink.held:
                    self._write(number, sink)

    def drain(self, number: int) -> bool:
        """Send what can be read without waiting; whether nothing is left.

        What others go on writing is not read without end: no pipe holds more than `_DRAINED` bytes.
        """
        while (source := self._sources.get(number)) is not None and source.drained < _DRAINED:
            if not _is_readable(source.descriptor):
                return True
            if source.credit <= 0:
                return False
            credit = source.credit
            self._read(number, source)
            source.drained += credit - source.credit
        return True

    def refuse(self, number: int) -> None:
        """Tell the other side that a stream is read and written by nobody."""
        self._send(encode_message({"kind": "reset", "stream": number}))
        self._send_data(number, b"")

    def stop_reading(self, number: int) -> None:
        """Read a stream no more, and tell the other side that it ended."""
        source = self._sources.pop(number, None)
        if source is not None:
            self._send_data(number, b"")
            source.on_end()

    def stop_writing(self, number: int) -> None:
        """Take nothing more of a stream, and tell the other side."""
        sink = self._sinks.pop(number, None)
        if sink is not None:
            if not sink.ended:
                self._send(encode_message({"kind": "reset", "stream": number}))
            sink.on_end()

    def forget(self, number: int) -> None:
        """Drop both directions of a stream without a word."""
        self._sources.pop(number, None)
        self._sinks.pop(number, None)

    def take_data(self, payload: bytes) -> None:
        """Take in a `B` frame.

        What comes on a stream that was stopped here was under way when the other side was told, and is dropped.

        Raises:
            FrameError: no number, or more than the window allows.
        """
        if len(payload) < _NUMBER.size:
            raise FrameError(f"{len(payload)} bytes, too few for the number of a stream")
        (number,) = _NUMBER.unpack_from(payload)
        data = payload[_NUMBER.size :]
        sink = self._sinks.get(number)
        if sink is None:
            return
        if sink.ended:
            raise FrameError(f"stream {number} goes on after its end")
        if not data:
            sink.ended = True
            self._finish(number, sink)
            return
        sink.allowed -= len(data)
        if sink.allowed < 0:
            raise FrameError(f"stream {number} sent {-sink.allowed} bytes more than its window")
        sink.on_data(data)
        if sink.descriptor is None:
            self._owe(number, sink, len(data))
        else:
            sink.held += data

    def take_message(self, message: Mapping[str, object]) -> bool:
        """Take in a message if it is one of a stream's.

        Raises:
            FrameError: it is one and makes no sense.
        """
        if message.get("kind") not in ("credit", "reset"):
            return False
        number = message.get("stream")
        if type(number) is not int:
            raise FrameError(f"{message.get('kind')} of the stream {number!r}")
        source = self._sources.get(number)
        if message["kind"] == "reset":
            if source is not None:
                self._sources.pop(number)
                source.on_end()
            return True
        count = message.get("bytes")
        if type(count) is not int or not 0 < count <= WINDOW:
            raise FrameError(f"credit of {count!r} bytes")
        if source is not None:
            source.credit += count
            if source.credit > WINDOW:
                raise FrameError(f"stream {number} was given credit for more than was sent")
        return True

    def _read(self, number: int, source: _Source) -> None:
        try:
            data = os.read(source.descriptor, min(_PIECE, source.credit))
        except BlockingIOError:
            return
        except OSError:  # EIO: a pseudoterminal whose programs are gone; ECONNRESET: a connection
            data = b""
        if not data:
            self.stop_reading(number)
            return
        source.on_data(data)
        source.credit -= len(data)
        self._send_data(number, data)

    def _write(self, number: int, sink: _Sink) -> None:
        assert sink.descriptor is not None
        try:
            count = os.write(sink.descriptor, memoryview(sink.held)[: sink.piece])
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in _FULL:
                raise
            self.stop_writing(number)  # EPIPE, ECONNRESET, EIO: whoever read it is gone
            return
        del sink.held[:count]
        self._owe(number, sink, count)
        self._finish(number, sink)

    def _owe(self, number: int, sink: _Sink, count: int) -> None:
        sink.owed += count
        if sink.owed >= _OWED and not sink.ended:
            self._send(encode_message({"kind": "credit", "stream": number, "bytes": sink.owed}))
            sink.allowed += sink.owed
            sink.owed = 0

    def _finish(self, number: int, sink: _Sink) -> None:
        if sink.ended and not sink.held:
            del self._sinks[number]
            sink.on_end()

    def _send_data(self, number: int, data: bytes) -> None:
        self._send(encode_frame(BYTES, _NUMBER.pack(number) + data))


def _is_readable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
