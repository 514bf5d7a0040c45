"""Parsers of passwd, group, shadow, gshadow, subuid and subgid.

The parsers are total: each line becomes an entry, or a diagnostic with its line, column and reason, or both, and no
line ends the reading. They differ from the C library in one thing: a number is ASCII digits and nothing else, and what
is no number never becomes 0, the id of root.

    blank lines, and lines that begin with #      skipped
    lines that begin with + or -                  NIS compatibility: not used, diagnostic
    blanks before a name, a CR at the end         cut off, diagnostic
    a missing or bad id, an empty name, a NUL     not used, diagnostic
    a line over the limit                         not used, diagnostic
    fields missing after the ids, or too many     used, diagnostic

This is not for looking up one name in a large file; kernelproof.impl.user.lookup does that without reading all of it.
"""

from __future__ import annotations

import codecs
import errno
from collections.abc import Callable, Iterator
from typing import Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from kernelproof.impl.user.errors import TooLargeError, UserDatabaseError
from kernelproof.impl.user.lines import Line, looks_like_number
from kernelproof.impl.user.records import (
    HIGHEST_ID,
    Diagnostic,
    Group,
    GroupShadow,
    Parsed,
    Shadow,
    SubordinateRange,
    User,
    split_members,
)

# Files may come from an image that nobody trusts. 100,000 users are 7 MB.
FILE_LIMIT = 10 << 20  # characters
LINE_LIMIT = 1 << 20  # characters
LINES_LIMIT = 1_000_000  # of one file; more of them in ten megabytes are no users
DIAGNOSTIC_LIMIT = 10_000  # of one reading; what is over it is counted
_BLOCK = 1 << 18  # characters read at a time from a file object

Record = TypeVar("Record")


class Readable(Protocol):
    """A file object to read from, binary or text."""

    def read(self, size: int, /) -> str | bytes | None: ...


Source: TypeAlias = str | bytes | Readable
Report: TypeAlias = Callable[[Diagnostic], None]


class Table(NamedTuple, Generic[Record]):
    """A kind of file: its fields, and how lines of it are read."""

    name: str
    fields: tuple[str, ...]
    read: Callable[[Line], Record | None]
    # Reads plain lines quickly: (lines, number of the first, where entries go, what takes a line that is not plain)
    quick: Callable[[list[str], int, Callable[[Record], None], Callable[[str, int], None]], None] | None = None


def _read_user(line: Line) -> User | None:
    uid = line.number_field(2, "uid")
    gid = line.number_field(3, "gid")
    return tuple.__new__(User, (line.text, uid, gid, line.number)) if line.kept else None


def _read_group(line: Line) -> Group | None:
    gid = line.number_field(2, "gid")
    return tuple.__new__(Group, (line.text, gid, line.number)) if line.kept else None


def _read_shadow(line: Line) -> Shadow | None:
    last_change, minimum, maximum, warning, inactive, expires = (
        line.optional_number(index, SHADOW.fields[index]) for index in range(2, 8)
    )
    if not line.kept:
        return None
    return Shadow(
        line.name,
        line.field(1),
        last_change,
        minimum,
        maximum,
        warning,
        inactive,
        expires,
        line.field(8),
        line.number,
    )


def _read_group_shadow(line: Line) -> GroupShadow | None:
    administrators, members = split_members(line.field(2)), split_members(line.field(3))
    return GroupShadow(line.name, line.field(1), administrators, members, line.number) if line.kept else None


def _read_range(line: Line) -> SubordinateRange | None:
    start = line.number_field(1, "start")
    length = line.number_field(2, "length", HIGHEST_ID + 1)
    if line.kept and not length:
        line.say(2, "length", "a range of no ids", kept=False)
    elif line.kept and start + length > HIGHEST_ID + 1:
        line.say(2, "length", f"the range ends above {HIGHEST_ID}", kept=False)
    return SubordinateRange(line.name, start, length, line.number) if line.kept else None


# The two loops below read 100,000 lines in half the time of one that splits and builds frozen dataclasses. They are
# given ASCII lines without CR and NUL. A name above ":" is not empty and begins with no blank, #, +, - or digit.


def _quick_users(
    lines: list[str], first: int, append: Callable[[User], None], other: Callable[[str, int], None]
) -> None:
    new, user, after = tuple.__new__, User, HIGHEST_ID + 1
    for number, line in enumerate(lines, first):
        try:
            name, _, uid, gid, _, _, _ = line.split(":")
            uid_number = int(uid)
            if uid == gid:  # of most users: read and looked at once
                if name > ":" and uid_number < after and uid.isdigit():
                    append(new(user, (line, uid_number, uid_number, number)))
                    continue
            elif name > ":" and uid.isdigit() and gid.isdigit():
                gid_number = int(gid)
                if uid_number < after > gid_number:
                    append(new(user, (line, uid_number, gid_number, number)))
                    continue
        except ValueError:
            pass  # another number of fields, no number, or more digits than int() takes
        if line:
            other(line, number)


