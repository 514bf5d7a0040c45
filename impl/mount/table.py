"""The mount table: read once, asked often.

    table = MountTable.read()
    table.find("/var/lib/docker/x")     the mount that a path without links lies on
    table.below("/sys")                 what is mounted there and further down
    table.children(table.root.id)       what is mounted on a mount

Paths are compared as text: links are not followed. `mount_of` asks the kernel about a path instead.
"""

from __future__ import annotations

import io
import os
import posixpath
import select

from kernelproof.impl._syscalls.suppressing import suppress
from kernelproof.impl.mount.errors import MountinfoError, NoSuchMountError
from kernelproof.impl.mount.mountinfo import encode_octal, parse_lines, parse_mountinfo
from kernelproof.impl.mount.records import Mount
from kernelproof.impl.mount.sequence import Mounts

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import NamedTuple, TypeAlias
else:
    from kernelproof.impl._syscalls.named import NamedTuple

Path: TypeAlias = "str | os.PathLike[str]"
_READINGS = 8  # of a table that changes while it is read
_CHUNK_BYTES = 1 << 20


class Change(NamedTuple):
    """One difference between two tables; `old` is None for an added mount, `new` for a removed one."""

    what: str  # "added", "removed", "moved" or "changed"
    old: Mount | None
    new: Mount | None


class Branch(NamedTuple):
    """A mount in the tree, with what is mounted on it."""

    mount: Mount
    children: tuple[Branch, ...]
    is_hidden: bool  # no path leads to it: something is mounted over it, or over what it is on


class MountTable(Mounts):
    """The mounts of a process, in the kernel's order.

    Attributes:
        mounts: all of them.
        errors: the lines that could not be read.
        is_consistent: False if the table changed during each of several readings, True if it did not, None where
            that was not looked at.
    """

    __slots__ = ("_by_id", "_by_parent", "errors", "is_consistent")

    def __init__(
        self,
        mounts: Iterable[Mount],
        errors: Iterable[MountinfoError] = (),
        *,
        is_consistent: bool | None = None,
    ) -> None:
        self.mounts = tuple(mounts)
        self.errors = tuple(errors)
        self.is_consistent = is_consistent
        self._by_id: dict[int, Mount] | None = None
        self._by_parent: dict[int, list[Mount]] | None = None

    @classmethod
    def parse(cls, text: str | bytes) -> MountTable:
        """Parse the text of a mountinfo file; a bad line costs that line only, and is in `errors`."""
        return cls(*parse_mountinfo(text))

    @classmethod
    def read(cls, pid: int | str = "thread-self", *, prefer: str = "mountinfo", proc: Path = "/proc") -> MountTable:
        """Read the mount table of a process.

        A table that changes meanwhile is read again, a few times; see `is_consistent`.

        Args:
            pid: the process; default is the calling thread, which may have a mount namespace of its own.
            prefer: "mountinfo", which was measured to be the faster road to a whole table; or "statmount", which
                gives unique IDs and does not suffer from large peer groups, where the kernel has all of it (Linux
                6.13) and the process is the caller; mountinfo elsewhere. By statmount `propagate_from` is not asked
                for, as the kernel would walk the peer group for it: read_by_statmount and mountinfo tell it.
            proc: where procfs is mounted.

        Raises:
            OSError: ENOENT no such process, or no procfs; EACCES not allowed to look at it.

        Source: proc_pid_mountinfo(5); listmount(2), statmount(2).
        """
        if prefer == "statmount" and pid in ("self", "thread-self", os.getpid()):
            # Measured: a program that asks mountinfo alone need not pay for the other road.
            from kernelproof.impl.mount.statmounts import FAST_FIELDS, read_by_statmount

            with suppress(NotImplementedError, OSError):
                return cls(read_by_statmount(FAST_FIELDS))
        content, is_consistent = read_mountinfo(pid, proc=proc)
        return cls(*parse_mountinfo(content), is_consistent=is_consistent)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self.mounts)} mounts, {len(self.errors)} lines not read>"

    @property
    def by_id(self) -> dict[int, Mount]:
        """Mounts by their ID."""
        if self._by_id is None:
            self._by_id = {mount.id: mount for mount in self.mounts}
        return self._by_id

    @property
    def root(self) -> Mount:
        """The mount that "/" leads to.

        Raises:
            NoSuchMountError: it is not in the table: the process is in a chroot that is no mount point.
        """
        return self.find("/")

    def children(self, mount_id: int) -> tuple[Mount, ...]:
        """Return the mounts that are mounted on a mount."""
        if self._by_parent is None:
            self._by_parent = {}
            for mount in self.mounts:
                if mount.parent_id != mount.id:
                    self._by_parent.setdefault(mount.parent_id, []).append(mount)
        return tuple(self._by_parent.get(mount_id, ()))

    def find(self, path: Path) -> Mount:
        """Return the mount that an absolute path leads to, as the kernel walks: what is hidden is not found.

        Args:
            path: compared as text, after `.`, `..` and doubled slashes are taken out.

        Raises:
            NoSuchMountError: no mount of the table is on the way, or the path is relative.
        """
        steps = path_and_parents(path)
        return walk([mount for mount in self.mounts if mount.mount_point in steps], path)

    def at(self, path: Path) -> tuple[Mount, ...]:
        """Return all mounts whose mount point is the path, hidden ones too, the lowest first."""
        wanted = clean_path(path)
        return stacked([mount for mount in self.mounts if mount.mount_point == wanted])

    def below(self, path: Path) -> tuple[Mount, ...]:
        """Return the mounts at a path and further down, in the table's order."""
        keep = prefix_filter(path)
        return tuple(mount for mount in self.mounts if keep(mount))

    def parents(self, path: Path) -> tuple[Mount, ...]:
        """Return the mounts at a path and at the directories above it, in the table's order."""
        keep = parents_filter(path)
        return tuple(mount for mount in self.mounts if keep(mount))

    def by_fstype(self, *fstypes: str) -> tuple[Mount, ...]:
        """Return the mounts of filesystems of one of these types."""
        keep = fstype_filter(*fstypes)
        return tuple(mount for mount in self.mounts if keep(mount))

    def select(self, *filters: Callable[[Mount], bool]) -> tuple[Mount, ...]:
        """Return the mounts that every filter keeps."""
        return tuple(mount for mount in self.mounts if all(keep(mount) for keep in filters))

    def tree(self) -> tuple[Branch, ...]:
        """Return the table as trees: one for each mount whose parent is not in the table."""
        return plan_tree(self)

    def diff(self, new: MountTable) -> tuple[Change, ...]:
        """Compare with a later table of the same process.

        Mounts are told apart by their unique IDs where both tables have them; else by ID, and an ID whose
        filesystem or root is another one now belongs to another mount.
        """
        return compare(self, new)


