"""Values to records: every key and every type of a configuration is compared with the records' declarations.

    reading = read_value(jsontext.parse(data), Config)
    reading.record, reading.problems, reading.warnings

All problems are found in one pass. Where one is, a neutral value is put in its place, so that the rest can be looked at
too; such a record is never used. Unknown keys are ignored, as the specification demands, and reported as warnings.

Source: OCI runtime specification 1.3, config.md, "Extensibility" and "Valid values".
"""

from __future__ import annotations

import sys

from kernelproof.impl.libcontainer.config.jsontext import Fraction, Members
from kernelproof.impl.libcontainer.config.problems import Problem, shorten
from kernelproof.impl.libcontainer.config.record import Record, json_name

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from typing import TypeAlias

    Path: TypeAlias = tuple["Path | None", str | int]

MOST_PROBLEMS = 1000

RANGES = {
    "int32": (-(1 << 31), (1 << 31) - 1),
    "int64": (-(1 << 63), (1 << 63) - 1),
    "uint16": (0, (1 << 16) - 1),
    "uint32": (0, (1 << 32) - 1),
    "uint64": (0, (1 << 64) - 1),
}

# Known to the specification, but not of Linux: no warning that they are unknown.
ELSEWHERE = {
    "$": frozenset(("windows", "solaris", "vm", "zos", "freebsd")),
    "$.process": frozenset(("commandLine",)),
    "$.process.user": frozenset(("username",)),
}

_new = object.__new__
_set = object.__setattr__


class Field:
    """How one field is read: from which JSON name, what it takes, what stands for an absent one."""

    __slots__ = ("default", "json", "kind", "many", "mapping", "name", "required", "wants")

    def __init__(self, owner: type[Record], name: str) -> None:
        text = owner.TYPES[name].removesuffix(" | None")
        self.name = name
        self.json = name if owner.SNAKE else json_name(name)
        self.mapping = text.startswith("tuple[tuple[str, ")
        self.many = text.startswith("tuple[") and not self.mapping
        if self.mapping:
            text = text[len("tuple[tuple[str, ") : -len("], ...]")]
        elif self.many:
            text = text[len("tuple[") : -len(", ...]")]
        self.kind = text
        self.wants: type[Record] | None = None if text in ("str", "bool") or text in RANGES else _class(owner, text)
        self.required = name not in owner.DEFAULTS
        self.default = owner.DEFAULTS.get(name, _neutral(self))


class Reading:
    """What came of it.

    Attributes:
        record: the record; not to be used if there are problems.
        problems: what is wrong, in the order of the document.
        warnings: unknown keys, and keys of other platforms.
    """

    __slots__ = ("own", "problems", "record", "warnings")

    def __init__(self, own: bool) -> None:
        self.own = own
        self.record: Record | None = None
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []

    def wrong(self, path: Path | None, value: object, rule: str, remedy: str = "") -> None:
        """Notes a problem, unless there are too many already."""
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(Problem(shown(path), shorten(value), rule, remedy))

    def odd(self, path: Path | None, value: object, rule: str, remedy: str = "") -> None:
        """Notes a warning, unless there are too many already."""
        if len(self.warnings) < MOST_PROBLEMS:
            self.warnings.append(Problem(shown(path), shorten(value), rule, remedy))


_FIELDS: dict[type[Record], dict[str, Field]] = {}


def fields_of(owner: type[Record]) -> dict[str, Field]:
    """The fields of a class of records by JSON name."""
    found = _FIELDS.get(owner)
    if found is None:
        found = _FIELDS[owner] = {field.json: field for field in [Field(owner, name) for name in owner.FIELDS]}
    return found


def shown(path: Path | None) -> str:
    """A path as text: $.linux.namespaces[2].type."""
    parts: list[str] = []
    while path is not None:
        path, key = path
        if isinstance(key, int):
            parts.append(f"[{key}]")
        elif key.isidentifier():
            parts.append(f".{key}")
        else:
            parts.append(f"[{shorten(key)}]")
    return "$" + "".join(reversed(parts))


def read_value(value: object, owner: type[Record], own: bool = False) -> Reading:
    """Reads a parsed JSON value as a record of a class.

    Args:
        value: what `jsontext.parse` gave.
        owner: the record's class, such as `Config` or `Process`.
        own: whether keys that the specification does not have (networks, landlock …) are read too: for our own copies.
    """
    reading = Reading(own)
    reading.record = _record(value, owner, None, reading)
    return reading


