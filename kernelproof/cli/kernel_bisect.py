"""`kernelproof bisect`: between which two kernels a behaviour changed. Not called bisect: Python has that module."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kernelproof.cli.diff import CANNOT, format_answer
from kernelproof.cli.refusals import describe_refusal
from kernelproof.cli.report_input import SuiteRead, add_catalogue_option, read_given, read_suite
from kernelproof.conformance.kernel_ranges import parse_series
from kernelproof.conformance.report.bisecting import Found, bisect, is_same, is_telling
from kernelproof.conformance.report.comparison import Answer, read_answers
from kernelproof.conformance.report.matrix import kernel_order
from kernelproof.conformance.report.outcomes import Outcome
from kernelproof.conformance.report.reading import ResultsError, read_results
from kernelproof.vm.adding_up import AddUp
from kernelproof.vm.console import escape_text
from kernelproof.vm.errors import ProvisionError, VmError
from kernelproof.vm.kernel_select import read_rows, select_kernels
from kernelproof.vm.own_kernel import find_modules, find_own_kernel

_IMAGES = ("vmlinuz*", "bzImage*", "vmlinux*", "arch/x86/boot/bzImage")
_INTERRUPT_SECONDS = 60  # pytest ends its machines

EPILOG = """examples:
  kernelproof bisect link.rename.while-up
  kernelproof bisect link.rename.while-up --kernel 6.1,6.12,7.3
  kernelproof bisect link.rename.while-up --known results/*.json   runs only what they don't say
  kernelproof bisect link.rename.while-up --kernel-image /boot builds/

Both ends are run, then always the kernel in the middle; one that gives no answer is stepped around.

exit status: 0 if a change was found; 1 if all answer alike; 125 if nothing can be said."""


class Place(NamedTuple):
    """A kernel that can be asked: its name in results, and pytest's words for it."""

    name: str
    words: tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which behaviour, on which kernels."""
    parser.add_argument("behaviour", metavar="BEHAVIOUR", help="its id in the catalogue")
    text = "series or roles with commas (default: all, or the images)"
    parser.add_argument("--kernel", metavar="KERNEL", action=AddUp, help=text)
    text = "images of your own, or folders that hold some (vmlinuz*, bzImage*, vmlinux*)"
    parser.add_argument("--kernel-image", metavar="PATH", type=Path, nargs="+", action="extend", default=[], help=text)
    text = "where their modules are: DIR/lib/modules/RELEASE (default: beside each image)"
    parser.add_argument("--modules", metavar="DIR", type=Path, help=text)
    text = "results of these runs are believed and not run again"
    parser.add_argument("--known", metavar="FILE", type=Path, nargs="+", action="extend", default=[], help=text)
    add_catalogue_option(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG


def run(arguments: argparse.Namespace) -> int:
    """Ask kernels until it is known."""
    try:
        suite = read_suite(arguments.behaviours)
        nodes = find_nodes(suite, arguments.behaviour)
        places = [place for place in find_places(arguments) if _is_meant(suite, arguments.behaviour, place.name)]
        if len(places) < 2:
            raise VmError("bisect", arguments.behaviour, f"{len(places)} kernels to compare", "name two or more")
        known = read_known(arguments.known, suite, arguments.behaviour)
    except VmError as error:
        print(f"kernelproof: {error}", file=sys.stderr)
        return CANNOT
    except OSError as error:
        print(f"kernelproof: {describe_refusal(error)}\n  remedy: name files that are there", file=sys.stderr)
        return CANNOT
    kernels = {place.name: place for place in places}

    def ask(name: str) -> Answer | None:
        began = time.monotonic()
        answer, why = run_behaviour(suite, arguments.behaviour, nodes, kernels[name])
        seconds = time.monotonic() - began
        said = _tell(answer) if answer is not None else f"no answer: {why}"
        print(f"kernelproof: {escape_text(name)}: {said} ({seconds:.0f} s)", file=sys.stderr, flush=True)
        return answer

    found = bisect([*kernels], ask, known)
    if arguments.json:
        print(json.dumps(_as_json(arguments.behaviour, found, [*kernels]), indent=2))
    else:
        print("\n".join(describe(arguments.behaviour, found, [*kernels])))
    return CANNOT if len(_list_telling(found)) < 2 else int(found.first is None)


def _tell(answer: Answer) -> str:
    # What nobody has on record yet is worth its reason: why a kernel tells nothing, or what failed.
    known = answer.outcome in (Outcome.PASS, Outcome.DEVIATION)
    lines = [] if known else (answer.reason or "").strip().splitlines()
    why = f": {lines[0][:300]}" if lines else ""
    return format_answer(answer) + escape_text(why)


def _list_telling(found: Found) -> list[str]:
    return [name for name, answer in found.answers.items() if is_telling(answer)]


def find_nodes(suite: SuiteRead, behaviour: str) -> list[str]:
    """The tests of a statement, as pytest is told them.

    Raises:
        VmError: there is no such statement, or it has no test.
    """
    if all(entry.id != behaviour for entry in suite.entries):
        like = [entry.id for entry in suite.entries if behaviour in entry.id][:5]
        remedy = (
            f"did you mean {', '.join(like)}?" if like else "search for it: kernelproof report makes a page for that"
        )
        raise VmError("bisect", behaviour, f"no such statement in {suite.told}", remedy)
    tests = suite.tests.get(behaviour, ())
    if not tests:
        raise VmError("bisect", behaviour, "it has no test: it is planned", "write one, or choose another")
    return [f"{test.path}::{test.function}" for test in tests]


def find_places(arguments: argparse.Namespace) -> list[Place]:
    """The kernels, oldest first.

    Raises:
        ProvisionError: there is no such kernel.
        VmError: a folder holds no image, or two are of the same release.
    """
    places = [*find_images(arguments.kernel_image, arguments.modules)]
    if arguments.kernel is not None or not places:
        every = ",".join(row.series for row in read_rows().rows)
        names = select_kernels(every if arguments.kernel is None else arguments.kernel)
        places += [Place(name, ("--kernel", name)) for name in names]
    return sorted(places, key=lambda place: kernel_order(place.name))


def find_images(paths: Iterable[Path], modules: Path | None) -> list[Place]:
    """The images that are named, and those in folders that are.

    Raises:
        ProvisionError: a file is no kernel.
        VmError: a folder holds none, or two are of the same release.
    """
    found: dict[str, Path] = {}
    places = []
    for path in paths:
        files = sorted({file for glob in _IMAGES for file in path.glob(glob)}) if path.is_dir() else [path]
        if not files:
            raise VmError("find kernels", str(path), "no image in it", f"name a folder with {', '.join(_IMAGES[:3])}")
        for file in files:
            own = find_own_kernel(file, None, None)
            if own.name in found:
                detail = f"{file} and {found[own.name]} are both {own.banner.release}"
                raise VmError("find kernels", own.name, detail, "leave one out, or set CONFIG_LOCALVERSION")
            found[own.name] = file
            words = [f"--kernel-image={file.absolute()}"]
            folder = _find_modules((modules,) if modules else (file.parent,), own.banner.release)
            places.append(Place(own.name, (*words, *([f"--modules={folder}"] if folder else ()))))
    return places


def _find_modules(folders: Iterable[Path], release: str) -> Path | None:
    for folder in folders:
        try:
            return find_modules(folder.absolute(), release)
        except ProvisionError:  # none there: what is needed must be built in
            continue
    return None


def _is_meant(suite: SuiteRead, behaviour: str, kernel: str) -> bool:
    kernels = next(entry.kernels for entry in suite.entries if entry.id == behaviour)
    return kernels is None or kernels.holds(parse_series(kernel))


def read_known(paths: Sequence[Path], suite: SuiteRead, behaviour: str) -> dict[str, Answer]:
    """What results say already, by kernel; what is not of this catalogue is left out by name.

    Raises:
        OSError, VmError: a file is not there.
    """
    known: dict[str, Answer] = {}
    runs, left_out = read_given(paths) if paths else ([], [])
    reasons = [(one.file, one.why) for one in left_out]
    for run in runs:
        name = run.results.kernel["name"]
        answer = read_answers(run.results).get(behaviour)
        if run.results.catalogue_digest != suite.digest:
            reasons.append((str(run.path), f"kernel {name}: of another catalogue"))
        elif name in known:
            raise VmError("read results", str(run.path), f"kernel {name} twice", "name each kernel once")
        elif answer is not None and is_telling(answer):
            known[name] = answer
    for file, why in reasons:
        print(f"kernelproof: left out: {escape_text(f'{file}: {why}')}", file=sys.stderr)
    return known


def run_behaviour(suite: SuiteRead, behaviour: str, nodes: Sequence[str], place: Place) -> tuple[Answer | None, str]:
    """Run the tests of a statement on a kernel; the answer, or why there is none."""
    with tempfile.TemporaryDirectory(prefix="kernelproof-bisect-") as folder:
        words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", f"--results-dir={folder}", *place.words, *nodes]
        with subprocess.Popen(
            [sys.executable, *words], cwd=suite.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", stdin=subprocess.DEVNULL,
        ) as process:  # fmt: skip
            try:
                output, _ = process.communicate()
            except KeyboardInterrupt:  # it has been told as well
                process.wait(_INTERRUPT_SECONDS)
                raise
        for file in Path(folder).rglob(f"{place.name}.json"):
            try:
                answer = read_answers(read_results(file)).get(behaviour)
            except ResultsError as error:
                return None, escape_text(str(error))
            if answer is not None:
                return answer, ""
    lines = output.strip().splitlines()
    return None, escape_text(lines[-1])[:200] if lines else f"pytest ended with {process.returncode}"


def describe(behaviour: str, found: Found, kernels: Sequence[str]) -> list[str]:
    """What was found, as lines."""
    runs = f"{len(found.asked)} run{'s' if len(found.asked) != 1 else ''} of {len(kernels)} kernels"
    if found.last is None:
        return [f"{behaviour}: no kernel gave an answer ({runs})"]
    old = format_answer(found.answers[found.last])
    if _list_telling(found) == [found.last]:
        return [escape_text(f"{behaviour}: {found.last} alone gave an answer: {old} ({runs})")]
    if found.first is None:
        ends = [name for name in kernels if is_same(found.answers.get(name), found.answers[found.last])]
        return [f"{behaviour}: {old} on {', '.join(ends)}: no change ({runs})"]
    new = format_answer(found.answers[found.first])
    lines = [f"{behaviour}: changed between {found.last} and {found.first}: {old} -> {new} ({runs})"]
    if silent := found.between(kernels):
        lines.append(f"  in between, without an answer: {', '.join(silent)}")
    return [escape_text(line) for line in lines]


def _as_json(behaviour: str, found: Found, kernels: Sequence[str]) -> dict[str, Any]:
    answers = {name: found.answers[name] for name in kernels if name in found.answers}
    return {
        "schema": 1,
        "behaviour": behaviour,
        "last": found.last,
        "first": found.first,
        "between": found.between(kernels),
        "asked": list(found.asked),
        "answers": {name: None if one is None else one._asdict() for name, one in answers.items()},
    }
