"""fstab(5): read, changed and written without losing a comment.

    table = read_fstab()
    new = table.with_entry(FstabEntry("tmpfs", "/scratch", "tmpfs", "size=1g,nofail"))
    Path("/etc/fstab.new").write_text(format_fstab(new))

Six fields, parted by blanks and tabs, of which the last three may be left out; in a field a blank is \\040, a tab
\\011, a newline \\012 and a backslash \\134. A line that begins with # is a comment. Lines that are not changed are
written as they were.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from kernelproof.impl.mount.errors import FstabError
from kernelproof.impl.mount.mountinfo import decode_octal
from kernelproof.impl.mount.options import Options, parse_options
from kernelproof.impl.mount.table import Path


class FstabEntry(NamedTuple):
    """What is to be mounted where.

    Attributes:
        source: a device, `UUID=…`, a server's share, a word.
        mount_point: where; "none" for swap.
        fstype: the type, several with commas between, or "auto".
        options: as for `mount -o`.
        freq: for dump(8).
        passno: order of checking; 0 is never.
    """

    source: str
    mount_point: str
    fstype: str
    options: str = "defaults"
    freq: int = 0
    passno: int = 0

    def parsed_options(self) -> Options:
        """The options in flags and data."""
        return parse_options(self.options)


class FstabLine(NamedTuple):
    """One line: its text, and its entry, which is None for comments, blank lines and what cannot be read."""

    text: str
    entry: FstabEntry | None = None


class Fstab(NamedTuple):
    """All lines of a file, and what is wrong with some."""

    lines: tuple[FstabLine, ...] = ()
    errors: tuple[FstabError, ...] = ()

    @property
    def entries(self) -> tuple[FstabEntry, ...]:
        """The entries, in the order of the file."""
        return tuple(line.entry for line in self.lines if line.entry is not None)

    def with_entry(self, entry: FstabEntry) -> Fstab:
        """Return the table with an entry at its end, or in the place of the one with the same mount point.

        A swap area has no mount point: for it the source tells.
        """
        key = _key(entry)
        new = FstabLine(format_entry(entry), entry)
        lines = [new if line.entry is not None and _key(line.entry) == key else line for line in self.lines]
        return self._replace(lines=tuple(lines if new in lines else [*lines, new]))

    def without(self, mount_point: str) -> Fstab:
        """Return the table without the entries of a mount point."""
        kept = [line for line in self.lines if line.entry is None or line.entry.mount_point != mount_point]
        return self._replace(lines=tuple(kept))


def _key(entry: FstabEntry) -> str:
    return entry.source if entry.mount_point == "none" else entry.mount_point


def parse_fstab(text: str) -> Fstab:
    """Parse the text of an fstab; a bad line costs that line only, and is kept."""
    lines: list[FstabLine] = []
    errors: list[FstabError] = []
    body = text.removesuffix("\n")
    for number, line in enumerate(body.split("\n") if body or text else [], 1):
        try:
            lines.append(FstabLine(line, parse_entry(line)))
        except ValueError as error:
            lines.append(FstabLine(line))
            errors.append(FstabError(number, str(error)))
    return Fstab(tuple(lines), tuple(errors))


def parse_entry(line: str) -> FstabEntry | None:
    """Parse one line; None for a comment or a blank line.

    Raises:
        ValueError: fewer than three fields, or a number that is none.
    """
    raw = list(split_fields(line))
    if not raw or raw[0].startswith("#"):
        return None
    comment = next((place for place, field in enumerate(raw) if place >= 3 and field.startswith("#")), len(raw))
    fields = [decode_octal(field) for field in raw[:comment]]
    if len(fields) < 3:
        raise ValueError(f"{len(fields)} fields, not at least 3 (source, mount point, type): {line!r}")
    for name, field in zip(("freq", "passno"), fields[4:6], strict=False):
        if not (field.isascii() and field.isdigit()):
            raise ValueError(f"{name} is no number but {field!r}")
    source, mount_point, fstype, options, freq, passno = [
        *fields[:6],
        *("", "", "", "defaults", "0", "0")[len(fields) :],
    ]
    return FstabEntry(source, mount_point, fstype, options, int(freq), int(passno))


def split_fields(line: str) -> Iterator[str]:
    """Yield what stands between blanks and tabs: other white space is part of a field."""
    for part in line.split(" "):
        yield from (field for field in part.split("\t") if field)


def format_entry(entry: FstabEntry) -> str:
    """Return an entry as a line.

    Raises:
        ValueError: a field is empty: nothing can stand for that.
    """
    for name, field in zip(entry._fields, entry[:4], strict=False):
        if not field:
            raise ValueError(f"fstab has no way to write an empty field: {name}")
    fields = [*map(encode_field, entry[:4]), str(entry.freq), str(entry.passno)]
    return "\t".join(fields)


def encode_field(text: str) -> str:
    """Return text as a field; a # at its beginning would make it a comment."""
    for character, code in (("\\", "\\134"), (" ", "\\040"), ("\t", "\\011"), ("\n", "\\012")):
        text = text.replace(character, code)
    return "\\043" + text[1:] if text.startswith("#") else text


def format_fstab(table: Fstab) -> str:
    """Return a table as text: parsed lines as they were, others as format_entry writes them."""
    return "".join(line.text + "\n" for line in table.lines)


def read_fstab(path: Path = "/etc/fstab") -> Fstab:
    """Read an fstab.

    Raises:
        OSError: ENOENT, EACCES.
    """
    with open(os.fspath(path), encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        return parse_fstab(file.read())
