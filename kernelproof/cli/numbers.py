"""Numbers of a command line."""

from __future__ import annotations

import math


def read_number(text: str) -> float:
    """A number; of a text that is none NaN, which is within no bounds."""
    try:
        return float(text)
    except ValueError:
        return math.nan
