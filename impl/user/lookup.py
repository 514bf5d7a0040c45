"""Find entries by name, id and membership, as reading the whole file would, without building all its records.

A file of 100,000 lines is searched for the few places where the name can stand, only those lines are read, and nothing
after the answer. It is that of the whole reading, also for files that are not in order: a property test holds the two
equal.

Nothing here asks NSS: the functions read the files they are given, also inside another root. For more than files
see kernelproof.impl.user.sources.
"""

from __future__ import annotations

import os
from typing import IO

from kernelproof.impl.user.errors import NoMatchingEntryError, UnsupportedError
from kernelproof.impl.user.files import open_regular, read_blocks, read_text
from kernelproof.impl.user.records import Group, User
from kernelproof.impl.user.root import Root, StrPath
from kernelproof.impl.user.search import find_id, find_name, supplementary_gids
from kernelproof.impl.user.tables import FILE_LIMIT, GROUP, PASSWD, Reader


def get_passwd_path() -> str:
    """Return the path of the system's passwd file.

    Raises:
        UnsupportedError: the system is not POSIX.
    """
    return _path("passwd")


def get_group_path() -> str:
    """Return the path of the system's group file; raises as get_passwd_path."""
    return _path("group")


def _path(name: str) -> str:
    if os.name != "posix":
        raise UnsupportedError(f"{os.name} has no file of the name {name}")
    return f"/etc/{name}"


def get_passwd(path: StrPath = "/etc/passwd", *, root: Root = None) -> IO[bytes]:
    """Open the passwd file for reading; the caller closes it. Raises as open_regular."""
    return open(open_regular(path, root=root), "rb")


def get_group(path: StrPath = "/etc/group", *, root: Root = None) -> IO[bytes]:
    """Open the group file for reading; the caller closes it. Raises as open_regular."""
    return open(open_regular(path, root=root), "rb")


def lookup_user(name: str, path: StrPath = "/etc/passwd", *, root: Root = None, limit_bytes: int = FILE_LIMIT) -> User:
    """Return the first entry of passwd with a name.

    Args:
        name: login name; digits are a name here.
        path: the file.
        root: a directory, as a path or a descriptor, that nothing on the way leads out of; None is the process's own.
        limit_bytes: the longest file to take.

    Raises:
        NoMatchingEntryError: there is none.
        ParseError: the first line with that name cannot be used, say for an empty uid.
        OSError, NotRegularFileError, TooLargeError: as read_text.

    Source: getpwnam(3).
    """
    entry = find_name(PASSWD, read_blocks(path, root=root, limit_bytes=limit_bytes), name, os.fspath(path))
    if entry is None:
        raise NoMatchingEntryError(f"no matching entries in passwd file {os.fspath(path)}: user {name!r}")
    return entry


def lookup_uid(uid: int, path: StrPath = "/etc/passwd", *, root: Root = None, limit_bytes: int = FILE_LIMIT) -> User:
    """Return the first entry of passwd with a uid; as lookup_user.

    Raises:
        IdRangeError: it is no uid.
        NoMatchingEntryError: there is none; a note on it has the line that would make one.
        OSError, NotRegularFileError, TooLargeError: as read_text.

    Source: getpwuid(3).
    """
    entry = find_id(PASSWD, read_blocks(path, root=root, limit_bytes=limit_bytes), uid, os.fspath(path))
    if entry is None:
        error = NoMatchingEntryError(f"no matching entries in passwd file {os.fspath(path)}: uid {uid}")
        error.add_note(f"an id needs no entry; this line would give it one: {entry_for(uid).to_line()}")
        raise error
    return entry


def entry_for(uid: int, gid: int | None = None, *, home: str = "/", shell: str = "/bin/sh") -> User:
    """Return an entry for an id that has none, to be added to a passwd file.

    Raises:
        IdRangeError: an id is out of range.
    """
    return User(f"user{uid}", "x", uid, uid if gid is None else gid, "", home, shell)


def lookup_group(name: str, path: StrPath = "/etc/group", *, root: Root = None, limit_bytes: int = FILE_LIMIT) -> Group:
    """Return the first entry of group with a name; raises as lookup_user. Source: getgrnam(3)."""
    entry = find_name(GROUP, read_blocks(path, root=root, limit_bytes=limit_bytes), name, os.fspath(path))
    if entry is None:
        raise NoMatchingEntryError(f"no matching entries in group file {os.fspath(path)}: group {name!r}")
    return entry


def lookup_gid(gid: int, path: StrPath = "/etc/group", *, root: Root = None, limit_bytes: int = FILE_LIMIT) -> Group:
    """Return the first entry of group with a gid; raises as lookup_uid. Source: getgrgid(3)."""
    entry = find_id(GROUP, read_blocks(path, root=root, limit_bytes=limit_bytes), gid, os.fspath(path))
    if entry is None:
        raise NoMatchingEntryError(f"no matching entries in group file {os.fspath(path)}: gid {gid}")
    return entry


def current_user(path: StrPath = "/etc/passwd") -> User:
    """Return the passwd entry of the process's real uid; raises as lookup_uid."""
    return lookup_uid(os.getuid(), path)


def current_group(path: StrPath = "/etc/group") -> Group:
    """Return the group entry of the process's real gid; raises as lookup_gid."""
    return lookup_gid(os.getgid(), path)


def group_members(
    name: str, passwd: StrPath = "/etc/passwd", group: StrPath = "/etc/group", *, root: Root = None
) -> tuple[str, ...]:
    """Return the users of a group: those it lists, then those whose primary group it is; each once.

    The members of a group are users. A member that has a group's name is no way into that group, so groups that name
    each other end here.

    Raises:
        NoMatchingEntryError: no such group.
        ParseError, OSError, NotRegularFileError, TooLargeError: as lookup_group.
    """
    found = lookup_group(name, group, root=root)
    reader = Reader(PASSWD, os.fspath(passwd))
    reader.take_block(read_text(passwd, root=root))
    primary = (user.name for user in reader.entries if user.gid == found.gid)
    return tuple(dict.fromkeys((*found.members, *primary)))


def user_groups(
    name: str, passwd: StrPath = "/etc/passwd", group: StrPath = "/etc/group", *, root: Root = None
) -> tuple[int, ...]:
    """Return all gids of a user as initgroups sets them: the primary one, then those of the groups that list the user.

    Raises:
        NoMatchingEntryError: no such user.
        ParseError, OSError, NotRegularFileError, TooLargeError: as lookup_user.

    Source: getgrouplist(3).
    """
    user = lookup_user(name, passwd, root=root)
    listed = supplementary_gids(read_text(group, root=root), name, os.fspath(group))
    return tuple(dict.fromkeys((user.gid, *listed)))
