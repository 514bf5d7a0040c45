"""Which edits are tried: a part of all there are, the same for the same seed, larger packages with more of them.

An edit's place in the order follows from its name alone: a change of the code elsewhere takes few out and in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from edits import Edit

_LEAST = 15  # of a package, if it has as many


def sample(by_package: Mapping[str, Sequence[Edit]], number: int, seed: int) -> dict[str, list[Edit]]:
    """About `number` edits, by package; at most one of a function, as long as there are functions left.

    Args:
        by_package: All edits.
        number: How many to choose; 0 means all.
        seed: Of the choice.
    """
    if number == 0:
        return {package: list(edits) for package, edits in by_package.items()}
    total = sum(map(len, by_package.values()))
    return {
        package: _choose(edits, max(_LEAST, round(number * len(edits) / total)), seed)
        for package, edits in by_package.items()
    }


def _choose(edits: Sequence[Edit], number: int, seed: int) -> list[Edit]:
    first: list[Edit] = []
    others: list[Edit] = []
    functions = set()
    for edit in sorted(edits, key=lambda edit: hashlib.sha256(f"{seed} {edit.name}".encode()).digest()):
        place = (edit.path, edit.function)
        (others if place in functions else first).append(edit)
        functions.add(place)
    return sorted([*first, *others][:number])
