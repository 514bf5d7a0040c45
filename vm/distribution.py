"""Which distribution this host is of: whose archive, keys and kernels machines are made of. Pure but for `read_…`."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

OS_RELEASE = (Path("/etc/os-release"), Path("/usr/lib/os-release"))


@dataclass(frozen=True, slots=True)
class Distribution:
    """A row of `distributions.toml`, which says what the members mean."""

    name: str
    about: str
    ids: tuple[str, ...]
    keyrings: tuple[Path, ...]
    keyring_package: str
    components: tuple[str, ...]
    suites: tuple[str, ...]
    folders: tuple[str, ...]
    guest: tuple[str, ...]


def parse_distributions(text: str) -> tuple[Distribution, ...]:
    """Parse `distributions.toml`.

    Raises:
        ValueError: no TOML, or a row whose members are not exactly those of `Distribution`.
    """
    found = []
    for name, row in tomllib.loads(text).items():
        wanted = set(Distribution.__slots__) - {"name"}
        if set(row) != wanted:
            raise ValueError(f"distribution {name!r}: members {sorted(set(row) ^ wanted)} are missing or unknown")
        members: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in row.items()
        }
        members["keyrings"] = tuple(map(Path, members["keyrings"]))
        found.append(Distribution(name=name, **members))
    return tuple(found)


@cache
def read_distributions() -> tuple[Distribution, ...]:
    """The rows that come with this package."""
    return parse_distributions(files("kernelproof.vm").joinpath("distributions.toml").read_text("utf-8"))


def parse_os_release(text: str) -> Mapping[str, str]:
    """The variables of an os-release(5) file; lines that are none are passed over."""
    found = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and name.isidentifier():
            try:
                found[name] = "".join(shlex.split(value))
            except ValueError:
                continue
    return found


def choose_distribution(os_release: Mapping[str, str], rows: tuple[Distribution, ...]) -> Distribution:
    """The row of a host: by its ID, else by those that it says it is like, else the first."""
    for word in (os_release.get("ID", ""), *os_release.get("ID_LIKE", "").split()):
        for row in rows:
            if word in row.ids:
                return row
    return rows[0]


@cache
def read_distribution() -> Distribution:
    """The row of this host."""
    for path in OS_RELEASE:
        try:
            return choose_distribution(parse_os_release(path.read_text("utf-8", "replace")), read_distributions())
        except OSError:
            continue
    return read_distributions()[0]
