"""`kernelproof merge`: results of several runs in one file, for one CI job a kernel."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from kernelproof.cli.tables import print_rows
from kernelproof.conformance.report.merging import Run, find_clashes, merge, read_runs, write_document
from kernelproof.conformance.report.outcomes import Outcome
from kernelproof.conformance.report.reading import ResultsError
from kernelproof.vm.console import escape_text
from kernelproof.vm.errors import VmError

COLUMNS = ("kernel", "release", "rows", *(outcome.value for outcome in Outcome), "whole", "file")

EPILOG = """examples:
  kernelproof merge results/ -o all.json                      every results file of a folder
  kernelproof merge job-*/results/*.json -o all.json          one CI job a kernel
  kernelproof merge old.json results/7.3.json -o all.json     a merged file, and one more

The same kernel twice, another schema or another catalogue is refused; nothing is written then."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which files, and where to."""
    parser.add_argument("results", nargs="+", type=Path, help="results files, merged files, or folders of them")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, required=True, help="the file that is written")
    text = "also results of different catalogues: the same statement may mean different things"
    parser.add_argument("--any-catalogue", action="store_true", help=text)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG


def find_files(paths: Sequence[Path], output: Path) -> list[Path]:
    """The files that are meant; those of a folder in their order, without the one that is written.

    Raises:
        VmError: a folder holds none.
    """
    files: list[Path] = []
    for path in paths:
        found = sorted(path.glob("*.json")) if path.is_dir() else [path]
        if path.is_dir():
            found = [file for file in found if file.resolve() != output.resolve()]
        if not found:
            raise VmError("merge results", str(path), "holds no results", "name a folder with files like 6.12.json")
        files += found
    return files


def describe(run: Run) -> dict[str, object]:
    """A row about one run."""
    results = run.results
    counts = Counter(row.outcome for row in results.rows)
    return {
        "kernel": escape_text(results.kernel["name"]),
        "release": escape_text(str(results.kernel.get("release") or "")),
        "rows": len(results.rows),
        **{outcome.value: counts[outcome] for outcome in Outcome},
        "whole": "yes" if results.is_whole else "no",
        "file": str(run.path),
    }


def run(arguments: argparse.Namespace) -> int:
    """Merge and print what is in it now."""
    try:
        runs = [run for path in find_files(arguments.results, arguments.output) for run in read_runs(path)]
    except ResultsError as error:
        remedy = "leave it out, or make it anew with this version"
        raise VmError("merge results", "results file", escape_text(str(error)), remedy) from error
    clashes = find_clashes(runs, any_catalogue=arguments.any_catalogue)
    if clashes:
        remedy = "name each kernel once" + (
            "" if arguments.any_catalogue else "; --any-catalogue lets catalogues differ"
        )
        raise VmError("merge results", f"{len(runs)} runs", escape_text("; ".join(clashes)), remedy)
    write_document(arguments.output, merge(runs))
    print_rows([describe(run) for run in runs], COLUMNS, as_json=arguments.json)
    if not all(run.results.is_whole for run in runs):
        print("kernelproof: note: not all of these are whole runs", file=sys.stderr)
    return 0
