"""Open what a path names inside a root directory, and never what lies outside it.

A container's /etc/passwd is read through a descriptor of the container's root: a symlink in the image, also one that
is swapped in while it is looked at, leads to another file of that image at most.

This is not a general mount-safe resolver; kernelproof.impl.mount has that.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

StrPath: TypeAlias = str | os.PathLike[str]
Root: TypeAlias = int | StrPath | None

SYMLINK_LIMIT = 40  # as the kernel's MAXSYMLINKS
_RACE_LIMIT = 128  # openat2 says EAGAIN when a rename or mount races with ".."; 32 were too few under attack
# Pins a directory, also one that may be searched but not read.
DIRECTORY = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def root_descriptor(root: Root) -> Iterator[int | None]:
    """Give the descriptor of a root: the caller's own, or one that is open for the time of the block."""
    if root is None or isinstance(root, int):
        yield root
        return
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def open_in_root(path: StrPath, flags: int, root: int | None) -> int:
    """Open an existing path, inside a root if there is one, and return the descriptor, which the caller closes.

    Args:
        path: with a root, absolute and relative ones both start there, and so do absolute symlinks.
        flags: for open; close-on-exec is added. O_NOFOLLOW concerns the last component.
        root: descriptor of a directory; None is the process's own root.

    Raises:
        OSError: ENOENT, EACCES, ELOOP (over 40 symlinks), ENOTDIR and what else open(2) gives; EAGAIN if others
            rename directories all the time.
    """
    if root is None:
        return os.open(path, flags | os.O_CLOEXEC)
    if sys.platform == "linux":
        fd = _openat2(path, flags, root)
        if fd is not None:
            return fd
    return walk_in_root(path, flags, root)


def _openat2(path: StrPath, flags: int, root: int) -> int | None:
    """Open by openat2; None if the kernel, a filter or an unknown machine denies the call itself."""
    # Linux only, and measured: half of what reading a file costs to import.
    from kernelproof.impl._syscalls.architecture import UnsupportedPlatformError
    from kernelproof.impl._syscalls.resolve import ResolveFlag, openat2

    rules = ResolveFlag.IN_ROOT | ResolveFlag.NO_MAGICLINKS
    for _ in range(_RACE_LIMIT):
        try:
            return openat2(root, path, flags, resolve=rules)
        except UnsupportedPlatformError:
            return None
        except OSError as error:
            if error.errno in (errno.ENOSYS, errno.EPERM):
                return None
            if error.errno != errno.EAGAIN:
                raise
    raise OSError(errno.EAGAIN, "directories on the way are being renamed without pause", os.fspath(path))


def walk_in_root(path: StrPath, flags: int, root: int) -> int:
    """Do what open_in_root does one component at a time, for systems without openat2.

    Each directory is opened without following a link, so an exchange of a component after it was looked at is an
    error (ELOOP, ENOTDIR), not a way out; and ".." goes back to the descriptor that the walk came from.
    """
    todo = components(path)
    opened: list[int] = []
    links = 0
    try:
        while todo:
            name = todo.popleft()
            here = opened[-1] if opened else root
            if name == "..":
                close_all(opened[-1:])
                del opened[-1:]
            elif _is_link(name, here) and (todo or not flags & os.O_NOFOLLOW):
                links += 1
                if links > SYMLINK_LIMIT:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fspath(path))
                target = _link_target(name, here)
                todo = components(target) + todo
                if target.startswith("/"):
                    close_all(opened)
            elif todo:
                opened.append(os.open(name, DIRECTORY, dir_fd=here))
            else:
                return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
        return os.open(".", flags | os.O_CLOEXEC, dir_fd=opened[-1] if opened else root)
    finally:
        close_all(opened)


def _is_link(name: str, directory: int) -> bool:
    return stat.S_ISLNK(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)


def _link_target(name: str, directory: int) -> str:
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return name  # exchanged for something else: look again


def components(path: StrPath) -> deque[str]:
    """Return the names in a path, without empty ones and "."."""
    return deque(name for name in os.fspath(path).split("/") if name not in ("", "."))


def close_all(descriptors: list[int]) -> None:
    """Close descriptors, the last first, and empty the list."""
    while descriptors:
        os.close(descriptors.pop())
