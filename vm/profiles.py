"""Reads machine profiles: rows of data that say what a kind of machine is made of."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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


def parse_profiles(text: str) -> Mapping[str, Profile]:
    """The profiles in a TOML document, by name.

    Raises:
        ValueError: not TOML, or a row whose members are not exactly those of `Profile`.
    """
    found = {}
    for name, row in tomllib.loads(text).items():
        wanted = set(Profile.__slots__) - {"name"}
        if set(row) != wanted:
            raise ValueError(f"profile {name!r}: members {sorted(set(row) ^ wanted)} are missing or unknown")
        found[name] = Profile(
            name=name,
            about=str(row["about"]),
            packages=tuple(row["packages"]),
            cpus=int(row["cpus"]),
            memory_mib=int(row["memory_mib"]),
            words=tuple(row["words"]),
            modules=tuple(tuple(module) for module in row["modules"]),
            imports=tuple(row["imports"]),
        )
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
