"""One view of users and groups from several services, each named by the caller and asked in the order of nsswitch.conf.

    view = View({"files": Files(root="/container"), "systemd": Records(Userdb(root="/container"))})
    view.user("ada")

Nothing is asked that is not named here. NSS, which loads whatever libraries the host's configuration says, is one of
the services, and it refuses to answer once the process has another root or mount namespace than when it was made:
there it would load the container's libraries.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, Protocol, TypeAlias, TypeVar

from kernelproof.impl.user.errors import NoMatchingEntryError, UserDatabaseError
from kernelproof.impl.user.files import read_text
from kernelproof.impl.user.nsswitch import Nsswitch, ServiceRule, parse_nsswitch
from kernelproof.impl.user.records import HIGHEST_ID, Diagnostic, Group, Parsed, User, check_id
from kernelproof.impl.user.root import Root, StrPath
from kernelproof.impl.user.search import find_id, find_name, groups_listing
from kernelproof.impl.user.tables import DIAGNOSTIC_LIMIT, GROUP, PASSWD, parse_group, parse_passwd
from kernelproof.impl.user.userdb import GroupRecord, UserRecord

Entry = TypeVar("Entry", User, Group)
Answer = TypeVar("Answer")


class Service(Protocol):
    """Somewhere to ask. A method returns None, or nothing, if there is no such entry; an OSError means unavailable."""

    def user(self, name: str) -> User | None: ...
    def user_by_uid(self, uid: int) -> User | None: ...
    def users(self) -> tuple[User, ...]: ...
    def group(self, name: str) -> Group | None: ...
    def group_by_gid(self, gid: int) -> Group | None: ...
    def groups(self) -> tuple[Group, ...]: ...
    def groups_of(self, user: str) -> tuple[int, ...]: ...


class Files:
    """passwd and group.

    Args:
        passwd: path of the file; a missing one has no entries.
        group: path of the file, likewise.
        root: a directory, as a path or a descriptor, that nothing on the way leads out of; None is the process's own.
    """

    def __init__(self, passwd: StrPath = "/etc/passwd", group: StrPath = "/etc/group", *, root: Root = None) -> None:
        self._passwd = passwd
        self._group = group
        self._root = root

    def user(self, name: str) -> User | None:
        """Return the user of a name: the first line of passwd that has it, or None.

        Raises:
            ParseError: that line can't be used.
            OSError: the file can't be read; one that is missing has no lines.
        """
        return find_name(PASSWD, self._text(self._passwd), name, os.fspath(self._passwd))

    def user_by_uid(self, uid: int) -> User | None:
        """Return the user of a uid; as `user`."""
        return find_id(PASSWD, self._text(self._passwd), uid, os.fspath(self._passwd))

    def users(self) -> tuple[User, ...]:
        """Return the users of passwd, in the order of its lines; a line that can't be used is left out."""
        return parse_passwd(self._text(self._passwd)).entries

    def group(self, name: str) -> Group | None:
        """Return the group of a name: the first line of the file that has it, or None; errors as for `user`."""
        return find_name(GROUP, self._text(self._group), name, os.fspath(self._group))

    def group_by_gid(self, gid: int) -> Group | None:
        """Return the group of a gid; as `group`."""
        return find_id(GROUP, self._text(self._group), gid, os.fspath(self._group))

    def groups(self) -> tuple[Group, ...]:
        """Return the groups, in the order of the file's lines; a line that can't be used is left out."""
        return parse_group(self._text(self._group)).entries

    def groups_of(self, user: str) -> tuple[int, ...]:
        """Return the gids of the groups that list a user, in the order of lines, without the user's primary one."""
        listing = groups_listing(self._text(self._group), user, os.fspath(self._group))
        return tuple(dict.fromkeys(group.gid for group in listing))

    def _text(self, path: StrPath) -> str:
        try:
            return read_text(path, root=self._root)
        except FileNotFoundError:
            return ""


class RecordSource(Protocol):
    """Userdb directories or a Varlink service."""

    def user(self, name: str) -> UserRecord | None: ...
    def user_by_uid(self, uid: int) -> UserRecord | None: ...
    def users(self) -> tuple[UserRecord, ...]: ...
    def group(self, name: str) -> GroupRecord | None: ...
    def group_by_gid(self, gid: int) -> GroupRecord | None: ...
    def groups(self) -> tuple[GroupRecord, ...]: ...
    def memberships(self) -> tuple[tuple[str, str], ...]: ...


_ROOT = (User("root", "x", 0, 0, "Super User", "/root", "/bin/sh"), Group("root", "x", 0))
_NOBODY = (
    User("nobody", "!*", 65534, 65534, "Kernel Overflow User", "/", "/usr/sbin/nologin"),
    Group("nogroup", "!*", 65534),
)


