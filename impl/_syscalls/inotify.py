"""Watching files and directories: inotify_init1(2) and inotify_add_watch(2). Reading events is an ordinary read."""

from __future__ import annotations

import os
from enum import IntFlag

from kernelproof.impl._syscalls.libc import INT, STRING, UINT, Call, Path


class Event(IntFlag):
    """IN_ flags of inotify: what to watch for, and what happened."""

    ACCESS = 0x1
    MODIFY = 0x2
    ATTRIB = 0x4
    CLOSE_WRITE = 0x8
    CLOSE_NOWRITE = 0x10
    OPEN = 0x20
    MOVED_FROM = 0x40
    MOVED_TO = 0x80
    CREATE = 0x100
    DELETE = 0x200
    DELETE_SELF = 0x400
    MOVE_SELF = 0x800
    UNMOUNT = 0x2000
    Q_OVERFLOW = 0x4000
    IGNORED = 0x8000
    ONLYDIR = 0x1000000
    DONT_FOLLOW = 0x2000000
    EXCL_UNLINK = 0x4000000
    MASK_CREATE = 0x10000000
    MASK_ADD = 0x20000000
    ISDIR = 0x40000000
    ONESHOT = 0x80000000


_inotify_init1 = Call("inotify_init1", flags=INT)
_inotify_add_watch = Call("inotify_add_watch", fd=INT, path=STRING, mask=UINT.of(Event))


def inotify_init1(flags: int = os.O_CLOEXEC) -> int:
    """Make an inotify instance; return its descriptor, which the caller closes.

    Args:
        flags: O_CLOEXEC (the default here) and O_NONBLOCK.

    Raises:
        OSError: EINVAL unknown flags; EMFILE the user's limit on instances, or the process's on descriptors; ENFILE;
            ENOMEM.

    Source: inotify_init(2), ERRORS.
    """
    return _inotify_init1(flags)


def inotify_add_watch(fd: int, path: Path, mask: int) -> int:
    """Watch a path; return the watch's number.

    Raises:
        OSError: EACCES the path may not be read; EBADF, EINVAL no instance, or no event in the mask; EEXIST with
            MASK_CREATE; ENOENT; ENOTDIR with ONLYDIR; ENOSPC the limit on watches; ENAMETOOLONG; ENOMEM.

    Source: inotify_add_watch(2), ERRORS.
    """
    return _inotify_add_watch(fd, path, mask, path=path)
