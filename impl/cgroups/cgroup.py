"""One cgroup, of either version: made, entered, limited, measured, frozen, killed, removed.

    layout = read_layout()
    with Cgroup.create("web/worker", layout) as cgroup:
        cgroup.set(Limits(memory_max_bytes=64 << 20, pids_max=100))
        cgroup.add(pid)
        print(cgroup.read_stats().memory)
        cgroup.kill()
        cgroup.remove()

On version 1 it is a directory of the same path in each hierarchy. Nothing is left behind by a step that fails.
"""

from __future__ import annotations

import errno
import os

from kernelproof.impl._syscalls.suppressing import suppress
from kernelproof.impl.cgroups import enabling, placing
from kernelproof.impl.cgroups.directory import Directory, Path, split_name
from kernelproof.impl.cgroups.errors import LimitError, NoControllerError
from kernelproof.impl.cgroups.layout import Layout, find_membership, read_layout, read_membership

TYPE_CHECKING = False  # typing costs 5 ms at import
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import ExitStack, contextmanager
    from types import TracebackType
    from typing import Self

    from kernelproof.impl.cgroups import ending, entering, freezing
    from kernelproof.impl.cgroups.applying import Changes
    from kernelproof.impl.cgroups.birth import Born
    from kernelproof.impl.cgroups.limits import Limits
    from kernelproof.impl.cgroups.planning import Step
    from kernelproof.impl.cgroups.stats import Stats
    from kernelproof.impl.cgroups.writes import Reader
else:
    from kernelproof.impl._syscalls.late import Late
    from kernelproof.impl._syscalls.unwinding import ExitStack, contextmanager

    ending, entering, freezing = [
        Late(f"kernelproof.impl.cgroups.{name}") for name in ("ending", "entering", "freezing")
    ]