class Records:
    """systemd's user records.

    Args:
        source: Userdb(…) or VarlinkUserdb(…).
        synthesize: also answer for root (0) and nobody (65534), as nss-systemd does, if the source does not.
    """

    def __init__(self, source: RecordSource, *, synthesize: bool = True) -> None:
        self._source = source
        self._made = (_ROOT, _NOBODY) if synthesize else ()

    def user(self, name: str) -> User | None:
        """Return the user of a name, or None.

        Raises:
            RecordError: the record of that name can't be used.
            OSError: the source can't be asked.
        """
        record = self._source.user(name)
        return record.user if record else next((user for user, _ in self._made if user.name == name), None)

    def user_by_uid(self, uid: int) -> User | None:
        """Return the user of a uid; as `user`."""
        record = self._source.user_by_uid(check_id(uid, "uid"))
        return record.user if record else next((user for user, _ in self._made if user.uid == uid), None)

    def users(self) -> tuple[User, ...]:
        """Return the users of the source, without those that are made up; errors as for `user`."""
        return tuple(record.user for record in self._source.users())

    def group(self, name: str) -> Group | None:
        """Return the group of a name, or None; errors as for `user`."""
        record = self._source.group(name)
        return record.group if record else next((group for _, group in self._made if group.name == name), None)

    def group_by_gid(self, gid: int) -> Group | None:
        """Return the group of a gid; as `group`."""
        record = self._source.group_by_gid(check_id(gid, "gid"))
        return record.group if record else next((group for _, group in self._made if group.gid == gid), None)

    def groups(self) -> tuple[Group, ...]:
        """Return the groups of the source, without those that are made up; errors as for `user`."""
        return tuple(record.group for record in self._source.groups())

    def groups_of(self, user: str) -> tuple[int, ...]:
        """Return the gids of the groups that list a user, that its record lists, or that a membership says."""
        record = self._source.user(user)
        listed = [group.group.gid for group in self._source.groups() if user in group.group.members]
        names = [name for member, name in self._source.memberships() if member == user]
        for name in dict.fromkeys((*(record.member_of if record else ()), *names)):
            group = self._source.group(name)
            if group is not None:
                listed.append(group.group.gid)
        return tuple(dict.fromkeys(listed))


def _surroundings() -> tuple[object, ...]:
    """Return what changes with chroot, pivot_root and setns."""
    root = os.stat("/")
    try:
        namespace: object = os.readlink("/proc/self/ns/mnt")
    except OSError:
        namespace = None
    return root.st_dev, root.st_ino, namespace


class Nss:
    """The C library's name service switch: all that this host is configured to ask.

    It belongs to the root and mount namespace in which it was made.

    Args:
        surroundings: returns what identifies root and mount namespace.
    """

    def __init__(self, surroundings: Callable[[], tuple[object, ...]] = _surroundings) -> None:
        # Only here: who does not ask for NSS does not load it.
        import grp
        import pwd

        self._pwd: ModuleType = pwd
        self._grp: ModuleType = grp
        self._surroundings = surroundings
        self._made_in = surroundings()

    def _check(self) -> None:
        if self._surroundings() != self._made_in:
            raise UserDatabaseError(
                "NSS belongs to another root or mount namespace, and would load libraries from this one: look names "
                "up before chroot or setns, or read the files of the new root with Files(root=…)"
            )

    def _user(self, ask: str, key: str | int) -> User | None:
        self._check()
        try:
            found = getattr(self._pwd, ask)(key)
        except KeyError:
            return None
        return User(*found)

    def _group(self, ask: str, key: str | int) -> Group | None:
        self._check()
        try:
            found = getattr(self._grp, ask)(key)
        except KeyError:
            return None
        return Group(found[0], found[1], found[2], found[3])

    def user(self, name: str) -> User | None:
        """Return the user of a name, or None.

        Raises:
            UserDatabaseError: NSS belongs to another root or mount namespace.
        """
        return self._user("getpwnam", name)

    def user_by_uid(self, uid: int) -> User | None:
        """Return the user of a uid; as `user`."""
        return self._user("getpwuid", check_id(uid, "uid"))

    def users(self) -> tuple[User, ...]:
        """Return the users that NSS lists, as far as they can be used; there may be more that it only finds by name.

        Errors as for `user`.
        """
        return self.read_users().entries

    def read_users(self) -> Parsed[User]:
        """Return the users that NSS lists, with a diagnostic for each that is left out, as no file could hold it.

        The line of a diagnostic is the entry's place in the list. Errors as for `user`.
        """
        self._check()
        return _usable(self._pwd.getpwall(), lambda each: User(*each), "NSS users")

    def group(self, name: str) -> Group | None:
        """Return the group of a name, or None; errors as for `user`."""
        return self._group("getgrnam", name)

    def group_by_gid(self, gid: int) -> Group | None:
        """Return the group of a gid; as `group`."""
        return self._group("getgrgid", check_id(gid, "gid"))

    def groups(self) -> tuple[Group, ...]:
        """Return the groups that NSS lists; as `users`."""
        return self.read_groups().entries

    def read_groups(self) -> Parsed[Group]:
        """Return the groups that NSS lists, with diagnostics; as `read_users`."""
        self._check()
        return _usable(self._grp.getgrall(), lambda each: Group(*each), "NSS groups")

    def groups_of(self, user: str) -> tuple[int, ...]:
        """Return the gids of the listed groups that have a user as member, without the user's primary one.

        Whatever their names are: a member has the gid. Errors as for `user`.
        """
        self._check()
        gids = (each[2] for each in self._grp.getgrall() if user in each[3])
        return tuple(dict.fromkeys(gid for gid in gids if 0 <= gid <= HIGHEST_ID))


