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
    from collections.abc import AsyncIterator, Iterator

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
                pidfd = open_process(state.process)
                self._pidfd = -1 if pidfd is None else pidfd
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
            for event in self._told(found):
                yield event
                if event.kind == ENDED:
                    return

    async def events_async(self) -> AsyncIterator[Event]:
        """As `events`, without keeping the event loop; a cancelled wait leaves nothing behind."""
        if self._events is None:
            async for event in self._events_of_version_1_async():
                yield event
            return
        assert self._cgroup is not None
        if not self._cgroup.exists() or not self._cgroup.processes():
            yield Event(ENDED, self._id)
            return
        watching = self._events.watch_async()
        try:
            async for found in watching:
                for event in self._told(found):
                    yield event
                    if event.kind == ENDED:
                        return
        finally:
            await watching.aclose()  # type: ignore[attr-defined]

    async def _events_of_version_1_async(self) -> AsyncIterator[Event]:
        from kernelproof.impl.cgroups.readiness import wait_for_event_async  # only who has a loop needs it

        with select.epoll() as inner:
            for fd in (self._pidfd, self._oom):
                if fd >= 0:
                    inner.register(fd, select.EPOLLIN)
            while self._pidfd >= 0:
                await wait_for_event_async(inner.fileno(), select.EPOLLIN)
                ready = {fd for fd, _ in inner.poll(0)}
                if self._oom in ready:
                    count = os.eventfd_read(self._oom)
                    if self._pidfd not in ready:
                        yield Event(OOM, self._id, count)
                if self._pidfd in ready:
                    break
        yield Event(ENDED, self._id)

    def _told(self, found: CgroupEvent) -> list[Event]:
        event = translate(found, self._id)
        if event is None:
            return []
        return [*self._last_words(), event] if event.kind == ENDED else [event]

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


class Happenings:
    """What happens to a container, for `for` and for `async for`, until it has ended, which is the last event.

        for event in container.events(): ...
        async with container.events() as events:
            async for event in events: ...

    It is watched from the first step on; in a `with` or `async with`, from there on. Either is closed at its end, and
    by what ends it early: an exception, a cancellation.

    Args:
        state: of the container.
        timeout_seconds: the time after which it ends too.
    """

    __slots__ = ("_state", "_timeout_seconds", "_watch")

    def __init__(self, state: State, timeout_seconds: float | None = None) -> None:
        self._state = state
        self._timeout_seconds = timeout_seconds
        self._watch: Watch | None = None

    def __iter__(self) -> Iterator[Event]:
        watching = self._watch or Watch.open(self._state)
        try:
            yield from watching.events(self._timeout_seconds)
        finally:
            if watching is not self._watch:
                watching.close()

    async def __aiter__(self) -> AsyncIterator[Event]:
        import asyncio  # only programs that have it loaded already come here

        wait = self._timeout_seconds
        deadline = None if wait is None else asyncio.get_running_loop().time() + wait
        watching = self._watch or Watch.open(self._state)
        happening = watching.events_async()
        try:
            while True:
                async with asyncio.timeout_at(deadline):
                    event = await anext(happening)
                yield event
        except (StopAsyncIteration, TimeoutError):
            return
        finally:
            await happening.aclose()  # type: ignore[attr-defined]
            if watching is not self._watch:
                watching.close()

    def close(self) -> None:
        """Stops watching."""
        watching, self._watch = self._watch, None
        if watching is not None:
            watching.close()

    def __enter__(self) -> Happenings:
        self._watch = Watch.open(self._state)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Happenings:
        return self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        self.close()


def watch(state: State, timeout_seconds: float | None = None) -> Happenings:
    """What happens from the first step on, until the container has ended, which is the last event, or the time is over.

    Raises:
        OSError: when the watch begins: EACCES; EMFILE.
    """
    return Happenings(state, timeout_seconds)
