"""Copy between a master and a local terminal, files or pipes: the part that knows what to do, and waits for nothing.

    relay = Relay(master, 0, 1, matcher=DetachMatcher(parse_keys("ctrl-p,ctrl-q")))
    while relay.ended is None:
        for fd, events in wait_for(relay.interests(), relay.deadline()):   # any event loop
            relay.handle(fd, events, now)
        relay.tick(now)

All descriptors must be non-blocking, or such that never block. What cannot be written is kept, at most one piece each
way, and nothing more is read until it is gone: who does not take the output holds up who makes it, and nobody else.
kernelproof.impl.term.copying drives this with poll, kernelproof.impl.term.aio with asyncio.
"""

from __future__ import annotations

import errno
import os
import select
import termios
from collections.abc import Callable
from typing import NamedTuple

from kernelproof.impl.term.detach import DetachMatcher
from kernelproof.impl.term.states import TermState, save

READABLE = select.POLLIN | select.POLLHUP | select.POLLERR
WRITABLE = select.POLLOUT | select.POLLHUP | select.POLLERR

_PIECE = 1 << 16  # bytes asked for at a time
_TERMINAL_PIECE = 4095  # what a terminal gives at most, when it has more
_READS = 32  # at a time, before the other side is looked at again

# Why a copy ends.
HUNG_UP = "hung up"  # the other side of the master is closed, and all it wrote was passed on
EXITED = "exited"  # the process ended, and all it wrote was passed on
DETACHED = "detached"  # the detach sequence was typed
OUTPUT_GONE = "output gone"  # nobody can take the output any more
TIMED_OUT = "timed out"


class Ended(NamedTuple):
    """How a copy ended."""

    reason: str  # HUNG_UP, EXITED, DETACHED, OUTPUT_GONE or TIMED_OUT
    bytes_in: int  # written to the master
    bytes_out: int  # written to stdout
    rest: bytes = b""  # typed after the detach sequence


class _Flow:
    """One direction: a source, a sink, and what is on the way."""

    __slots__ = ("count", "has_ended", "is_sink_gone", "last", "pending", "sink", "source")

    def __init__(self, source: int, sink: int) -> None:
        self.source = source
        self.sink = sink
        self.pending = b""
        self.last = b""  # the last byte that was to be written
        self.count = 0
        self.has_ended = False
        self.is_sink_gone = False

    def read(self) -> bytes | None:
        """Return a piece; b"" at the end; None if there is nothing now."""
        try:
            data = os.read(self.source, _PIECE)
        except BlockingIOError:
            return None
        except OSError as error:
            # A master whose peer is closed, and a terminal that was hung up, say EIO: it is their end of file.
            if error.errno not in (errno.EIO, errno.ECONNRESET):
                raise
            data = b""
        self.has_ended = not data
        return data

    def write(self, data: bytes) -> bool:
        """Write what the sink takes, keep the rest, and return whether there is none."""
        if self.is_sink_gone or not data:
            return not self.is_sink_gone
        self.last = data[-1:]
        try:
            written = os.write(self.sink, data)
        except BlockingIOError:
            written = 0
        except OSError as error:
            if error.errno not in (errno.EIO, errno.EPIPE, errno.ECONNRESET):
                raise
            self.is_sink_gone = True
            self.pending = b""
            return False
        self.count += written
        if written == len(data):
            self.pending = b""
            return True
        self.pending = data[written:]
        return False


def _end_of_file(state: TermState, typed: bytes, disabled: int) -> bytes:
    """Return what to type after a byte, for the end of file: within a line one character only sends off that line."""
    end = state.character("VEOF")
    if end == disabled:
        return b""
    ends = {ord("\n"), end, state.character("VEOL"), state.character("VEOL2")} - {disabled}
    if state.iflag & termios.ICRNL:
        ends.add(ord("\r"))
    return bytes([end]) * (1 if not typed or typed[0] in ends else 2)


