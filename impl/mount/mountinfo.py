"""/proc/PID/mountinfo: text to records, and nothing else.

One line a mount, fields with one blank between them (proc_pid_mountinfo(5)):

    36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
    |  |  |    |     |     |          |          |    |         |
    |  |  |    |     |     |          |          |    |         super options
    |  |  |    |     |     |          |          |    source, which may be empty
    |  |  |    |     |     |          |          type of the filesystem
    |  |  |    |     |     |          optional fields, none or more, and a hyphen
    |  |  |    |     |     per-mount options
    |  |  |    |     mount point
    |  |  |    root of the mount in its filesystem
    |  |  device
    ID and parent's ID

Blank, tab, newline and backslash in a field are \\040, \\011, \\012 and \\134. A line ends with a newline and with
nothing else: names may hold a carriage return.
"""

from __future__ import annotations

import os

from kernelproof.impl._syscalls.mount import MountAttribute
from kernelproof.impl.mount.errors import MountinfoError
from kernelproof.impl.mount.records import ATTRIBUTE_WORDS, Mount, Propagation

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import NamedTuple
else:
    from kernelproof.impl._syscalls.named import NamedTuple

_BIT_OF_WORD = dict(ATTRIBUTE_WORDS)
_OCTAL_DIGITS = frozenset("01234567")

_Tags = tuple[Propagation, "int | None", "int | None", "int | None", tuple[str, ...]]


class ParsedMountinfo(NamedTuple):
    """A whole table: each line is either a mount or an error."""

    mounts: tuple[Mount, ...]
    errors: tuple[MountinfoError, ...] = ()


def parse_mountinfo(text: str | bytes) -> ParsedMountinfo:
    """Parse the text of a mountinfo file.

    A line that cannot be read costs that line only.

    Args:
        text: of /proc/PID/mountinfo, or a part of it; empty lines are nothing.
    """
    content = os.fsdecode(text) if isinstance(text, bytes) else text
    mounts: list[Mount] = []
    errors: list[MountinfoError] = []
    for parsed in parse_lines(content.split("\n")):
        if isinstance(parsed, Mount):
            mounts.append(parsed)
        else:
            errors.append(parsed)
    return ParsedMountinfo(tuple(mounts), tuple(errors))


def parse_lines(lines: Iterable[str]) -> Iterator[Mount | MountinfoError]:
    """Parse lines without their newlines, one at a time: who has found what he looks for need not go on."""
    # Most mounts of a table share few texts of options: each is taken apart once a table.
    attributes: dict[str, tuple[MountAttribute, tuple[str, ...]]] = {}
    tags: dict[tuple[str, ...], _Tags] = {}
    super_options: dict[str, tuple[str, ...]] = {}
    make = tuple.__new__  # what Mount(...) comes down to, without looking for defaults
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            before, after = line.split(" - ", 1)
            mount_id, parent_id, device, root, mount_point, options, *optional = before.split(" ")
            fstype, source, supers = after.split(" ", 2)
            major, minor = device.split(":")
            if "\\" in line:
                root, mount_point, fstype, source = map(decode_octal, (root, mount_point, fstype, source))
            key = tuple(optional)
            if options not in attributes:
                attributes[options] = _parse_attributes(options)
            if key not in tags:
                tags[key] = _parse_tags(key)
            if supers not in super_options:
                super_options[supers] = tuple(map(decode_octal, supers.split(",")))
            bits, other_options = attributes[options]
            propagation, peer_group, master, propagate_from, other_fields = tags[key]
            yield make(
                Mount,
                (
                    int(mount_id), int(parent_id), int(major), int(minor), root, mount_point, bits, propagation,
                    peer_group, master, propagate_from, fstype, source, super_options[supers], other_options,
                    other_fields, None, None,
                ),
            )  # fmt: skip
        except ValueError:
            yield _parse_again(number, line)


def _parse_again(number: int, line: str) -> Mount | MountinfoError:
    """Take a line that was copied with an indent, or say what is wrong with it."""
    stripped = line.lstrip(" \t")
    if stripped != line and stripped:
        parsed = next(parse_lines([stripped]))
        return MountinfoError(number, line, parsed.reason) if isinstance(parsed, MountinfoError) else parsed
    return MountinfoError(number, line, _reason(line))


