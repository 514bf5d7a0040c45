"""What changes in a mount namespace: mounts added, removed, moved, changed.

    for change in watch():
        print(change.what, change.new or change.old)

The kernel wakes the watcher by fanotify's mount events (Linux 6.15) and by poll(2) on mountinfo; what changed is found
by comparing two tables. So a lost event loses nothing, and an overflow of the queue is no special case. A mount that
came and went between two looks is not seen.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from errno import EINVAL, ENOSYS, EPERM
from typing import TYPE_CHECKING

from kernelproof.impl._syscalls.fanotify import (
    InitFlag,
    MarkFlag,
    MountEvent,
    fanotify_init,
    fanotify_mark,
    read_mount_notices,
)
from kernelproof.impl.mount.statmounts import read_by_statmount
from kernelproof.impl.mount.table import Change, MountTable, Path

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

_NOT_HERE = (EINVAL, ENOSYS, EPERM)


class MountWatch:
    """Follows the mount table of a process; a context manager.

    Attributes:
        table: as it was at the last look.
        backend: "fanotify" or "poll": what wakes the watcher. With fanotify, mounts are told apart by unique IDs.
    """

    def __init__(self, pid: int | str = "thread-self", *, backend: str = "auto", proc: Path = "/proc") -> None:
        """Begin to watch.

        Args:
            pid: whose mount namespace.
            backend: "fanotify", "poll", or "auto": the first that the kernel has.
            proc: where procfs is mounted.

        Raises:
            OSError: ENOENT no such process; with backend "fanotify": EINVAL before Linux 6.15, EPERM.
        """
        self._pid, self._proc = pid, proc
        with ExitStack() as opened:
            self._mountinfo = opened.enter_context(open(os.path.join(proc, str(pid), "mountinfo"), "rb", buffering=0))
            self._fanotify = None if backend == "poll" else self._open_fanotify(opened, is_needed=backend != "auto")
            self.backend = "poll" if self._fanotify is None else "fanotify"
            self._epoll = opened.enter_context(select.epoll())
            self._epoll.register(self._mountinfo, select.EPOLLPRI)
            if self._fanotify is not None:
                self._epoll.register(self._fanotify, select.EPOLLIN)
            self.table = self._read()
            self._opened = opened.pop_all()

    def _open_fanotify(self, opened: ExitStack, *, is_needed: bool) -> int | None:
        try:
            fd = fanotify_init(InitFlag.REPORT_MNT | InitFlag.NONBLOCK)
            opened.callback(os.close, fd)
            namespace = os.open(os.path.join(self._proc, str(self._pid), "ns/mnt"), os.O_RDONLY | os.O_CLOEXEC)
            try:
                events = MountEvent.MNT_ATTACH | MountEvent.MNT_DETACH
                fanotify_mark(fd, MarkFlag.ADD | MarkFlag.MNTNS, events, namespace)
            finally:
                os.close(namespace)
        except OSError as error:
            if is_needed or error.errno not in _NOT_HERE:
                raise
            return None
        return fd

    def _read(self) -> MountTable:
        if self.backend == "fanotify" and self._pid in ("self", "thread-self", os.getpid()):
            with suppress(OSError, NotImplementedError):
                return MountTable(read_by_statmount())
        return MountTable.read(self._pid, proc=self._proc)

    def fileno(self) -> int:
        """A descriptor that can be read when something may have changed."""
        return self._epoll.fileno()

    def changes(self, timeout_seconds: float | None = None) -> tuple[Change, ...]:
        """Return what changed since the last look, or wait for it.

        Args:
            timeout_seconds: how long to wait; 0 is not at all, None is for ever.

        Returns:
            The differences; none at the deadline.
        """
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while True:
            left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            woken = self._epoll.poll(left)
            if self._fanotify is not None:
                with suppress(BlockingIOError):
                    read_mount_notices(self._fanotify)
            new = self._read() if woken else self.table
            found = self.table.diff(new)
            self.table = new
            if found or not woken:
                return found

    def __iter__(self) -> Iterator[Change]:
        while True:
            yield from self.changes()

    def close(self) -> None:
        """Stop watching."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def watch(pid: int | str = "thread-self", *, backend: str = "auto") -> Iterator[Change]:
    """Yield what changes in the mount table of a process, from now on and without end.

    Raises:
        OSError: as MountWatch.
    """
    with MountWatch(pid, backend=backend) as watcher:
        yield from watcher
