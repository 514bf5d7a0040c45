"""`kernelproof diff`: what changed from one run to another, regressions first."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kernelproof.conformance.report.comparison import Answer, Change, Kind, compare, read_answers
from kernelproof.conformance.report.matrix import kernel_order
from kernelproof.conformance.report.merging import Run, find_clashes, read_runs
from kernelproof.conformance.report.reading import ResultsError
from kernelproof.vm.console import escape_text
from kernelproof.vm.errors import VmError

CANNOT = 125  # as git bisect run and `kernelproof run` have it: nothing can be said
_TITLES = {
    Kind.REGRESSION: "regressions",
    Kind.OTHER: "another value",
    Kind.GONE: "no longer answered",
    Kind.IMPROVEMENT: "improvements",
    Kind.NEW: "newly answered",
}
_SHOWN = 20  # of those that say nothing of a kernel

EPILOG = """examples:
  kernelproof diff old/6.12.json results/6.12.json     the same kernel, before and after
  kernelproof diff results/6.1.json results/6.12.json  two kernels
  kernelproof diff last-week.json all.json --json      merged files: each kernel with itself

exit status: 0; 1 if there are regressions; 125 if they can't be compared."""


class Comparison(NamedTuple):
    """Two runs and what changed from one to the other."""

    old: Run
    new: Run
    both: int
    changes: list[Change]

    def count_kinds(self) -> Counter[Kind]:
        """How many changes of each kind."""
        return Counter(change.kind for change in self.changes)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which files."""
    parser.add_argument("old", type=Path, help="results of a run, or a merged file")
    parser.add_argument("new", type=Path, help="results of a later run, or of another kernel")
    parser.add_argument("--all", action="store_true", help=f"list more than {_SHOWN} that are new or gone")
    parser.add_argument("--json", action="store_true", help="print JSON instead")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG


def run(arguments: argparse.Namespace) -> int:
    """Compare and print."""
    try:
        old, new = _read(arguments.old), _read(arguments.new)
        pairs, alone = pair_runs(old, new)
    except VmError as error:
        print(f"kernelproof: {error}", file=sys.stderr)
        return CANNOT
    for line in describe_doubts(pairs, alone):
        print(f"kernelproof: note: {escape_text(line)}", file=sys.stderr)
    found = [compare_runs(*pair) for pair in pairs]
    if arguments.json:
        print(json.dumps({"schema": 1, "comparisons": [_as_json(one) for one in found]}, indent=2))
    else:
        print("\n\n".join("\n".join(format_comparison(one, everything=arguments.all)) for one in found))
    return int(any(one.count_kinds()[Kind.REGRESSION] for one in found))


def _read(path: Path) -> list[Run]:
    try:
        runs = read_runs(path)
    except ResultsError as error:
        raise VmError("compare results", "results file", escape_text(str(error)), "make it anew") from error
    except OSError as error:
        raise VmError("compare results", str(path), error.strerror or str(error), "name a results file") from error
    if clashes := find_clashes(runs, any_catalogue=True):
        raise VmError("compare results", str(path), escape_text("; ".join(clashes)), "merge each kernel once")
    if not runs:
        raise VmError("compare results", str(path), "no results in it", "name a results file")
    return runs


def pair_runs(old: Sequence[Run], new: Sequence[Run]) -> tuple[list[tuple[Run, Run]], list[Run]]:
    """Which run is compared with which: two alone with each other, else each kernel with itself; and what is left.

    Raises:
        VmError: none with any.
    """
    if len(old) == len(new) == 1:
        return [(old[0], new[0])], []
    before, after = ({run.results.kernel["name"]: run for run in runs} for runs in (old, new))
    names = sorted(before.keys() & after.keys(), key=kernel_order)
    if not names:
        detail = f"{', '.join(before)} and {', '.join(after)}"
        raise VmError("compare results", "kernels", f"none in common: {escape_text(detail)}", "name two single runs")
    alone = [run for runs in (before, after) for name, run in runs.items() if name not in names]
    return [(before[name], after[name]) for name in names], alone


def describe_doubts(pairs: Sequence[tuple[Run, Run]], alone: Sequence[Run]) -> Iterator[str]:
    """What the reader should know."""
    for run in alone:
        yield f"kernel {run.results.kernel['name']} is in {run.path} alone: not compared"
    for pair in pairs:
        for run in pair:
            if not run.results.is_whole:
                why = "; ".join(run.results.selection) or "it did not come to its end"
                yield f"{run.path}: kernel {run.results.kernel['name']}: not a whole run ({why})"
        if pair[0].results.catalogue_digest != pair[1].results.catalogue_digest:
            yield f"{pair[0].path} and {pair[1].path}: other catalogues: a statement may mean something else"


def compare_runs(old: Run, new: Run) -> Comparison:
    """What changed."""
    before, after = read_answers(old.results), read_answers(new.results)
    return Comparison(old, new, len(before.keys() & after.keys()), compare(before, after))


def format_comparison(one: Comparison, *, everything: bool) -> Iterator[str]:
    """Lines for people."""
    names = [f"{escape_text(run.results.kernel['name'])} ({run.path})" for run in (one.old, one.new)]
    counts = one.count_kinds()
    told = ", ".join(f"{counts[kind]} {_TITLES[kind]}" for kind in Kind if counts[kind]) or "no change"
    yield f"{names[0]} -> {names[1]}: {one.both} statements in both: {told}"
    for kind in Kind:
        changes = [change for change in one.changes if change.kind is kind]
        if not changes:
            continue
        yield f"\n{_TITLES[kind].upper()} ({len(changes)})"
        limited = kind in (Kind.GONE, Kind.NEW) and not everything
        shown = changes[:_SHOWN] if limited else changes
        for change in shown:
            yield from _format_change(change)
        if len(shown) < len(changes):
            yield f"  and {len(changes) - len(shown)} more: --all"


def _format_change(change: Change) -> Iterator[str]:
    yield f"  {escape_text(change.behaviour)}: {format_answer(change.old)} -> {format_answer(change.new)}"
    if change.kind is Kind.REGRESSION and change.new is not None and change.new.reason:
        yield f"      {escape_text(change.new.reason.strip().splitlines()[0])[:160]}"


def format_answer(answer: Answer | None) -> str:
    """An answer in a line."""
    if answer is None:
        return "no answer"
    seen = answer.seen if isinstance(answer.seen, str) else json.dumps(answer.seen)
    return answer.outcome.words if answer.seen is None else f"{answer.outcome.words} {escape_text(seen)[:120]}"


def _as_json(one: Comparison) -> dict[str, Any]:
    counts = one.count_kinds()
    return {
        "old": _describe(one.old),
        "new": _describe(one.new),
        "both": one.both,
        "counts": {kind.value: counts[kind] for kind in Kind},
        "changes": [
            {
                "behaviour": change.behaviour,
                "kind": change.kind.value,
                "old": None if change.old is None else change.old._asdict(),
                "new": None if change.new is None else change.new._asdict(),
            }
            for change in one.changes
        ],
    }


def _describe(run: Run) -> dict[str, Any]:
    results = run.results
    return {
        "file": str(run.path),
        "kernel": results.kernel["name"],
        "release": results.kernel.get("release"),
        "whole": results.is_whole,
    }
