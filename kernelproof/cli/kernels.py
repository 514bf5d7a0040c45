"""`kernelproof kernels`: which kernels `--kernel` can name."""

from __future__ import annotations

import argparse

from kernelproof.cli.tables import print_rows
from kernelproof.vm.kernel_select import KernelTable, read_rows

COLUMNS = ("series", "roles", "suites", "why")


def plan_rows(table: KernelTable) -> list[dict[str, object]]:
    """One row a series, oldest first."""
    words = (*table.roles, ("default", table.default))
    return [
        {
            "series": row.series,
            "roles": [word for word, series in words if series == row.series],
            "suites": [suite for group in row.suites for suite in group],
            "why": row.why,
        }
        for row in table.rows
    ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Print the table."""
    print_rows(plan_rows(read_rows()), COLUMNS, as_json=arguments.json)
    return 0
