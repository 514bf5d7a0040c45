"""User and group records of systemd: JSON files in userdb directories, and the same from a Varlink service.

    /etc/userdb/ada.user              the record, {"userName": "ada", "uid": 1234, …}
    /etc/userdb/1234.user             a link to it
    /etc/userdb/ada.user-privileged   what only root may read: password hashes
    /etc/userdb/ada:wheel.membership  makes ada a member of wheel; what is in it does not count

The records are data from outside: bounded, with duplicate keys, wrong types and ids out of range refused. A record
that is refused is an error with the file's name, never a user with other ids.

Source: systemd.io, JSON User Records and JSON Group Records; nss-systemd(8).
"""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple

from kernelproof.impl.user.errors import UserDatabaseError
from kernelproof.impl.user.files import read_text
from kernelproof.impl.user.record_fields import ANY_MACHINE, Fields, Json, Machine, RecordError, parse_json
from kernelproof.impl.user.records import Group, User
from kernelproof.impl.user.root import Root, StrPath, open_in_root, root_descriptor

DIRECTORIES = ("/etc/userdb", "/run/userdb", "/run/host/userdb", "/usr/lib/userdb")
RECORD_LIMIT = 1 << 20  # bytes of one record

_PRIVATE_SECTIONS = ("secret", "status")  # never on disc
_NOBODY = 65534
_RANGES = ((1, 999, "system"), (61184, 65519, "dynamic"), (524288, 1879048191, "container"))


class UserRecord(NamedTuple):
    """A user record: the entry it makes, and the rest of what it says."""

    user: User
    disposition: str  # "regular", "system", "dynamic", "intrinsic", "container", "reserved"
    is_locked: bool
    member_of: tuple[str, ...]
    hashed_passwords: tuple[str, ...]  # of the privileged section, if that was read
    json: str  # the record as it was, without the privileged section
    source: str

    def __repr__(self) -> str:
        return f"UserRecord({self.user!r}, disposition={self.disposition!r}, source={self.source!r})"

    def fields(self) -> Json:
        """Return all fields of the record, those this package does not know included."""
        return parse_json(self.json, self.source)


class GroupRecord(NamedTuple):
    """A group record: the entry it makes, and the rest of what it says."""

    group: Group
    disposition: str
    administrators: tuple[str, ...]
    json: str
    source: str

    def fields(self) -> Json:
        """Return all fields of the record, those this package does not know included."""
        return parse_json(self.json, self.source)


def _disposition(number: int, said: str | None) -> str:
    if said is not None:
        return said
    if number in (0, _NOBODY):
        return "intrinsic"
    for last, name in (
        (999, "system"),
        (60577, "regular"),
        (61183, "regular"),
        (65519, "dynamic"),
        (524287, "regular"),
    ):
        if number <= last:
            return name
    return "container" if number <= 1879048191 else "regular" if number < 2**31 else "reserved"


def parse_user_record(
    text: str, source: str = "user record", *, machine: Machine = ANY_MACHINE, privileged: str | None = None
) -> UserRecord:
    """Read a user record.

    Args:
        text: the JSON.
        source: what errors call it.
        machine: what perMachine sections are for.
        privileged: text of the companion record, an object with the section "privileged".

    Raises:
        RecordError: no valid record: no userName, an id out of range, a wrong type, a colon or a control character
            in what becomes a field of passwd, or a section that is never on disc.

    Source: systemd.io, JSON User Records.
    """
    record = parse_json(text, source)
    for section in _PRIVATE_SECTIONS:
        if section in record:
            raise RecordError(f"{source}: a section {section!r} is never kept on disc")
    fields = Fields(record, machine, source)
    name, uid = fields.text("userName"), fields.number("uid")
    if not name:
        raise RecordError(f"{source}: no userName")
    if uid is None:
        raise RecordError(f"{source}: no uid, so it is no user of this system")
    disposition = _disposition(uid, fields.text("disposition"))
    gid = fields.number("gid")
    user = _entry(
        source,
        User,
        name,
        "x",
        uid,
        uid if gid is None else gid,
        fields.text("realName") or name,  # as nss-systemd fills the comment of passwd
        fields.path("homeDirectory") or _home(name, uid, disposition),
        fields.path("shell") or _shell(uid, disposition),
    )
    hashes = _hashed_passwords(parse_json(privileged, source) if privileged is not None else record, source)
    record.pop("privileged", None)
    locked = fields.find("locked") is True
    kept = json.dumps(record, ensure_ascii=False)
    return UserRecord(user, disposition, locked, fields.texts("memberOf"), hashes, kept, source)


def _entry(source: str, kind: type[Any], *values: object) -> Any:
    try:
        return kind(*values)
    except UserDatabaseError as error:
        raise RecordError(f"{source}: {error}") from error


def _home(name: str, uid: int, disposition: str) -> str:
    if uid == 0:
        return "/root"
    return f"/home/{name}" if disposition == "regular" else "/"


def _shell(uid: int, disposition: str) -> str:
    return "/bin/bash" if disposition == "regular" else "/bin/sh" if uid == 0 else "/usr/sbin/nologin"


def _hashed_passwords(record: Json, source: str) -> tuple[str, ...]:
    section = record.get("privileged", {})
    hashes = section.get("hashedPassword", []) if isinstance(section, dict) else None
    if not isinstance(hashes, list) or not all(isinstance(each, str) for each in hashes):
        raise RecordError(f"{source}: privileged has no list of strings as hashedPassword")
    return tuple(hashes)


