"""Cgroups by the names of 2014: one record for a container's cgroup, applied by systemd or by files.

    active = apply(Cgroup(name="web", parent="docker", memory=64 << 20, cpu_shares=512), pid)
    get_stats(cgroup); freeze(cgroup, "FROZEN"); active.cleanup()

What these names did wrong is done right: every hierarchy has its own mount point, a cpuset has CPUs before a process
enters, memory_swap means what it says, a state that does not come ends with an error, nothing is left by a step that
fails, and version 2 is known. Statistics have the keys of their JSON (`classic_stats`), its misspellings included.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from kernelproof.impl.cgroups import cgroup as modern
from kernelproof.impl.cgroups import freezing
from kernelproof.impl.cgroups.classic_records import DEFAULT_DEVICES as DEFAULT_DEVICES
from kernelproof.impl.cgroups.classic_records import Cgroup as Cgroup
from kernelproof.impl.cgroups.classic_records import NotFoundError as NotFoundError
from kernelproof.impl.cgroups.classic_records import is_not_found as is_not_found
from kernelproof.impl.cgroups.classic_stats import collect
from kernelproof.impl.cgroups.devices.attaching import set_devices
from kernelproof.impl.cgroups.directory import Directory
from kernelproof.impl.cgroups.ending import all_processes, remove
from kernelproof.impl.cgroups.errors import LimitError, NoControllerError, SystemdError
from kernelproof.impl.cgroups.events import watch_memory_v1
from kernelproof.impl.cgroups.layout import (
    Hierarchy,
    Layout,
    find_membership,
    parse_controllers,
    parse_membership,
    read_layout,
    read_membership,
)
from kernelproof.impl.cgroups.limits import Limits
from kernelproof.impl.cgroups.oom import OomWatch
from kernelproof.impl.cgroups.placing import choose_hierarchies
from kernelproof.impl.cgroups.readiness import wait_for_event
from kernelproof.impl.cgroups.systemd.manager import Manager

FROZEN, THAWED = freezing.FROZEN, freezing.THAWED


class ActiveCgroup:
    """A cgroup that was applied.

    Args:
        paths: its directories by subsystem; "" is that of version 2.
        unit: of systemd, if it is that one's.
    """

    def __init__(self, paths: Mapping[str, str], unit: str | None = None) -> None:
        self._paths = dict(paths)
        self._unit = unit

    def paths(self) -> dict[str, str]:
        """Its directories by subsystem."""
        return dict(self._paths)

    def cleanup(self) -> None:
        """Remove it; those above it stay.

        Raises:
            StillBusyError: processes are inside.
        """
        if self._unit is not None:
            _stop_unit(self._unit)
        remove_paths(self._paths)


def find_cgroup_mountpoint(subsystem: str, layout: Layout | None = None) -> str:
    """Where a subsystem is mounted; of version 2 the one hierarchy that has it.

    Raises:
        NotFoundError: nowhere.
    """
    try:
        return (read_layout() if layout is None else layout).hierarchy(subsystem).mount_point
    except NoControllerError as error:
        raise NotFoundError(subsystem) from error


def get_this_cgroup_dir(subsystem: str) -> str:
    """This process's path in the hierarchy of a subsystem. Raises: NotFoundError: it has no such line."""
    return parse_cgroup_file(subsystem, _read("/proc/self/cgroup"))


def get_init_cgroup_dir(subsystem: str) -> str:
    """The path of PID 1. Raises: NotFoundError: it has no such line."""
    return parse_cgroup_file(subsystem, _read("/proc/1/cgroup"))


def parse_cgroup_file(subsystem: str, text: str) -> str:
    """The path of a subsystem in the text of /proc/PID/cgroup; of one that is no version 1 the path of version 2.

    Raises:
        NotFoundError: there is neither.
    """
    entries = parse_membership(text)
    for entry in entries:
        if subsystem in entry.controllers or (entry.name and f"name={entry.name}" == subsystem):
            return entry.cgroup
    unified = [entry.cgroup for entry in entries if entry.hierarchy_id == 0]
    if len(entries) == len(unified) == 1:
        return unified[0]
    raise NotFoundError(subsystem)


