"""The records that the parsers make.

A User or Group keeps the line it was read from and splits it when a field is asked for; only its numbers are
read when the file is. Reading a file of 100,000 lines into records is twice as fast so (benchmarks/user_parse.py).

A name may hold any byte but colon, newline and NUL: what is no UTF-8 is kept with surrogates, as os.fsdecode does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar, overload

from kernelproof.impl.user.errors import IdRangeError, ParseError, UserDatabaseError

if TYPE_CHECKING:
    from typing import Self

Record = TypeVar("Record", covariant=True)

HIGHEST_ID = 2**32 - 2  # 4294967295 is "no change" to setuid, and no id


class Diagnostic(NamedTuple):
    """What is wrong with a line, and whether its entry is used in spite of it."""

    source: str
    line: int
    column: int  # of the field, from 1
    field: str
    reason: str
    name: str  # of the entry, as far as it can be told
    kept: bool

    def __str__(self) -> str:
        use = "entry kept" if self.kept else "entry not used"
        return f"{self.source}:{self.line}:{self.column}: {self.field}: {self.reason} ({use})"


class Parsed(Sequence[Record], Generic[Record]):
    """The entries of a file, in its order, and what was wrong with the others.

    Attributes:
        entries: in the order of the file.
        diagnostics: the first 10,000.
        source: what the diagnostics call the file.
        unsaid: how many diagnostics there were beyond those.
    """

    __slots__ = ("diagnostics", "entries", "source", "unsaid")

    def __init__(
        self, entries: tuple[Record, ...], diagnostics: tuple[Diagnostic, ...], source: str, unsaid: int = 0
    ) -> None:
        self.entries = entries
        self.diagnostics = diagnostics
        self.source = source
        self.unsaid = unsaid

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.entries)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Record, ...]: ...
    def __getitem__(self, index: int | slice) -> Record | tuple[Record, ...]:
        return self.entries[index]

    def __repr__(self) -> str:
        return f"<Parsed {self.source}: {len(self.entries)} entries, {len(self.diagnostics)} diagnostics>"

    def refusal(self, name: str) -> Diagnostic | None:
        """Return why the first entry of this name is not used, if it is not."""
        return next((each for each in self.diagnostics if each.name == name and not each.kept), None)

    def strict(self) -> tuple[Record, ...]:
        """Return the entries, or raise all diagnostics at once.

        Raises:
            ExceptionGroup: of ParseError, one for each diagnostic.
        """
        if self.diagnostics:
            errors = [ParseError(each) for each in self.diagnostics]
            raise ExceptionGroup(f"{self.source}: {len(errors) + self.unsaid} problems", errors)
        return self.entries


def check_id(value: int, what: str) -> int:
    """Return a user or group id if it is one.

    Raises:
        IdRangeError: it is not 0 to 4294967294.
    """
    if not 0 <= value <= HIGHEST_ID:
        raise IdRangeError(f"{what} {value}")
    return value


def check_field(text: str, what: str, *, forbidden: str = ":\n\0") -> str:
    """Return text that can stand in a field of a line.

    Raises:
        UserDatabaseError: it holds a colon, a newline or a NUL.
    """
    for character in forbidden:
        if character in text:
            raise UserDatabaseError(f"{what} {text!r} holds {character!r}, which would end the field")
    return text


def check_name(name: str, what: str) -> str:
    """Return a name that a line can begin with.

    Raises:
        UserDatabaseError: it is empty, holds a separator, or begins as a comment or NIS line does.
    """
    check_field(name, what, forbidden=":\n\r\0,")
    if not name or name[0] in "#+- \t":
        raise UserDatabaseError(f"{what} {name!r} cannot begin a line: it would be a comment, a NIS line or trimmed")
    return name


class User(tuple[str, int, int, int]):
    """An entry of passwd.

    Attributes:
        name: login name.
        password: "x" where shadow has it.
        uid: user id, 0 to 4294967294.
        gid: id of the primary group.
        gecos: comment field as it stands.
        home: home directory as it stands; may be empty.
        shell: program to run; empty means /bin/sh.
        line: number of the line in the file, from 1; 0 if it comes from elsewhere.
    """

    __slots__ = ()

    def __new__(
        cls,
        name: str,
        password: str,
        uid: int,
        gid: int,
        gecos: str = "",
        home: str = "",
        shell: str = "",
        line: int = 0,
    ) -> Self:
        """Make an entry.

        Raises:
            IdRangeError: an id is out of range.
            UserDatabaseError: a field holds a colon, a newline or a NUL.
        """
        check_name(name, "user name")
        for text, what in ((password, "password"), (gecos, "gecos"), (home, "home"), (shell, "shell")):
            check_field(text, what)
        check_id(uid, f"uid of {name!r}")
        check_id(gid, f"gid of {name!r}")
        return tuple.__new__(cls, (f"{name}:{password}:{uid}:{gid}:{gecos}:{home}:{shell}", uid, gid, line))

    def __getnewargs__(self) -> tuple[str, str, int, int, str, str, str, int]:
        return (self.name, self.password, self.uid, self.gid, self.gecos, self.home, self.shell, self.line)

    def __repr__(self) -> str:
        # Without the password: it may be a hash, and records end up in logs.
        return (
            f"User(name={self.name!r}, uid={self.uid}, gid={self.gid}, gecos={self.gecos!r}, home={self.home!r}, "
            f"shell={self.shell!r}, line={self.line})"
        )

    @property
    def name(self) -> str:
        return self[0].partition(":")[0]

    @property
    def password(self) -> str:
        return self[0].split(":", 2)[1]

    @property
    def uid(self) -> int:
        return self[1]

    @property
    def gid(self) -> int:
        return self[2]

    @property
    def gecos(self) -> str:
        return self._field(4)

    @property
    def home(self) -> str:
        return self._field(5)

    @property
    def shell(self) -> str:
        return self._field(6)

    @property
    def line(self) -> int:
        return self[3]

    def _field(self, index: int) -> str:
        fields = self[0].split(":", index + 1)
        return fields[index] if index < len(fields) else ""

    @property
    def real_name(self) -> str:
        """The name in the comment field: up to the first comma, & standing for the login name, capitalised."""
        name = self.name
        return self.gecos.partition(",")[0].replace("&", name[:1].upper() + name[1:])

    def to_line(self) -> str:
        """Return the entry as a line of passwd, without newline."""
        return f"{self.name}:{self.password}:{self.uid}:{self.gid}:{self.gecos}:{self.home}:{self.shell}"


class Group(tuple[str, int, int]):
    """An entry of group.

    Attributes:
        name: group name.
        password: "x" where gshadow has it.
        gid: group id, 0 to 4294967294.
        members: names of users; users who have the group as their primary one are not listed.
        line: number of the line in the file, from 1; 0 if it comes from elsewhere.
    """

    __slots__ = ()

    def __new__(cls, name: str, password: str, gid: int, members: Sequence[str] = (), line: int = 0) -> Self:
        """Make an entry.

        Raises:
            IdRangeError: the gid is out of range.
            UserDatabaseError: a field holds a separator or a NUL.
        """
        check_name(name, "group name")
        check_field(password, "password")
        for member in members:
            if not check_field(member, "member", forbidden=":,\n\0"):
                raise UserDatabaseError(f"group {name!r} has a member without a name")
        check_id(gid, f"gid of {name!r}")
        return tuple.__new__(cls, (f"{name}:{password}:{gid}:{','.join(members)}", gid, line))

    def __getnewargs__(self) -> tuple[str, str, int, tuple[str, ...], int]:
        return (self.name, self.password, self.gid, self.members, self.line)

    def __repr__(self) -> str:
        return f"Group(name={self.name!r}, gid={self.gid}, members={self.members!r}, line={self.line})"

    @property
    def name(self) -> str:
        return self[0].partition(":")[0]

    @property
    def password(self) -> str:
        return self[0].split(":", 2)[1]

    @property
    def gid(self) -> int:
        return self[1]

    @property
    def members(self) -> tuple[str, ...]:
        fields = self[0].split(":", 4)
        return split_members(fields[3]) if len(fields) > 3 else ()

    @property
    def line(self) -> int:
        return self[2]

    def to_line(self) -> str:
        """Return the entry as a line of group, without newline."""
        return f"{self.name}:{self.password}:{self.gid}:{','.join(self.members)}"


def split_members(text: str) -> tuple[str, ...]:
    """Split a list of names at commas, dropping empty items and blanks before a name, as glibc does."""
    if not text:
        return ()
    return tuple(member for item in text.split(",") if (member := item.lstrip(" \t")))


class Shadow(NamedTuple):
    """An entry of shadow. Numbers are days, None where the field is empty: the feature is off."""

    name: str
    password: str
    last_change: int | None  # days since 1970-01-01; 0: the password must be changed at the next login
    minimum: int | None
    maximum: int | None
    warning: int | None
    inactive: int | None
    expires: int | None  # days since 1970-01-01
    reserved: str
    line: int = 0

    def __repr__(self) -> str:
        # Without the hash: records end up in logs.
        return f"Shadow(name={self.name!r}, last_change={self.last_change}, expires={self.expires}, line={self.line})"

    @property
    def is_locked(self) -> bool:
        """Whether the password begins with "!": the rest is the hash from before it was locked."""
        return self.password.startswith("!")

    @property
    def must_change(self) -> bool:
        """Whether the next login has to change the password."""
        return self.last_change == 0


class GroupShadow(NamedTuple):
    """An entry of gshadow."""

    name: str
    password: str  # takes precedence over the one in group
    administrators: tuple[str, ...]
    members: tuple[str, ...]
    line: int = 0

    def __repr__(self) -> str:
        return (
            f"GroupShadow(name={self.name!r}, administrators={self.administrators!r}, "
            f"members={self.members!r}, line={self.line})"
        )


class SubordinateRange(NamedTuple):
    """A line of subuid or subgid: ids that the owner may map in a user namespace."""

    owner: str  # login name or decimal uid
    start: int
    length: int
    line: int = 0

    @property
    def end(self) -> int:
        """The first id after the range."""
        return self.start + self.length