def _quick_groups(
    lines: list[str], first: int, append: Callable[[Group], None], other: Callable[[str, int], None]
) -> None:
    new, after = tuple.__new__, HIGHEST_ID + 1
    for number, line in enumerate(lines, first):
        try:
            name, _, gid, _ = line.split(":")
            if name > ":" and gid.isdigit():
                gid_number = int(gid)
                if gid_number < after:
                    append(new(Group, (line, gid_number, number)))
                    continue
        except ValueError:
            pass  # as above
        if line:
            other(line, number)


PASSWD = Table("passwd", ("name", "password", "uid", "gid", "gecos", "home", "shell"), _read_user, _quick_users)
GROUP = Table("group", ("name", "password", "gid", "members"), _read_group, _quick_groups)
SHADOW = Table(
    "shadow",
    ("name", "password", "last_change", "minimum", "maximum", "warning", "inactive", "expires", "reserved"),
    _read_shadow,
)
GSHADOW = Table("gshadow", ("name", "password", "administrators", "members"), _read_group_shadow)
SUBID = Table("subid", ("owner", "start", "length"), _read_range)


class Reader(Generic[Record]):
    """Collects what lines become."""

    __slots__ = ("diagnostics", "entries", "line", "lines_limit", "source", "table", "unsaid")

    def __init__(self, table: Table[Record], source: str, lines_limit: int | None = None) -> None:
        self.table = table
        self.lines_limit = lines_limit
        self.source = source
        self.line = 1
        self.entries: list[Record] = []
        self.diagnostics: list[Diagnostic] = []
        self.unsaid = 0  # diagnostics over the limit

    def take(self, text: str, number: int) -> None:
        """Read one line, without newline."""
        if len(text) > LINE_LIMIT:
            name = text[:257].lstrip(" \t").partition(":")[0]
            reason = f"longer than the limit of {LINE_LIMIT} characters"
            self._say([Diagnostic(self.source, number, 1, "line", reason, name, False)])
            return
        stripped = text.strip(" \t\r")
        if not stripped or stripped[0] == "#":
            return
        line = Line(text, number, self.source)
        entry = self._entry(line)
        if entry is not None and line.kept:
            self.entries.append(entry)
            self._say(line.diagnostics)
        else:
            # What decided first.
            decided = [each for each in line.diagnostics if not each.kept]
            self._say([*decided, *(each._replace(kept=False) for each in line.diagnostics if each.kept)])

    def _say(self, diagnostics: list[Diagnostic]) -> None:
        # Ten megabytes of short lines would become gigabytes of diagnostics.
        room = DIAGNOSTIC_LIMIT - len(self.diagnostics)
        self.diagnostics += diagnostics[:room]
        self.unsaid += max(0, len(diagnostics) - room)

    def _entry(self, line: Line) -> Record | None:
        if line.name[:1] in ("+", "-"):
            line.say(0, "name", "a line for NIS compatibility", kept=False)
            return None
        if "\0" in line.text:
            line.say(0, "line", "holds a NUL byte", kept=False, column=line.start + line.text.index("\0") + 1)
        if not line.name:
            line.say(0, "name", "empty", kept=False)
        elif looks_like_number(line.name) and self.table.name != "subid":
            line.say(0, "name", "looks like a number, and what asks for a number gets the id")
        entry = self.table.read(line)
        line.expect(self.table.fields)
        return entry

    def take_block(self, text: str) -> None:
        """Read a text of whole lines."""
        lines = text.split("\n")
        if not lines[-1]:
            lines.pop()
        if self.lines_limit is not None and self.line + len(lines) > self.lines_limit + 1:
            raise TooLargeError(f"{self.source} has more than {self.lines_limit} lines")
        is_plain = text.isascii() and "\r" not in text and "\0" not in text
        if self.table.quick is not None and is_plain and _has_short_lines(text):
            self.table.quick(lines, self.line, self.entries.append, self.take)
        else:
            for number, line in enumerate(lines, self.line):
                if line:
                    self.take(line, number)
        self.line += len(lines)


def _has_short_lines(text: str) -> bool:
    # By jumps of the limit: a look at each of 100,000 lines costs a tenth of reading them.
    start = 0
    while len(text) - start > LINE_LIMIT:
        end = text.rfind("\n", start, start + LINE_LIMIT + 1)
        if end < 0:
            return False
        start = end + 1
    return True


def _decoded(source: Source | None, what: str, limit: int | None) -> Iterator[str]:
    """Yield the text of a source in pieces, and raise TooLargeError once there are more characters than the limit."""
    if source is None:
        raise UserDatabaseError(f"no source for {what}-formatted data")
    room = FILE_LIMIT if limit is None else limit
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    ended = False
    while not ended:
        if isinstance(source, str | bytes):
            block: str | bytes | None = source
            ended = True
        else:
            block = source.read(_BLOCK)
            ended = not block
        if block is None:
            raise BlockingIOError(errno.EAGAIN, f"a file object of {what} data has nothing to read now")
        text = block if isinstance(block, str) else decoder.decode(block, final=ended)
        room -= len(text) if limit is not None else 0
        if room < 0:
            raise TooLargeError(f"{what} data is longer than the limit of {limit} characters")
        yield text


