"""`kernelproof clean`: give disc space back."""

from __future__ import annotations

import argparse
import math
from contextlib import suppress

from kernelproof.cli.numbers import read_number
from kernelproof.cli.tables import print_rows
from kernelproof.vm.cache import Cache
from kernelproof.vm.pruning import forget_lost_choices, plan_all, plan_pruning, remove, summarize

COLUMNS = ("kind", "number", "megabytes")
DAYS = 30.0


def read_days(text: str) -> float:
    """A number of days, not below zero.

    Raises:
        ArgumentTypeError: another text.
    """
    days = read_number(text)
    if not 0 <= days < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: a number of days, 0 or more, is needed")
    return days


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`--all`, `--days` and how it is told."""
    parser.add_argument("--all", action="store_true", help="remove everything, also what the next run needs")
    text = f"keep what was used in that time (default: {DAYS:.0f}); what the table's kernels lead to is always kept"
    parser.add_argument("--days", type=read_days, default=DAYS, metavar="NUMBER", help=text)
    parser.add_argument("--dry-run", action="store_true", help="say what would be removed, and remove nothing")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Remove, and say what that frees."""
    cache = Cache()
    doomed = plan_all(cache.root) if arguments.all else plan_pruning(cache, arguments.days)
    if not arguments.dry_run:
        remove(cache.root, doomed)
        if arguments.all:
            with suppress(OSError):  # not there, or somebody makes something in it again
                cache.path("", "").rmdir()
        else:
            forget_lost_choices(cache)
    rows = summarize(doomed)
    if arguments.json or rows:
        print_rows(rows, COLUMNS, as_json=arguments.json)
    if not arguments.json:
        size = sum(item.size_bytes for item in doomed)
        print(f"{'would remove' if arguments.dry_run else 'removed'} {size / 1e6:.0f} MB from {cache.root}")
    return 0