def parse_group_record(text: str, source: str = "group record", *, machine: Machine = ANY_MACHINE) -> GroupRecord:
    """Read a group record. Raises as parse_user_record. Source: systemd.io, JSON Group Records."""
    record = parse_json(text, source)
    fields = Fields(record, machine, source)
    name, gid = fields.text("groupName"), fields.number("gid")
    if not name or gid is None:
        raise RecordError(f"{source}: no {'gid' if name else 'groupName'}")
    group = _entry(source, Group, name, "x", gid, fields.texts("members"))
    record.pop("privileged", None)
    disposition = _disposition(gid, fields.text("disposition"))
    kept = json.dumps(record, ensure_ascii=False)
    return GroupRecord(group, disposition, fields.texts("administrators"), kept, source)


class Userdb:
    """The records in userdb directories, of which the first that has one counts.

    Args:
        directories: to look in, in order.
        root: a directory, as a path or a descriptor, that nothing on the way leads out of; None is the process's own.
        machine: what perMachine sections are for.
    """

    def __init__(
        self, directories: tuple[StrPath, ...] = DIRECTORIES, *, root: Root = None, machine: Machine = ANY_MACHINE
    ) -> None:
        self._directories = directories
        self._root = root
        self._machine = machine

    def user(self, name: str, *, privileged: bool = False) -> UserRecord | None:
        """Return the record of a user by name; None if there is none.

        Args:
            name: of the user.
            privileged: also read the companion file with the password hashes, which only root can.

        Raises:
            RecordError: the record is not valid, or is another user's.
            OSError: a file is there and cannot be read, say EACCES for the companion.
            NotRegularFileError, TooLargeError: as read_text.
        """
        return self._user(name, "name", privileged=privileged)

    def user_by_uid(self, uid: int) -> UserRecord | None:
        """Return the record of a user by uid; as user."""
        return self._user(str(uid), "uid", privileged=False)

    def _user(self, key: str, kind: str, *, privileged: bool) -> UserRecord | None:
        found = self._read(f"{key}.user")
        if found is None:
            return None
        text, source = found
        companion = self._read(f"{key}.user-privileged") if privileged else None
        record = parse_user_record(text, source, machine=self._machine, privileged=companion[0] if companion else None)
        said = record.user.name if kind == "name" else str(record.user.uid)
        if said != key:
            raise RecordError(f"{source}: the record has the {kind} {said!r}, its file is for {key!r}")
        return record

    def group(self, name: str) -> GroupRecord | None:
        """Return the record of a group by name; as user. Its members include those of membership files."""
        return self._group(name, "name")

    def group_by_gid(self, gid: int) -> GroupRecord | None:
        """Return the record of a group by gid; as group."""
        return self._group(str(gid), "gid")

    def _group(self, key: str, kind: str) -> GroupRecord | None:
        found = self._read(f"{key}.group")
        if found is None:
            return None
        record = parse_group_record(*found, machine=self._machine)
        said = record.group.name if kind == "name" else str(record.group.gid)
        if said != key:
            raise RecordError(f"{record.source}: the record has the {kind} {said!r}, its file is for {key!r}")
        group = record.group
        more = sorted(user for user, name in self.memberships() if name == group.name)
        members = tuple(dict.fromkeys((*group.members, *more)))
        return record._replace(group=Group(group.name, group.password, group.gid, members))

    def memberships(self) -> tuple[tuple[str, str], ...]:
        """Return (user, group) for each membership file, sorted."""
        pairs = set()
        for name in self._names(".membership"):
            user, colon, group = name.removesuffix(".membership").partition(":")
            if colon and user and group and ":" not in group:
                pairs.add((user, group))
        return tuple(sorted(pairs))

    def users(self) -> tuple[UserRecord, ...]:
        """Return all user records, sorted by name. Raises as user."""
        names = [name.removesuffix(".user") for name in self._names(".user")]
        records = (self.user(name) for name in names if not name.isdecimal())
        return tuple(record for record in records if record is not None)

    def groups(self) -> tuple[GroupRecord, ...]:
        """Return all group records, sorted by name. Raises as user."""
        names = [name.removesuffix(".group") for name in self._names(".group")]
        records = (self.group(name) for name in names if not name.isdecimal())
        return tuple(record for record in records if record is not None)

    def _names(self, suffix: str) -> list[str]:
        names: set[str] = set()
        with root_descriptor(self._root) as root_fd:
            for directory in self._directories:
                try:
                    fd = open_in_root(directory, os.O_RDONLY | os.O_DIRECTORY, root_fd)
                except FileNotFoundError:
                    continue
                try:
                    names.update(name for name in os.listdir(fd) if name.endswith(suffix) and name != suffix)
                finally:
                    os.close(fd)
        return sorted(names)

    def _read(self, name: str) -> tuple[str, str] | None:
        if "/" in name or "\0" in name or name.startswith("."):
            return None  # no name of a user, and no file of this directory
        for directory in self._directories:
            path = f"{os.fspath(directory)}/{name}"
            try:
                return read_text(path, root=self._root, limit_bytes=RECORD_LIMIT), path
            except FileNotFoundError:
                continue
        return None


def read_machine(
    machine_id: StrPath = "/etc/machine-id", hostname: StrPath = "/proc/sys/kernel/hostname", *, root: Root = None
) -> Machine:
    """Return this machine's id and host name, for perMachine sections; None for one that cannot be read."""

    def read(path: StrPath) -> str | None:
        try:
            return read_text(path, root=root, limit_bytes=4096).strip() or None
        except OSError:
            return None

    return Machine(read(machine_id), read(hostname))
