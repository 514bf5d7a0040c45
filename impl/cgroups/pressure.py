"""Pressure triggers: to be woken when processes waited longer than asked for within a window.

    with PressureTrigger.open(cgroup.directory, "memory", stall_microseconds=150_000) as trigger:
        for event in trigger.events(timeout_seconds=60): ...

One descriptor is one trigger; it is gone with its descriptor. An unprivileged user's window is a multiple of two
seconds (Linux 6.4). A trigger that is armed in the middle of a stall fires for what was before: `total` tells.

Source: accounting/psi.rst, Monitoring for pressure thresholds.
"""

from __future__ import annotations

import errno
import os
import select
import time
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import NamedTuple, Self

from kernelproof.impl.cgroups.controllers.pressure import KINDS, parse_pressure
from kernelproof.impl.cgroups.directory import Directory
from kernelproof.impl.cgroups.errors import LimitError
from kernelproof.impl.cgroups.readiness import wait_for_event, wait_for_event_async

LEAST_WINDOW_MICROSECONDS, MOST_WINDOW_MICROSECONDS = 500_000, 10_000_000  # kernel/sched/psi.c


class Stalled(NamedTuple):
    """A trigger fired.

    Attributes:
        total_microseconds: of all stalls so far.
        since_microseconds: of them since the trigger was armed, or since the last event.
    """

    total_microseconds: int
    since_microseconds: int


class PressureTrigger:
    """A trigger. Use it in a `with`, or close it.

    Args:
        fd: of a pressure file with the trigger written; owned from here on.
        share: "some" or "full".
        total: of the stalls before it was armed.
    """

    def __init__(self, fd: int, share: str, total: int) -> None:
        self._fd = fd
        self._share = share
        self._total = total

    @classmethod
    def open(
        cls,
        directory: Directory | str | os.PathLike[str],
        kind: str,
        share: str = "some",
        *,
        stall_microseconds: int,
        window_microseconds: int = 1_000_000,
    ) -> PressureTrigger:
        """Arm a trigger.

        Args:
            directory: a cgroup of version 2, or the path of a pressure file such as /proc/pressure/memory.
            kind: "cpu", "memory", "io" or "irq".
            share: "some" processes waited, or all of them: "full".
            stall_microseconds: within a window; above 0, at most the window.
            window_microseconds: 500000 to 10000000.

        Raises:
            LimitError: out of range, or a kind or share that is none.
            OSError: EOPNOTSUPP: the kernel was booted without psi; EINVAL: this kernel or user may not have that
                window; EACCES: no right to write; ENOENT: no such file; EBUSY: the file is in use by another trigger.
        """
        check_trigger(kind, share, stall_microseconds, window_microseconds)
        flags = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC
        if isinstance(directory, Directory):
            fd = directory.open_file(f"{kind}.pressure", flags)
        else:
            fd = os.open(directory, flags)
        try:
            total = _read_total(fd, share)
            os.write(fd, f"{share} {stall_microseconds} {window_microseconds}\0".encode("ascii"))
        except OSError as error:
            os.close(fd)
            error.add_note(f"trigger of {kind}: {share} {stall_microseconds} {window_microseconds}")
            if error.errno == errno.EINVAL and window_microseconds % 2_000_000:
                error.add_note("without CAP_SYS_RESOURCE the window is a multiple of 2000000 microseconds")
            raise
        return cls(fd, share, total)

    def fileno(self) -> int:
        """The descriptor, for poll(2) with POLLPRI; it stays this object's."""
        return self._fd

    def wait(self, timeout_seconds: float | None = None) -> Stalled | None:
        """Wait until it fires; None if the time passed first.

        Raises:
            OSError: ENODEV: the cgroup was removed.
        """
        if not wait_for_event(self._fd, select.POLLPRI, timeout_seconds):
            return None
        return self._read()

    def events(self, timeout_seconds: float | None = None) -> Iterator[Stalled]:
        """Yield each time that it fires, until the time has passed."""
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while True:
            left = None if deadline is None else max(deadline - time.monotonic(), 0)
            event = self.wait(left)
            if event is None:
                return
            yield event

    async def events_async(self, timeout_seconds: float | None = None) -> AsyncIterator[Stalled]:
        """Yield each time that it fires, in an event loop, until the time has passed."""
        import asyncio  # 40 ms, which nobody pays who has no event loop

        deadline = None if timeout_seconds is None else asyncio.get_running_loop().time() + timeout_seconds
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    await wait_for_event_async(self._fd)
            except TimeoutError:
                return
            yield self._read()

    def _read(self) -> Stalled:
        before, self._total = self._total, _read_total(self._fd, self._share)
        return Stalled(self._total, self._total - before)

    def close(self) -> None:
        """Disarm it; a second call changes nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def check_trigger(kind: str, share: str, stall: int, window: int) -> None:
    """Raises: LimitError: a trigger that no kernel takes."""
    if kind not in KINDS:
        raise LimitError("pressure", kind, f"one of {', '.join(KINDS)}")
    if share not in ("some", "full"):
        raise LimitError("pressure", share, "some or full")
    if not LEAST_WINDOW_MICROSECONDS <= window <= MOST_WINDOW_MICROSECONDS:
        reason = f"{LEAST_WINDOW_MICROSECONDS} to {MOST_WINDOW_MICROSECONDS} microseconds"
        raise LimitError("pressure window", window, reason)
    if not 0 < stall <= window:
        raise LimitError("pressure stall", stall, f"above 0, at most the window of {window} microseconds")


def _read_total(fd: int, share: str) -> int:
    pressure = parse_pressure(os.pread(fd, 4096, 0).decode("ascii"))
    found = pressure.some if share == "some" else pressure.full
    return 0 if found is None else found.total_microseconds
