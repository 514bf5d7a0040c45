"""openat2(RESOLVE_IN_ROOT|RESOLVE_NO_MAGICLINKS) in steps over O_PATH descriptors, where the call is missing."""

from __future__ import annotations

import os
import stat
from errno import EEXIST, ELOOP, ENAMETOOLONG, ENOTDIR, EXDEV

from kernelproof.impl._syscalls.filesystem import PROC_SUPER_MAGIC, filesystem_type
from kernelproof.impl._syscalls.suppressing import suppress
from kernelproof.impl.mount.errors import UnsafePathError
from kernelproof.impl.mount.handles import reopen
from kernelproof.impl.mount.point import mount_id

MOST_LINKS = 40  # as the kernel's MAXSYMLINKS


def walk_in_root(root: int, path: str, flags: int, mode: int = 0, *, cross_mounts: bool = True) -> int:
    """Open a path inside an open root.

    `..` goes back to the directory that the walk came from, and does not ask the filesystem: so it cannot be led out.
    After the last step the place is looked at again: a directory that was moved out of the root meanwhile is refused.

    Raises:
        OSError: as Root.open.
        UnsafePathError: EXDEV, the walk was led out of the root.
    """
    walk = _Walk(root, path, flags, mode, cross_mounts)
    try:
        fd = walk.run()
    finally:
        walk.close()
    return check_in_root(root, fd)


class _Walk:
    """One walk: the descriptors on the way, and the steps that are left."""

    def __init__(self, root: int, path: str, flags: int, mode: int, cross_mounts: bool) -> None:
        self.path = path
        self.flags = flags
        self.mode = mode
        self.cross_mounts = cross_mounts
        self.must_be_directory = bool(flags & os.O_DIRECTORY)
        self.trail = [os.dup(root)]
        self.steps: list[str] = []
        self.links = 0
        self.push(path)

    def push(self, path: str) -> None:
        if not self.steps:  # of a link in the middle the steps after it say what it must be
            self.must_be_directory |= path.endswith(("/", "/.", "/..")) or path in ("", ".", "..")
        self.steps += [step for step in reversed(path.split("/")) if step not in ("", ".")]

    def back_to(self, length: int) -> None:
        while len(self.trail) > length:
            os.close(self.trail.pop())

    def close(self) -> None:
        self.back_to(0)

    def run(self) -> int:
        while self.steps:
            step = self.steps.pop()
            if step == "..":
                self.back_to(max(len(self.trail) - 1, 1))
                continue
            is_last = not self.steps and not self.must_be_directory
            if is_last and self.flags & os.O_CREAT:
                with suppress(FileExistsError):
                    created = self.flags | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                    return os.open(step, created, self.mode, dir_fd=self.trail[-1])
            self.enter(step, is_last)
        return self.finish()

    def enter(self, step: str, is_last: bool) -> None:
        fd = os.open(step, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.trail[-1])
        self.trail.append(fd)
        kind = os.fstat(fd).st_mode
        if not self.cross_mounts and mount_id(fd, unique=False) != mount_id(self.trail[-2], unique=False):
            raise OSError(EXDEV, os.strerror(EXDEV), self.path)
        if stat.S_ISLNK(kind):
            if not (is_last and self.flags & os.O_NOFOLLOW):
                self.follow(fd, step)
        elif self.steps and not stat.S_ISDIR(kind):
            raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR), self.path)

    def follow(self, fd: int, step: str) -> None:
        self.links += 1
        text = os.readlink("", dir_fd=fd)
        if self.links > MOST_LINKS:
            raise OSError(ELOOP, os.strerror(ELOOP), self.path)
        if filesystem_type(fd) == PROC_SUPER_MAGIC and not _is_plain(text):
            raise OSError(ELOOP, "a link of procfs that may lead anywhere", self.path)
        self.back_to(1 if text.startswith("/") else len(self.trail) - 1)
        self.push(text)

    def finish(self) -> int:
        fd = self.trail[-1]
        kind = os.fstat(fd).st_mode
        if self.must_be_directory and not stat.S_ISDIR(kind):
            raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR), self.path)
        if self.flags & os.O_PATH:
            return os.dup(fd)
        if stat.S_ISLNK(kind):
            raise OSError(ELOOP, os.strerror(ELOOP), self.path)
        if self.flags & os.O_CREAT and self.flags & os.O_EXCL:
            raise FileExistsError(EEXIST, os.strerror(EEXIST), self.path)
        return reopen(fd, self.flags & ~(os.O_NOFOLLOW | os.O_CREAT))


def _is_plain(text: str) -> bool:
    # The links of procfs that have a text to follow are self, thread-self, mounts and net; all others jump.
    return text in ("self/mounts", "self/net") or text.replace("/task/", "", 1).isdigit()


def check_in_root(root: int, fd: int) -> int:
    """Return the descriptor if its file is inside the root; else close it.

    Raises:
        UnsafePathError: EXDEV it is not.
    """
    try:
        ensure_in_root(root, fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def ensure_in_root(root: int, fd: int) -> None:
    """Make sure that an open file is inside an open root, however long its path is.

    Raises:
        UnsafePathError: EXDEV it is not inside, or not any more.
        OSError: ENOENT no procfs.
    """
    try:
        path_in_root(root, fd)
    except OSError as error:
        # The kernel writes no path that is longer than a page; a directory can be climbed out of instead.
        if error.errno != ENAMETOOLONG or not stat.S_ISDIR(os.fstat(fd).st_mode):
            raise
        _climb(root, fd)


def _climb(root: int, fd: int) -> None:
    goal = _place(root)
    here = os.dup(fd)
    try:
        while _place(here) != goal:
            above = os.open("..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=here)
            is_top = _place(above) == _place(here)
            os.close(here)
            here = above
            if is_top:
                raise UnsafePathError(EXDEV, "led out of the root")
    finally:
        os.close(here)


def _place(fd: int) -> tuple[int, int, int]:
    status = os.fstat(fd)
    return mount_id(fd, unique=False), status.st_dev, status.st_ino


def path_in_root(root: int, fd: int) -> str:
    """Return the path of an open file, absolute inside an open root.

    Raises:
        UnsafePathError: EXDEV it is not inside, or not any more.
        OSError: ENOENT no procfs.
    """
    base = os.readlink(f"/proc/thread-self/fd/{root}")
    place = os.readlink(f"/proc/thread-self/fd/{fd}")
    if place == base:
        return "/"
    prefix = base.rstrip("/") + "/"
    if place.startswith(prefix):
        return "/" + place[len(prefix) :]
    raise UnsafePathError(EXDEV, "led out of the root", place, None, base)
