"""How sub-commands print rows: as a table for people, or as JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TextIO

Row = Mapping[str, object]


def format_cell(value: object) -> str:
    """A list with commas, nothing for None, else as it is."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def format_table(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """Columns under their names, as wide as their widest cell; the last one is not padded."""
    cells = [[format_cell(row[column]) for column in columns] for row in rows]
    lines = [[column.upper() for column in columns], *cells]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def print_rows(rows: Sequence[Row], columns: Sequence[str], *, as_json: bool, file: TextIO | None = None) -> None:
    """Print a table with these columns, or all of every row as one JSON array."""
    text = json.dumps(list(rows), indent=2) if as_json else format_table(rows, columns)
    print(text, file=file or sys.stdout)
