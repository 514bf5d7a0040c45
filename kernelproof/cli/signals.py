"""Signals as something that can be read beside other descriptors."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from types import FrameType, TracebackType
from typing import Any, Self


class SignalPipe:
    """While its block runs, these signals are bytes in a pipe and do nothing else. For the main thread.

    The byte is written when the signal comes (`signal.set_wakeup_fd`). A handler would write it between two
    instructions of Python, so too late for who has just begun to wait.

    Args:
        numbers: The signals; one that is ignored (nohup) stays so.
    """

    def __init__(self, numbers: Iterable[signal.Signals]) -> None:
        self._numbers = tuple(numbers)
        self._before: dict[signal.Signals, Callable[[int, FrameType | None], Any] | int | None] = {}

    def __enter__(self) -> Self:
        self._reading, self._writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        for number in self._numbers:
            if signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, _nothing)
        self._woken_before = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._woken_before)
        for number, before in self._before.items():
            signal.signal(number, signal.SIG_DFL if before is None else before)
        os.close(self._reading)
        os.close(self._writing)

    def fileno(self) -> int:
        """Readable when a signal came."""
        return self._reading

    def take(self) -> list[signal.Signals]:
        """The signals that came since, in their order."""
        try:
            # Others that have a handler in Python are told too.
            return [signal.Signals(number) for number in os.read(self._reading, 4096) if number in self._numbers]
        except BlockingIOError:
            return []

    def put(self, number: int) -> None:
        """Let it be as if a signal came."""
        try:
            os.write(self._writing, bytes([number]))
        except BlockingIOError:
            return  # there are thousands in it: it will be read


def _nothing(number: int, frame: FrameType | None) -> None:
    """What a signal does that is a byte in the pipe."""
