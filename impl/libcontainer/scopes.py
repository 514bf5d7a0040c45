"""The container's cgroup as a scope of systemd: asked for over D-Bus, so that two do not manage one tree.

`cgroupsPath` is then "slice:prefix:name", and the scope is called prefix-name.scope. The scope is delegated: what the
container makes below it is its own. Limits are told to systemd, which else would write its own over them at the next
reload, and written to the files, which have some that systemd does not know. Both get what systemd makes of them: whole
percents of a CPU.

Source: org.freedesktop.systemd1(5), "StartTransientUnit"; systemd's CONTROL_GROUP_INTERFACE; docs/systemd.md of
opencontainers/runc.
"""

from __future__ import annotations

import contextlib
import os

from kernelproof.impl.cgroups.cgroup import Cgroup
from kernelproof.impl.cgroups.errors import NoControllerError, SystemdError
from kernelproof.impl.cgroups.layout import read_layout
from kernelproof.impl.cgroups.limits import Limits
from kernelproof.impl.cgroups.systemd.manager import Manager
from kernelproof.impl.cgroups.systemd.names import check_unit, expand_slice
from kernelproof.impl.cgroups.systemd.properties import (
    keepable,
    known_limits,
    plan_properties,
    round_limits,
    whole_bandwidth,
)
from kernelproof.impl.libcontainer.controlgroups import EnterCgroup, UseAllCpus, open_cgroup
from kernelproof.impl.libcontainer.limiting import limits_of, set_limits
from kernelproof.impl.libcontainer.operations import Operation, Site

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernelproof.impl.libcontainer.config.records import Linux
    from kernelproof.impl.libcontainer.config.resources import Resources

_PREFIX = "nsinit"
_NO_SUCH_UNIT = "org.freedesktop.systemd1.NoSuchUnit"
_SIGKILL = 9


def scope_name(cgroups_path: str | None, identifier: str, *, is_user: bool) -> tuple[str, str]:
    """Slice and scope that a configuration asks for.

    Raises:
        ValueError: the path is not "slice:prefix:name", or what stands in it can't be a unit's name.

    >>> scope_name("work.slice:web:a", "x", is_user=False), scope_name(None, "x", is_user=True)
    (('work.slice', 'web-a.scope'), ('user.slice', 'nsinit-x.scope'))
    """
    default = "user.slice" if is_user else "system.slice"
    if cgroups_path is None:
        parts = ["", _PREFIX, identifier]
    else:
        parts = cgroups_path.split(":")
        if len(parts) != 3 or not parts[2]:
            raise ValueError(f"linux.cgroupsPath {cgroups_path!r}: with systemd it is slice:prefix:name")
    place, prefix, name = parts
    scope = check_unit(f"{prefix}-{name}.scope" if prefix else f"{name}.scope", "scope")
    place = check_unit(place or default, "slice")
    expand_slice(place)
    return place, scope


def plan_scope(linux: Linux, identifier: str, *, is_user: bool) -> tuple[tuple[Operation, ...], tuple[Operation, ...]]:
    """How the process enters its scope, and how that is limited; errors as scope_name."""
    place, scope = scope_name(linux.cgroups_path, identifier, is_user=is_user)
    name = "" if is_user else f"{expand_slice(place)}/{scope}".strip("/")
    limits = (SetScopeLimits(is_user, linux.resources, scope),) if linux.resources is not None else ()
    return (EnterScope(is_user, name, place, scope), UseAllCpus()), limits


