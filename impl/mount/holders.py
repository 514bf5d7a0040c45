"""Who keeps a mount from being unmounted: working and root directories, open files, programs, maps, mounts, devices.

Files are told by the ID of the mount they are on, not by their path: so what was renamed, removed or hidden is seen,
and so are processes of other mount namespaces that were handed a descriptor. What procfs does not show to the caller
is not in the answer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from kernelproof.impl._syscalls.statx import statx_path
from kernelproof.impl.mount.point import mount_id
from kernelproof.impl.mount.records import Mount
from kernelproof.impl.mount.table import MountTable, Path


class Holder(NamedTuple):
    """One reason for EBUSY.

    Attributes:
        kind: "working directory", "root directory", "program", "descriptor 5", "map", "mount", "loop device", "swap".
        path: of what is held.
        pid: of the process, or None where the kernel holds it.
        name: of the process.
        namespace: its mount namespace, as in `mnt:[4026531841]`; "" where that can't be seen.
    """

    kind: str
    path: str
    pid: int | None = None
    name: str = ""
    namespace: str = ""

    def __str__(self) -> str:
        who = f"process {self.pid} ({self.name}) in {self.namespace or 'a namespace unseen'}: " if self.pid else ""
        return f"{who}{self.kind} {self.path!r}"


def find_holders(target: Path, *, proc: Path = "/proc", sys: Path = "/sys") -> tuple[Holder, ...]:
    """Return who holds the mount at a path, or one below it.

    Args:
        target: the mount point.
        proc: where procfs is mounted.
        sys: where sysfs is mounted.

    Raises:
        OSError: ENOENT the target does not exist; no procfs.
    """
    at = mount_id(target, unique=False)
    table = MountTable.read(proc=proc)
    top = table.by_id[at].mount_point if at in table.by_id else os.path.abspath(target)
    return _holders_of(at, table, top, proc, sys)


def find_holders_by_name(mount_point: str) -> tuple[Holder, ...]:
    """Return who holds the topmost mount of a path that the table has; nobody if nothing is mounted there.

    The path itself is not looked at: it may lead to a server that does not answer, or to what was below the mount.

    Raises:
        OSError: no procfs.
    """
    table = MountTable.read()
    at = table.at(mount_point)
    return _holders_of(at[-1].id, table, mount_point, "/proc", "/sys") if at else ()


def _holders_of(at: int, table: MountTable, top: str, proc: Path, sys: Path) -> tuple[Holder, ...]:
    scope = [mount for mount in descendants(table, at)]
    ids = {at, *(mount.id for mount in scope)}
    found = [Holder("mount", mount.mount_point) for mount in scope]
    found += _devices(top, proc, sys)
    for pid in sorted(int(name) for name in os.listdir(proc) if name.isdigit()):
        found += _held_by(pid, ids, os.path.join(proc, str(pid)))
    return tuple(found)


def descendants(table: MountTable, mount: int) -> Iterator[Mount]:
    """Yield what is mounted on a mount, and on that, and so on."""
    waiting = list(table.children(mount))
    seen = {mount}
    while waiting:
        each = waiting.pop()
        if each.id not in seen:
            seen.add(each.id)
            yield each
            waiting += table.children(each.id)


def _held_by(pid: int, ids: set[int], folder: str) -> Iterator[Holder]:
    namespace = name = ""
    with suppress(OSError):
        namespace = os.readlink(f"{folder}/ns/mnt")
    with suppress(OSError), open(f"{folder}/comm", encoding="utf-8", errors="replace") as file:
        name = file.read().rstrip("\n")
    for kind, link in _links(folder):
        # The process may end, or not be ours to look at, at any step.
        with suppress(OSError):
            if _mount_of(link) in ids:
                yield Holder(kind, os.readlink(link), pid, name, namespace)


def _links(folder: str) -> Iterator[tuple[str, str]]:
    for task in _names(f"{folder}/task"):
        yield "working directory", f"{folder}/task/{task}/cwd"
        yield "root directory", f"{folder}/task/{task}/root"
    yield "program", f"{folder}/exe"
    for number in _names(f"{folder}/fd"):
        yield f"descriptor {number}", f"{folder}/fd/{number}"
    for span in _names(f"{folder}/map_files"):
        yield "map", f"{folder}/map_files/{span}"


def _names(folder: str) -> list[str]:
    with suppress(OSError):
        return sorted(os.listdir(folder))
    return []


def _mount_of(link: str) -> int | None:
    # Not open(): that would wait for a FIFO, and start a device.
    return statx_path(link, follow=True).mount_id


def _devices(top: str, proc: Path, sys: Path) -> Iterator[Holder]:
    """What the kernel itself keeps open: backing files of loop devices and of swap."""
    below = top.rstrip("/") + "/"
    for name in _names(f"{os.fspath(sys)}/block"):
        with suppress(OSError), open(f"{os.fspath(sys)}/block/{name}/loop/backing_file", "rb") as file:
            path = os.fsdecode(file.read().rstrip(b"\n"))
            if path.startswith(below):
                yield Holder("loop device", f"/dev/{name} on {path}")
    with suppress(OSError), open(os.path.join(proc, "swaps"), "rb") as file:
        for line in file.read().split(b"\n")[1:]:
            path = os.fsdecode(line.split(b" ", 1)[0])
            if path.startswith(below):
                yield Holder("swap", path)
