"""Give a tree of files to another user, without leaving the tree.

Each entry is opened in its directory without following links, looked at, and changed by that descriptor; the
directories themselves come after what is in them, so that the new owner cannot interfere before the end. A file that
is also linked outside the tree is refused: who may put a hard link into the tree would be given the file behind it.
"""

from __future__ import annotations

import os
import stat
import sys
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from kernelproof.impl.user.errors import ExchangedError, IdMapError, UserDatabaseError
from kernelproof.impl.user.idmap import IdMap
from kernelproof.impl.user.records import check_id
from kernelproof.impl.user.root import Root, StrPath, open_in_root, root_descriptor

Translate: TypeAlias = Callable[[int, int], tuple[int, int]]
_Key: TypeAlias = tuple[int, int]


class _Entry(NamedTuple):
    """A file of the tree: its descriptor if it has one, and its name in an open directory if it has not."""

    fd: int | None
    parent: int | None
    name: str
    path: str
    found: os.stat_result

    @property
    def key(self) -> _Key:
        return self.found.st_dev, self.found.st_ino


_Visit: TypeAlias = Callable[[_Entry], None]

_OPEN_DIRECTORIES = 64  # of a path; those further up are closed and found again by ".."
# Pins a file of any kind without opening it. Where there is no such thing, only directories are opened.
_PIN: int | None = getattr(os, "O_PATH", None)
_TOP = (os.O_RDONLY | os.O_NONBLOCK if _PIN is None else _PIN) | os.O_NOFOLLOW


class LinkedOutsideError(UserDatabaseError, ValueError):
    """A file in the tree has hard links outside it."""


def chown_tree(
    path: StrPath,
    uid: int,
    gid: int,
    *,
    root: Root = None,
    allow_outside_links: bool = False,
    cross_mounts: bool = False,
) -> int:
    """Give a file or a whole directory tree to a user and group; symlinks themselves, not what they point to.

    Args:
        path: of the tree; a symlink as its last component is changed itself. With a root it starts there.
        uid: new owner, in the caller's user namespace.
        gid: new group, likewise.
        root: a directory, as a path or a descriptor, that nothing on the way leads out of; None is the process's own.
        allow_outside_links: also change files that have hard links outside the tree.
        cross_mounts: also go into directories on another filesystem.

    Returns:
        How many files and directories changed.

    Raises:
        OSError: EPERM without CAP_CHOWN, EROFS, and what open(2) gives.
        LinkedOutsideError: a file has hard links outside the tree; then nothing was changed.
        ExchangedError: a directory was moved in or out while its tree was walked.
        IdRangeError: an id is out of range.

    Source: chown(2); the kernel clears the set-user-ID and set-group-ID bits of files whose owner changes.
    """
    owner = check_id(uid, "uid"), check_id(gid, "gid")
    return _change(path, lambda _uid, _gid: owner, root, allow_outside_links, cross_mounts)


def shift_tree(
    path: StrPath,
    uid_map: IdMap,
    gid_map: IdMap,
    *,
    root: Root = None,
    allow_outside_links: bool = False,
    cross_mounts: bool = False,
) -> int:
    """Give each file of a tree to the ids outside that its ids are inside; as chown_tree.

    Raises:
        IdMapError: an owner is not mapped; then nothing was changed.
        OSError, LinkedOutsideError, ExchangedError: as chown_tree.
    """

    def translate(uid: int, gid: int) -> tuple[int, int]:
        new_uid, new_gid = uid_map.outside_id(uid), gid_map.outside_id(gid)
        if new_uid is None or new_gid is None:
            raise IdMapError(f"{'uid' if new_uid is None else 'gid'} {uid if new_uid is None else gid} is not mapped")
        return new_uid, new_gid

    return _change(path, translate, root, allow_outside_links, cross_mounts)


def _change(path: StrPath, translate: Translate, root: Root, allow_outside_links: bool, cross_mounts: bool) -> int:
    with root_descriptor(root) as root_fd:
        top = open_in_root(path, _TOP, root_fd)
    try:
        links: Counter[_Key] = Counter()
        totals: dict[_Key, tuple[int, str]] = {}

        def look(entry: _Entry) -> None:
            translate(entry.found.st_uid, entry.found.st_gid)
            if not stat.S_ISDIR(entry.found.st_mode) and entry.found.st_nlink > 1:
                links[entry.key] += 1
                totals[entry.key] = entry.found.st_nlink, entry.path

        _walk(top, os.fspath(path), look, cross_mounts)
        outside = next((name for key, (total, name) in totals.items() if links[key] < total), None)
        if outside is not None and not allow_outside_links:
            raise LinkedOutsideError(f"{outside} has hard links outside the tree: changing it changes them too")
        change = _Change(translate, None if allow_outside_links else {key: total for key, (total, _) in totals.items()})
        _walk(top, os.fspath(path), change, cross_mounts)
        return change.count
    finally:
        os.close(top)


