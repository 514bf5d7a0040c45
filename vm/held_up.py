"""How long a process could have run but had to wait for a processor, because its host was busy with others.

A limit on the time of a machine is meant for its guest. A guest that stands still waits for nothing that the host
could give, so its time runs out; one on a busy host is given as much more time as the host withheld from it.

Source: Linux, Documentation/scheduler/sched-stats.rst, "/proc/<pid>/schedstat".
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

LONGEST_SECONDS = 3600.0  # whatever a host withholds, nobody waits longer than so much more
_NANO = 1e-9


def parse_schedstat(text: str) -> float:
    """The seconds that a task waited on a run queue: the second of three numbers, in nanoseconds. Pure.

    Raises:
        ValueError: another form.
    """
    _, delay, _ = map(int, text.split())
    return delay * _NANO


def read_delays(pid: int, proc: Path = Path("/proc")) -> dict[int, float]:
    """The seconds that each thread of a process waited for a processor; none where the kernel does not tell."""
    delays = {}
    tasks = proc / str(pid) / "task"
    try:
        for name in os.listdir(tasks):
            delays[int(name)] = parse_schedstat((tasks / name / "schedstat").read_text("ascii"))
    except (OSError, ValueError):  # it ended meanwhile, or the kernel keeps no such account
        return {}
    return delays


def count_held_up(before: Mapping[int, float], after: Mapping[int, float]) -> float:
    """The seconds of the thread that waited longest between two readings: while one waits, others may run. Pure."""
    longest = max((delay - before.get(thread, 0.0) for thread, delay in after.items()), default=0.0)
    return min(max(longest, 0.0), LONGEST_SECONDS)


class HeldUp:
    """The account of one process.

    Args:
        pid: Its number; it is not reaped while this is asked.
        proc: Where the process file system is.
    """

    def __init__(self, pid: int, proc: Path = Path("/proc")) -> None:
        self._pid, self._proc = pid, proc
        self._before: Mapping[int, float] = {}

    def begin(self) -> None:
        """Count from now on; at first it counts from the start of the process."""
        self._before = read_delays(self._pid, self._proc)

    def seconds(self) -> float:
        """How long it was held up."""
        return count_held_up(self._before, read_delays(self._pid, self._proc))
