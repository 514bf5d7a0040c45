"""Why an edit may survive: `reasons.toml`, held to the edits that there are."""

from __future__ import annotations

import tomllib
from collections.abc import Collection

_KEYS = {"file": str, "function": str, "old": str, "new": str, "why": str, "number": int}


class ReasonsError(ValueError):
    """All that is wrong with the file, a line each."""


def parse_reasons(text: str, edits: Collection[str]) -> dict[str, str]:
    """Reasons by the names of the edits that they are for.

    Args:
        text: Of the file.
        edits: The names of all edits that there are.

    Raises:
        ReasonsError: not TOML; a key that is missing, unknown or of another type; an edit that does not exist or has
            two reasons.
    """
    try:
        entries = tomllib.loads(text).get("reason", [])
    except tomllib.TOMLDecodeError as error:
        raise ReasonsError(f"reasons.toml: {error}") from error
    reasons: dict[str, str] = {}
    problems = []
    for number, entry in enumerate(entries, 1):
        entry = {"number": 1} | entry
        if {key: type(value) for key, value in entry.items()} != _KEYS:
            problems.append(f"reason {number}: it has {', '.join(sorted(entry))}; it needs {', '.join(sorted(_KEYS))}")
            continue
        name = f"{entry['file']}::{entry['function']}: {entry['old']!r} -> {entry['new']!r} #{entry['number']}"
        if name not in edits:
            problems.append(f"reason {number}: there is no edit {name}; the code has changed: remove or correct it")
        elif name in reasons:
            problems.append(f"reason {number}: {name} has one already")
        reasons[name] = entry["why"]
    if problems:
        raise ReasonsError("\n".join(f"reasons.toml: {problem}" for problem in problems))
    return reasons
