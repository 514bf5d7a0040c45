"""What `report`, `diff` and `bisect` read: results files, and the catalogue with its tests as records of a report."""

from __future__ import annotations

import argparse
import re
import tomllib
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
        folders: Of the catalogue.
        root: What paths of tests and witnesses are told from.
        tests: By id.
    """

    entries: tuple[Entry, ...]
    digest: str
    folders: tuple[Path, ...]
    root: Path
    tests: dict[str, tuple[SuiteTest, ...]]

    @property
    def told(self) -> str:
        """The folders, for messages."""
        return ", ".join(map(str, self.folders))


def find_project(folder: Path) -> Path:
    """The project that a folder lies in, as pytest would find it; else the folder above it."""
    for place in (folder, *folder.parents):
        if any((place / name).exists() for name in _MARKS):
            return place
    return folder.parent


def add_catalogue_option(parser: argparse.ArgumentParser) -> None:
    """`--behaviours`."""
    text = "the catalogue, more than once for several folders (default: this project's, else the one installed)"
    parser.add_argument("--behaviours", metavar="DIR", type=Path, action="append", default=[], help=text)


def find_catalogue(named: Sequence[Path]) -> list[Path]:
    """The folders of the catalogue: those that are named, else this project's, else the one that is installed.

    Raises:
        VmError: one has no `*.toml`.
    """
    root = find_project(Path.cwd())
    own = Path(__file__).parent.parent / "conformance" / "behaviours"
    asked = [*named] or _read_setting(root)
    usual = (root / "behaviours", root / "conformance" / "behaviours", own)
    folders = asked or [next((folder for folder in usual if any(folder.glob("*.toml"))), own)]
    for folder in folders:
        if not any(folder.glob("*.toml")):
            raise VmError(
                "read catalogue", str(folder), "no *.toml in it", "name a behaviours folder with --behaviours"
            )
    return folders


def _read_setting(root: Path) -> list[Path]:
    # pytest's `behaviours_path`, as the plugin takes it.
    try:
        document = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
        found = document["tool"]["pytest"]["ini_options"]["behaviours_path"]
    except (FileNotFoundError, NotADirectoryError, KeyError, TypeError, ValueError):
        return []
    return [root / str(name) for name in (found.split() if isinstance(found, str) else found)]


def read_suite(named: Sequence[Path]) -> SuiteRead:
    """The catalogue and its tests.

    Args:
        named: Its folders; none: this project's.

    Raises:
        VmError: it is malformed, or a test can't be read.
        OSError: a file can't be read.
    """
    folders = find_catalogue(named)
    parents = list(dict.fromkeys(folder.resolve().parent for folder in folders))
    root = find_project(parents[0])
    tests: dict[str, tuple[SuiteTest, ...]] = {}
    try:
        catalogue = read_catalogue(folders)
        for parent in parents:
            for name, found in read_tests(parent, root).items():
                tests[name] = tuple(dict.fromkeys((*tests.get(name, ()), *found)))
    except CatalogueError as error:
        problem = f"{error.problems[0]} ({len(error.problems)} problems)"
        raise VmError("read catalogue", ", ".join(map(str, folders)), problem, "correct it there") from error
    except ValueError as error:
        raise VmError("read tests", ", ".join(map(str, parents)), str(error), "correct that file") from error
    return SuiteRead(tuple(catalogue.entries.values()), catalogue.digest, tuple(folders), root, tests)


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
    tried = [row.series for row in read_rows().rows]
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
            deviations=tuple(_make_deviation(suite, entry, one, names, tried) for one in entry.deviations),
            tests=suite.tests.get(entry.id, ()),
        )
        for entry in suite.entries
    ]


def _make_deviation(
    suite: SuiteRead, entry: Entry, one: Deviation, names: Sequence[str], tried: Sequence[str]
) -> KnownDeviation:
    path = one.witness.resolve()
    witness = path.relative_to(suite.root) if path.is_relative_to(suite.root) else path
    on = tuple(name for name in names if _holds(one.kernels, name))
    since, profile = describe_since(one, tried), profile_for(entry.needs)
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
