"""As whom a container's process runs: `user[:group]` to ids, groups and home, and where each came from.

The rules are those of container engines, with the holes that were found in them closed:

- A part that looks like a number is an id. It is never looked up as a name, and out of range it is an error.
- A name is looked up in passwd, and its first line decides; if that line has no usable id, it is an error.
- An id without entry is taken as it is, with the default group and home.
- A group in the specification replaces the supplementary groups by the default ones.
- Without one, the supplementary groups are those that list the user's name.
- An empty home is "/", an empty shell is /bin/sh.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import NamedTuple

from kernelproof.impl.user.errors import IdRangeError, NoMatchingEntryError
from kernelproof.impl.user.files import read_text
from kernelproof.impl.user.lines import looks_like_number, parse_number
from kernelproof.impl.user.records import check_id
from kernelproof.impl.user.root import Root, StrPath, root_descriptor
from kernelproof.impl.user.search import find_id, find_name, groups_listing
from kernelproof.impl.user.tables import FILE_LIMIT, GROUP, PASSWD, Source, whole_text

_ABSENT = frozenset((errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ELOOP))


class Origin(NamedTuple):
    """Where a value came from: a line of a file, the specification, or the defaults."""

    source: str  # path of a file, "specification" or "default"
    line: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}" if self.line else self.source


_SPECIFICATION = Origin("specification")
_DEFAULT = Origin("default")


class Origins(NamedTuple):
    """The origin of each part of an ExecUser."""

    uid: Origin = _DEFAULT
    gid: Origin = _DEFAULT
    groups: tuple[Origin, ...] = ()  # one for each group
    home: Origin = _DEFAULT
    shell: Origin = _DEFAULT


class ExecUser(NamedTuple):
    """As whom to run a process."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()  # supplementary
    home: str = "/"
    shell: str = "/bin/sh"
    origins: Origins = Origins()

    @property
    def sgids(self) -> tuple[int, ...]:
        """The supplementary groups, by their name of 2014."""
        return self.groups


class _Database(NamedTuple):
    """The text of a file and its name; None if there is no such file."""

    text: str | None
    name: str


def parse_id(text: str, what: str) -> int:
    """Return the id that a text of digits is.

    Raises:
        IdRangeError: it is not ASCII digits, or not 0 to 4294967294.
    """
    number, reason = parse_number(text)
    if reason:
        raise IdRangeError(f"{what} {text!r}")
    return number


def resolve_user(
    spec: str,
    *,
    root: Root = None,
    defaults: ExecUser | None = None,
    passwd: StrPath = "/etc/passwd",
    group: StrPath = "/etc/group",
    limit_bytes: int = FILE_LIMIT,
) -> ExecUser:
    """Return the ids, groups, home and shell that a specification means, with the file and line that gave each.

    Args:
        spec: "", "user", "uid", "user:group" and so on; what follows a second colon is ignored.
        root: root directory of the container, as a path or a descriptor; None is the process's own.
        defaults: for what neither the specification nor a file gives.
        passwd: path of the passwd file; with a root it starts there. A missing one is as an empty one.
        group: path of the group file, likewise.
        limit_bytes: the longest file to take.

    Raises:
        IdRangeError: a part looks like a number and is no id.
        NoMatchingEntryError: a name is not in the file.
        ParseError: the first line of the name cannot be used.
        NotRegularFileError, TooLargeError: as read_text.
        OSError: what open(2) and read(2) give, but ENOENT, ENOTDIR, EACCES and ELOOP, which mean a missing file.
    """
    with root_descriptor(root) as root_fd:
        databases = [_database(path, root_fd, limit_bytes) for path in (passwd, group)]
    return _resolve(spec, _checked(defaults), *databases)


def _database(path: StrPath, root: int | None, limit_bytes: int) -> _Database:
    try:
        return _Database(read_text(path, root=root, limit_bytes=limit_bytes), os.fspath(path))
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
        return _Database(None, os.fspath(path))


def _resolve(spec: str, defaults: ExecUser, passwd: _Database, group: _Database) -> ExecUser:
    user_part, _, rest = spec.partition(":")
    group_part = rest.partition(":")[0]
    user, name = _resolve_user_part(user_part, defaults, passwd)
    if group_part:
        gid, origin = _resolve_group_part(group_part, group)
        origins = user.origins._replace(gid=origin)
        return user._replace(gid=gid, origins=origins)
    if not name or group.text is None:
        return user
    listing = groups_listing(group.text, name, group.name)
    if not listing:
        return user
    lines = {each.gid: each.line for each in reversed(listing)}  # of two groups with one gid, the first
    gids = tuple(dict.fromkeys(each.gid for each in listing))
    origins = user.origins._replace(groups=tuple(Origin(group.name, lines[gid]) for gid in gids))
    return user._replace(groups=gids, origins=origins)


