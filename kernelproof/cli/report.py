"""`kernelproof report`: results as pages that people read."""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from kernelproof.cli.report_input import SuiteRead, add_catalogue_option, make_statements, read_given, read_suite
from kernelproof.conformance.report.matrix import plan_site
from kernelproof.conformance.report.merging import Run, find_clashes
from kernelproof.conformance.report.site_files import ForeignFilesError, check_place, write_site
from kernelproof.conformance.report.site_pages import format_site
from kernelproof.impl._syscalls.renaming import RenameFlag, renameat2
from kernelproof.vm.console import escape_text
from kernelproof.vm.errors import VmError

EPILOG = """examples:
  kernelproof report results/*.json -o site/
  kernelproof report all.json -o site/             a file that `kernelproof merge` made
  kernelproof report results/ -o site/ --behaviours ../mine/behaviours

The pages need no server and no network: open site/index.html. An older report in that folder is replaced; a folder
that holds anything else is refused. The same kernel twice, or results of another catalogue, are refused.

exit status: 0; 1 if anything that was given is not in the report (it is named there too), or there is none."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which results, and where to."""
    parser.add_argument("results", nargs="+", type=Path, help="results files, merged files, or folders of them")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="the folder of the report")
    add_catalogue_option(parser)
    parser.add_argument("--name", default="kernelproof", metavar="TEXT", help="what the report is called")
    text = "also results of another catalogue: the same statement may mean something else; the pages say so"
    parser.add_argument("--any-catalogue", action="store_true", help=text)
    parser.add_argument("-q", "--quiet", action="store_true", help="say only what is wrong")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG


def run(arguments: argparse.Namespace) -> int:
    """Write the report.

    Raises:
        VmError: there is nothing to show, or what there is does not belong together.
        OSError: a file can't be read or written.
    """
    # Nothing here makes cycles, and looking for them takes a tenth of the time: there are a million small objects.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _make(arguments)
    finally:
        if collecting:
            gc.enable()


def _make(arguments: argparse.Namespace) -> int:
    began = time.process_time()
    try:
        check_place(arguments.output)
    except ForeignFilesError as error:
        raise VmError("write report", str(arguments.output), str(error), "name a new folder with -o") from error
    runs, left_out = read_given(arguments.results)
    for one in left_out:
        print(f"kernelproof: left out: {escape_text(f'{one.file}: {one.why}')}", file=sys.stderr)
    if not runs:
        remedy = "make some: python -m pytest --kernel all"
        raise VmError("write report", f"{len(left_out)} files", "no results in them", remedy)
    suite = read_suite(arguments.behaviours)
    _refuse_clashes(runs, suite, any_catalogue=arguments.any_catalogue)
    statements = make_statements(suite, [run.results.kernel["name"] for run in runs])
    site = plan_site(statements, runs, left_out, suite.digest)
    for one in site.left_out[len(left_out) :]:
        print(f"kernelproof: left out: {escape_text(f'{one.file}: {one.why}')}", file=sys.stderr)
    try:
        number = write_site(arguments.output, format_site(site, arguments.name), _exchange)
    except ForeignFilesError as error:
        raise VmError("write report", str(arguments.output), str(error), "name a new folder with -o") from error
    if not arguments.quiet:
        seconds = time.process_time() - began
        what = f"{len(site.statements)} statements, {len(site.columns)} kernels, {number} files, {seconds:.1f} s of CPU"
        print(f"{arguments.output / 'index.html'}: {what}")
    return 1 if site.left_out else 0


def _refuse_clashes(runs: Sequence[Run], suite: SuiteRead, *, any_catalogue: bool) -> None:
    clashes = find_clashes(runs, any_catalogue=any_catalogue)
    others = [run for run in runs if run.results.catalogue_digest != suite.digest]
    if others and not any_catalogue:
        named = ", ".join(str(run.path) for run in others)
        clashes.append(f"not of the catalogue {suite.told} as it is now: {named}")
    if clashes:
        remedy = "name each kernel once, run again what is old; --any-catalogue lets catalogues differ"
        raise VmError("write report", f"{len(runs)} runs", escape_text("; ".join(clashes)), remedy)


def _exchange(one: Path, other: Path) -> None:
    renameat2(one, other, RenameFlag.EXCHANGE)
