"""Make directories for a user, below a root that its users may be changing at that very moment.

Everything is done on descriptors: a component is opened without following links, a new directory is made private,
looked at, opened, proved to be the new one, then given its owner and, last, its mode. A symlink that an attacker swaps
in is an error or, where links are followed, leads to another place inside the root.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import NamedTuple

from kernelproof.impl.user.errors import ExchangedError
from kernelproof.impl.user.records import check_id
from kernelproof.impl.user.root import DIRECTORY, SYMLINK_LIMIT, Root, StrPath, close_all, components, root_descriptor

_ATTEMPTS = 128  # a name that is made and removed again and again by somebody else


class _Wish(NamedTuple):
    """What a new directory is to be."""

    uid: int
    gid: int
    mode: int


def make_directories(
    path: StrPath, uid: int, gid: int, mode: int = 0o755, *, root: Root = None, follow_symlinks: bool = False
) -> tuple[str, ...]:
    """Make a directory and those above it that are missing, all owned by a user; existing ones stay as they are.

    Somebody who makes one of them at the same time is no error. On failure what was made is removed again.

    Args:
        path: of the directory; with a root it starts there.
        uid: owner of new directories.
        gid: group of new directories, also below one with the set-group-ID bit.
        mode: all permission bits of new directories; the umask has no say.
        root: a directory, as a path or a descriptor, that nothing on the way leads out of; None is the process's own
            root or, for a relative path, its working directory.
        follow_symlinks: take existing links on the way, absolute ones from the root; else they are errors.

    Returns:
        The paths of the new directories, relative to the root, the highest first.

    Raises:
        OSError: ELOOP (a link on the way), ENOTDIR (a file on the way, or in some kernels a link), EACCES (also a umask
            that takes the owner's own rights, without CAP_DAC_OVERRIDE), EPERM (another owner without CAP_CHOWN),
            EMFILE, EROFS, ENOSPC.
        ExchangedError: a new directory was replaced before it was opened.
        IdRangeError: an id is out of range.
        ValueError: the path has "..", or the mode bits beyond 07777.

    Source: mkdirat(2), openat(2), fchown(2).
    """
    return _make(path, _wish(uid, gid, mode), root, follow_symlinks, only_last=False)


def mkdir_as(
    path: StrPath, uid: int, gid: int, mode: int = 0o755, *, root: Root = None, follow_symlinks: bool = False
) -> None:
    """Make one directory, owned by a user, in one that exists; as make_directories.

    Raises:
        OSError: EEXIST (it exists), ENOENT (the one above does not), and as make_directories.
        ExchangedError, IdRangeError, ValueError: as make_directories.
    """
    _make(path, _wish(uid, gid, mode), root, follow_symlinks, only_last=True)


def _wish(uid: int, gid: int, mode: int) -> _Wish:
    if not 0 <= mode <= 0o7777:
        raise ValueError(f"mode {mode:#o} has bits beyond 07777")
    return _Wish(check_id(uid, "uid"), check_id(gid, "gid"), mode)


def _make(path: StrPath, wish: _Wish, root: Root, follow: bool, *, only_last: bool) -> tuple[str, ...]:
    text = os.fspath(path)
    if ".." in components(text):
        raise ValueError(f"{text!r} has a component '..', which names another directory each time one is moved")
    if root is None:
        root = "/" if text.startswith("/") else "."
    with root_descriptor(root) as root_fd:
        assert root_fd is not None
        walk = _Walk(root_fd, text, wish, follow)
        try:
            walk.run(only_last=only_last)
        except BaseException:
            walk.remove_made()
            raise
        finally:
            walk.close()
        return tuple(made.path for made in walk.made)


class _Made(NamedTuple):
    """A new directory, proved to be the one that was made."""

    path: str  # relative to the root
    parent: int  # a descriptor of its own for the directory above
    key: tuple[int, int]  # device and inode


class _Walk:
    """One way down from a root: the directories that are open on it, and those that were made."""

    def __init__(self, root: int, path: str, wish: _Wish, follow: bool) -> None:
        self.root = root
        self.path = path
        self.wish = wish
        self.follow = follow
        self.opened: list[int] = []
        self.names: list[str] = []
        self.made: list[_Made] = []
        self.links = 0

    @property
    def here(self) -> int:
        return self.opened[-1] if self.opened else self.root

    def close(self) -> None:
        close_all(self.opened)
        close_all([made.parent for made in self.made])

    def remove_made(self) -> None:
        for made in reversed(self.made):
            name = made.path.rpartition("/")[2]
            # Somebody filled, moved or exchanged it: not ours any more. The first error is the one to report.
            with suppress(OSError):
                if _key(os.stat(name, dir_fd=made.parent, follow_symlinks=False)) == made.key:
                    os.rmdir(name, dir_fd=made.parent)

    def run(self, *, only_last: bool) -> None:
        todo = components(self.path)
        if only_last and not todo:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), self.path)
        while todo:
            name = todo.popleft()
            if name == "..":  # out of a link's target
                if self.opened:
                    os.close(self.opened.pop())
                    self.names.pop()
                continue
            is_last = not todo
            target = self._enter(name, may_make=is_last or not only_last, must_make=is_last and only_last)
            if target is not None:
                todo = components(target) + todo
                if target.startswith("/"):
                    close_all(self.opened)
                    self.names.clear()

    def _enter(self, name: str, *, may_make: bool, must_make: bool) -> str | None:
        """Go one directory down, making it if it is missing; or return the target of a link to be followed."""
        if must_make:
            self._make(name)
            return None
        for _ in range(_ATTEMPTS):
            try:
                self._push(name, os.open(name, DIRECTORY, dir_fd=self.here))
                return None
            except FileNotFoundError:
                if not may_make:
                    raise
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.ENOTDIR, errno.EMLINK):
                    raise
                return self._link_target(name, error)
            try:
                self._make(name)
            except FileExistsError:
                continue  # somebody else made it in between: that is as good
            return None
        raise OSError(errno.EAGAIN, "somebody makes and removes this name without pause", self.path)

    def _push(self, name: str, fd: int) -> None:
        self.opened.append(fd)
        self.names.append(name)

    def _link_target(self, name: str, refusal: OSError) -> str:
        if not self.follow:
            is_link = stat.S_ISLNK(os.stat(name, dir_fd=self.here, follow_symlinks=False).st_mode)
            code = errno.ELOOP if is_link else errno.ENOTDIR
            raise OSError(code, os.strerror(code), self.path) from refusal
        try:
            target = os.readlink(name, dir_fd=self.here)
        except OSError:
            raise refusal from None
        self.links += 1
        if self.links > SYMLINK_LIMIT:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), self.path)
        return target

    def _make(self, name: str) -> None:
        """Make a directory and note it, so that it is removed if it cannot even be opened."""
        parent = os.dup(self.here)  # first: a process without descriptors makes nothing
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if not self._is_new(found):
                raise ExchangedError(f"{self.path}: {name!r} was exchanged right after it was made")
        except BaseException:
            os.close(parent)
            raise
        self.made.append(_Made("/".join([*self.names, name]), parent, _key(found)))
        self._adopt(name, _key(found))

    def _is_new(self, found: os.stat_result) -> bool:
        return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077

    def _adopt(self, name: str, key: tuple[int, int]) -> None:
        """Open the directory that was just made, prove that it is it, and give it owner and mode."""
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.here)
        try:
            found = os.fstat(fd)
            if _key(found) != key or not self._is_new(found) or os.listdir(fd):
                raise ExchangedError(f"{self.path}: {name!r} was exchanged right after it was made")
            os.fchown(fd, self.wish.uid, self.wish.gid)
            os.fchmod(fd, self.wish.mode)  # last: nobody else gets in before the owner is right
            if _key(os.stat(name, dir_fd=self.here, follow_symlinks=False)) != _key(found):
                raise ExchangedError(f"{self.path}: {name!r} was moved away while it was being made")
        except BaseException:
            os.close(fd)
            raise
        self._push(name, fd)


def _key(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
