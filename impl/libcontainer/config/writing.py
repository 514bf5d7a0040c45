"""Records to JSON values and text, and what differs between two.

Absent fields are left out; what the specification requires is there even if it is zero. What is read again is equal.
"""

from __future__ import annotations

from kernelproof.impl.libcontainer.config import jsontext
from kernelproof.impl.libcontainer.config.problems import shorten
from kernelproof.impl.libcontainer.config.record import Record, json_name
from kernelproof.impl.libcontainer.config.records import Config, Process, User

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Iterator

# config.md, "POSIX-platform user" and "Process": required, though zero is what they would be without.
ALWAYS = {Process: ("user",), User: ("uid", "gid")}


class Difference(Record):
    """One place where two configurations say different things; an empty text is an absent value."""

    path: str
    left: str
    right: str

    def __str__(self) -> str:
        return f"{self.path}: {self.left or 'nothing'} | {self.right or 'nothing'}"


def to_value(record: Record, *, own: bool = False) -> dict[str, object]:
    """A record as a JSON value.

    Args:
        record: any record of this package.
        own: whether what the specification does not have is written too.

    Raises:
        ValueError: it has such fields, and `own` was not asked for.
    """
    value: dict[str, object] = {}
    always = ALWAYS.get(type(record), ())
    for field in record.FIELDS:
        member = getattr(record, field)
        if field in record.DEFAULTS and member == record.DEFAULTS[field] and field not in always:
            continue
        if field in record.OWN and not own:
            raise ValueError(
                f"{field} of {type(record).__name__} is not in the specification: config.json can't say it"
            )
        name = field if record.SNAKE else json_name(field)
        value[name] = _member(member, record.TYPES[field], own)
    return value


def _member(member: object, kind: str, own: bool) -> object:
    if isinstance(member, Record):
        return to_value(member, own=own)
    if isinstance(member, tuple):
        if kind.startswith("tuple[tuple[str, "):
            return {name: _member(entry, "", own) for name, entry in member}
        return [_member(entry, "", own) for entry in member]
    return member


def dump(record: Record, indent: int | None = 4, *, own: bool = False) -> str:
    """A record as JSON text, with a newline at its end if it is indented.

    Raises:
        ValueError: as `to_value`.
    """
    return jsontext.format_value(to_value(record, own=own), indent) + ("" if indent is None else "\n")


def compare(left: Config, right: Config) -> list[Difference]:
    """Where two configurations differ, in the order of the left one; that of names in an object does not count."""
    return list(_differences(to_value(left, own=True), to_value(right, own=True), "$"))


def _differences(left: object, right: object, path: str) -> Iterator[Difference]:
    if isinstance(left, dict) and isinstance(right, dict):
        for name in [*left, *[name for name in right if name not in left]]:
            key = f".{name}" if name.isidentifier() else f"[{shorten(name)}]"
            yield from _differences(left.get(name), right.get(name), path + key)
    elif isinstance(left, list) and isinstance(right, list):
        yield from _between_lists(left, right, path)
    elif left != right:
        yield Difference(path, _text(left), _text(right))


def _between_lists(left: list[object], right: list[object], path: str) -> Iterator[Difference]:
    """Past a common beginning and end: pair by pair if as many are left on both sides, else each by itself."""
    start = 0
    while start < min(len(left), len(right)) and left[start] == right[start]:
        start += 1
    end = 0
    while end < min(len(left), len(right)) - start and left[-1 - end] == right[-1 - end]:
        end += 1
    here, there = left[start : len(left) - end], right[start : len(right) - end]
    if len(here) == len(there):
        for index, (one, other) in enumerate(zip(here, there, strict=True), start):
            yield from _differences(one, other, f"{path}[{index}]")
        return
    for index, one in enumerate(here, start):
        yield Difference(f"{path}[{index}]", _text(one), "")
    for index, other in enumerate(there, start):
        yield Difference(f"{path}[{index}]", "", _text(other))


def _text(value: object) -> str:
    return "" if value is None else shorten(jsontext.Fraction(jsontext.format_value(value)))
