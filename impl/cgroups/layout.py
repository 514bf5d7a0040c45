"""Which hierarchies there are, and where a process is in them.

    layout = read_layout()
    layout.version                     "v1", "v2", "hybrid" or "none"
    layout.hierarchy("memory")         the Hierarchy that has the memory controller
    layout.place("memory", "/proc/self/cgroup" …)

A hierarchy of version 1 has some controllers, or a name, and may be mounted in several places; that of version 2 has
those that no other has. What is mounted is taken from `kernelproof.impl.mount`, so that a container which sees a part
of a hierarchy (the root field of mountinfo) is understood.
"""

from __future__ import annotations

import os
import posixpath

from kernelproof.impl._syscalls.mount import MountAttribute
from kernelproof.impl.cgroups.errors import FormatError, NoControllerError
from kernelproof.impl.mount.records import Mount
from kernelproof.impl.mount.table import MountTable

TYPE_CHECKING = False  # typing costs 5 ms at import
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import NamedTuple, TypeAlias
else:
    from kernelproof.impl._syscalls.named import NamedTuple

Path: TypeAlias = "str | os.PathLike[str]"

# In the option list of a version 1 mount, beside controllers: cgroups(7) and kernel/cgroup/cgroup-v1.c.
_OPTIONS = frozenset(
    {"rw", "ro", "xattr", "noprefix", "clone_children", "cpuset_v2_mode", "favordynmods", "none", "all"}
)


class Hierarchy(NamedTuple):
    """A mounted hierarchy.

    Attributes:
        version: 1 or 2.
        controllers: of version 1 those that it was mounted with; of version 2 those of its mounted root.
        name: of a named hierarchy of version 1, else "".
        mount_point: where it is mounted.
        root: the cgroup that is at the mount point, as a path from the hierarchy's root; `/` but for bind mounts and
            cgroup namespaces. A path that begins with `/..` is above the namespace's root.
        is_read_only: of the mount or the filesystem.
    """

    version: int
    controllers: tuple[str, ...]
    name: str
    mount_point: str
    root: str
    is_read_only: bool

    def path_of(self, cgroup: str) -> str | None:
        """The directory of a cgroup that /proc/PID/cgroup names, or None if it is not below this mount.

        Args:
            cgroup: an absolute path from the hierarchy's root.
        """
        root = self.root.rstrip("/")
        if root and cgroup != root and not cgroup.startswith(f"{root}/"):
            return None
        inside = cgroup[len(root) :].strip("/")
        return posixpath.join(self.mount_point, inside) if inside else self.mount_point


class Membership(NamedTuple):
    """A line of /proc/PID/cgroup.

    Attributes:
        hierarchy_id: 0 is version 2.
        controllers: of version 1; none of version 2 and of named hierarchies.
        name: of a named hierarchy, else "".
        cgroup: path from the hierarchy's root, or from the reader's cgroup namespace.
        is_deleted: the cgroup was removed; the process is a zombie.
    """

    hierarchy_id: int
    controllers: tuple[str, ...]
    name: str
    cgroup: str
    is_deleted: bool


class ControllerStatus(NamedTuple):
    """A line of /proc/cgroups: what the kernel has, mounted or not."""

    name: str
    hierarchy_id: int
    cgroups: int
    is_enabled: bool


class Layout(NamedTuple):
    """What is mounted: hierarchies in the order of the mount table, the unified one first."""

    hierarchies: tuple[Hierarchy, ...]

    @property
    def version(self) -> str:
        """ "v2", "v1", "hybrid" (both, or version 1 beside a unified hierarchy without controllers) or "none"."""
        versions = {hierarchy.version for hierarchy in self.hierarchies}
        return {frozenset(): "none", frozenset({1}): "v1", frozenset({2}): "v2"}.get(frozenset(versions), "hybrid")

    @property
    def unified(self) -> Hierarchy | None:
        """The hierarchy of version 2."""
        return next((hierarchy for hierarchy in self.hierarchies if hierarchy.version == 2), None)

    def hierarchy(self, controller: str) -> Hierarchy:
        """The hierarchy that has a controller; `name=x` for a named one; of several mounts of it a writable whole one.

        Raises:
            NoControllerError: none has it, with what there is.
        """
        wanted = controller.removeprefix("name=") if controller.startswith("name=") else None
        found = [
            hierarchy
            for hierarchy in self.hierarchies
            if (hierarchy.name == wanted if wanted is not None else controller in hierarchy.controllers)
        ]
        if not found:
            there = sorted({name for hierarchy in self.hierarchies for name in hierarchy.controllers})
            raise NoControllerError(
                f"no mounted hierarchy has {controller}; "
                + (f"there are {', '.join(there)}" if there else "none is mounted")
            )
        return min(found, key=lambda hierarchy: (hierarchy.is_read_only, hierarchy.root != "/"))


