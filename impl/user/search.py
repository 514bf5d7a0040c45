"""Search the text of passwd and group for a name, an id or a member, without reading the lines in between.

The answer is the one of reading all lines. A text comes whole, or as blocks of whole lines, of which no more are
taken than the answer needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias, TypeVar

from kernelproof.impl.user.errors import ParseError, TooLargeError
from kernelproof.impl.user.records import Group, User, check_id, split_members
from kernelproof.impl.user.tables import GROUP, LINE_LIMIT, Reader, Table

Entry = TypeVar("Entry", User, Group)
Blocks: TypeAlias = str | Iterable[str]
Needles: TypeAlias = tuple[tuple[str, str, str], ...]  # what stands before, the core, what stands after
IsIt: TypeAlias = Callable[[str, int, int], bool]  # text, beginning of the line, place of the core

_SAMPLE = 1 << 16  # characters that show whether a needle is rare
_RARE = 16


def _hits(text: str, needle: str, end: int) -> Iterator[tuple[int, int]]:
    """Yield where a line with the needle begins, and where the needle stands in it first."""
    at = text.find(needle, 0, end)
    while at >= 0:
        yield text.rfind("\n", 0, at) + 1, at
        at = text.find(needle, text.find("\n", at) + 1, end)


def _first(text: str, needles: Needles, is_it: IsIt) -> int:
    """Return where the first line begins that has what is looked for; the length of the text if none has."""
    end = len(text)
    for before, core, after in needles:
        for start, at in _hits(text, f"{before}{core}{after}", end):
            if is_it(text, start, at + len(before)):
                end = start
                break
    return end


def _search(table: Table[Entry], blocks: Blocks, rare: str, needles: Needles, is_it: IsIt, source: str) -> Entry | None:
    number = 1
    for block in (blocks,) if isinstance(blocks, str) else blocks:
        text = block if block.endswith("\n") else block + "\n"
        if number == 1 and text.count(rare, 0, _SAMPLE) <= _RARE:
            # One search is the fastest, unless what it looks for is everywhere.
            needles = (("", rare, ""),)
        start = _first(text, needles, is_it)
        if start < len(text):
            return _read_at(table, text, start, source, number)
        number += text.count("\n")
    return None


def _read_at(table: Table[Entry], text: str, start: int, source: str, number: int = 1) -> Entry | None:
    """Read the line that begins at `start` of a text whose first line has a number.

    Raises:
        ParseError: its entry is not to be used.
    """
    reader = Reader(table, source)
    reader.take(text[start : text.index("\n", start)], number + text.count("\n", 0, start))
    if reader.entries:
        return reader.entries[0]
    for diagnostic in reader.diagnostics:
        if not diagnostic.kept:
            raise ParseError(diagnostic)
    return None


def find_name(table: Table[Entry], text: Blocks, name: str, source: str) -> Entry | None:
    """Return the first entry of a name.

    Args:
        table: PASSWD or GROUP.
        text: of the file, whole or in blocks of whole lines.
        name: to find; digits are a name here.
        source: what errors call the text.

    Raises:
        ParseError: the first line of this name cannot be used; a later one is not taken in its place.
    """
    if not name or name[0] in "#+- \t" or ":" in name or "\n" in name:
        return None  # no line that is read begins so

    def is_it(text: str, start: int, at: int) -> bool:
        after = at + len(name)
        # A line of the name alone is no entry, but to be refused when it is asked for.
        is_ended = text[after] in ":\n" or text.startswith("\r\n", after)
        return is_ended and not text[start:at].strip(" \t")

    return _search(table, text, name, tuple(("", name, after) for after in (":", "\n", "\r\n")), is_it, source)


def find_id(table: Table[Entry], text: Blocks, number: int, source: str) -> Entry | None:
    """Return the first entry of a uid in passwd or of a gid in group.

    Args:
        table: PASSWD or GROUP.
        text: of the file, whole or in blocks of whole lines.
        number: the id.
        source: what errors call the text.

    Raises:
        IdRangeError: the number is no id.
    """
    digits = str(check_id(number, "uid" if table.name == "passwd" else "gid"))

    def is_it(text: str, start: int, _at: int) -> bool:
        fields = text[start : text.index("\n", start)].split(":", 3)
        if len(fields) < 3 or (fields[2].rstrip("\r").lstrip("0") or "0") != digits:
            return False
        try:
            return _read_at(table, text, start, source) is not None
        except ParseError:
            return False

    # A short number stands in many places: what may stand round it is a colon, zeros, and in group the line's end.
    ends = (":",) if table.name == "passwd" else (":", "\n", "\r\n")
    needles = tuple((before, digits, after) for before in (":", "0") for after in ends)
    rare = digits + ":" if table.name == "passwd" else digits
    return _search(table, text, rare, needles, is_it, source)


def groups_listing(text: str, user: str, source: str) -> tuple[Group, ...]:
    """Return the groups of a group file that list a user, in the order of the file.

    Raises:
        TooLargeError: a line is over the limit, so that not all members can be known.
    """
    text = text if text.endswith("\n") else text + "\n"
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