def whole_lines(source: Source | None, what: str, limit: int | None) -> Iterator[str]:
    """Yield blocks of whole lines. A line over the limit for lines comes cut, but still over it."""
    if isinstance(source, str | bytes):
        yield from _decoded(source, what, limit)
        return
    pending = ""
    for text in _decoded(source, what, limit):
        end = text.rfind("\n") + 1
        if end:
            yield pending + text[:end]
            pending = ""
        pending += text[end:]
        if len(pending) > LINE_LIMIT:
            pending = pending[: LINE_LIMIT + 1]
    if pending:
        yield pending


def iterate(
    table: Table[Record],
    source: Source,
    name: str = "",
    *,
    report: Report | None = None,
    limit: int | None = None,
) -> Iterator[Record]:
    """Yield the entries of a source as they are read, holding no more than a block and a line of it.

    Args:
        table: PASSWD, GROUP, SHADOW, GSHADOW or SUBID.
        source: text, bytes, or a file object; the caller closes it.
        name: what diagnostics call the source.
        report: gets each diagnostic.
        limit: how many characters to take at most; None is no limit.

    Raises:
        OSError: what reading the file object raises.
        TooLargeError: the source is longer than the limit.
        UserDatabaseError: the source is None.
    """
    reader = Reader(table, name or f"{table.name} data")
    for block in whole_lines(source, table.name, limit):
        reader.take_block(block)
        for diagnostic in reader.diagnostics:
            if report is not None:
                report(diagnostic)
        yield from reader.entries
        reader.entries.clear()
        reader.diagnostics.clear()


def parse(
    table: Table[Record], source: Source | None, name: str = "", *, strict: bool = False, limit: int = FILE_LIMIT
) -> Parsed[Record]:
    """Read a source to its end; as `iterate`, and with strict as `Parsed.strict`."""
    reader = Reader(table, name or f"{table.name} data", LINES_LIMIT)
    for block in whole_lines(source, table.name, limit):
        reader.take_block(block)
    parsed = Parsed(tuple(reader.entries), tuple(reader.diagnostics), reader.source, reader.unsaid)
    if strict:
        parsed.strict()
    return parsed


def whole_text(source: Source, table: str, limit: int = FILE_LIMIT) -> str:
    """Return all text of a source.

    Raises:
        OSError: what reading the file object raises.
        TooLargeError: it is longer than the limit of characters.
    """
    return "".join(_decoded(source, table, limit))


def parse_passwd(source: Source | None, name: str = "", *, strict: bool = False) -> Parsed[User]:
    """Read the text of passwd.

    Args:
        source: text, bytes, or a file object.
        name: what diagnostics call the source, say its path.
        strict: raise all diagnostics instead of returning them.

    Raises:
        ExceptionGroup: with strict, one ParseError for each diagnostic.
        OSError: what reading the file object raises.
        TooLargeError: there are more than 10 Mi characters or 1,000,000 lines; `iterate` takes any number.
        UserDatabaseError: the source is None.

    Source: passwd(5).
    """
    return parse(PASSWD, source, name, strict=strict)


def parse_group(source: Source | None, name: str = "", *, strict: bool = False) -> Parsed[Group]:
    """Read the text of group; as parse_passwd. Source: group(5)."""
    return parse(GROUP, source, name, strict=strict)


def parse_shadow(source: Source | None, name: str = "", *, strict: bool = False) -> Parsed[Shadow]:
    """Read the text of shadow; as parse_passwd. Source: shadow(5)."""
    return parse(SHADOW, source, name, strict=strict)


def parse_gshadow(source: Source | None, name: str = "", *, strict: bool = False) -> Parsed[GroupShadow]:
    """Read the text of gshadow; as parse_passwd. Source: gshadow(5)."""
    return parse(GSHADOW, source, name, strict=strict)


def parse_subid(source: Source | None, name: str = "", *, strict: bool = False) -> Parsed[SubordinateRange]:
    """Read the text of subuid or subgid; as parse_passwd. Source: subuid(5)."""
    return parse(SUBID, source, name, strict=strict)


def parse_passwd_filter(source: Source | None, wanted: Callable[[User], bool] | None = None) -> tuple[User, ...]:
    """Return the entries of passwd data that a function wants; None wants all. Raises as parse_passwd."""
    return tuple(filter(wanted, parse_passwd(source)) if wanted else parse_passwd(source))


def parse_group_filter(source: Source | None, wanted: Callable[[Group], bool] | None = None) -> tuple[Group, ...]:
    """Return the entries of group data that a function wants; None wants all. Raises as parse_group."""
    return tuple(filter(wanted, parse_group(source)) if wanted else parse_group(source))