def parse_membership(text: str, file: str = "/proc/self/cgroup") -> tuple[Membership, ...]:
    """Parse /proc/PID/cgroup. The path is all that follows the second colon: it may hold colons itself.

    Raises:
        FormatError: a line has less than three fields, or its first is no number.

    Source: cgroups(7), /proc/pid/cgroup.

    >>> parse_membership("4:cpu,cpuacct:/a:b\\n0::/x (deleted)\\n")[0].cgroup
    '/a:b'
    """
    return tuple(_parse_line(line, file) for line in text.splitlines() if line)


def _parse_line(line: str, file: str) -> Membership:
    number, first, rest = line.partition(":")
    words, second, cgroup = rest.partition(":")
    if not (first and second and number.isascii() and number.isdigit() and cgroup.startswith("/")):
        raise FormatError(file, line, "not number:controllers:/path")
    controllers = tuple(word for word in words.split(",") if word and not word.startswith("name="))
    name = next((word.removeprefix("name=") for word in words.split(",") if word.startswith("name=")), "")
    is_deleted = cgroup.endswith(" (deleted)")
    return Membership(int(number), controllers, name, cgroup.removesuffix(" (deleted)"), is_deleted)


def parse_controllers(text: str, file: str = "/proc/cgroups") -> tuple[ControllerStatus, ...]:
    """Parse /proc/cgroups, which says nothing about version 2.

    Raises:
        FormatError: a line has not four fields, three of them numbers.

    Source: cgroups(7), /proc/cgroups; cgroup-v2.rst, Deprecated v1 Core Features.
    """
    found = []
    for line in text.splitlines():
        if line.startswith("#") or not line.strip():
            continue
        words = line.split()
        if len(words) != 4 or not all(word.isascii() and word.isdigit() for word in words[1:]):
            raise FormatError(file, line, "not name, hierarchy, number and enabled")
        found.append(ControllerStatus(words[0], int(words[1]), int(words[2]), words[3] == "1"))
    return tuple(found)


def plan_layout(mounts: Iterable[Mount], unified_controllers: Mapping[str, tuple[str, ...]]) -> Layout:
    """The hierarchies in a mount table.

    Args:
        mounts: of the table, in its order; what is hidden is to be left out.
        unified_controllers: the content of `cgroup.controllers` by mount point of version 2.
    """
    found = []
    for mount in mounts:
        if mount.fstype not in ("cgroup", "cgroup2"):
            continue
        read_only = bool(mount.attributes & MountAttribute.RDONLY) or "ro" in mount.super_options
        if mount.fstype == "cgroup2":
            controllers = unified_controllers.get(mount.mount_point, ())
            found.append(Hierarchy(2, controllers, "", mount.mount_point, mount.root, read_only))
            continue
        words = [word for word in mount.super_options if word not in _OPTIONS]
        name = next((word.removeprefix("name=") for word in words if word.startswith("name=")), "")
        controllers = tuple(word for word in words if "=" not in word)
        found.append(Hierarchy(1, controllers, name, mount.mount_point, mount.root, read_only))
    return Layout(tuple(sorted(found, key=lambda hierarchy: hierarchy.version != 2)))


def read_layout(table: MountTable | None = None) -> Layout:
    """Read which hierarchies this process sees. A read-only one is there, and says that it is.

    Args:
        table: the mount table to look in; this thread's own by default.

    Raises:
        OSError: no procfs, or a mounted hierarchy can't be read.

    Source: cgroups(7); cgroup-v2.rst, Mounting.
    """
    seen = MountTable.read() if table is None else table
    visible = [
        mount
        for mount in seen.by_fstype("cgroup", "cgroup2")
        if seen.at(mount.mount_point)[-1:] == (mount,) and seen.find(mount.mount_point) == mount
    ]
    controllers = {}
    for mount in visible:
        if mount.fstype == "cgroup2":
            with open(os.path.join(mount.mount_point, "cgroup.controllers"), encoding="utf-8") as file:
                controllers[mount.mount_point] = tuple(file.read().split())
    return plan_layout(visible, controllers)


def read_membership(pid: int | str = "self", *, proc: Path = "/proc") -> tuple[Membership, ...]:
    """Read where a process is.

    Raises:
        OSError: ENOENT, ESRCH: no such process, or no procfs.
        FormatError: see `parse_membership`.
    """
    file = os.path.join(proc, str(pid), "cgroup")
    with open(file, encoding="utf-8", errors="surrogateescape") as content:
        return parse_membership(content.read(), file)


def find_membership(memberships: Iterable[Membership], hierarchy: Hierarchy) -> Membership:
    """The line of a hierarchy.

    Raises:
        NoControllerError: the process has no line for it: it is of another cgroup root, or of no cgroup at all.
    """
    for membership in memberships:
        if (hierarchy.version == 2) != (membership.hierarchy_id == 0):
            continue
        if hierarchy.version == 2:
            return membership
        if (set(membership.controllers), membership.name) == (set(hierarchy.controllers), hierarchy.name):
            return membership
    raise NoControllerError(f"the process is in no cgroup of the hierarchy at {hierarchy.mount_point}")
