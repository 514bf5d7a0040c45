"""The JSON of a record of systemd: read strictly, and looked up by type, with what is said for this machine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

from kernelproof.impl.user.errors import UserDatabaseError
from kernelproof.impl.user.records import HIGHEST_ID

Json: TypeAlias = dict[str, Any]

_SECTIONS = frozenset(("privileged", "perMachine", "binding", "status", "signature", "secret"))


class RecordError(UserDatabaseError, ValueError):
    """A record that is no valid user or group record; the text has where it was and why."""


class Machine(NamedTuple):
    """What `perMachine` sections are matched against; None matches none."""

    machine_id: str | None = None
    hostname: str | None = None


ANY_MACHINE = Machine()


def parse_json(text: str, source: str) -> Json:
    """Return the object that a text of JSON is; whole numbers of any size are kept exactly.

    Raises:
        RecordError: it is no JSON, no object, or has a key twice.
    """

    def once(pairs: list[tuple[str, Any]]) -> Json:
        found = dict(pairs)
        if len(found) != len(pairs):
            keys = [key for key, _ in pairs]
            raise RecordError(f"{source}: the key {next(key for key in keys if keys.count(key) > 1)!r} is there twice")
        return found

    try:
        value = json.loads(text, object_pairs_hook=once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        if isinstance(error, RecordError):
            raise
        raise RecordError(f"{source}: no JSON: {error}") from error
    if not isinstance(value, dict):
        raise RecordError(f"{source}: a record is an object, not a {type(value).__name__}")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


class Fields:
    """The fields of a record, looked up by type; those for this machine win."""

    def __init__(self, record: Json, machine: Machine, source: str) -> None:
        self.source = source
        regular = {key: value for key, value in record.items() if key not in _SECTIONS}
        per_machine = [section for section in _sections(record, source) if _matches(section, machine)]
        binding = record.get("binding", {})
        if not isinstance(binding, dict):
            raise RecordError(f"{source}: binding is no object")
        bound = binding.get(machine.machine_id, {}) if machine.machine_id else {}
        # A later one wins over an earlier one.
        self.layers: Sequence[Json] = [regular, *per_machine, *([bound] if isinstance(bound, dict) else [])]

    def find(self, key: str) -> Any:
        return next((layer[key] for layer in reversed(self.layers) if key in layer), None)

    def text(self, key: str) -> str | None:
        value = self.find(key)
        if value is None:
            return None
        if not isinstance(value, str):
            raise RecordError(f"{self.source}: {key} is a {type(value).__name__}, not a string")
        if any(each in ":\n\0" or each < " " or each == "\x7f" for each in value):
            raise RecordError(f"{self.source}: {key} {value!r} holds a colon or a control character")
        return value

    def path(self, key: str) -> str | None:
        value = self.text(key)
        if value is not None and not value.startswith("/"):
            raise RecordError(f"{self.source}: {key} {value!r} is no absolute path")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.find(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise RecordError(f"{self.source}: {key} is no list of strings")
        return tuple(value)

    def number(self, key: str) -> int | None:
        value = self.find(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise RecordError(f"{self.source}: {key} is a {type(value).__name__}, not a whole number")
        if not 0 <= value <= HIGHEST_ID or value == 65535:  # (uid_t) -1 in 16 bits
            raise RecordError(f"{self.source}: {key} {value} is no user or group id")
        return value


def _sections(record: Json, source: str) -> list[Json]:
    sections = record.get("perMachine", [])
    if not isinstance(sections, list) or not all(isinstance(each, dict) for each in sections):
        raise RecordError(f"{source}: perMachine is no list of objects")
    return sections


def _matches(section: Json, machine: Machine) -> bool:
    return _names(section, "matchMachineId", machine.machine_id) or _names(section, "matchHostname", machine.hostname)


def _names(section: Json, key: str, value: str | None) -> bool:
    wanted = section.get(key)
    return value is not None and value in (wanted if isinstance(wanted, list) else [wanted])