class Cgroup:
    """A cgroup. Use it in a `with`, or close it; that closes descriptors and removes nothing.

    Args:
        places: where it is, at least in one hierarchy; owned from here on.
    """

    def __init__(self, places: Iterable[placing.Place]) -> None:
        self._places = tuple(places)
        if not self._places:
            raise NoControllerError("no hierarchy is mounted, so there is no cgroup")

    # --- where it is

    @classmethod
    def open(cls, name: Path, layout: Layout | None = None) -> Cgroup:
        """Open one that is there.

        Args:
            name: path from the mount point of every hierarchy.
            layout: the hierarchies; read by default. Of a hybrid one that of version 2 is left out if it has no
                controllers, and hierarchies that lack this cgroup are.

        Raises:
            LimitError: a name with `..`.
            OSError: ENOENT: no hierarchy has it.
            NoControllerError: nothing is mounted.
        """
        return cls(
            placing.open_places(
                name, placing.choose_hierarchies(read_layout() if layout is None else layout), required=True
            )
        )

    @classmethod
    def create(cls, name: Path, layout: Layout | None = None, *, controllers: Iterable[str] | None = None) -> Cgroup:
        """Make one, with its parents, and open it. One that is there is opened.

        Args:
            name: path from the mount point of every hierarchy.
            layout: as for `open`.
            controllers: that it shall have: on version 2 enabled in every cgroup above it, on version 1 the
                hierarchies in which it is made. All that can be had by default.

        Raises:
            LimitError: a name with `..`.
            NoControllerError: a controller that is nowhere.
            OSError: EACCES, EROFS; EBUSY: a cgroup above it holds processes (with a note of what helps). What was
                made and enabled is undone.
        """
        found = placing.choose_hierarchies(read_layout() if layout is None else layout)
        return cls(placing.make_places(name, placing.wanted_hierarchies(found, controllers), controllers))

    @classmethod
    def of_process(cls, pid: int | str = "self", layout: Layout | None = None, *, proc: Path = "/proc") -> Cgroup:
        """Open the cgroup of a process, which may have another path in each hierarchy.

        Raises:
            OSError: ENOENT, ESRCH: no such process.
            NoControllerError: it is in none that is mounted here.
        """
        memberships = read_membership(pid, proc=proc)
        places = []
        with ExitStack() as undo:
            for hierarchy in placing.choose_hierarchies(read_layout() if layout is None else layout):
                with suppress(NoControllerError):
                    path = hierarchy.path_of(find_membership(memberships, hierarchy).cgroup)
                    if path is not None:
                        name = os.path.relpath(path, hierarchy.mount_point)
                        places.append(placing.open_place(hierarchy, "/" if name == "." else name))
                        undo.callback(places[-1].directory.close)
            undo.pop_all()
        return cls(places)

    @property
    def places(self) -> tuple[placing.Place, ...]:
        """Where it is."""
        return self._places

    @property
    def version(self) -> int:
        """2 if the unified hierarchy has it with controllers, else 1."""
        return self._places[0].hierarchy.version

    @property
    def name(self) -> str:
        """Its path in its first hierarchy."""
        return self._places[0].name

    @property
    def directory(self) -> Directory:
        """Its directory in its first hierarchy: the only one, on version 2."""
        return self._places[0].directory

    def directory_of(self, controller: str) -> Directory:
        """Its directory in the hierarchy that has a controller; on version 2 that is always the same.

        Raises:
            NoControllerError: none of its hierarchies has it.
        """
        if self.version == 2:
            return self.directory
        for place in self._places:
            if controller in place.hierarchy.controllers or f"name={place.hierarchy.name}" == controller:
                return place.directory
        raise NoControllerError(f"the cgroup {self.name} is in no hierarchy that has {controller}")

    @contextmanager
    def chain(self, controller: str = "memory") -> Iterator[tuple[Directory, ...]]:
        """Its directory and those above it up to the mounted root, for the block of a `with`."""
        place = next(place for place in self._places if place.directory is self.directory_of(controller))
        with placing.open_chain(place) as directories:
            yield directories

    def exists(self) -> bool:
        """Whether it was not removed."""
        return self.directory.exists()

    def children(self) -> tuple[str, ...]:
        """Names of the cgroups directly below, in any of its hierarchies."""
        return tuple(sorted({name for place in self._places for name in place.directory.children()}))

    def child(self, name: str, *, controllers: Iterable[str] | None = None) -> Cgroup:
        """Make or open a cgroup below, in the same hierarchies.

        Raises:
            LimitError: an absolute name, or one with `..`.
            NoControllerError, OSError: as `create`.
        """
        if os.fspath(name).startswith("/"):
            raise LimitError("cgroup name", name, f"an absolute one is not below {self.name}")
        layout = Layout(tuple(place.hierarchy for place in self._places))
        return Cgroup.create(os.path.join(self.name, name), layout, controllers=controllers)

    # --- what is in it

    def processes(self) -> tuple[int, ...]:
        """Process IDs in this process's PID namespace, ascending as the kernel lists them; 0 is one outside it."""
        return self.directory.processes()

    def threads(self) -> tuple[int, ...]:
        """Thread IDs, likewise."""
        return self.directory.threads()

    def add(self, pid: int, timeout_seconds: float = placing.TIMEOUT_SECONDS) -> None:
        """Move a process into it, with all of its threads, in every hierarchy; see `entering.enter`.

        Args:
            pid: 0 is the caller.
            timeout_seconds: how long a task that is just being made may be refused.

        Raises:
            ValueError: a negative number.
            OSError: ESRCH: no such process; EACCES; EBUSY; EAGAIN; EOPNOTSUPP. Hierarchies that took it already keep
                it, as the process was in one of them anyway: a note names them.
        """
        entering.enter(self._places, pid, timeout_seconds)

    def widen_affinity(self, pid: int) -> frozenset[int]:
        """Let a process use all CPUs of its cpuset, whatever it was bound to; see `entering.widen_affinity`."""
        return entering.widen_affinity(self.directory_of("cpuset"), pid)

    def spawn(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> Born:
        """Start a program that is born in it, on version 2; see `birth.spawn`."""
        from kernelproof.impl.cgroups import birth  # measured: see below

        return birth.spawn(self.directory, argv, env)

    def fileno(self) -> int:
        """What clone3(2) takes for CLONE_INTO_CGROUP, its directory; NoControllerError on version 1, which has none."""
        if self.version != 2:
            raise NoControllerError(f"the cgroup {self.name} is of version 1: clone3(2) takes one of version 2 only")
        return self.directory.fileno()

    def make_threaded(self) -> None:
        """Make it threaded, on version 2; see `threads.make_threaded`."""
        with placing.open_chain(self._places[0]) as (own, parent, *_):
            from kernelproof.impl.cgroups.threads import make_threaded  # measured: as birth

            make_threaded(own, parent)

    def add_thread(self, tid: int) -> None:
        """Move one thread into it: version 1, or a threaded cgroup in the same threaded domain.

        Raises:
            OSError: EOPNOTSUPP: a domain cgroup; ESRCH; EACCES.
        """
        for place in self._places:
            file = "cgroup.threads" if place.hierarchy.version == 2 else "tasks"
            place.directory.write(file, str(tid))

    def move_all(self, target: Cgroup, *, rounds: int = 100) -> int:
        """Move all processes to another cgroup; those that are forked meanwhile too.

        Args:
            target: where to.
            rounds: how often the list is read again: a round in which nobody is left is the last.

        Returns:
            How many were moved.

        Raises:
            OSError: as `add`; EBUSY: after all rounds there are processes left.
        """
        moved = 0
        for _ in range(rounds):
            pids = [pid for pid in self.processes() if pid]
            if not pids:
                return moved
            for pid in pids:
                with suppress(ProcessLookupError):
                    target.add(pid)
                    moved += 1
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), self.directory.path)

    # --- limits and figures

    def plan(self, limits: Limits, *, check_usage: bool = True) -> list[Step]:
        """The writes that `set` would do, in their order.

        Raises:
            LimitError, NoControllerError, BelowUsageError: see `planning.plan_v2`.
            OSError: a file can't be read.
        """
        # Measured: limits and figures are 15 modules, 8 ms; a cgroup that is only made and entered needs none.
        from kernelproof.impl.cgroups.controllers import cpuset
        from kernelproof.impl.cgroups.planning import Step, plan_v1, plan_v2

        cpuset.check_machine(limits)
        if self.version == 2:
            planned = plan_v2(limits, self.directory.read_or_none, check_usage=check_usage)
            return [Step("", write) for write in planned]
        return plan_v1(limits, self._reader_of, check_usage=check_usage)

    def set(self, limits: Limits, *, check_usage: bool = True) -> Changes:
        """Set limits in the order that is safe, all or none.

        Args:
            limits: what is asked.
            check_usage: refuse a memory limit below what is in use.

        Returns:
            What was asked for, what was written, what the kernel made of it, and why that is something else.

        Raises:
            LimitError, NoControllerError, BelowUsageError: nothing was written.
            OSError: a write was refused, and those before it are undone; notes name file, value and limit.
        """
        from kernelproof.impl.cgroups import applying  # measured: as above

        return applying.apply_steps(self.plan(limits, check_usage=check_usage), limits, self._owner)

    def shrink_memory(self, limit_bytes: int, timeout_seconds: float = 10.0) -> Changes:
        """Lower memory.max to below what is in use without a kill, on version 2; see `shrinking.make_room`."""
        from kernelproof.impl.cgroups.limits import Limits  # measured: as above
        from kernelproof.impl.cgroups.shrinking import make_room  # measured: as above

        make_room(self.directory, limit_bytes, timeout_seconds)
        return self.set(Limits(memory_max_bytes=limit_bytes))

    def _owner(self, step: Step) -> Directory:
        return self.directory if not step.controller else self.directory_of(step.controller)

    def _reader_of(self, controller: str) -> Reader | None:
        try:
            return self.directory_of(controller).read_or_none
        except NoControllerError:
            return None

    def read_stats(self, only: tuple[str, ...] | None = None) -> Stats:
        """Read what was measured, one read(2) a file.

        Args:
            only: some of "cpu", "cpuset", "memory", "io", "pids", "hugetlb", "rdma", "misc", "pressure"; all by
                default.

        Raises:
            FormatError: a file that can't be read.
            OSError: ENODEV: it was removed.
        """
        from kernelproof.impl.cgroups import stats  # measured: as above
        from kernelproof.impl.cgroups.controllers import hugetlb

        only = stats.ALL if only is None else only
        if self.version == 2:
            sizes = hugetlb.list_sizes(self.directory.files()) if "hugetlb" in only else ()
            return stats.read_v2(self.directory.read_or_none, only=only, page_sizes=sizes)
        sizes = ()
        if "hugetlb" in only and self._reader_of("hugetlb") is not None:
            sizes = hugetlb.list_sizes(self.directory_of("hugetlb").files())
        return stats.read_v1(self._reader_of, only=only, page_sizes=sizes)

    # --- life and death

    def enable(self, controllers: Iterable[str]) -> tuple[str, ...]:
        """Give controllers to the cgroups below it, on version 2; see `enabling.enable`."""
        return enabling.enable(self.directory, controllers) if self.version == 2 else ()

    def _freezer(self) -> Directory:
        return self.directory if self.version == 2 else self.directory_of("freezer")

    def freeze(self, timeout_seconds: float = 10.0) -> None:
        """Freeze it with all that is below; see `freezing.freeze`."""
        freezing.freeze(self._freezer(), timeout_seconds)

    def thaw(self, timeout_seconds: float = 10.0) -> None:
        """Let it go on; see `freezing.thaw`."""
        freezing.thaw(self._freezer(), timeout_seconds)

    @contextmanager
    def frozen(self, timeout_seconds: float = 10.0, *, survives: bool = False) -> Iterator[None]:
        """Freeze it for the block of a `with`; see `freezing.frozen`."""
        with freezing.frozen(self._freezer(), timeout_seconds, survives=survives):
            yield

    def kill(self, timeout_seconds: float = 10.0) -> None:
        """Kill all that is in it and below, and wait for the end; see `ending.kill`."""
        freezer = None
        with suppress(NoControllerError):
            freezer = self._freezer()
        ending.kill(self.directory, timeout_seconds, freezer=freezer)

    def remove(self, timeout_seconds: float = 5.0) -> None:
        """Remove it with all that is below, in every hierarchy; see `ending.remove`.

        Raises:
            StillBusyError: processes are inside.
            ValueError: it is the root.
        """
        for place in self._places:
            parts = split_name(place.name)
            if not parts:
                raise ValueError(f"the root of {place.hierarchy.mount_point} can't be removed")
            directory = place.directory
            # Another's, if its own is gone; most have neither children nor processes any more.
            if directory.is_named(parts[-1]) and not directory.remove_empty(parts[-1]):
                with directory.open_parent() as parent:
                    ending.remove(parent, parts[-1], timeout_seconds)

    def close(self) -> None:
        """Close its descriptors; a second call changes nothing."""
        for place in self._places:
            place.directory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}, version {self.version}>"
