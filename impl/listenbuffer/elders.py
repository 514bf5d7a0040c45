"""Generations that serve no more and have not ended yet: listed, and ended when they take too long.

Each generation gets the list from its predecessor, which adds itself: its number, its process, how long ago it retired,
and a pidfd, which tells of its end and never means another process. Where there are no pidfds, nobody is listed.

Sources: pidfd_open(2); pidfd_send_signal(2).
"""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from kernelproof.impl.listenbuffer import messages
from kernelproof.impl.listenbuffer.wake import Wake

ELDERS_MAX: Final = 200
_WAIT_MAX_SECONDS: Final = 86400.0  # poll(2) takes an int of milliseconds


class Elder(NamedTuple):
    """A generation that serves no more.

    Attributes:
        generation: Its number.
        pid: Its process's number, as it sees that itself.
        retired: When it stopped serving, on this process's monotonic clock.
        pidfd: A descriptor of its process; it stays this package's to close.
    """

    generation: int
    pid: int
    retired: float
    pidfd: int


class Elders:
    """Those who have not ended yet, and a thread that ends them at their age limit.

    Args:
        found: Those who are known; their descriptors are used up.
        age_limit_seconds: How long they may take to end; then they are killed. None for as long as they like.
    """

    def __init__(self, found: Sequence[Elder], age_limit_seconds: float | None) -> None:
        self._found = list(found)
        self._lock = threading.Lock()
        self._stop = Wake()
        self._thread: threading.Thread | None = None
        if age_limit_seconds is not None and found:
            arguments = (age_limit_seconds,)
            self._thread = threading.Thread(target=self._end, args=arguments, daemon=True, name="elders")
            self._thread.start()

    def alive(self) -> tuple[Elder, ...]:
        """Those who have not ended, the youngest first."""
        with self._lock:
            for elder in list(self._found):
                if _wait([elder.pidfd], 0):
                    os.close(elder.pidfd)
                    self._found.remove(elder)
            return tuple(self._found)

    def close(self) -> None:
        """Let them be: another generation has them now, or nobody."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            for elder in self._found:
                os.close(elder.pidfd)
            self._found.clear()

    def _end(self, age_limit_seconds: float) -> None:
        # Whoever is this process itself, with another listener, is spared.
        spared = {elder for elder in self._found if elder.pid == os.getpid()}
        while waiting := [elder for elder in self.alive() if elder not in spared]:
            rest = min(elder.retired for elder in waiting) + age_limit_seconds - time.monotonic()
            if self._stop.descriptor in _wait([self._stop.descriptor, *(elder.pidfd for elder in waiting)], rest):
                return
            for elder in waiting:
                if elder.retired + age_limit_seconds <= time.monotonic():
                    spared.add(elder)
                    with suppress(OSError):  # it has ended, or is another user's
                        signal.pidfd_send_signal(elder.pidfd, signal.SIGKILL)


def _wait(descriptors: Sequence[int], timeout_seconds: float) -> list[int]:
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return [number for number, _ in poll.poll(min(max(0.0, timeout_seconds), _WAIT_MAX_SECONDS) * 1000)]


def send_retire(connection: socket.socket, generation: int, elders: Sequence[Elder]) -> None:
    """Tell the successor that it serves alone, and who has not ended, this process included.

    Raises:
        OSError: The successor is gone.
    """
    now, own = time.monotonic(), None
    with suppress(AttributeError, OSError):  # not Linux, or it is forbidden
        own = os.pidfd_open(os.getpid())
    told = [] if own is None else [Elder(generation, os.getpid(), now, own)]
    told += elders[: ELDERS_MAX - 1]
    described = [[elder.generation, elder.pid, now - elder.retired] for elder in told]
    try:
        messages.send(connection, "retire", [elder.pidfd for elder in told], elders=described)
    finally:
        if own is not None:
            os.close(own)


def read_elders(message: messages.Message) -> tuple[Elder, ...]:
    """Read from a predecessor's last word who has not ended; nobody, if it does not say so.

    It is no error: the predecessor serves no more.
    """
    described, now = message.fields.get("elders"), time.monotonic()
    try:
        if not isinstance(described, list) or len(described) != len(message.descriptors):
            raise ValueError("not as many as descriptors")
        return tuple(
            Elder(int(generation), int(pid), now - float(age), pidfd)
            for (generation, pid, age), pidfd in zip(described, message.descriptors, strict=True)
        )
    except (TypeError, ValueError, OverflowError):
        message.close()
        return ()
