"""What happens to a container, told when it happens: out of memory, paused, resumed, forks refused, ended.

    for event in watch(state): print(event.kind, event.count)

By the events of its cgroup where that is of version 2; without those the end alone is told.

Source: cgroup-v2.rst, memory.events, cgroup.events, pids.events; docs of opencontainers/runc, runc-events(8).
"""

from __future__ import annotations

import os
import select

from kernelproof.impl.cgroups.events import CgroupEvents
from kernelproof.impl.cgroups.events import Event as CgroupEvent
from kernelproof.impl.libcontainer.controlgroups import find_cgroup
from kernelproof.impl.libcontainer.process.identity import open_process
from kernelproof.impl.libcontainer.state import State

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Iterator

OOM, OOM_KILL, PAUSED, RESUMED, FORKS_REFUSED, ENDED = "oom", "oom-kill", "paused", "resumed", "forks-refused", "ended"
# File and line of the cgroup -> kind.
_KINDS = {
    ("memory.events", "oom"): OOM,
    ("memory.events", "oom_kill"): OOM_KILL,
    ("pids.events", "max"): FORKS_REFUSED,
}


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


def watch(state: State, timeout_seconds: float | None = None) -> Iterator[Event]:
    """Yields what happens from here on, until the container has ended, which is the last event, or the time has passed.

    Raises:
        OSError: EACCES; EMFILE.
    """
    cgroup = find_cgroup(state.cgroup) if state.cgroup else None
    if cgroup is None or cgroup.version != 2:
        if cgroup is not None:
            cgroup.close()
        yield from _await_end(state, timeout_seconds)
        return
    with cgroup, CgroupEvents.open(cgroup.directory) as events:
        if not cgroup.processes():
            yield Event(ENDED, state.id)
            return
        for found in events.watch(timeout_seconds):
            event = translate(found, state.id)
            if event is None:
                continue
            yield event
            if event.kind == ENDED:
                return


def _await_end(state: State, timeout_seconds: float | None) -> Iterator[Event]:
    pidfd = open_process(state.process)
    if pidfd is not None:
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            if not poll.poll(None if timeout_seconds is None else timeout_seconds * 1000):
                return
        finally:
            os.close(pidfd)
    yield Event(ENDED, state.id)
