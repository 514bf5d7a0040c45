"""The lock file: it holds what pyproject.toml asks for, each file by its hash, from no named place."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def entries() -> list[Requirement]:
    """One requirement a locked package, hashes left out."""
    logical = re.sub(r"\s*\\\n\s*", " ", re.sub(r"(?m)^\s*#.*\n", "", LOCK)).splitlines()
    return [Requirement(line.split(" --hash")[0]) for line in logical if line.strip()]


def requirements(entries: list[Any]) -> Iterator[Requirement]:
    """The requirements of a list of pyproject.toml, included groups among them."""
    for entry in entries:
        if isinstance(entry, str):
            yield Requirement(entry)
        else:
            yield from requirements(PROJECT["dependency-groups"][entry["include-group"]])


def test_lock_fits_the_project() -> None:
    """Everything that pyproject.toml asks for is locked, at a version that it allows."""
    locked = {canonicalize_name(entry.name): next(iter(entry.specifier)).version for entry in entries()}
    wanted = [
        *requirements(PROJECT["project"]["dependencies"]),
        *requirements(PROJECT["dependency-groups"]["development"]),
        *(one for extra in PROJECT["project"]["optional-dependencies"].values() for one in requirements(extra)),
        *requirements(PROJECT["build-system"]["requires"]),
    ]
    missing = [str(one) for one in wanted if not one.specifier.contains(locked.get(canonicalize_name(one.name), "0"))]
    assert missing == []


def test_every_package_has_one_version_and_hashes() -> None:
    """Each entry is one exact version with at least one hash."""
    assert all(str(entry.specifier).startswith("==") and len(entry.specifier) == 1 for entry in entries())
    assert all(re.search(rf"(?m)^{entry.name}==.*\\\n\s+--hash=sha256:", LOCK) for entry in entries())


def test_lock_names_no_place() -> None:
    """Where packages come from is the machine's business."""
    assert re.search(r"://|index-url|find-links", LOCK) is None


def test_every_group_is_for_development() -> None:
    """No dependency group is left out of the environment that start.py makes."""
    groups = PROJECT["dependency-groups"]
    included = {entry["include-group"] for entry in groups["development"]}
    assert included == set(groups) - {"development"}
