"""procfs and sysfs that are what they say: nothing mounted over them, nothing in their place.

A container can put a tmpfs, or another file of procfs, over a path below its /proc; a program that then writes a
security label, or opens a descriptor anew, is led elsewhere. A handle here is procfs of its own that nobody can mount
on (fsopen), or a copy of the mount without what is mounted on it (open_tree), or the mount that is there; and every
look-up below it may not cross a mount or follow a link.
"""

from __future__ import annotations

import os
from errno import EBUSY, EINVAL, ELOOP, ENODEV, ENOSYS, EPERM, EXDEV

from kernelproof.impl._syscalls.filesystem import PROC_SUPER_MAGIC, filesystem_type
from kernelproof.impl._syscalls.mount import (
    FsConfig,
    MountAttribute,
    OpenTreeFlag,
    fsconfig,
    fsmount,
    fsopen,
    open_tree,
)
from kernelproof.impl._syscalls.resolve import ResolveFlag, openat2
from kernelproof.impl._syscalls.statx import statx_of
from kernelproof.impl._syscalls.suppressing import suppress
from kernelproof.impl.mount.errors import UnsafePathError
from kernelproof.impl.mount.release import is_new_api_trusted

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

SYSFS_MAGIC = 0x62656572
_ROOT_INODE = 1  # of both
_BELOW = ResolveFlag.BENEATH | ResolveFlag.NO_XDEV | ResolveFlag.NO_SYMLINKS
_NO_PRIVATE = (EPERM, ENOSYS, EBUSY, EINVAL, ENODEV)
_RESTRICTED = MountAttribute.NOSUID | MountAttribute.NODEV | MountAttribute.NOEXEC


class FilesystemHandle:
    """The root of a filesystem that was verified; a context manager.

    Attributes:
        fd: its directory.
        method: "fsopen", "open_tree" or "open".
    """

    __slots__ = ("fd", "fstype", "method")

    def __init__(self, fd: int, fstype: str, magic: int, method: str) -> None:
        self.fd = fd
        self.fstype = fstype
        self.method = method
        try:
            if filesystem_type(fd) != magic:
                raise UnsafePathError(EXDEV, f"no {fstype}: another filesystem is in its place", fstype)
            if os.fstat(fd).st_ino != _ROOT_INODE:
                raise UnsafePathError(EXDEV, f"not the root of {fstype}: a part of it is in its place", fstype)
        except BaseException:
            os.close(fd)
            raise

    def open(self, path: str, flags: int = os.O_RDONLY) -> int:
        """Open what is below the root and return the descriptor, which the caller closes.

        Raises:
            UnsafePathError: EXDEV something is mounted on the way; ELOOP a link is on the way.
            OSError: ENOENT, EACCES.
        """
        try:
            return openat2(self.fd, path, flags, resolve=_BELOW)
        except OSError as error:
            if error.errno in (EXDEV, ELOOP):
                raise UnsafePathError(error.errno, os.strerror(error.errno), f"{self.fstype}/{path}") from error
            if error.errno not in (ENOSYS, EPERM):
                raise
        return self._open_in_steps(path, flags)

    def _open_in_steps(self, path: str, flags: int) -> int:
        fd = os.dup(self.fd)
        steps = [step for step in path.split("/") if step]
        for place, step in enumerate(steps, 1):
            if step == "..":
                os.close(fd)
                raise UnsafePathError(EXDEV, os.strerror(EXDEV), f"{self.fstype}/{path}")
            try:
                wanted = flags if place == len(steps) else os.O_PATH | os.O_DIRECTORY
                below = os.open(step, wanted | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            finally:
                os.close(fd)
            fd = below
            if statx_of(fd).mount_id != statx_of(self.fd).mount_id:
                os.close(fd)
                raise UnsafePathError(EXDEV, "something is mounted on the way", f"{self.fstype}/{path}")
        return fd

    def open_link(self, path: str, flags: int) -> int:
        """Open what a link of procfs jumps to: /proc/PID/fd/N, exe, root, ns/….

        Raises:
            UnsafePathError: something is mounted on the way, or on the link.
            OSError: ENOENT, EACCES; what opening the target gives.
        """
        directory, _, name = path.rpartition("/")
        parent = self.open(directory or ".", os.O_PATH | os.O_DIRECTORY)
        try:
            link = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            try:
                if statx_of(link).mount_id != statx_of(parent).mount_id:
                    raise UnsafePathError(EXDEV, "something is mounted on the link", f"{self.fstype}/{path}")
            finally:
                os.close(link)
            return os.open(name, flags | os.O_CLOEXEC, dir_fd=parent)
        finally:
            os.close(parent)

    def close(self) -> None:
        """Close it; a procfs of one's own vanishes."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def open_procfs(*, private: bool = True, subset_pid: bool = False) -> FilesystemHandle:
    """Open a verified procfs of the caller's PID namespace.

    Args:
        private: try to get one that nobody else can reach; else take /proc as it is.
        subset_pid: with private: only the directories of processes.

    Raises:
        UnsafePathError: what is at /proc is no procfs, or not its root.
        OSError: ENOENT no /proc.

    Source: fsopen(2); proc(5), Mount options.
    """
    return _open("proc", "/proc", PROC_SUPER_MAGIC, ["subset=pid"] if subset_pid else [], private=private)


def open_sysfs(*, private: bool = True) -> FilesystemHandle:
    """Open a verified sysfs of the caller's network namespace.

    Raises:
        UnsafePathError: what is at /sys is no sysfs, or not its root.
        OSError: ENOENT no /sys.
    """
    return _open("sysfs", "/sys", SYSFS_MAGIC, [], private=private)


def _open(fstype: str, path: str, magic: int, options: list[str], *, private: bool) -> FilesystemHandle:
    if private and is_new_api_trusted():
        for method in (_new_instance, _bare_copy):
            with suppress_refusals():
                return FilesystemHandle(method(fstype, path, options), fstype, magic, _METHODS[method.__name__])
    return FilesystemHandle(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), fstype, magic, "open")


_METHODS = {"_new_instance": "fsopen", "_bare_copy": "open_tree"}


class suppress_refusals(suppress):
    """Go on to the next method where the kernel does not offer this one, or not to us."""

    def __init__(self) -> None:
        super().__init__(OSError)

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> bool:
        return isinstance(value, OSError) and not isinstance(value, UnsafePathError) and value.errno in _NO_PRIVATE


def _new_instance(fstype: str, path: str, options: list[str]) -> int:
    context = fsopen(fstype)
    try:
        for option in options:
            key, _, value = option.partition("=")
            fsconfig(context, FsConfig.SET_STRING, key, value)
        fsconfig(context, FsConfig.CMD_CREATE)
        return fsmount(context, attributes=_RESTRICTED)
    finally:
        os.close(context)


def _bare_copy(fstype: str, path: str, options: list[str]) -> int:
    return open_tree(-100, path, OpenTreeFlag.CLONE | OpenTreeFlag.CLOEXEC)


def reopen(fd: int, flags: int) -> int:
    """Open the file of a descriptor anew, as after O_PATH, with other flags: the same file whatever its name is now.

    Raises:
        UnsafePathError: /proc is not what it says.
        OSError: EACCES; EROFS; ELOOP the descriptor is one of a link; ENOENT no /proc.

    Source: open(2), O_PATH; proc_pid_fd(5).
    """
    with open_procfs(private=False) as proc:
        # "thread-self" is a link; the number is that of this thread in the PID namespace of this procfs.
        own = os.readlink("thread-self", dir_fd=proc.fd)
        return proc.open_link(f"{own}/fd/{fd}", flags & ~os.O_NOFOLLOW)