def _reason(line: str) -> str:
    before, hyphen, after = line.partition(" - ")
    if not hyphen:
        return "no hyphen between blanks, which ends the optional fields"
    fields = before.split(" ")
    if len(fields) < 6:
        return f"{len(fields)} fields before the hyphen, not at least 6"
    if len(after.split(" ", 2)) != 3:
        return f"{len(after.split(' ', 2))} fields after the hyphen, not 3"
    if fields[2].count(":") != 1:
        return f"field 3 is not major:minor but {fields[2]!r}"
    for place, field in ((1, fields[0]), (2, fields[1]), (3, fields[2].replace(":", ""))):
        if not (field.isascii() and field.isdigit()):
            return f"field {place} is no number but {field!r}"
    return "an optional field has no number"


def _parse_attributes(options: str) -> tuple[MountAttribute, tuple[str, ...]]:
    words = options.split(",")
    bits = MountAttribute(0)
    other = []
    for word in words:
        if word in _BIT_OF_WORD:
            bits |= _BIT_OF_WORD[word]
        elif word == "ro":
            bits |= MountAttribute.RDONLY
        elif word != "rw":
            other.append(decode_octal(word))
    if "relatime" not in words and not bits & MountAttribute.NOATIME:
        bits |= MountAttribute.STRICTATIME
    return bits, tuple(other)


def _parse_tags(fields: Iterable[str]) -> _Tags:
    """Take the optional fields apart."""
    numbers: dict[str, int] = {}
    propagation = Propagation(0)
    other = []
    for field in fields:
        name, colon, number = field.partition(":")
        if colon and name in ("shared", "master", "propagate_from"):
            numbers[name] = int(number)
        elif field == "unbindable":
            propagation |= Propagation.UNBINDABLE
        else:
            other.append(field)
    propagation |= Propagation.SHARED if "shared" in numbers else Propagation(0)
    propagation |= Propagation.SLAVE if "master" in numbers else Propagation(0)
    found = (numbers.get("shared"), numbers.get("master"), numbers.get("propagate_from"))
    return (propagation or Propagation.PRIVATE, *found, tuple(other))


def decode_octal(field: str) -> str:
    """Return a field with its \\ooo decoded; a backslash before anything else stays.

    >>> decode_octal("a\\\\040b")
    'a b'
    """
    if "\\" not in field:
        return field
    first, *parts = field.split("\\")
    decoded = [first]
    foreign = False
    for part in parts:
        digits = part[:3]
        if len(digits) == 3 and _OCTAL_DIGITS.issuperset(digits) and digits[0] < "4":
            byte = int(digits, 8)
            foreign |= byte > 0x7F
            decoded.append((chr(byte) if byte < 0x80 else chr(0xDC00 + byte)) + part[3:])
        else:
            decoded.append("\\" + part)
    text = "".join(decoded)
    # Bytes of one character may have been escaped one by one.
    return os.fsdecode(os.fsencode(text)) if foreign else text


def encode_octal(text: str) -> str:
    """Return text as the kernel writes it into a field of mountinfo.

    >>> encode_octal("a b")
    'a\\\\040b'
    """
    for character, code in (("\\", "\\134"), (" ", "\\040"), ("\t", "\\011"), ("\n", "\\012")):
        text = text.replace(character, code)
    return text


def format_mount(mount: Mount) -> str:
    """Return a mount as a line of mountinfo, without newline."""
    optional = "".join(f" {field}" for field in mount.optional_fields)
    root, mount_point, fstype, source = map(encode_octal, (mount.root, mount.mount_point, mount.fstype, mount.source))
    supers = ",".join(encode_octal(word).replace(",", "\\054") for word in mount.super_options)
    options = ",".join(mount.mount_options)
    return (
        f"{mount.id} {mount.parent_id} {mount.major}:{mount.minor} {root} {mount_point} {options}{optional} - "
        f"{fstype} {source} {supers}"
    )