def _resolve_user_part(part: str, defaults: ExecUser, passwd: _Database) -> tuple[ExecUser, str]:
    """Return the user, with the default groups, and its name if it has an entry."""
    is_number = not part or looks_like_number(part)
    uid = parse_id(part, "uid") if part and is_number else defaults.uid
    text = passwd.text or ""
    entry = find_id(PASSWD, text, uid, passwd.name) if is_number else find_name(PASSWD, text, part, passwd.name)
    origins = Origins(groups=(_DEFAULT,) * len(defaults.groups))
    if entry is not None:
        origin = Origin(passwd.name, entry.line)
        origins = origins._replace(uid=origin, gid=origin, home=origin, shell=origin)
        user = defaults._replace(uid=entry.uid, gid=entry.gid, home=entry.home or "/", shell=entry.shell or "/bin/sh")
        return user._replace(origins=origins), entry.name
    if not is_number:
        raise NoMatchingEntryError(f"unable to find user {part}: no matching entries in passwd file {passwd.name}")
    origins = origins._replace(uid=_SPECIFICATION if part else _DEFAULT)
    return defaults._replace(uid=uid, home=defaults.home or "/", origins=origins), ""


def _resolve_group_part(part: str, group: _Database) -> tuple[int, Origin]:
    if looks_like_number(part):
        return parse_id(part, "gid"), _SPECIFICATION
    entry = find_name(GROUP, group.text or "", part, group.name)
    if entry is None:
        raise NoMatchingEntryError(f"unable to find group {part}: no matching entries in group file {group.name}")
    return entry.gid, Origin(group.name, entry.line)


def get_exec_user(
    spec: str, defaults: ExecUser | None, passwd: Source | None = None, group: Source | None = None
) -> ExecUser:
    """Return what a specification means by the text of passwd and group; None is no file. Raises as resolve_user."""
    databases = (
        _Database(None if source is None else whole_text(source, name), f"{name} data")
        for source, name in ((passwd, "passwd"), (group, "group"))
    )
    return _resolve(spec, _checked(defaults), *databases)


def _checked(defaults: ExecUser | None) -> ExecUser:
    defaults = ExecUser() if defaults is None else defaults
    groups = ((gid, "default group") for gid in defaults.groups)
    for number, what in ((defaults.uid, "default uid"), (defaults.gid, "default gid"), *groups):
        check_id(number, what)
    return defaults


def get_exec_user_path(
    spec: str, defaults: ExecUser | None, passwd_path: StrPath, group_path: StrPath, *, root: Root = None
) -> ExecUser:
    """Return what a specification means by two files. Raises as resolve_user."""
    return resolve_user(spec, root=root, defaults=defaults, passwd=passwd_path, group=group_path)


def get_user_group_supplementary(
    spec: str,
    default_uid: int,
    default_gid: int,
    passwd_path: StrPath = "/etc/passwd",
    group_path: StrPath = "/etc/group",
) -> tuple[int, int, tuple[int, ...]]:
    """Return uid, gid and supplementary gids of a specification. Raises as resolve_user."""
    user = get_exec_user_path(spec, ExecUser(default_uid, default_gid), passwd_path, group_path)
    return user.uid, user.gid, user.groups


def get_user_group_supplementary_home(
    spec: str,
    default_uid: int,
    default_gid: int,
    default_home: str,
    passwd_path: StrPath = "/etc/passwd",
    group_path: StrPath = "/etc/group",
) -> tuple[int, int, tuple[int, ...], str]:
    """Return uid, gid, supplementary gids and home of a specification. Raises as resolve_user."""
    user = get_exec_user_path(spec, ExecUser(default_uid, default_gid, (), default_home), passwd_path, group_path)
    return user.uid, user.gid, user.groups, user.home


def additional_groups(names: Sequence[str], group: Source | None, source: str = "group data") -> tuple[int, ...]:
    """Return the gids of groups by name or number, in the order asked for, each once.

    Args:
        names: group names; what looks like a number is a gid and need not be in the file.
        group: text of a group file; None is no file.
        source: what errors call it.

    Raises:
        IdRangeError: a number is no gid.
        NoMatchingEntryError: a name is not in the file.
        ParseError: the first line of the name cannot be used.
    """
    database = _Database(None if group is None else whole_text(group, "group"), source)
    return tuple(dict.fromkeys(_resolve_group_part(name, database)[0] for name in names))


def get_additional_groups_path(
    names: Sequence[str], group_path: StrPath = "/etc/group", *, root: Root = None
) -> tuple[int, ...]:
    """Return the gids of groups by name or number; as additional_groups.

    Raises:
        OSError: the file cannot be opened or read.
        NotRegularFileError, TooLargeError: as read_text.
    """
    return additional_groups(names, read_text(group_path, root=root), os.fspath(group_path))
