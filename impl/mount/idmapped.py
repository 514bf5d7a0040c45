"""ID-mapped mounts: a tree seen with other owners, without a chown of a single file.

    with map_ids("/srv/rootfs", [IdRange(0, 100000, 65536)]) as mounted:
        mounted.attach("/var/lib/container")

The kernel takes the map from a user namespace. One is made for the purpose, by a process that is gone when its
descriptor is there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from itertools import pairwise

from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare
from kernelproof.impl.mount.detached import DetachedMount
from kernelproof.impl.mount.errors import OptionError

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from typing import NamedTuple

    from kernelproof.impl.mount.table import Path
else:
    from kernelproof.impl._syscalls.named import NamedTuple

_HIGHEST_ID = 2**32 - 2
_MOST_RANGES = 340  # of a user namespace (user_namespaces(7))
# What a program with threads starts instead of a fork: the same steps in an interpreter of its own.
_CHILD = (
    "import ctypes,os,sys\n"
    "libc=ctypes.CDLL(None,use_errno=True)\n"
    "e=ctypes.get_errno() if libc.unshare(0x10000000) else 0\n"
    "os.write(1,bytes([e]))\n"
    "sys.exit(e) if e else os.read(0,1)\n"
)


class IdRange(NamedTuple):
    """IDs on the filesystem and what they are seen as through the mount."""

    on_filesystem: int
    through_mount: int
    length: int


def check_ranges(ranges: Sequence[IdRange]) -> None:
    """Refuse ranges that the kernel would refuse with no more than EINVAL.

    Raises:
        OptionError: none, too many, beyond the last ID, or two that overlap.
    """
    if not 0 < len(ranges) <= _MOST_RANGES:
        raise OptionError(f"ID map: {len(ranges)} ranges, 1 to {_MOST_RANGES} are allowed")
    for each in ranges:
        if each.length < 1 or min(each[:2]) < 0 or max(each[:2]) + each.length - 1 > _HIGHEST_ID:
            raise OptionError(f"ID map: {each} is empty, or leaves 0 to {_HIGHEST_ID}")
    for side in (0, 1):
        ordered = sorted(ranges, key=lambda each: each[side])
        for before, after in pairwise(ordered):
            if before[side] + before.length > after[side]:
                raise OptionError(f"ID map: {before} and {after} overlap")


def open_user_namespace(
    uid_ranges: Sequence[IdRange], gid_ranges: Sequence[IdRange] | None = None, *, proc: Path = "/proc"
) -> int:
    """Make a user namespace with these maps and return its descriptor, which the caller closes; no process is left.

    Args:
        uid_ranges: `on_filesystem` is the ID inside, `through_mount` the one outside.
        gid_ranges: default is that of users.
        proc: where procfs is mounted.

    Raises:
        OptionError: as check_ranges.
        OSError: EPERM the ranges are not the caller's to give; ENOSPC or EUSERS a limit on namespaces.

    Source: user_namespaces(7), Defining user and group ID mappings.
    """
    maps = {"uid_map": list(uid_ranges), "gid_map": list(uid_ranges if gid_ranges is None else gid_ranges)}
    for ranges in maps.values():
        check_ranges(ranges)
    single = len(os.listdir(os.path.join(proc, "self/task"))) == 1
    pid, ready, end = _start_forked() if single else _start_spawned()
    try:
        answer = os.read(ready, 1)
        number = answer[0] if answer else 0
        if number or not answer:
            raise OSError(number, f"unshare of a user namespace: {os.strerror(number)}")
        folder = os.path.join(proc, str(pid))
        for name, ranges in maps.items():
            with open(os.path.join(folder, name), "w", buffering=-1) as file:
                file.write("".join(f"{each.on_filesystem} {each.through_mount} {each.length}\n" for each in ranges))
        return os.open(os.path.join(folder, "ns/user"), os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(ready)
        os.close(end)
        os.waitpid(pid, 0)


def _start_forked() -> tuple[int, int, int]:
    """Return a child in a new user namespace, what it tells its success by, and what it ends by."""
    ready, told = os.pipe()
    ended, end = os.pipe()
    pid = os.fork()
    if pid:
        os.close(told)
        os.close(ended)
        return pid, ready, end
    # The child: nothing may leave this block.
    status = 1
    try:
        os.close(end)
        try:
            unshare(CloneFlag.NEWUSER)
        except OSError as error:
            os.write(told, bytes([(error.errno or 255) % 256]))
        else:
            os.write(told, b"\0")
            os.read(ended, 1)
        status = 0
    finally:
        os._exit(status)


def _start_spawned() -> tuple[int, int, int]:
    ready, told = os.pipe()
    ended, end = os.pipe()
    try:
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", "-c", _CHILD],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, ended, 0), (os.POSIX_SPAWN_DUP2, told, 1)],
        )
    except BaseException:
        os.close(ready)
        os.close(end)
        raise
    finally:
        os.close(told)
        os.close(ended)
    return pid, ready, end


def map_ids(
    source: Path | int,
    uid_ranges: Iterable[IdRange],
    gid_ranges: Iterable[IdRange] | None = None,
    *,
    recursive: bool = False,
) -> DetachedMount:
    """Return a copy of a mount, attached nowhere, through which files have other owners.

    Args:
        source: a directory or file, or a descriptor.
        uid_ranges: which IDs are seen as which others; an owner in none of them is seen as the overflow ID.
        gid_ranges: default is that of users.
        recursive: with all mounts below it; each of their filesystems must allow it.

    Raises:
        OptionError: as check_ranges.
        OSError: EINVAL a filesystem that can't be ID-mapped; EPERM; ENOSYS before Linux 5.12.

    Source: mount_setattr(2), ID-mapped mounts.
    """
    users = list(uid_ranges)
    namespace = open_user_namespace(users, None if gid_ranges is None else list(gid_ranges))
    try:
        made = DetachedMount.copy(source, recursive=recursive)
        try:
            return made.set_attributes(userns_fd=namespace, recursive=recursive)
        except BaseException:
            made.close()
            raise
    finally:
        os.close(namespace)
