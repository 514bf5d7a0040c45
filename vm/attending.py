"""The host's end of `attend`: a program's streams and forwarded connections, relayed until the program has ended.

Everything happens in one poll(2): the guest, QEMU's end, the caller's descriptors, connections, and whatever else the
caller watches. What the guest sends goes where the caller said, unchanged; it can open nothing here.
"""

from __future__ import annotations

import math
import select
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from kernelproof.vm.channel import Channel, DeadlineMissed
from kernelproof.vm.guest.frames import BYTES, FrameError, decode_message, encode_message
from kernelproof.vm.guest.streams import STDERR, STDIN, STDOUT, WINDOW, Streams
from kernelproof.vm.messages import CONVERSATIONS, Plain, broken, check_answer

if TYPE_CHECKING:
    from kernelproof.vm.machine import Machine

_KILLED_SECONDS = 10.0  # for the agent to say that the program it killed has ended
_SEE_OFF_SECONDS = 10.0  # for the last word to be taken
_QUEUE = WINDOW  # bytes that wait to be sent; nothing more is read while there are more


class Program(NamedTuple):
    """What is started.

    Args:
        programs: Argument vectors: the first whose program is there is started.
        environment: Beside that of the agent.
        directory: Working directory in the guest, `~` for the home directory; the agent's by default.
        terminal: Rows and columns of the terminal that it gets; None for three streams.
    """

    programs: Sequence[Sequence[str]]
    environment: Mapping[str, str] = {}
    directory: str | None = None
    terminal: tuple[int, int] | None = None

    def as_message(self) -> dict[str, object]:
        """The message's `program`."""
        size = None if self.terminal is None else dict(zip(("rows", "columns"), self.terminal, strict=True))
        return {
            "programs": [list(argv) for argv in self.programs],
            "environment": dict(self.environment),
            "directory": self.directory,
            "terminal": size,
        }


class Attending:
    """One conversation; say what its streams are, then `run` it.

    Args:
        program: What is started; None for connections alone.

    Attributes:
        streams: For the program's STDIN, STDOUT and STDERR, and for connections.
        timed_out: Whether the program was killed because its time was up.
    """

    def __init__(self, program: Program | None = None) -> None:
        self.streams = Streams(self._queue)
        self.timed_out = False
        self._program = program
        self._queued = bytearray()
        self._watched: dict[int, Callable[[], None]] = {}
        self._answer: dict[str, Plain] | None = None
        self._left = False

    def message(self) -> dict[str, object]:
        """The message that opens the conversation."""
        return {"kind": "attend", "program": None if self._program is None else self._program.as_message()}

    def watch(self, descriptor: int, on_ready: Callable[[], None]) -> None:
        """Call a function whenever a descriptor can be read."""
        self._watched[descriptor] = on_ready

    def unwatch(self, descriptor: int) -> None:
        """Watch a descriptor no more."""
        self._watched.pop(descriptor, None)

    def say(self, **message: object) -> None:
        """Send the guest a message of this conversation."""
        self._queue(encode_message(message))

    def resize(self, rows: int, columns: int) -> None:
        """Tell the program's terminal its size."""
        self.say(kind="resize", rows=rows, columns=columns)

    def kill(self, number: int) -> None:
        """Send the program's process group a signal."""
        self.say(kind="signal", number=number)

    def leave(self) -> None:
        """End the conversation, and the program with it."""
        if not self._left:
            self._left = True
            self.say(kind="leave")

    def run(self, machine: Machine, timeout: float = math.inf) -> int:
        """Relay until the program has ended.

        Args:
            machine: Its time is real.
            timeout: Seconds after which the program is killed.

        Returns:
            The program's exit status, or minus the number of the signal that killed it.

        Raises:
            GuestError: the program can't be started.
            MachineLost: the machine is gone, or its agent does not answer.
            RuntimeError: another request is under way, the machine is closed, or its time is virtual.
            OSError: as write(2) refuses: ENOSPC.
        """
        with machine.attending(self.message()) as channel:
            answer = self.relay(channel, time.monotonic() + timeout)
        return machine.read_attended(answer)

    def relay(self, channel: Channel, deadline: float) -> dict[str, Plain]:
        """Relay on a channel that has sent `message`; returns the guest's last answer.

        Raises:
            DeadlineMissed, Ended, QmpError, ChannelError, OSError
        """
        while self._answer is None:
            self._take_frames(channel)
            if self._answer is None:
                deadline = self._step(channel, deadline)
        self.leave()
        channel.send(bytes(self._queued), time.monotonic() + _SEE_OFF_SECONDS)
        self._queued.clear()
        self._flush()
        return self._answer

    def _step(self, channel: Channel, deadline: float) -> float:
        wanted = self.streams.wanted(reading=len(self._queued) < _QUEUE)
        watched = dict.fromkeys(self._watched, select.POLLIN)
        try:
            ready = channel.wait_beside({**wanted, **watched}, deadline, writing=bool(self._queued))
        except DeadlineMissed:
            if self._program is None or self.timed_out:
                raise
            self.timed_out = True
            self.kill(signal.SIGKILL)
            return time.monotonic() + _KILLED_SECONDS
        self._handle(ready)
        if self._queued:
            with memoryview(self._queued) as view:
                count = channel.offer(view)
            del self._queued[:count]
        return deadline

    def _handle(self, ready: Sequence[tuple[int, int]]) -> None:
        for descriptor, events in ready:
            if descriptor in self._watched:
                self._watched[descriptor]()
            else:
                self.streams.handle(descriptor, events)

    def _take_frames(self, channel: Channel) -> None:
        try:
            while self._answer is None and (frame := channel.take()) is not None:
                kind, payload = frame
                if kind == BYTES:
                    self.streams.take_data(payload)
                else:
                    self._take_message(payload)
        except FrameError as error:
            raise broken(str(error)) from error

    def _take_message(self, payload: bytes) -> None:
        answer, final = check_answer(decode_message(payload), CONVERSATIONS["attend"])
        if final:
            self._answer = answer
        else:
            self.streams.take_message(answer)

    def _flush(self) -> None:
        # The guest has said its last; what it said before still has to be written.
        for number in (STDIN, STDOUT, STDERR):
            self.streams.stop_reading(number)
        while any(self.streams.held(number) for number in (STDOUT, STDERR)):
            poll = select.poll()
            for descriptor, events in self.streams.wanted(reading=False).items():
                poll.register(descriptor, events)
            for descriptor in self._watched:
                poll.register(descriptor, select.POLLIN)
            self._handle(poll.poll())

    def _queue(self, frame: bytes) -> None:
        self._queued += frame