def read_mountinfo(pid: int | str = "thread-self", *, proc: Path = "/proc") -> tuple[bytes, bool]:
    """Read the bytes of /proc/PID/mountinfo, and whether they are of one moment.

    Raises:
        OSError: as MountTable.read.
    """
    with open_mountinfo(pid, proc=proc) as readings:
        content = b""
        for pieces in readings:
            content = b"".join(pieces)
        return content, readings.is_settled


class _Readings:
    """Readings of one mountinfo file from its beginning, again while it changes meanwhile."""

    __slots__ = ("file", "is_settled")

    def __init__(self, file: io.FileIO) -> None:
        self.file = file
        self.is_settled = False

    def __enter__(self) -> _Readings:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __iter__(self) -> Iterator[Iterator[bytes]]:
        watcher = select.poll()
        watcher.register(self.file, select.POLLPRI)
        for _ in range(_READINGS):
            yield iter(lambda: self.file.read(_CHUNK_BYTES), b"")
            if not any(event & select.POLLPRI for _, event in watcher.poll(0)):
                self.is_settled = True
                return
            self.file.seek(0)


def open_mountinfo(pid: int | str = "thread-self", *, proc: Path = "/proc") -> _Readings:
    """Open the mountinfo file of a process: its text in pieces, and again from the beginning if it changed meanwhile.

    Raises:
        OSError: as MountTable.read.
    """
    return _Readings(open(os.path.join(proc, str(pid), "mountinfo"), "rb", buffering=0))


def find_in_text(content: bytes, path: Path) -> Mount:
    """Return the mount that a path leads to from the text of a mountinfo file; see find_mount."""
    lines = []
    for step in path_and_parents(path):
        needle = b" " + os.fsencode(encode_octal(step)) + b" "
        start = content.find(needle)
        while start >= 0:
            begin = content.rfind(b"\n", 0, start) + 1
            if content.count(b" ", begin, start) == 3:  # so it is the fifth field
                end = content.find(b"\n", start)
                lines.append(os.fsdecode(content[begin : end if end >= 0 else len(content)]))
            start = content.find(needle, start + 1)
    return walk([parsed for parsed in parse_lines(lines) if isinstance(parsed, Mount)], path)


def clean_path(path: Path) -> str:
    """Return an absolute path without `.`, `..` and doubled slashes.

    Raises:
        NoSuchMountError: it is relative.
    """
    text = os.fspath(path)
    if not text.startswith("/"):
        raise NoSuchMountError(f"{text!r} is relative: mount points are absolute paths")
    return "/" + posixpath.normpath(text).lstrip("/")


def path_and_parents(path: Path) -> dict[str, None]:
    """Return a path and the directories above it, "/" last."""
    text = clean_path(path)
    steps = {text: None}
    while text != "/":
        text = posixpath.dirname(text)
        steps[text] = None
    return steps


