"""What happens to a container, told when it happens: out of memory, paused, resumed, forks refused, ended.

    for event in watch(state): print(event.kind, event.count)

By the events of its cgroup: of version 2 all, of version 1 out of memory and the end; without a cgroup the end alone.

Source: cgroup-v2.rst, memory.events, cgroup.events, pids.events; cgroup-v1/memory.rst, "OOM Control"; docs of
opencontainers/runc, runc-events(8).
"""

from __future__ import annotations

import os
import select
import time

from kernelproof.impl.cgroups.errors import NoControllerError
from kernelproof.impl.cgroups.events import CgroupEvents, watch_memory_v1
from kernelproof.impl.cgroups.events import Event as CgroupEvent
from kernelproof.impl.libcontainer.controlgroups import find_cgroup
from kernelproof.impl.libcontainer.process.identity import open_process
from kernelproof.impl.libcontainer.state import State

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernelproof.impl.cgroups.cgroup import Cgroup

OOM, OOM_KILL, PAUSED, RESUMED, FORKS_REFUSED, ENDED = "oom", "oom-kill", "paused", "resumed", "forks-refused", "ended"
# File and line of the cgroup -> kind.
_KINDS = {
    ("memory.events", "oom"): OOM,
    ("memory.events", "oom_kill"): OOM_KILL,
    ("pids.events", "max"): FORKS_REFUSED,
}


# The end is looked for last: what comes with it is told before it.
_FILES = ("memory.events", "pids.events", "cgroup.events")


class Event:
    """Something happened.

    Attributes:
        kind: OOM, OOM_KILL, PAUSED, RESUMED, FORKS_REFUSED or ENDED.
        id: the container's.
        count: how often since the last time.
    """

    __slots__ = ("count", "id", "kind")

    def __init__(self, kind: str, identifier: str, count: int = 1) -> None:
        self.kind = kind
        self.id = identifier
        self.count = count

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Event) and (self.kind, self.id, self.count) == (other.kind, other.id, other.count)

    def __hash__(self) -> int:
        return hash((self.kind, self.id, self.count))

    def __repr__(self) -> str:
        return f"Event({self.kind!r}, {self.id!r}, {self.count})"

    def to_json(self) -> dict[str, object]:
        """As `nsinit events` prints it."""
        return {"type": self.kind, "id": self.id, "data": {"count": self.count}}


def translate(event: CgroupEvent, identifier: str) -> Event | None:
    """The event of a container that an event of its cgroup is; None for one that says nothing of it."""
    if (event.file, event.name) == ("cgroup.events", "frozen"):
        return Event(PAUSED if event.value else RESUMED, identifier)
    if (event.file, event.name) == ("cgroup.events", "populated") and event.value == 0:
        return Event(ENDED, identifier)
    if event.file == "" or event.growth < 0:
        return Event(ENDED, identifier)
    kind = _KINDS.get((event.file, event.name))
    return Event(kind, identifier, event.growth) if kind is not None else None


class Watch:
    """Watches a container; nothing that happens after `open` is missed. Use it in a `with`, or close it.

    Args:
        state: of the container.
        cgroup: its cgroup, owned from here on, or None.
    """

    __slots__ = ("_cgroup", "_events", "_id", "_oom", "_pidfd")

    def __init__(self, state: State, cgroup: Cgroup | None) -> None:
        self._id = state.id
        self._cgroup = cgroup
        self._events: CgroupEvents | None = None
        self._oom = self._pidfd = -1
        try:
            if cgroup is not None and cgroup.version == 2:
                self._events = CgroupEvents.open(cgroup.directory, _FILES)
            else:
                self._pidfd = open_process(state.process) or -1
                self._oom = _watch_memory(cgroup)
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(cls, state: State) -> Watch:
        """Begins to watch.

        Raises:
            OSError: EACCES; EMFILE.
        """
        return cls(state, find_cgroup(state.cgroup) if state.cgroup else None)

    def events(self, timeout_seconds: float | None = None) -> Iterator[Event]:
        """Yields what happens until the container has ended, which is the last event, or the time has passed."""
        if self._events is None:
            yield from self._events_of_version_1(timeout_seconds)
            return
        assert self._cgroup is not None
        if not self._cgroup.exists() or not self._cgroup.processes():
            yield Event(ENDED, self._id)
            return
        for found in self._events.watch(timeout_seconds):
            event = translate(found, self._id)
            if event is None:
                continue
            if event.kind == ENDED:
                yield from self._last_words()
            yield event
            if event.kind == ENDED:
                return

    def _last_words(self) -> Iterator[Event]:
        # Changes are told some milliseconds late, and a container can end before that; or in the same moment.
        assert self._events is not None
        for found in self._events.changes():
            event = translate(found, self._id)
            if event is not None and event.kind != ENDED:
                yield event

    def _events_of_version_1(self, timeout_seconds: float | None) -> Iterator[Event]:
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        poll = select.poll()
        for fd in (self._pidfd, self._oom):
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        while self._pidfd >= 0:
            left = None if deadline is None else max(deadline - time.monotonic(), 0)
            ready = {fd for fd, _ in poll.poll(None if left is None else left * 1000)}
            if not ready:
                return
            if self._oom in ready:
                # The eventfd counts; it is also written to when the cgroup is removed, and then the process is gone.
                count = os.eventfd_read(self._oom)
                if self._pidfd not in ready:
                    yield Event(OOM, self._id, count)
            if self._pidfd in ready:
                break
        yield Event(ENDED, self._id)

    def close(self) -> None:
        """Closes its descriptors."""
        if self._events is not None:
            self._events.close()
        if self._cgroup is not None:
            self._cgroup.close()
        for fd in (self._pidfd, self._oom):
            if fd >= 0:
                os.close(fd)
        self._events = self._cgroup = None
        self._pidfd = self._oom = -1

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _watch_memory(cgroup: Cgroup | None) -> int:
    if cgroup is None:
        return -1
    try:
        return watch_memory_v1(cgroup.directory_of("memory"), "memory.oom_control")
    except NoControllerError:
        return -1


def watch(state: State, timeout_seconds: float | None = None) -> Iterator[Event]:
    """Yields what happens from here on, until the container has ended, which is the last event, or the time has passed.

    Raises:
        OSError: EACCES; EMFILE.
    """
    with Watch.open(state) as watching:
        yield from watching.events(timeout_seconds)
