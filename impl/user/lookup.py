"""Find entries by name, id and membership, as reading the whole file would, without building all its records.

A text of 100,000 lines is searched for the few places where the name can stand, and only those lines are read. The
answer is that of the whole reading, also for files that are not in order: a property test holds the two equal.

Nothing here asks NSS: the functions read the files they are given, also inside another root. For more than files
see kernelproof.impl.user.sources.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import IO, TypeVar

from kernelproof.impl.user.errors import NoMatchingEntryError, ParseError, TooLargeError
from kernelproof.impl.user.files import open_regular, read_text
from kernelproof.impl.user.records import Group, User, check_id, split_members
from kernelproof.impl.user.root import Root, StrPath
from kernelproof.impl.user.tables import FILE_LIMIT, GROUP, LINE_LIMIT, PASSWD, Reader, Table

Entry = TypeVar("Entry", User, Group)


def _ended(text: str) -> str:
    return text if text.endswith("\n") or not text else text + "\n"


def _hits(text: str, needle: str, end: int) -> Iterator[tuple[int, int]]:
    """Yield where a line with the needle begins, and where the needle stands in it first."""
    at = text.find(needle, 0, end)
    while at >= 0:
        yield text.rfind("\n", 0, at) + 1, at
        at = text.find(needle, text.find("\n", at) + 1, end)


def _read_at(table: Table[Entry], text: str, start: int, source: str) -> Entry | None:
    """Read the line that begins at `start`.

    Raises:
        ParseError: its entry is not to be used.
    """
    reader = Reader(table, source)
    reader.take(text[start : text.index("\n", start)], text.count("\n", 0, start) + 1)
    if reader.entries:
        return reader.entries[0]
    for diagnostic in reader.diagnostics:
        if not diagnostic.kept:
            raise ParseError(diagnostic)
    return None


def find_name(table: Table[Entry], text: str, name: str, source: str) -> Entry | None:
    """Return the first entry of a name.

    Args:
        table: PASSWD or GROUP.
        text: of the file.
        name: to find; digits are a name here.
        source: what errors call the text.

    Raises:
        ParseError: the first line of this name cannot be used; a later one is not taken in its place.
    """
    if not name or name[0] in "#+- \t" or ":" in name or "\n" in name:
        return None  # no line that is read begins so
    text = _ended(text)
    end = len(text)
    # A line of the name alone is no entry, but to be refused when it is asked for.
    for needle in (name + ":", name + "\n", name + "\r"):
        for start, at in _hits(text, needle, end):
            if not text[start:at].strip(" \t"):
                end = start
                break
    return _read_at(table, text, end, source) if end < len(text) else None


def find_id(table: Table[Entry], text: str, number: int, source: str) -> Entry | None:
    """Return the first entry of a uid in passwd or of a gid in group.

    Args:
        table: PASSWD or GROUP.
        text: of the file.
        number: the id.
        source: what errors call the text.

    Raises:
        IdRangeError: the number is no id.
    """
    check_id(number, "uid" if table.name == "passwd" else "gid")
    text = _ended(text)
    end = len(text)
    found = None
    # The id may be padded with zeros, and in group it may be the last field.
    for before in (":", "0"):
        for after in (":", "\n", "\r"):
            for start, _ in _hits(text, f"{before}{number}{after}", end):
                entry = _entry_with_id(table, text, start, number, source)
                if entry is not None:
                    found, end = entry, start
                    break
    return found


def _entry_with_id(table: Table[Entry], text: str, start: int, number: int, source: str) -> Entry | None:
    fields = text[start : text.index("\n", start)].split(":", 3)
    if len(fields) < 3 or (fields[2].rstrip("\r").lstrip("0") or "0") != str(number):
        return None
    try:
        return _read_at(table, text, start, source)
    except ParseError:
        return None


def groups_listing(text: str, user: str, source: str) -> tuple[Group, ...]:
    """Return the groups of a group file that list a user, in the order of the file.

    Raises:
        TooLargeError: a line is over the limit, so that not all members can be known.
    """
    text = _ended(text)
    if len(text) > LINE_LIMIT and max(map(len, text.split("\n"))) > LINE_LIMIT:
        raise TooLargeError(f"{source}: a line is longer than the limit of {LINE_LIMIT} characters")
    found = []
    for start, _ in _hits(text, user, len(text)) if user else ():
        fields = text[start : text.index("\n", start)].removesuffix("\r").split(":", 4)
        if len(fields) > 3 and user in split_members(fields[3]):
            try:
                group = _read_at(GROUP, text, start, source)
            except ParseError:
                continue  # its gid cannot be known
            if group is not None:
                found.append(group)
    return tuple(found)


def supplementary_gids(text: str, user: str, source: str) -> tuple[int, ...]:
    """Return the gids of the groups that list a user, in the order of the file, each once. Raises as groups_listing."""
    return tuple(dict.fromkeys(group.gid for group in groups_listing(text, user, source)))


def get_passwd_path() -> str:
    """Return the path of the system's passwd file."""
    return "/etc/passwd"


def get_group_path() -> str:
    """Return the path of the system's group file."""
    return "/etc/group"


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
    entry = find_name(PASSWD, read_text(path, root=root, limit_bytes=limit_bytes), name, os.fspath(path))
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
    entry = find_id(PASSWD, read_text(path, root=root, limit_bytes=limit_bytes), uid, os.fspath(path))
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
    entry = find_name(GROUP, read_text(path, root=root, limit_bytes=limit_bytes), name, os.fspath(path))
    if entry is None:
        raise NoMatchingEntryError(f"no matching entries in group file {os.fspath(path)}: group {name!r}")
    return entry


def lookup_gid(gid: int, path: StrPath = "/etc/group", *, root: Root = None, limit_bytes: int = FILE_LIMIT) -> Group:
    """Return the first entry of group with a gid; raises as lookup_uid. Source: getgrgid(3)."""
    entry = find_id(GROUP, read_text(path, root=root, limit_bytes=limit_bytes), gid, os.fspath(path))
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