def walk(candidates: list[Mount], path: Path) -> Mount:
    """Walk down from the root over the mounts that are on the way to a path.

    From a mount the way goes to the nearest of those that are mounted on it; so what lies under another mount is
    never reached.
    """
    children: dict[int | None, list[Mount]] = {}
    ids = {mount.id for mount in candidates}
    for mount in candidates:
        outside = mount.parent_id not in ids or mount.parent_id == mount.id
        children.setdefault(None if outside else mount.parent_id, []).append(mount)
    found: Mount | None = None
    reached = children.pop(None, [])
    while reached:
        found = min(reached, key=lambda mount: len(mount.mount_point))
        reached = children.pop(found.id, [])
    if found is None:
        raise NoSuchMountError(f"no mount of the table is at {os.fspath(path)!r} or above it")
    return found


def stacked(mounts: list[Mount]) -> tuple[Mount, ...]:
    """Order mounts at one place: each after the one that it is on."""
    ids = {mount.id for mount in mounts}
    above = {mount.parent_id: mount for mount in mounts if mount.parent_id in ids and mount.parent_id != mount.id}
    ordered = []
    for bottom in mounts:
        if bottom.parent_id in ids and bottom.parent_id != bottom.id:
            continue
        mount: Mount | None = bottom
        while mount is not None:
            ordered.append(mount)
            mount = above.pop(mount.id, None)
    return tuple(ordered)


def plan_tree(table: MountTable) -> tuple[Branch, ...]:
    """Build the trees of a table without recursion: it may be thousands of mounts deep."""
    ids = table.by_id
    roots = [mount for mount in table if mount.parent_id not in ids or mount.parent_id == mount.id]
    order: list[tuple[Mount, bool]] = [(mount, False) for mount in reversed(roots)]
    seen: list[tuple[Mount, bool]] = []
    while order:
        mount, is_hidden = order.pop()
        seen.append((mount, is_hidden))
        children = table.children(mount.id)
        covers = {child.mount_point for child in children}
        for child in reversed(children):
            # Hidden is what lies under another child of the same mount, or under a mount that is hidden.
            under = any(
                parent in covers for parent in path_and_parents(child.mount_point) if parent != child.mount_point
            )
            order.append((child, is_hidden or under))
    built: dict[int, Branch] = {}
    for mount, is_hidden in reversed(seen):
        children = table.children(mount.id)
        covered = any(child.mount_point == mount.mount_point for child in children)
        built[mount.id] = Branch(mount, tuple(built[child.id] for child in children), is_hidden or covered)
    return tuple(built[mount.id] for mount in roots)


def compare(old: MountTable, new: MountTable) -> tuple[Change, ...]:
    """Compare two tables; see MountTable.diff."""
    unique = all(mount.unique_id is not None for table in (old, new) for mount in table)
    before = {(mount.unique_id if unique else mount.id): mount for mount in old}
    after = {(mount.unique_id if unique else mount.id): mount for mount in new}
    changes = []
    for key, mount in before.items():
        later = after.get(key)
        if later is None or not _is_same(mount, later):
            changes.append(Change("removed", mount, None))
    for key, mount in after.items():
        earlier = before.get(key)
        if earlier is None or not _is_same(earlier, mount):
            changes.append(Change("added", None, mount))
        elif (earlier.mount_point, earlier.parent_id) != (mount.mount_point, mount.parent_id):
            changes.append(Change("moved", earlier, mount))
        elif earlier != mount:
            changes.append(Change("changed", earlier, mount))
    return tuple(changes)


def _is_same(old: Mount, new: Mount) -> bool:
    what = (old.major, old.minor, old.root, old.fstype)
    return what == (new.major, new.minor, new.root, new.fstype) and old.unique_id == new.unique_id


def prefix_filter(prefix: Path) -> Callable[[Mount], bool]:
    """Keep the mounts at a path and below it; `/rootfs2` is not below `/rootfs`."""
    at = clean_path(prefix)
    below = at.rstrip("/") + "/"
    return lambda mount: mount.mount_point == at or mount.mount_point.startswith(below)


def single_entry_filter(mount_point: Path) -> Callable[[Mount], bool]:
    """Keep the mounts at one path: all of a stack."""
    at = clean_path(mount_point)
    return lambda mount: mount.mount_point == at


def parents_filter(path: Path) -> Callable[[Mount], bool]:
    """Keep the mounts at a path and at the directories above it."""
    steps = path_and_parents(path)
    return lambda mount: mount.mount_point in steps


def fstype_filter(*fstypes: str) -> Callable[[Mount], bool]:
    """Keep the mounts of filesystems of these types."""
    return lambda mount: mount.fstype in fstypes