def get_cgroup_mounts(layout: Layout | None = None) -> tuple[Hierarchy, ...]:
    """All hierarchies that are mounted, with their subsystems."""
    return (read_layout() if layout is None else layout).hierarchies


def get_all_subsystems() -> tuple[str, ...]:
    """The subsystems that the kernel has and that are enabled, mounted or not."""
    return tuple(entry.name for entry in parse_controllers(_read("/proc/cgroups")) if entry.is_enabled)


def read_procs_file(directory: str | os.PathLike[str]) -> list[int]:
    """The process IDs in cgroup.procs of a directory. Raises: FormatError; OSError: ENOENT."""
    with Directory(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), os.fspath(directory), 1) as opened:
        return list(opened.processes())


def enter_pid(paths: Mapping[str, str], pid: int) -> None:
    """Move a process into each of the directories. Raises: OSError, as `Directory.write`."""
    for path in dict.fromkeys(paths.values()):
        with Directory(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), path, 1) as directory:
            directory.write("cgroup.procs", str(pid))


def remove_paths(paths: Mapping[str, str], timeout_seconds: float = 5.0) -> None:
    """Remove each of the directories, with what is below them; one that is gone already is no error.

    Raises:
        StillBusyError: processes are inside.
    """
    for path in dict.fromkeys(paths.values()):
        above, name = os.path.split(path.rstrip("/"))
        version = 1 if os.path.exists(os.path.join(above, "cgroup.clone_children")) else 2
        try:
            fd = os.open(above, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        with Directory(fd, above, version) as parent:
            remove(parent, name, timeout_seconds)


def use_systemd() -> bool:
    """Whether systemd is the init, its bus answers, and there is a library to speak to it."""
    if not os.path.isdir("/run/systemd/system"):
        return False
    try:
        with _open_manager():
            return True
    except (NoControllerError, SystemdError, OSError):
        return False


def apply(cgroup: Cgroup, pid: int) -> ActiveCgroup:
    """Make a cgroup, set its limits and move a process into it: by systemd where that is the init, else by files.

    Raises:
        LimitError, NoControllerError: before anything is made.
        OSError, SystemdError: a step was refused: what was made is gone again.
    """
    return apply_systemd(cgroup, pid) if use_systemd() else apply_files(cgroup, pid)


def apply_files(cgroup: Cgroup, pid: int) -> ActiveCgroup:
    """Likewise, by files; errors as `apply`."""
    if not cgroup.name:
        raise LimitError("cgroup name", cgroup.name, "it needs one")
    limits = cgroup.limits()
    with ExitStack() as undo:
        made = undo.enter_context(modern.Cgroup.create(_full_name(cgroup), read_layout()))
        with ExitStack() as on_failure:
            on_failure.callback(made.remove, 0.0)
            _set(made, cgroup, limits)
            made.add(pid)
            if cgroup.freezer:
                _freeze(made, cgroup.freezer)
            on_failure.pop_all()
        return ActiveCgroup(_paths_of(made))


def _set(made: modern.Cgroup, cgroup: Cgroup, limits: Limits) -> None:
    if made.version == 1 and cgroup.cpu_shares:
        made.directory_of("cpu").write("cpu.shares", str(cgroup.cpu_shares))  # a weight would not be the same number
        limits = limits._replace(cpu_weight=None)
    made.set(limits)
    try:
        directory = made.directory_of("devices")
    except NoControllerError:
        if not cgroup.allow_all_devices:
            raise
        return
    if not cgroup.allow_all_devices:
        set_devices(directory, cgroup.devices())


def apply_systemd(cgroup: Cgroup, pid: int) -> ActiveCgroup:
    """Likewise, by systemd: a scope PARENT-NAME.scope; errors as `apply`."""
    unit = "-".join(part for part in (cgroup.parent.strip("/").replace("/", "-"), cgroup.name) if part) + ".scope"
    with _open_manager() as manager:
        started = manager.start_scope(
            unit,
            [pid],
            slice=cgroup.slice or "system.slice",
            limits=cgroup.limits(),
            devices=None if cgroup.allow_all_devices else cgroup.devices(),
            description=f"container {cgroup.name}",
        )
    paths: dict[str, str] = {}
    for hierarchy in choose_hierarchies(read_layout()):
        path = hierarchy.path_of(started.cgroup)
        if path is not None and os.path.isdir(path):
            paths |= dict.fromkeys(hierarchy.controllers if hierarchy.version == 1 else ("",), path)
    return ActiveCgroup(paths, unit)


def _open_manager() -> Manager:
    return Manager.open()


def _stop_unit(unit: str) -> None:
    with _open_manager() as manager:
        try:
            manager.stop(unit)
        except SystemdError as error:
            if error.name != "org.freedesktop.systemd1.NoSuchUnit":
                raise


@contextmanager
def opened(cgroup: Cgroup) -> Iterator[modern.Cgroup]:
    """The cgroup by today's object, for the block of a `with`. Raises: OSError: ENOENT: it was not applied."""
    with modern.Cgroup.open(_full_name(cgroup), read_layout()) as found:
        yield found


def freeze(cgroup: Cgroup, state: str, timeout_seconds: float = 10.0) -> None:
    """Freeze or thaw, and wait until it is so.

    Raises:
        LimitError: another state than FROZEN and THAWED.
        OSError: ETIMEDOUT: it is thawed again.
    """
    with opened(cgroup) as found:
        _freeze(found, state, timeout_seconds)


def _freeze(found: modern.Cgroup, state: str, timeout_seconds: float = 10.0) -> None:
    if state not in (FROZEN, THAWED):
        raise LimitError("freezer", state, f"{FROZEN} or {THAWED}")
    (found.freeze if state == FROZEN else found.thaw)(timeout_seconds)


def get_pids(cgroup: Cgroup) -> list[int]:
    """Process IDs in it and below."""
    with opened(cgroup) as found:
        return list(all_processes(found.directory))


def get_stats(cgroup: Cgroup) -> dict[str, Any]:
    """What was measured, as the JSON of 2014 has it; see `classic_stats.collect`."""
    with opened(cgroup) as found:
        return collect(found.read_stats(), found)


def notify_on_oom(cgroup: Cgroup, timeout_seconds: float | None = None) -> Iterator[int]:
    """Yield at each kill for lack of memory how many there were (version 1: events since the last), until it is gone.

    Raises:
        NoControllerError: no memory controller.
    """
    with opened(cgroup) as found:
        if found.version == 2:
            with found.chain() as chain, OomWatch.open(chain) as watch:
                while (report := watch.wait(timeout_seconds)) is not None and not report.is_gone:
                    yield report.kills
            return
        directory = found.directory_of("memory")
        event = watch_memory_v1(directory, "memory.oom_control")
        try:
            while wait_for_event(event, 1, timeout_seconds):
                count = os.eventfd_read(event)
                if not directory.exists():
                    return  # its removal is an event too
                yield count
        finally:
            os.close(event)


def _full_name(cgroup: Cgroup) -> str:
    hierarchies = choose_hierarchies(read_layout())
    if not hierarchies:
        raise NotFoundError("any subsystem")
    above = find_membership(read_membership(1), hierarchies[0]).cgroup
    return "/".join(part.strip("/") for part in (above, cgroup.parent, cgroup.name) if part.strip("/"))


def _paths_of(made: modern.Cgroup) -> dict[str, str]:
    paths: dict[str, str] = {}
    for place in made.places:
        names = place.hierarchy.controllers or (f"name={place.hierarchy.name}",)
        paths |= dict.fromkeys(names if place.hierarchy.version == 1 else ("",), place.directory.path)
    return paths


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()
