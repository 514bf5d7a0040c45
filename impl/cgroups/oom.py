"""Kills for lack of memory: how many, whose processes, whose limit it was; still told when the cgroup is gone.

    with cgroup.chain() as chain, OomWatch.open(chain) as watch:
        report = watch.wait(timeout_seconds=60)

The counters of a cgroup go with it, so the files are held open and read at every change: the last words are kept. A
cgroup of the same name that is made later is another one, and begins at 0.

Source: cgroup-v2.rst, memory.events, memory.events.local.
"""

from __future__ import annotations

import errno
import os
import select
import time
from contextlib import ExitStack
from types import TracebackType
from typing import NamedTuple, Self

from kernelproof.impl.cgroups.directory import Directory
from kernelproof.impl.cgroups.errors import NoControllerError
from kernelproof.impl.cgroups.formats import MAX, parse_flat, parse_value

_READ_BYTES = 4096
_EVENTS, _LOCAL, _MAX = "memory.events", "memory.events.local", "memory.max"


class OomReport(NamedTuple):
    """Whose limit made the kernel kill.

    Attributes:
        kills: processes that were killed in this cgroup and below.
        local_kills: of them its own; None before Linux 5.2.
        limit_cgroup: path of the nearest cgroup at or above it whose own limit was hit when the last of them was
            killed; None if nobody was, or no limit was, as when the machine has no memory left.
        limit_bytes: that limit, -1 where it was lifted meanwhile.
        oom_group_kills: times that a whole cgroup was killed; None before Linux 5.17.
        is_gone: the cgroup was removed: these are its last words.
    """

    kills: int
    local_kills: int | None
    limit_cgroup: str | None
    limit_bytes: int | None
    oom_group_kills: int | None
    is_gone: bool = False

    @property
    def kills_below(self) -> int | None:
        """Kills in cgroups below; None where they can't be told apart."""
        return None if self.local_kills is None else self.kills - self.local_kills


class OomWatch:
    """Watches a cgroup of version 2. Use it in a `with`, or close it.

    Args:
        chain: the cgroup, its parent, and so on up to the mounted root.
        files: descriptors by cgroup's path and file's name; owned from here on.
        so_far: whether a kill before the watch is looked at too: then a limit that was hit before it, for another
            cgroup's process, can be taken for the one that it was for.
    """

    def __init__(self, chain: tuple[str, ...], files: dict[tuple[str, str], int], *, so_far: bool = False) -> None:
        self._chain = chain
        self._files = files
        self._texts: dict[tuple[str, str], str] = {}
        self._is_gone = False
        self._poll = select.poll()
        self._poll.register(files[chain[0], _EVENTS], select.POLLPRI)
        self._refresh()
        self._seen = self._kills()
        self._explained = 0 if so_far else self._seen
        self._hits = {} if so_far else self._count_hits()
        self._cause: str | None = None

    @classmethod
    def open(cls, chain: tuple[Directory, ...], *, so_far: bool = False) -> OomWatch:
        """Begin to watch.

        Args:
            chain: the cgroup, its parent, and so on up to the mounted root.
            so_far: see above.

        Raises:
            NoControllerError: the cgroup has no memory.events: version 1, the root, or no memory controller.
            OSError: EACCES; EMFILE.
        """
        files: dict[tuple[str, str], int] = {}
        with ExitStack() as undo:
            for directory in chain:
                for name in (_EVENTS, _LOCAL, _MAX) if directory is chain[0] else (_LOCAL, _MAX):
                    try:
                        fd = directory.open_file(name)
                    except FileNotFoundError:
                        continue
                    undo.callback(os.close, fd)
                    files[directory.path, name] = fd
            if (chain[0].path, _EVENTS) not in files:
                raise NoControllerError(f"{chain[0].path} has no {_EVENTS}")
            undo.pop_all()
        return cls(tuple(directory.path for directory in chain), files, so_far=so_far)

    def report(self) -> OomReport:
        """What is known now, or what was known last."""
        self._refresh()
        events = parse_flat(self._texts[self._chain[0], _EVENTS], _EVENTS)
        local = self._texts.get((self._chain[0], _LOCAL))
        kills = self._kills()
        if kills > self._explained:
            # The limit is counted before the kill is, and this cgroup's kills were read before those limits.
            hits = self._count_hits()
            self._cause = next((path for path in hits if hits[path] > self._hits.get(path, 0)), None)
            self._explained, self._hits = kills, hits
        most = None if self._cause is None else self._texts.get((self._cause, _MAX))
        limit = None if self._cause is None else MAX if most is None else parse_value(most, _MAX)
        return OomReport(
            kills=kills,
            local_kills=None if local is None else parse_flat(local, _LOCAL).get("oom_kill", 0),
            limit_cgroup=self._cause,
            limit_bytes=limit,
            oom_group_kills=events.get("oom_group_kill"),
            is_gone=self._is_gone,
        )

    def wait(self, timeout_seconds: float | None = None) -> OomReport | None:
        """Wait until somebody more is killed, or until the cgroup is gone; None if the time passed first."""
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while True:
            found = self.report()
            if found.kills != self._seen or found.is_gone:
                self._seen = found.kills
                return found
            left = None if deadline is None else max(deadline - time.monotonic(), 0)
            if not self._poll.poll(None if left is None else left * 1000) and left == 0:
                return None

    def _kills(self) -> int:
        return parse_flat(self._texts[self._chain[0], _EVENTS], _EVENTS).get("oom_kill", 0)

    def _count_hits(self) -> dict[str, int]:
        # How often each limit was hit, the nearest first.
        texts = {path: self._texts.get((path, _LOCAL), "") for path in self._chain}
        return {path: parse_flat(text, _LOCAL).get("oom", 0) for path, text in texts.items()}

    def _refresh(self) -> None:
        for key, fd in self._files.items():
            try:
                self._texts[key] = os.pread(fd, _READ_BYTES, 0).decode("ascii")
            except OSError as error:
                if error.errno != errno.ENODEV:
                    raise
                self._is_gone = self._is_gone or key[0] == self._chain[0]

    def close(self) -> None:
        """Close its descriptors; a second call changes nothing."""
        files, self._files = self._files, {}
        for fd in files.values():
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def read_oom(chain: tuple[Directory, ...]) -> OomReport:
    """Whose limit made the kernel kill in a cgroup, so far.

    Args:
        chain: the cgroup, its parent, and so on up to the root; of version 2, with the memory controller.

    Raises:
        NoControllerError: the cgroup has no memory.events.
        FormatError: a file that can't be read.
    """
    with OomWatch.open(chain, so_far=True) as watch:
        return watch.report()