class EnterScope(EnterCgroup):
    """Has systemd make a scope of the container's process.

    `name`: where the cgroup will be, empty where only systemd knows; `is_user`: of the caller's own manager.
    """

    __slots__ = ("is_user", "name", "place", "scope")
    is_user: bool
    name: str
    place: str
    scope: str

    def describe(self) -> str:
        """What will happen."""
        return f"let systemd make {self.scope} in {self.place} of the process"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            NoControllerError: no systemd, no jeepney, or no hierarchy of version 2.
            SystemdError, TimeoutError: systemd refuses, or is late.
            OSError: what opening the cgroup gives.
        """
        pid = site.found["pid"]
        assert isinstance(pid, int)
        unified = read_layout().unified
        if unified is None:
            raise NoControllerError("--systemd-cgroup needs version 2 of cgroups, which is not mounted here")
        with Manager.open(user=self.is_user) as manager:
            unit = manager.start_scope(
                self.scope, [pid], slice=self.place, delegate=True, description=f"container of process {pid}"
            )
            site.found["scope"] = unit.name
        cgroup = Cgroup.open(unit.cgroup.strip("/"))
        site.found["cgroup"] = cgroup
        site.found["cgroup name"] = unit.cgroup.strip("/")
        undo = site.found.setdefault("undo", [])
        assert isinstance(undo, list)
        undo.append(("scope", [unit.name, self.is_user]))

    def undo(self, site: Site) -> None:
        """Ends the scope."""
        cgroup = open_cgroup(site)
        if cgroup is not None:
            cgroup.close()
        if "scope" in site.found:
            remove_scope([self.scope, self.is_user])


class SetScopeLimits(Operation):
    """Limits the container's scope, by systemd and in its cgroup's files."""

    __slots__ = ("is_user", "resources", "scope")
    stage = "host"
    is_user: bool
    resources: Resources
    scope: str

    def describe(self) -> str:
        """What will happen."""
        asked = ", ".join(name for name, _ in self.resources.set_fields())
        return f"limit the scope, by systemd and in its files: {asked}"

    def do(self, site: Site) -> None:
        """Does it; errors as set_scope_limits."""
        cgroup = open_cgroup(site)
        assert cgroup is not None
        set_scope_limits(self.scope, self.resources, cgroup, is_user=self.is_user)


def set_scope_limits(scope: str, resources: Resources, cgroup: Cgroup, *, is_user: bool) -> None:
    """Limits a scope, by systemd and in its files to the same; errors as set_limits, and SystemdError."""
    limits = scope_limits(limits_of(resources, 2), cgroup.directory.read_or_none("cpu.max"))
    kept = keepable(limits)
    if kept != Limits():
        with Manager.open(user=is_user) as manager:
            manager.set_properties(scope, plan_properties(kept))
    set_limits(cgroup, resources, limits=limits)


def scope_limits(limits: Limits, cpu_max: str | None) -> Limits:
    """What is told to systemd and written to the files: all that it knows is rounded as it rounds.

    Args:
        limits: what is asked.
        cpu_max: the text of cpu.max; None where there is no such file.
    """
    limits = known_limits(limits)
    if cpu_max is not None:
        limits = whole_bandwidth(limits, cpu_max)
    return round_limits(limits, os.sysconf("SC_PAGE_SIZE"))


def split_scope(name: str) -> tuple[str, str]:
    """The scope in a cgroup's name, and what is below it.

    Raises:
        ValueError: there is none.

    >>> split_scope("user.slice/a-b.scope/inner"), split_scope("a.scope")
    (('a-b.scope', '/inner'), ('a.scope', ''))
    """
    parts = name.strip("/").split("/")
    place = next((number for number, part in enumerate(parts) if part.endswith(".scope")), None)
    if place is None:
        raise ValueError(f"cgroup {name!r}: it is in no scope")
    return parts[place], "".join([f"/{part}" for part in parts[place + 1 :]])


def attach(name: str, pid: int, *, is_user: bool) -> None:
    """Has systemd move a process into the cgroup of a scope, or into one below it.

    Raises:
        NoControllerError: there is no manager to ask.
        SystemdError, TimeoutError: it refuses, or is late.
    """
    scope, below = split_scope(name)
    with Manager.open(user=is_user) as manager:
        manager.attach(scope, [pid], below=below)


def remove_scope(value: object) -> None:
    """Ends all that is in a scope, and has systemd forget it; one that is gone is no error.

    Args:
        value: its name, and whether it is of the caller's own manager, as a state has them.

    Raises:
        SystemdError: it could not be ended.
    """
    match value:
        case [str(scope), bool(is_user)]:
            with Manager.open(user=is_user) as manager:
                with _unless_gone():
                    manager.kill(scope, _SIGKILL)
                with _unless_gone():
                    manager.stop(scope)
                manager.reset_failed(scope)


@contextlib.contextmanager
def _unless_gone() -> Iterator[None]:
    try:
        yield
    except SystemdError as error:
        if error.name != _NO_SUCH_UNIT:
            raise
