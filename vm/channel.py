"""Moves bytes between the host and one machine: the agent's stream, QEMU's control stream, QEMU's end, in one poll(2).

Every wait has a deadline by the monotonic clock and sees all three at once; it is put off by the time in which QEMU
had to wait for a processor. What the messages mean is not judged here, and no error is translated:
`kernelproof.vm.running` knows what a missed deadline is.
"""

from __future__ import annotations

import array
import math
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from kernelproof.vm.guest.frames import FrameError, FrameReader
from kernelproof.vm.held_up import HeldUp
from kernelproof.vm.messages import MAX_CONVERSATION, broken
from kernelproof.vm.qmp import QmpReader, encode_command, read_answer

_CHUNK = 256 * 1024
_FLOOD = MAX_CONVERSATION + 2 * _CHUNK  # unread bytes of the agent's: more than all that any request may be answered
_LONGEST_SECONDS = 2_000_000.0  # poll(2) counts milliseconds in 31 bits
_EVENTS = 256  # events kept: a guest can make QEMU send any number (RTC_CHANGE)


class DeadlineMissed(Exception):
    """What was waited for did not come in time."""


class Ended(Exception):
    """QEMU has ended."""


class Channel:
    """The three descriptors of one machine.

    Args:
        agent: Connected to the guest's port; owned and closed by the channel.
        control: Connected to QEMU's monitor; likewise.
        pidfd: Of QEMU; not closed here.
        terminal: Connected to the guest's second port, where it has one; nothing is read of it but by who asks.
            Likewise.
        held_up: The account of QEMU's waiting for a processor; none where deadlines are not put off.
    """

    def __init__(
        self,
        agent: socket.socket,
        control: socket.socket,
        pidfd: int,
        terminal: socket.socket | None = None,
        held_up: HeldUp | None = None,
    ) -> None:
        self.terminal = terminal
        self._held_up = held_up
        self.events: deque[Mapping[str, object]] = deque(maxlen=_EVENTS)
        self._agent, self._control, self._pidfd = agent, control, pidfd
        self._frames, self._qmp = FrameReader(), QmpReader()
        self._answers: deque[Mapping[str, object]] = deque()
        # Functions, not methods: a forgotten channel is freed at once, not by the cycle collector.
        self._readers: dict[int, Callable[[Channel], bool]] = {
            agent.fileno(): Channel._read_agent,
            control.fileno(): Channel._read_control,
        }
        self._is_open = True  # the agent's stream
        self._poll = select.poll()
        for descriptor in (*self._readers, pidfd):
            self._poll.register(descriptor, select.POLLIN)
        agent.setblocking(False)
        control.setblocking(False)

    def close(self) -> None:
        """Close the streams."""
        self._agent.close()
        self._control.close()
        if self.terminal is not None:
            self.terminal.close()

    def count_anew(self) -> None:
        """Begin what has deadlines of its own: what QEMU waited for a processor until now does not put them off."""
        if self._held_up is not None:
            self._held_up.begin()

    def wait_for_greeting(self, deadline: float) -> None:
        """Wait until QEMU's monitor greets.

        Raises:
            DeadlineMissed, Ended, QmpError, ChannelError
        """
        self._next_control(lambda message: "QMP" in message, deadline)

    def command(
        self,
        name: str,
        arguments: Mapping[str, object] | None = None,
        *,
        deadline: float,
        descriptor: int | None = None,
    ) -> object:
        """Send QEMU a command and wait for what it returns.

        Args:
            name: The command.
            arguments: Its arguments.
            deadline: By the monotonic clock.
            descriptor: Sent along with the command.

        Raises:
            QmpError: QEMU refused it.
            DeadlineMissed, Ended, ChannelError
        """
        line = encode_command(name, arguments or {})
        rights = [] if descriptor is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
        try:
            self._control.sendmsg([line], rights)  # one command in flight: it fits into the socket's buffer
        except (BrokenPipeError, ConnectionResetError):
            self._wait_until_ended(deadline)
        return read_answer(self._next_control(lambda message: "event" not in message, deadline))

    def wait_for_event(
        self, name: str, accept: Callable[[Mapping[str, object]], bool], deadline: float
    ) -> Mapping[str, object]:
        """Wait for an event of that name, already seen or still to come, whose data is accepted.

        Raises:
            DeadlineMissed, Ended, QmpError, ChannelError
        """

        def wanted(event: Mapping[str, object]) -> bool:
            data = event.get("data")
            return event.get("event") == name and accept(data if isinstance(data, dict) else {})

        while True:
            for event in self.events:
                if wanted(event):
                    return event
            self._pump(deadline)

    def send(self, data: bytes, deadline: float) -> None:
        """Send frames to the agent.

        Raises:
            DeadlineMissed, Ended, ChannelError
        """
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._agent.send(rest) :]
            except BlockingIOError:
                self._pump(deadline, writing=True)
            except (BrokenPipeError, ConnectionResetError):
                self._wait_until_ended(deadline)

    def receive(self, deadline: float) -> tuple[bytes, bytes]:
        """The agent's next frame as (kind, payload).

        Raises:
            ChannelError: what came is no frame.
            DeadlineMissed, Ended, QmpError
        """
        while (frame := self.take()) is None:
            self._pump(deadline)
        return frame

    def offer(self, data: memoryview) -> int:
        """Send what can be sent without waiting; returns how much that was. What nobody can get counts as sent."""
        try:
            return self._agent.send(data)
        except BlockingIOError:
            return 0
        except (BrokenPipeError, ConnectionResetError):  # the end of QEMU is seen elsewhere
            return len(data)

    def wait_beside(
        self, others: Mapping[int, int], deadline: float, *, writing: bool = False
    ) -> list[tuple[int, int]]:
        """Wait until something happens here or with other descriptors, and take in all there is here.

        Args:
            others: Events of poll(2) by descriptor.
            deadline: By the monotonic clock; infinite for none.
            writing: Whether to wait until something can be sent, too.

        Returns:
            What happened with the others.

        Raises:
            DeadlineMissed, Ended, QmpError, ChannelError
        """
        for descriptor, events in others.items():
            self._poll.register(descriptor, events)
        try:
            ready = self._wait(deadline, writing=writing)
        finally:
            for descriptor in others:
                self._poll.unregister(descriptor)
        theirs = [(descriptor, events) for descriptor, events in ready if descriptor in others]
        self._take_in(ready, alone=not theirs)
        return theirs

    def wait_until_ended(self, deadline: float) -> bool:
        """Read on until QEMU has ended; False when the deadline passed before.

        Raises:
            QmpError, ChannelError
        """
        try:
            self._wait_until_ended(deadline)
        except Ended:
            return True
        except DeadlineMissed:
            return False
        return False

    def _wait_until_ended(self, deadline: float) -> None:
        while True:
            self._pump(deadline)

    @property
    def is_heard(self) -> bool:
        """Whether anything of the agent's is here that was not taken yet."""
        return self._frames.pending > 0

    def take(self) -> tuple[bytes, bytes] | None:
        """The agent's next frame as (kind, payload) if it is here already, or None.

        Raises:
            ChannelError: what came is no frame.
        """
        try:
            return self._frames.take()
        except FrameError as error:
            raise broken(str(error)) from error

    def _next_control(self, wanted: Callable[[Mapping[str, object]], bool], deadline: float) -> Mapping[str, object]:
        while True:
            while self._answers:
                if wanted(message := self._answers.popleft()):
                    return message
            self._pump(deadline)

    def _pump(self, deadline: float, *, writing: bool = False) -> None:
        """Wait until something happens, and take in all there is."""
        self._take_in(self._wait(deadline, writing=writing))

    def _wait(self, deadline: float, *, writing: bool) -> list[tuple[int, int]]:
        writing = writing and self._is_open
        if writing:
            self._poll.modify(self._agent, select.POLLIN | select.POLLOUT)
        ready = self._poll_until(deadline)
        while not ready and self._held_up is not None and deadline + self._held_up.seconds() > time.monotonic():
            ready = self._poll_until(deadline + self._held_up.seconds())
        if writing:
            self._poll.modify(self._agent, select.POLLIN)
        if not ready:
            raise DeadlineMissed
        return ready

    def _poll_until(self, deadline: float) -> list[tuple[int, int]]:
        left = min(deadline - time.monotonic(), _LONGEST_SECONDS)
        return self._poll.poll(math.ceil(left * 1000)) if left > 0 else []

    def _take_in(self, ready: Iterable[tuple[int, int]], *, alone: bool = True) -> None:
        found = False
        for descriptor, _ in ready:
            if descriptor in self._readers:
                found |= self._readers[descriptor](self)
        if alone and not found and any(descriptor == self._pidfd for descriptor, _ in ready):
            raise Ended

    def _read_agent(self) -> bool:
        data = self._read(self._agent)
        self._frames.feed(data)
        if self._frames.pending > _FLOOD:
            raise broken(f"more than {_FLOOD} bytes came that nothing asked for")
        return bool(data)

    def _read_control(self) -> bool:
        data = self._read(self._control)
        self._qmp.feed(data)
        while (message := self._qmp.take()) is not None:
            (self.events if "event" in message else self._answers).append(message)
        return bool(data)

    def _read(self, stream: socket.socket) -> bytes:
        try:
            data = stream.recv(_CHUNK)
        except BlockingIOError:
            return b""
        except ConnectionResetError:
            data = b""
        if not data:  # its end; the process is what is watched from now on
            self._poll.unregister(stream)
            self._is_open = self._is_open and stream is not self._agent
        return data
