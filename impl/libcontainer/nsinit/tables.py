"""Tables: aligned text for pipes, drawn by rich on a terminal."""

from __future__ import annotations

import os
import sys

from kernelproof.impl.libcontainer.config.jsontext import format_value

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Sequence


def is_terminal(fd: int = 1) -> bool:
    """Whether standard output is a terminal that can draw."""
    return os.isatty(fd) and os.environ.get("TERM", "dumb") != "dumb"


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as text: columns as wide as their widest cell, at least 12; control characters are replaced."""
    cells = [[plain(cell) for cell in row] for row in (header, *rows)]
    widths = [max(12, *[len(row[place]) + 2 for row in cells]) for place in range(len(header))]
    lines = ["".join([cell.ljust(width) for cell, width in zip(row, widths, strict=True)]).rstrip() for row in cells]
    return "\n".join(lines) + "\n"


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table: drawn on a terminal, else as text."""
    if not is_terminal():
        sys.stdout.write(format_table(header, rows))
        return
    from rich.console import Console  # measured: 60 ms, and engines never see it

    Console().print(draw_table(header, rows))


def draw_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> object:
    """A table for rich to draw."""
    from rich import box  # measured: as above
    from rich.table import Table
    from rich.text import Text

    table = Table(*header, box=box.SIMPLE_HEAD, header_style="bold")
    for row in rows:
        table.add_row(*[Text(plain(cell)) for cell in row])
    return table


def plain(text: str) -> str:
    """A text of strangers without what would steer a terminal."""
    return "".join([letter if letter.isprintable() else "?" for letter in text])


def print_json(value: object, indent: int | None = 2) -> None:
    """Prints a value as JSON."""
    sys.stdout.write(format_value(value, indent) + "\n")
