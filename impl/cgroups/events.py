"""What happens in a cgroup, told when it happens: out of memory, limits hit, emptied, frozen, forks refused.

    with CgroupEvents.open(cgroup.directory) as events:
        for event in events.watch(timeout_seconds=60):
            print(event.file, event.name, event.value)

Version 2 wakes poll(2) by POLLPRI when `memory.events` and its like change. The counters are read then, and what grew
since is told: reading is what arms the next wake-up. The last counters of a cgroup are read from descriptors that are
held, so a kill that is followed by a removal is not missed.

Source: cgroup-v2.rst, memory.events, memory.events.local, pids.events, cgroup.events.
"""

from __future__ import annotations

import errno
import os
import select
import time
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import NamedTuple, Self

from kernelproof.impl.cgroups.directory import Directory
from kernelproof.impl.cgroups.errors import NoControllerError
from kernelproof.impl.cgroups.formats import parse_flat
from kernelproof.impl.cgroups.readiness import wait_for_event_async

FILES = ("cgroup.events", "memory.events", "memory.events.local", "memory.swap.events", "pids.events")

_READ_BYTES = 4096
_REMOVED = "removed"


class Event(NamedTuple):
    """Something happened.

    Attributes:
        file: the interface file that says so; "" for the removal of the cgroup itself.
        name: the line: "oom_kill", "max", "populated"; "removed".
        value: what it says now.
        growth: since the last time; of "populated" and "frozen" the change, -1 or 1.
    """

    file: str
    name: str
    value: int
    growth: int


class CgroupEvents:
    """Watches a cgroup of version 2. Use it in a `with`, or close it.

    Args:
        files: descriptors of its files by name; owned from here on.
    """

    def __init__(self, files: dict[str, int]) -> None:
        self._files = files
        self._poll = select.poll()
        self._seen: dict[str, dict[str, int]] = {}
        self._is_gone = False
        for name, fd in files.items():
            self._seen[name] = self._read(name) or {}
            self._poll.register(fd, select.POLLPRI)

    @classmethod
    def open(cls, directory: Directory, files: tuple[str, ...] = FILES) -> CgroupEvents:
        """Begin to watch: what happened before is not told.

        Args:
            directory: of version 2.
            files: those that the cgroup lacks are left out.

        Raises:
            NoControllerError: it has none of them: the root, or version 1.
            OSError: EACCES; EMFILE.
        """
        opened: dict[str, int] = {}
        try:
            for name in files:
                try:
                    opened[name] = directory.open_file(name)
                except FileNotFoundError:
                    continue
            if not opened:
                raise NoControllerError(f"{directory.path} has none of {', '.join(files)}")
            return cls(opened)
        except BaseException:
            for fd in opened.values():
                os.close(fd)
            raise

    def counters(self) -> dict[str, dict[str, int]]:
        """What each file said when it was last read: the last words of a cgroup that was removed."""
        return {name: dict(lines) for name, lines in self._seen.items()}

    def changes(self) -> list[Event]:
        """What has changed since the last time, without waiting: the kernel may wake a watcher 10 ms late."""
        return self._changes()

    def watch(self, timeout_seconds: float | None = None) -> Iterator[Event]:
        """Yield what happens, until the time has passed or the cgroup is removed, which is the last event."""
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while not self._is_gone:
            left = None if deadline is None else max(deadline - time.monotonic(), 0)
            ready = self._poll.poll(None if left is None else left * 1000)
            if not ready and deadline is not None and time.monotonic() >= deadline:
                return
            yield from self._changes()

    async def watch_async(self) -> AsyncIterator[Event]:
        """Yield what happens, in an event loop, until the cgroup is removed."""
        inner = select.epoll()
        try:
            for fd in self._files.values():
                inner.register(fd, select.EPOLLPRI)
            while not self._is_gone:
                for event in self._changes():
                    yield event
                if not self._is_gone:
                    await wait_for_event_async(inner.fileno(), select.EPOLLIN)
        finally:
            inner.close()

    def _changes(self) -> list[Event]:
        found = []
        for name in self._files:
            now = self._read(name)
            if now is None:
                continue
            before = self._seen[name]
            found += [
                Event(name, line, count, count - before.get(line, 0))
                for line, count in now.items()
                if count != before.get(line, 0)
            ]
            self._seen[name] = now
        if self._is_gone:
            found.append(Event("", _REMOVED, 1, 1))
        return found

    def _read(self, name: str) -> dict[str, int] | None:
        try:
            return parse_flat(os.pread(self._files[name], _READ_BYTES, 0).decode("ascii"), name)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
            self._is_gone = True
            return None

    def close(self) -> None:
        """Close its descriptors; a second call changes nothing."""
        files, self._files = self._files, {}
        for fd in files.values():
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def watch_memory_v1(directory: Directory, control_file: str, argument: str = "") -> int:
    """An eventfd of version 1's memory controller, which the caller reads, polls and closes.

    Args:
        directory: of the memory hierarchy.
        control_file: "memory.oom_control" (argument ""), "memory.usage_in_bytes" (a threshold in bytes) or
            "memory.pressure_level" ("low", "medium" or "critical").
        argument: see above.

    Raises:
        OSError: EINVAL: not such a file or argument; EACCES.

    Source: cgroup-v1/memory.rst, Memory thresholds, OOM Control, Memory Pressure.
    """
    event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    try:
        watched = directory.open_file(control_file)
        try:
            directory.write("cgroup.event_control", f"{event} {watched} {argument}".rstrip())
        finally:
            os.close(watched)
    except BaseException:
        os.close(event)
        raise
    return event
