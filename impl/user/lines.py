"""One line on its way to an entry: its fields, its numbers, and what is found wrong with it."""

from __future__ import annotations

from kernelproof.impl.user.errors import ParseError
from kernelproof.impl.user.records import HIGHEST_ID, Diagnostic, split_members


class Line:
    """One line on its way to an entry: its fields, and what was found wrong."""

    __slots__ = ("diagnostics", "fields", "kept", "name", "number", "source", "start", "text")

    def __init__(self, text: str, number: int, source: str) -> None:
        self.number = number
        self.source = source
        self.diagnostics: list[Diagnostic] = []
        self.kept = True
        self.text = text.lstrip(" \t")
        self.start = len(text) - len(self.text)  # columns cut off at the left
        if self.text.endswith("\r"):
            self.text = self.text[:-1]
        self.fields = self.text.split(":")
        self.name = self.fields[0][:256]
        if self.start:
            self.say(0, "name", "blanks before the name", column=1)
        if len(text) - self.start != len(self.text):
            self.say(0, "line", "ends with a carriage return", column=len(text))

    def say(self, index: int, field: str, reason: str, *, kept: bool = True, column: int = 0) -> None:
        column = column or self.start + 1 + sum(len(each) + 1 for each in self.fields[:index])
        self.kept = self.kept and kept
        self.diagnostics.append(Diagnostic(self.source, self.number, column, field, reason, self.name, kept))

    def field(self, index: int) -> str:
        return self.fields[index] if index < len(self.fields) else ""

    def number_field(self, index: int, name: str, highest: int = HIGHEST_ID) -> int:
        """Return a number, or say what is wrong with it and return -1."""
        if index >= len(self.fields):
            if self.kept:  # else the first that is missing was said
                self.say(len(self.fields) - 1, name, "missing", kept=False)
            return -1
        value, reason = parse_number(self.fields[index], highest)
        if reason:
            self.say(index, name, reason, kept=False)
        return value

    def optional_number(self, index: int, name: str) -> int | None:
        """Return a number of days, None if the field is empty or -1, which both mean none."""
        text = self.field(index)
        return None if text in ("", "-1") else self.number_field(index, name, 2**63 - 1)

    def expect(self, names: tuple[str, ...]) -> None:
        """Say so if the line has another number of fields."""
        if len(self.fields) > len(names):
            self.say(len(names), "line", f"{len(self.fields)} fields where there are {len(names)}")
        elif len(self.fields) < len(names) and self.kept:
            self.say(len(self.fields) - 1, names[len(self.fields)], "missing")


def parse_number(text: str, highest: int = HIGHEST_ID) -> tuple[int, str]:
    """Read ASCII digits as a number.

    Returns:
        The number and "", or -1 and what is wrong with the text.

    >>> parse_number("0")
    (0, '')
    >>> parse_number("4294967296")
    (-1, '4294967296 is above 4294967294')
    >>> parse_number("1_0")
    (-1, "'1_0' is not a number")
    """
    if not text:
        return -1, "empty"
    if not (text.isascii() and text.isdigit()):
        return -1, f"{text[:40]!r} is not a number"
    significant = text.lstrip("0") or "0"
    if len(significant) > 20 or int(significant) > highest:
        return -1, f"{significant[:40]} is above {highest}"
    return int(significant), ""


def looks_like_number(text: str) -> bool:
    """Return whether a program could take the text for a decimal number: digits of any script, after a sign or blanks.

    >>> [looks_like_number(text) for text in ("007", "-1", "4294967296", "+5", " 5", "0x10", "user1", "")]
    [True, True, True, True, True, False, False, False]
    """
    return text.strip().lstrip("+-").isdecimal()


def parse_line(line: str, *kinds: type[str] | type[int] | type[list[str]]) -> tuple[str | int | tuple[str, ...], ...]:
    """Split one line at colons into fields of the kinds str, int and list; missing ones are "", 0 and ().

    Raises:
        ParseError: a field of the kind int is there and is no number from 0 to 4294967294.

    >>> parse_line("b:12:c,d:more", str, int, list)
    ('b', 12, ('c', 'd'))
    """
    read = Line(line, 1, "line")
    values: list[str | int | tuple[str, ...]] = []
    for index, kind in enumerate(kinds):
        text = read.field(index)
        if kind is int:
            values.append(read.number_field(index, f"field {index + 1}") if text else 0)
        else:
            values.append(text if kind is str else split_members(text))
    wrong = next((each for each in read.diagnostics if not each.kept), None)
    if wrong is not None:
        raise ParseError(wrong)
    return tuple(values)