def _usable(listed: Sequence[Sequence[Any]], make: Callable[[Sequence[Any]], Entry], source: str) -> Parsed[Entry]:
    entries, diagnostics = [], []
    for place, each in enumerate(listed, 1):
        try:
            entries.append(make(each))
        except UserDatabaseError as error:
            diagnostics.append(Diagnostic(source, place, 1, "entry", str(error), str(each[0])[:256], False))
    room = DIAGNOSTIC_LIMIT
    return Parsed(tuple(entries), tuple(diagnostics[:room]), source, max(0, len(diagnostics) - room))


Ask: TypeAlias = Callable[[Service], Entry | None]


class View:
    """Several services as one.

    Args:
        services: by the names that nsswitch.conf has for them.
        nsswitch: the order and actions; default is the order of `services`.
    """

    def __init__(self, services: Mapping[str, Service], nsswitch: Nsswitch | None = None) -> None:
        if nsswitch is None:
            order = " ".join(services)
            nsswitch = parse_nsswitch(f"passwd: {order}\ngroup: {order}")
        self._services = dict(services)
        self._nsswitch = nsswitch

    def user(self, name: str) -> User | None:
        """Return the user of a name; None if no service has it.

        Raises:
            ParseError, RecordError: a service has an entry of that name which cannot be used.
            UserDatabaseError: nsswitch.conf asks to merge users, or NSS belongs to another root.
        """
        return self._first("passwd", lambda service: service.user(name), None)

    def user_by_uid(self, uid: int) -> User | None:
        """Return the user of a uid; as user."""
        return self._first("passwd", lambda service: service.user_by_uid(uid), None)

    def group(self, name: str) -> Group | None:
        """Return the group of a name; as user. Groups of two services are merged where nsswitch.conf says so."""
        return self._first("group", lambda service: service.group(name), _merge)

    def group_by_gid(self, gid: int) -> Group | None:
        """Return the group of a gid; as group."""
        return self._first("group", lambda service: service.group_by_gid(gid), _merge)

    def users(self) -> tuple[User, ...]:
        """Return the users of all services, in their order; of a name in several the first."""
        found: dict[str, User] = {}
        for service in self._named("passwd"):
            for user in service.users():
                found.setdefault(user.name, user)
        return tuple(found.values())

    def groups(self) -> tuple[Group, ...]:
        """Return the groups of all services, in their order; of a name in several the first."""
        found: dict[str, Group] = {}
        for service in self._named("group"):
            for group in service.groups():
                found.setdefault(group.name, group)
        return tuple(found.values())

    def groups_of(self, user: str) -> tuple[int, ...]:
        """Return all gids of a user, as initgroups sets them: the primary one, then what all services list.

        Raises:
            NoMatchingEntryError: no service has the user.
        """
        entry = self.user(user)
        if entry is None:
            raise NoMatchingEntryError(f"no service of {', '.join(self._services)} has a user {user!r}")
        gids = [entry.gid]
        # A line for initgroups is obeyed to the letter: the first service that lists the user ends it. Without one,
        # all services of the line for group are asked.
        is_named = any(name == "initgroups" for name, _ in self._nsswitch.databases)
        for rule in self._nsswitch.services("initgroups" if is_named else "group"):
            status, more = self._status(rule, lambda service: service.groups_of(user) or None)
            gids += more or ()
            if rule.action(status) == "return" and (is_named or status != "success"):
                break
        return tuple(dict.fromkeys(gids))

    def _named(self, database: str) -> tuple[Service, ...]:
        rules = self._nsswitch.services(database)
        return tuple(self._services[rule.name] for rule in rules if rule.name in self._services)

    def _first(self, database: str, ask: Ask[Entry], merge: Callable[[Entry, Entry], Entry] | None) -> Entry | None:
        found: Entry | None = None
        for rule in self._nsswitch.services(database):
            status, entry = self._status(rule, ask)
            if entry is not None:
                found = entry if found is None or merge is None else merge(found, entry)
            action = rule.action(status)
            if action == "return":
                return found
            if action == "merge" and merge is None:
                raise UserDatabaseError(f"nsswitch.conf asks to merge {database}, but only groups can be merged")
            if action == "continue" and status == "success":
                found = None  # the next service decides
        return found

    def _status(self, rule: ServiceRule, ask: Callable[[Service], Answer | None]) -> tuple[str, Answer | None]:
        service = self._services.get(rule.name)
        if service is None:
            return "unavail", None
        try:
            entry = ask(service)
        except OSError as error:
            return "tryagain" if error.errno in (errno.EAGAIN, errno.EINTR) else "unavail", None
        return ("notfound", None) if entry is None else ("success", entry)


def _merge(found: Group, more: Group) -> Group:
    if (found.name, found.gid) != (more.name, more.gid):
        return found
    return Group(found.name, found.password, found.gid, (*found.members, *more.members), found.line)
