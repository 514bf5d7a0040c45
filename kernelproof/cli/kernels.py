"""`kernelproof kernels`: which kernels `--kernel` can name, and which of them are here already."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping

from kernelproof.cli.tables import print_rows
from kernelproof.vm.cache import Cache
from kernelproof.vm.distribution import read_distributions
from kernelproof.vm.kernel import find_fetched
from kernelproof.vm.kernel_select import KernelTable, read_rows, read_tables

COLUMNS = ("series", "roles", "fetched", "suites", "why")
ALL_COLUMNS = ("distribution", *COLUMNS)


def plan_rows(table: KernelTable, fetched: Mapping[str, str]) -> list[dict[str, object]]:
    """One row a series, oldest first.

    Args:
        table: The kernels of a distribution.
        fetched: The releases that are here, by series.
    """
    words = (*table.roles, ("default", table.default))
    return [
        {
            "distribution": table.distribution,
            "series": row.series,
            "roles": [word for word, series in words if series == row.series],
            "fetched": fetched.get(row.series, ""),
            "suites": [suite for group in row.suites for suite in group],
            "why": row.why,
        }
        for row in table.rows
    ]


def describe_untried(tables: Iterable[KernelTable]) -> list[str]:
    """A line for each distribution that nobody has told us of."""
    names = {row.name: row.about for row in read_distributions()}
    return [
        f"{names[table.distribution]}: not tried by us; its rows are what its archive is known to have"
        for table in tables
        if not table.tried
    ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`--all` and `--json`."""
    parser.add_argument("--all", action="store_true", help="those of other distributions too")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Print the table."""
    own = read_rows()
    tables = [own, *(table for table in read_tables().values() if table is not own)] if arguments.all else [own]
    fetched = find_fetched(Cache())
    rows = [row for table in tables for row in plan_rows(table, fetched if table is own else {})]
    print_rows(rows, ALL_COLUMNS if arguments.all else COLUMNS, as_json=arguments.json)
    for line in describe_untried(tables):
        print(f"kernelproof: note: {line}", file=sys.stderr)
    return 0
