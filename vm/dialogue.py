"""One conversation after the other with a machine's agent: a message, its answers, the guest as it should be between.

What the messages mean is not known here: that is `kernelproof.vm.machine`. A guest in virtual time stands still between
two conversations, and wakes with the first message there already.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from kernelproof.vm.guest.frames import BYTES, JSON, PROTOCOL, FrameError, decode_message, encode_message
from kernelproof.vm.messages import CONVERSATIONS, MAX_CONVERSATION, Plain, broken, check_answer
from kernelproof.vm.running import Running

PAUSE_SECONDS = 5.0  # at least, after an answer that came just in time; 0.001 s measured
_FIRST_BYTES = 65536  # a first message up to this long fits into the socket and is sent before the guest goes on


class Dialogue:
    """What is said to one machine, one request at a time.

    Args:
        running: Its QEMU; closed by whoever owns it.
        paused: The guest stands still: it loaded a template.
        virtual: Its time is virtual: it stands still between requests, or its clock would race.
        woken: It is no clone, and keeps the time and entropy that it has.
    """

    def __init__(self, running: Running, *, paused: bool, virtual: bool, woken: bool) -> None:
        self.seed = secrets.randbits(63)
        self.entropy = secrets.token_hex(32)
        self.virtual = virtual
        self._running = running
        self._paused = paused
        self._woken = woken
        self._busy = False
        self._budget = MAX_CONVERSATION

    def refuse_use(self, busy: str = "another request is under way") -> None:
        """See that nothing else is said.

        Raises:
            RuntimeError: the machine is closed, or a request is under way, told in these words.
        """
        if self._busy or self._running.closed:
            raise RuntimeError("the machine is closed" if self._running.closed else busy)

    @contextmanager
    def conversing(self, message: Mapping[str, object], timeout: float, raw: bytes = b"") -> Iterator[float]:
        """Send a message, yield the deadline of its answers, leave the guest as it should be between requests.

        Args:
            message: Of a kind that the protocol has.
            timeout: Seconds, without those in which the machine waits for a processor.
            raw: Frames behind it.

        Raises:
            RuntimeError: as `refuse_use` says.
            LookupError: the protocol has no such message.
            MachineLost: in the block, whatever the channel raises there.
        """
        self.refuse_use()
        if message["kind"] not in CONVERSATIONS:
            raise LookupError(f"the protocol has no message of kind {message['kind']!r}")
        self._running.channel.count_anew()
        deadline = time.monotonic() + timeout
        wake = {} if self._woken else {"wake": _make_wake(self.seed, self.entropy)}
        first = encode_message({**message, **wake, "protocol": PROTOCOL})
        self._busy, self._budget = True, MAX_CONVERSATION
        with self._running.losing():
            self._begin(first, raw, deadline)
            self._woken = True
            yield deadline
            if self.virtual:  # an idle guest's clock would race
                self._running.pause(max(deadline, time.monotonic() + PAUSE_SECONDS))
                self._paused = True
        self._running.console.trim()
        self._busy = False

    def _begin(self, first: bytes, raw: bytes, deadline: float) -> None:
        channel = self._running.channel
        early = (
            self._paused and len(first) <= _FIRST_BYTES
        )  # it is there when the guest wakes: no time is lost or raced
        if early:
            channel.send(first, deadline)
        if self._paused:
            self._running.go_on(deadline)
            self._paused = False
        channel.send(raw if early else first + raw, deadline)

    def receive_answer(self, kind: str, deadline: float) -> tuple[dict[str, Plain], bool]:
        """The next answer to a message of that kind, and whether it is the last; inside `conversing`."""
        payload = self._receive(JSON, deadline)
        self._budget -= len(payload)
        if self._budget < 0:
            raise broken(f"more than {MAX_CONVERSATION} bytes in answer to one {kind!r}")
        try:
            message = decode_message(payload)
        except FrameError as error:
            raise broken(str(error)) from error
        return check_answer(message, CONVERSATIONS[kind])

    def receive_bytes(self, deadline: float) -> bytes:
        """The next frame of bytes; inside `conversing`."""
        return self._receive(BYTES, deadline)

    def _receive(self, due: bytes, deadline: float) -> bytes:
        kind, payload = self._running.channel.receive(deadline)
        if kind != due:
            raise broken(f"a frame of kind {kind!r} came where {due!r} was due")
        return payload


def _make_wake(seed: int, entropy: str) -> dict[str, object]:
    return {"clock_ns": time.time_ns(), "entropy": entropy, "seed": seed}