def _record(value: object, owner: type[Record], path: Path | None, reading: Reading) -> Record:
    if not isinstance(value, dict):
        reading.wrong(path, value, f"an object is needed, not {_kind(value)}")
        return _filled(owner)
    if isinstance(value, Members):
        for name in value.doubled:
            reading.wrong((path, name), None, "the name stands twice in one object", "Keep one of them")
    fields = fields_of(owner)
    made = _new(owner)
    missing = dict(fields)
    for name, member in value.items():
        field = fields.get(name)
        if field is None or (field.name in owner.OWN and not reading.own):
            _unknown(owner, path, name, member, reading)
            continue
        del missing[name]
        _set(made, field.name, _member(member, field, (path, name), reading))
    for name, field in missing.items():
        if field.required:
            reading.wrong((path, name), None, "it is required")
        _set(made, field.name, field.default)
    return made


def _member(value: object, field: Field, path: Path, reading: Reading) -> object:
    if value is None:  # how Go writes an absent one
        if field.required:
            reading.wrong(path, None, "it is required, and null is as if it were absent")
        return field.default
    if field.mapping:
        return _pairs(value, field, path, reading)
    if not field.many:
        return _single(value, field, path, reading)
    if not isinstance(value, list):
        reading.wrong(path, value, f"an array is needed, not {_kind(value)}")
        return field.default
    if field.kind == "str":
        return tuple(
            [entry if _is_text(entry) else _single(entry, field, (path, i), reading) for i, entry in enumerate(value)]
        )
    return tuple([_single(entry, field, (path, i), reading) for i, entry in enumerate(value)])


def _pairs(value: object, field: Field, path: Path, reading: Reading) -> tuple[tuple[str, object], ...]:
    if not isinstance(value, dict):
        reading.wrong(path, value, f"an object is needed, not {_kind(value)}")
        return ()
    if isinstance(value, Members):
        for name in value.doubled:
            reading.wrong((path, name), None, "the name stands twice in one object", "Keep one of them")
    for name in value:
        if not _is_text(name):
            reading.wrong((path, name), None, "the name has a character that no name can have (NUL, half a surrogate)")
    return tuple(
        sorted([(name, _single(member, field, (path, name), reading)) for name, member in value.items()], key=_first)
    )


def _first(pair: tuple[str, object]) -> str:
    return pair[0]


def _single(value: object, field: Field, path: Path, reading: Reading) -> object:
    if field.wants is not None:
        return _record(value, field.wants, path, reading)
    kind = field.kind
    if kind == "str":
        if _is_text(value):
            return value
        if type(value) is str:
            reading.wrong(path, value, "the text has a character that no system call can take (NUL, half a surrogate)")
        else:
            reading.wrong(path, value, f"a string is needed, not {_kind(value)}")
        return ""
    if kind == "bool":
        if isinstance(value, bool):
            return value
        reading.wrong(path, value, f"true or false is needed, not {_kind(value)}")
        return False
    return _integer(value, kind, path, reading)


def _integer(value: object, kind: str, path: Path, reading: Reading) -> int:
    least, most = RANGES[kind]
    if type(value) is not int:
        remedy = "Write it without fraction and exponent" if isinstance(value, Fraction) else ""
        reading.wrong(path, value, f"an integer is needed, not {_kind(value)}", remedy)
    elif not least <= value <= most:
        reading.wrong(path, value, f"it must be {least} to {most} ({kind})")
    else:
        return value
    return 0


def _is_text(value: object) -> bool:
    if type(value) is not str:
        return False
    if value.isascii():
        return "\0" not in value
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:
        return False


def _unknown(owner: type[Record], path: Path | None, name: str, member: object, reading: Reading) -> None:
    if name in ELSEWHERE.get(shown(path), ()):
        reading.odd((path, name), member, "it is for another operating system and is ignored")
        return
    alike = [known for known in fields_of(owner) if known.lower() == name.lower() and known != name]
    remedy = f"Did you mean {alike[0]}? Names are case-sensitive" if alike else ""
    reading.odd((path, name), member, "no such key is known here; it is ignored", remedy)


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, Fraction):
        return "a number with fraction or exponent"
    names = {dict: "an object", Members: "an object", list: "an array", str: "a string", int: "a number"}
    return names.get(type(value), "null")


def _class(owner: type[Record], name: str) -> type[Record]:
    found: type[Record] = getattr(sys.modules[owner.__module__], name)
    return found


def _neutral(field: Field) -> object:
    if field.many or field.mapping:
        return ()
    if field.wants is not None:
        return _filled(field.wants)
    return {"str": "", "bool": False}.get(field.kind, 0)


def _filled(owner: type[Record]) -> Record:
    made = _new(owner)
    for field in fields_of(owner).values():
        _set(made, field.name, field.default)
    return made
