"""Ranges of kernel series as the catalogue writes them.

    >=6.1,<6.12      comparisons, all of which must hold: >= <= > <
    5.10..6.1        from … to, both included
    6.12             this series alone

A series is the first two numbers of a release. What it is not for: telling whether a kernel can do something; that
is probed. A range says where a *document* makes its promise.
"""

from __future__ import annotations

import operator
import re
from typing import NamedTuple

Series = tuple[int, int]

_SERIES = re.compile(r"([0-9]+)\.([0-9]+)")
_COMPARISON = re.compile(r"(>=|<=|>|<)\s*([0-9]+\.[0-9]+)")
_COMPARE = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


class KernelRange(NamedTuple):
    """A range of kernel series.

    Args:
        text: As it was written.
        comparisons: Operator and series; a kernel is inside when all of them hold.
    """

    text: str
    comparisons: tuple[tuple[str, Series], ...]

    def holds(self, series: Series) -> bool:
        """Return whether a series lies in the range."""
        return all(_COMPARE[sign](series, bound) for sign, bound in self.comparisons)

    def overlaps(self, other: KernelRange) -> bool:
        """Return whether any series, one that exists or not, lies in both."""
        return any(self.holds(series) and other.holds(series) for series in self._landmarks() + other._landmarks())

    def _landmarks(self) -> tuple[Series, ...]:
        # A non-empty range holds one of its bounds or a neighbour of one.
        return tuple(
            (major, minor + step) for _, (major, minor) in self.comparisons for step in (-1, 0, 1)
        )  # minor -1 stands for "the last of the major before"


def parse_series(text: str) -> Series:
    """Return the series named in `text`: a series, a release or "image-<release>".

    Raises:
        ValueError: There are no two numbers with a dot between them.
    """
    match = _SERIES.search(text)
    if match is None:
        raise ValueError(f"kernel series: {text!r} has no numbers like 6.12")
    return int(match[1]), int(match[2])


def parse_range(text: str) -> KernelRange:
    """Parse a range of kernel series.

    Raises:
        ValueError: The text is no range, or no kernel can be in it.
    """
    parsed = KernelRange(text, _parse_comparisons(text))
    if not any(map(parsed.holds, parsed._landmarks())):
        raise ValueError(f"kernels {text!r} holds no series at all")
    return parsed


def _parse_comparisons(text: str) -> tuple[tuple[str, Series], ...]:
    low, dots, high = text.partition("..")
    if dots:
        return ((">=", _parse_exact(low, text)), ("<=", _parse_exact(high, text)))
    parts = [part.strip() for part in text.split(",")]
    if len(parts) == 1 and _SERIES.fullmatch(parts[0]):
        return ((">=", parse_series(parts[0])), ("<=", parse_series(parts[0])))
    matches = [_COMPARISON.fullmatch(part) for part in parts]
    if not all(matches):
        raise ValueError(f"kernels {text!r} is not a range; write >=6.1,<6.12 or 5.10..6.1 or 6.12")
    return tuple((match[1], parse_series(match[2])) for match in matches if match)


def _parse_exact(part: str, text: str) -> Series:
    if not _SERIES.fullmatch(part.strip()):
        raise ValueError(f"kernels {text!r} is not a range; write >=6.1,<6.12 or 5.10..6.1 or 6.12")
    return parse_series(part)