class Relay:
    """The state of a copy.

    Args:
        master: one side; what is read from it goes to stdout.
        stdin: where input comes from.
        stdout: where output goes.
        matcher: finds the detach sequence in the input.
        pidfd: a process whose end ends the copy, also while others still hold the peer open.
        send_end: at the end of stdin, type the peer's end-of-file character, if it reads lines and has one; twice if
            the last line had no end.
        on_output: gets what was read from the master, before it is written; say a recorder's `output`.
    """

    def __init__(
        self,
        master: int,
        stdin: int,
        stdout: int,
        *,
        matcher: DetachMatcher | None = None,
        pidfd: int | None = None,
        send_end: bool = True,
        on_output: Callable[[bytes], object] | None = None,
    ) -> None:
        self._in = _Flow(stdin, master)
        self._out = _Flow(master, stdout)
        self._matcher = matcher
        self._pidfd = pidfd
        self._send_end = send_end
        self._on_output = on_output
        self._has_exited = False
        self._reason: str | None = None
        self._rest = b""

    @property
    def ended(self) -> Ended | None:
        """How the copy ended; None as long as it goes on."""
        if self._reason is None:
            return None
        return Ended(self._reason, self._in.count, self._out.count, self._rest)

    def interests(self) -> dict[int, int]:
        """Return the descriptors to wait for, with the events of poll(2)."""
        wanted: dict[int, int] = {}
        for flow in (self._in, self._out):
            if flow.pending:
                wanted[flow.sink] = wanted.get(flow.sink, 0) | select.POLLOUT
            elif not flow.has_ended and not flow.is_sink_gone:
                wanted[flow.source] = wanted.get(flow.source, 0) | select.POLLIN
        if self._pidfd is not None and not self._has_exited:
            wanted[self._pidfd] = select.POLLIN
        return wanted

    def deadline(self) -> float | None:
        """Return when `tick` is due."""
        return None if self._matcher is None else self._matcher.deadline()

    def tick(self, now: float) -> None:
        """Pass on a beginning of the detach sequence that was held for long enough."""
        due = self.deadline()
        if due is not None and now >= due and self._matcher is not None and not self._in.pending:
            self._in.write(self._matcher.release())

    def stop(self, reason: str = TIMED_OUT) -> None:
        """End the copy where it is."""
        self._reason = self._reason or reason

    def handle(self, fd: int, events: int, now: float) -> None:
        """Do what a descriptor is ready for.

        Raises:
            OSError: what read(2) and write(2) give, but what only says that a side has ended.
        """
        if fd == self._pidfd:
            self._has_exited = True
        for flow in (self._in, self._out):
            if fd == flow.sink and flow.pending and events & WRITABLE:
                flow.write(flow.pending)
        if fd == self._out.source and events & READABLE:
            self._take_output()
        if fd == self._in.source and events & READABLE:
            self._take_input(now)
        self._see_end()

    def _take_output(self) -> None:
        out, read, write, on_output = self._out, self._out.read, self._out.write, self._on_output
        if out.pending or out.has_ended or out.is_sink_gone:
            return
        for _ in range(_READS):
            data = read()
            if not data:
                return
            if on_output is not None:
                on_output(data)
            if not write(data) or len(data) < _TERMINAL_PIECE:
                return  # the sink takes no more now, or that was all there is

    def _take_input(self, now: float) -> None:
        flow = self._in
        if flow.pending or flow.has_ended or flow.is_sink_gone:
            return
        data = flow.read()
        if data is None:
            return
        if not data:
            flow.write(self._last_input())
        elif self._matcher is None:
            flow.write(data)
        else:
            fed = self._matcher.feed(data, now)
            flow.write(fed.out)
            if fed.detached:
                self._rest = fed.rest
                flow.has_ended = True
                self.stop(DETACHED)

    def _last_input(self) -> bytes:
        last = self._matcher.release() if self._matcher is not None else b""
        if self._send_end:
            try:
                state = save(self._in.sink)
            except OSError:
                return last  # no terminal, or hung up
            if state.is_canonical:
                last += _end_of_file(state, last[-1:] or self._in.last, os.fpathconf(self._in.sink, "PC_VDISABLE"))
        return last

    def _see_end(self) -> None:
        if self._out.is_sink_gone:
            self.stop(OUTPUT_GONE)
        elif self._out.has_ended and not self._out.pending:
            self.stop(HUNG_UP)
        elif self._has_exited and not self._out.pending and not self._has_output():
            self.stop(EXITED)

    def _has_output(self) -> bool:
        """Return whether the master has something to read, or its end."""
        poll = select.poll()
        poll.register(self._out.source, select.POLLIN)
        return bool(poll.poll(0))
