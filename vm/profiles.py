"""Reads machine profiles: rows of data that say what a kind of machine is made of."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernelproof.vm.discs import Disc, read_disc
from kernelproof.vm.errors import ProvisionError

PROFILES = Path(__file__).with_name("profiles.toml")


@dataclass(frozen=True, slots=True)
class Profile:
    """A kind of machine; profiles.toml says what the members mean."""

    name: str
    about: str
    packages: tuple[str, ...]
    cpus: int
    memory_mib: int
    words: tuple[str, ...]
    modules: tuple[tuple[str, ...], ...]
    imports: tuple[str, ...]
    discs: tuple[Disc, ...]
    settings: tuple[tuple[str, str], ...]
    commands: tuple[tuple[str, ...], ...]
    init: str
    times: tuple[str, ...]


_Reader = Callable[[Any], object]


def _one_of(*words: str) -> _Reader:
    def read(value: object) -> str:
        if value not in words:
            raise ValueError(f"{value!r} is not one of {', '.join(words)}")
        return str(value)

    return read


def _number(value: object) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"{value!r} is no number")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def _list_of(read: _Reader) -> _Reader:
    def read_list(value: object) -> tuple[object, ...]:
        if not isinstance(value, list):
            raise ValueError(f"{value!r} is no list")
        return tuple(read(item) for item in value)

    return read_list


_READERS: Mapping[str, _Reader] = {
    "about": _text,
    "packages": _list_of(_text),
    "cpus": _number,
    "memory_mib": _number,
    "words": _list_of(_text),
    "modules": _list_of(_list_of(_text)),
    "imports": _list_of(_text),
    "discs": _list_of(read_disc),
    "settings": _list_of(_list_of(_text)),
    "commands": _list_of(_list_of(_text)),
    "init": _one_of("agent", "agent-on-initial-ramfs", "systemd"),
    "times": _list_of(_one_of("virtual", "real")),
}
_REPLACED = ("times",)  # lists that a row has instead of those of the row that it is like


def parse_profiles(text: str) -> Mapping[str, Profile]:
    """The profiles in a TOML document, by name.

    Raises:
        ValueError: not TOML, a member that is missing, unknown or of another type, or `like` names no row before.
    """
    rows: dict[str, dict[str, object]] = {}
    for name, row in tomllib.loads(text).items():
        try:
            rows[name] = _complete(row, rows)
        except ValueError as error:
            raise ValueError(f"profile {name!r}: {error}") from error
    return {name: Profile(name=name, **_read(row)) for name, row in rows.items()}


def _complete(row: Mapping[str, Any], rows: Mapping[str, Mapping[str, Any]]) -> dict[str, object]:
    own = dict(row)
    like = own.pop("like", None)
    if like is not None and like not in rows:
        raise ValueError(f"is like {like!r}, which is not a row before it")
    whole: dict[str, object] = {} if like is None else dict(rows[like])
    for member, value in own.items():
        before = whole.get(member)
        joins = isinstance(value, list) and isinstance(before, list) and member not in _REPLACED
        whole[member] = [*before, *value] if joins and isinstance(before, list) else value
    if set(whole) != set(_READERS):
        raise ValueError(f"members {sorted(set(whole) ^ set(_READERS))} are missing or unknown")
    _read(whole)
    return whole


def _read(row: Mapping[str, object]) -> dict[str, Any]:
    found = {}
    for member, read in _READERS.items():
        try:
            found[member] = read(row[member])
        except ValueError as error:
            raise ValueError(f"{member}: {error}") from error
    return found


def find_profile(name: str, path: Path = PROFILES) -> Profile:
    """The profile of that name.

    Raises:
        ProvisionError: there is none; the error lists those that are.
    """
    profiles = parse_profiles(path.read_text())
    if name not in profiles:
        raise ProvisionError("choose profile", name, f"there are: {', '.join(profiles)}", "name one of these")
    return profiles[name]
