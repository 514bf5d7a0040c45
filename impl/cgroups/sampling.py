"""Figures of many cgroups again and again: what each used between two looks.

The directories are opened once and held, as many as the limit of descriptors leaves room for; the others are opened for
each look. Cgroups that come and go meanwhile are taken up and left out.
"""

from __future__ import annotations

import errno
import resource
import time
from collections.abc import Iterator
from types import TracebackType
from typing import NamedTuple, Self

from kernelproof.impl.cgroups import stats
from kernelproof.impl.cgroups.directory import Directory
from kernelproof.impl.cgroups.stats import Stats

ONLY = ("cpu", "memory", "io", "pids", "pressure")

_SPARE_DESCRIPTORS = 64
_GONE = (errno.ENODEV, errno.ENOENT)


class Use(NamedTuple):
    """What one cgroup used between two looks.

    Attributes:
        name: its path below the first one, "/" for that.
        cpus: CPU time a second: 1.0 is one CPU; None at the first look.
        memory_bytes: in use now.
        io_bytes: read and written a second; None at the first look.
        processes: and threads, now.
        stalled: percent of the last ten seconds that somebody waited for memory; None without pressure figures.
    """

    name: str
    cpus: float | None
    memory_bytes: int | None
    io_bytes: float | None
    processes: int | None
    stalled: float | None


class Sampler:
    """Reads all cgroups below one. Use it in a `with`, or close it.

    Args:
        top: of version 2; stays the caller's.
        most: how many directories are held open; by default as many as the limit leaves, less 64.
    """

    def __init__(self, top: Directory, most: int | None = None) -> None:
        self._top = top
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = max(soft - _SPARE_DESCRIPTORS, 0) if most is None else most
        self._held: dict[str, Directory] = {}
        self._before: dict[str, tuple[float, int | None, int | None]] = {}

    def read(self, only: tuple[str, ...] = ONLY) -> Iterator[tuple[str, Stats]]:
        """Yield each cgroup's path below the first one, and its figures; the first one comes last.

        Raises:
            OSError: EACCES; EMFILE.
            FormatError: a file that can't be read.
        """
        found = set()
        for parts in (*self._top.descend(), ()):
            name = "/".join(parts)
            try:
                directory, is_held = self._open(name)
                try:
                    yield f"/{name}", stats.read_v2(directory.read_or_none, only=only)
                finally:
                    if not is_held:
                        directory.close()
            except OSError as error:
                if error.errno not in _GONE:
                    raise
                continue
            found.add(name)
        for name in self._held.keys() - found:
            self._held.pop(name).close()

    def _open(self, name: str) -> tuple[Directory, bool]:
        held = self._held.get(name)
        if held is not None and held.exists():
            return held, True
        if held is not None:
            self._held.pop(name).close()  # removed, and perhaps made anew by that name
        directory = self._top.child(name) if name else self._top.duplicate()
        if len(self._held) >= self._most:
            return directory, False
        self._held[name] = directory
        return directory, True

    def look(self) -> list[Use]:
        """What each cgroup used since the last look, and has now."""
        uses, now = [], {}
        for name, found in self.read():
            at = time.monotonic()
            spent = None if found.cpu is None else found.cpu.usage_microseconds
            moved = None if found.io is None else sum(one.read_bytes + one.write_bytes for one in found.io)
            begin, spent_before, moved_before = self._before.get(name, (at, None, None))
            passed = at - begin
            memory = found.pressure.get("memory")
            uses.append(
                Use(
                    name=name,
                    cpus=_rate(spent, spent_before, passed * 1_000_000),
                    memory_bytes=None if found.memory is None else found.memory.usage_bytes,
                    io_bytes=_rate(moved, moved_before, passed),
                    processes=None if found.pids is None else found.pids.current,
                    stalled=None if memory is None or memory.some is None else memory.some.average_10,
                )
            )
            now[name] = (at, spent, moved)
        self._before = now
        return uses

    def close(self) -> None:
        """Close the directories that it holds; a second call changes nothing."""
        held, self._held = self._held, {}
        for directory in held.values():
            directory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _rate(now: int | None, before: int | None, passed: float) -> float | None:
    return None if now is None or before is None or passed <= 0 else (now - before) / passed