class _Change:
    """Change the owner of each entry that is visited, of one with several links once."""

    def __init__(self, translate: Translate, links: dict[_Key, int] | None) -> None:
        self.translate = translate
        self.links = links  # how many links a file may have; None: any number
        self.done: set[_Key] = set()
        self.count = 0

    def __call__(self, entry: _Entry) -> None:
        if not stat.S_ISDIR(entry.found.st_mode) and entry.found.st_nlink > 1:
            if self.links is not None and entry.found.st_nlink > self.links.get(entry.key, 1):
                raise ExchangedError(f"{entry.path} got another hard link while its tree was being changed")
            if entry.key in self.done:
                return
            self.done.add(entry.key)
        wanted = self.translate(entry.found.st_uid, entry.found.st_gid)
        if wanted != (entry.found.st_uid, entry.found.st_gid):
            _chown(entry, *wanted)
            self.count += 1


def _chown(entry: _Entry, uid: int, gid: int) -> None:
    if entry.fd is None:
        os.chown(entry.name, uid, gid, dir_fd=entry.parent, follow_symlinks=False)
    elif sys.platform == "linux":
        # Linux only.
        from kernelproof.impl._syscalls.ownership import ChownFlag, fchownat

        fchownat(entry.fd, "", uid, gid, ChownFlag.EMPTY_PATH)
    else:
        os.fchown(entry.fd, uid, gid)


class _Level:
    """A directory on the way down."""

    __slots__ = ("fd", "key", "name", "names")

    def __init__(self, parent: int, path: str, name: str = ".") -> None:
        self.fd: int | None = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        found = os.fstat(self.fd)
        self.key = found.st_dev, found.st_ino
        self.name = path
        self.names = sorted(os.listdir(self.fd), reverse=True)


def _walk(top: int, path: str, visit: _Visit, cross_mounts: bool) -> None:
    """Visit all entries of a tree, what is in a directory before the directory."""
    found = os.fstat(top)
    levels: list[_Level] = []
    try:
        if stat.S_ISDIR(found.st_mode):
            levels.append(_Level(top, path))
        while levels:
            level = levels[-1]
            if level.names:
                _step(levels, level.names.pop(), found.st_dev, visit, cross_mounts)
            elif len(levels) == 1:
                os.close(_descriptor(levels.pop()))
            else:
                _leave(levels, visit)
        visit(_Entry(top, None, "", path, os.fstat(top)))
    finally:
        for level in levels:
            if level.fd is not None:
                os.close(level.fd)


def _descriptor(level: _Level) -> int:
    assert level.fd is not None
    return level.fd


def _step(levels: list[_Level], name: str, device: int, visit: _Visit, cross_mounts: bool) -> None:
    level = levels[-1]
    here = _descriptor(level)
    path = f"{level.name}/{name}"
    fd = None
    try:
        if _PIN is not None:
            fd = os.open(name, _PIN | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
            found = os.fstat(fd)
        else:
            found = os.stat(name, dir_fd=here, follow_symlinks=False)
        if not stat.S_ISDIR(found.st_mode):
            visit(_Entry(fd, here, name, path, found))
        elif found.st_dev == device or cross_mounts:
            levels.append(_Level(here if fd is None else fd, path, name if fd is None else "."))
            _close_far(levels)
    except FileNotFoundError:
        return  # removed in between
    finally:
        if fd is not None:
            os.close(fd)


def _close_far(levels: list[_Level]) -> None:
    if len(levels) > _OPEN_DIRECTORIES:
        far = levels[-_OPEN_DIRECTORIES - 1]
        os.close(_descriptor(far))
        far.fd = None


def _leave(levels: list[_Level], visit: _Visit) -> None:
    """Visit the lowest directory and go back to the one above it."""
    level = levels.pop()
    fd = _descriptor(level)
    try:
        above = levels[-1]
        if above.fd is None:
            above.fd = os.open("..", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
            found = os.fstat(above.fd)
            if (found.st_dev, found.st_ino) != above.key:
                raise ExchangedError(f"{level.name} was moved while its tree was walked")
        visit(_Entry(fd, None, "", level.name, os.fstat(fd)))
    finally:
        os.close(fd)
