"""What `report`, `diff` and `bisect` read: results files, and the catalogue with its tests as records of a report."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from kernelproof.conformance.catalogue import CatalogueError, Entry, read_catalogue
from kernelproof.conformance.deviations import Deviation
from kernelproof.conformance.kernel_ranges import KernelRange, parse_series
from kernelproof.conformance.report.matrix import LeftOut
from kernelproof.conformance.report.merging import Run, read_runs
from kernelproof.conformance.report.reading import ResultsError
from kernelproof.conformance.report.statements import KnownDeviation, Statement, SuiteTest
from kernelproof.conformance.report.suite_sources import read_tests
from kernelproof.conformance.requirements import profile_for
from kernelproof.vm.errors import VmError
from kernelproof.vm.kernel_select import read_rows

_MARKS = ("pyproject.toml", "pytest.ini", "tox.ini", "setup.cfg", ".git")
_RELEASE = re.compile(r"\bLinux ([0-9]+\.[0-9]+)\b")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]{0,127}")  # a page is called by it


class SuiteRead(NamedTuple):
    """A catalogue with its tests.

    Args:
        entries: In the catalogue's order.
        digest: Of the catalogue.
        folder: The suite: what holds `behaviours/`.
        root: What paths of tests and witnesses are told from.
        tests: By id.
    """

    entries: tuple[Entry, ...]
    digest: str
    folder: Path
    root: Path
    tests: dict[str, tuple[SuiteTest, ...]]


def find_project(folder: Path) -> Path:
    """The project that a folder lies in, as pytest would find it; else the folder above it."""
    for place in (folder, *folder.parents):
        if any((place / name).exists() for name in _MARKS):
            return place
    return folder.parent


def find_suite(named: Path | None) -> Path:
    """The folder of the catalogue: the one that is named, else this project's, else the one that is installed.

    Raises:
        VmError: none has a `*.toml`.
    """
    root = find_project(Path.cwd())
    own = Path(__file__).parent.parent / "conformance" / "behaviours"
    places = [named] if named else [root / "behaviours", root / "conformance" / "behaviours", own]
    for place in places:
        if any(place.glob("*.toml")):
            return place
    raise VmError("read catalogue", str(places[0]), "no *.toml in it", "name a behaviours folder with --behaviours")


def read_suite(named: Path | None) -> SuiteRead:
    """The catalogue and its tests.

    Raises:
        VmError: it is malformed, or a test can't be read.
        OSError: a file can't be read.
    """
    folder = find_suite(named)
    try:
        catalogue = read_catalogue([folder])
        root = find_project(folder.resolve().parent)
        tests = read_tests(folder.resolve().parent, root)
    except CatalogueError as error:
        problem = f"{error.problems[0]} ({len(error.problems)} problems)"
        raise VmError("read catalogue", str(folder), problem, "correct it there") from error
    except ValueError as error:
        raise VmError("read tests", str(folder.parent), str(error), "correct that file") from error
    return SuiteRead(tuple(catalogue.entries.values()), catalogue.digest, folder, root, tests)


def list_files(paths: Sequence[Path]) -> list[Path]:
    """The files that are meant; those of a folder in their order.

    Raises:
        VmError: a folder holds none.
    """
    files: list[Path] = []
    for path in paths:
        found = sorted(path.glob("*.json")) if path.is_dir() else [path]
        if not found:
            raise VmError("read results", str(path), "holds no results", "name a folder with files like 6.12.json")
        files += found
    return files


def read_given(paths: Sequence[Path]) -> tuple[list[Run], list[LeftOut]]:
    """The runs in these files, and the files that hold none, each with the reason.

    Raises:
        OSError: a file is not there or can't be read.
        VmError: a folder holds none.
    """
    runs: list[Run] = []
    left_out: list[LeftOut] = []
    for path in list_files(paths):
        try:
            found = read_runs(path)
        except ResultsError as error:
            left_out.append(LeftOut(str(path), str(error).removeprefix(f"{path}: ")))
            continue
        for run in found:
            name = run.results.kernel["name"]
            if _NAME.fullmatch(name):
                runs.append(run)
            else:
                left_out.append(LeftOut(str(path), f"kernel {name[:80]!r}: not letters, digits and ._+~-"))
    return runs, left_out


def make_statements(suite: SuiteRead, kernels: Iterable[str]) -> list[Statement]:
    """The catalogue's entries as statements of a report about these kernels."""
    names = tuple(kernels)
    return [
        Statement(
            id=entry.id,
            statement=entry.statement,
            source=entry.source,
            subsystem=entry.subsystem,
            of=entry.of,
            kernels=entry.kernels and entry.kernels.text,
            outside=frozenset(name for name in names if not _holds(entry.kernels, name)),
            needs=tuple(need.text for need in entry.needs),
            since=entry.since or None,
            note=entry.note or None,
            suspected=entry.suspected or None,
            deviations=tuple(_make_deviation(suite, one, names, profile_for(entry.needs)) for one in entry.deviations),
            tests=suite.tests.get(entry.id, ()),
        )
        for entry in suite.entries
    ]


def _make_deviation(suite: SuiteRead, one: Deviation, names: Sequence[str], profile: str) -> KnownDeviation:
    path = one.witness.resolve()
    witness = path.relative_to(suite.root) if path.is_relative_to(suite.root) else path
    on = tuple(name for name in names if _holds(one.kernels, name))
    since = describe_since(one, [row.series for row in read_rows().rows])
    return KnownDeviation(one.kernels.text, on, one.seen, one.reason, str(witness), one.source, since, profile)


def describe_since(one: Deviation, tried: Sequence[str]) -> str:
    """Since when kernels deviate: the release that the reason names, else what is known of the kernels tried. Pure.

    Args:
        one: The deviation.
        tried: Series that the suite runs on, oldest first.
    """
    places = [place for place, name in enumerate(tried) if _holds(one.kernels, name)]
    if not places:
        return "not known"
    first, last = places[0], places[-1]
    release = _RELEASE.search(one.reason)
    if release is not None:
        text = f"Linux {release[1]}"
    elif first:
        text = f"after {tried[first - 1]}, by {tried[first]}"
    else:
        text = f"{tried[0]} or before"
    return text if last == len(tried) - 1 else f"{text}; {tried[last + 1]} keeps the document's word"


def _holds(kernels: KernelRange | None, name: str) -> bool:
    if kernels is None:
        return True
    try:
        return kernels.holds(parse_series(name))
    except ValueError:  # a name without numbers: nothing says that it is not meant
        return True
