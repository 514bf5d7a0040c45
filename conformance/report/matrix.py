"""What a report shows, worked out of statements and results: columns, cells, counts. Pure; no HTML.

A column is a kernel, a row a statement, a cell what became of the one on the other.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple

from kernelproof.conformance.report.merging import Run
from kernelproof.conformance.report.outcomes import JUDGED_SUBJECTS, Outcome, worst
from kernelproof.conformance.report.records import Results, Row
from kernelproof.conformance.report.statements import KnownDeviation, Statement


class State(StrEnum):
    """What a cell says: an outcome, or why there is none."""

    PASS = "pass"
    DEVIATION = "deviation"
    FAIL = "fail"
    BROKEN = "broken"
    NOT_APPLICABLE = "not_applicable"
    NOT_RUN = "not_run"  # it has a test, these results have no row
    OUTSIDE = "outside"  # the catalogue does not mean it for this kernel
    PLANNED = "planned"  # it has no test

    @property
    def words(self) -> str:
        """The state as people read it."""
        return _WORDS.get(self.value, self.value.replace("_", " "))

    @property
    def glyph(self) -> str:
        """One sign that tells it without colour."""
        return _GLYPHS[self.value]

    @property
    def letter(self) -> str:
        """One letter, for data that scripts read."""
        return _LETTERS[self.value]


_WORDS = {"outside": "not meant for this kernel", "planned": "planned, no test yet"}
_GLYPHS = {
    **{"pass": "✓", "deviation": "≠", "fail": "✕", "broken": "!", "not_applicable": "∅"},
    **{"not_run": "·", "outside": "", "planned": "·"},
}
_LETTERS = {
    **{"pass": "p", "deviation": "d", "fail": "f", "broken": "b", "not_applicable": "n"},
    **{"not_run": "r", "outside": "o", "planned": "t"},
}
JUDGED = (State.FAIL, State.BROKEN, State.DEVIATION, State.PASS, State.NOT_APPLICABLE)
ALARMS = (State.FAIL, State.BROKEN)
_VERSION = re.compile(r"([0-9]+)\.([0-9]+)(?:\.([0-9]+))?(?:-rc([0-9]+))?")
_LINES, _CHARACTERS = 60, 6000


class Column(NamedTuple):
    """A kernel of the report.

    Args:
        name: What its results are filed under.
        file: What its page is called, without folder and end; safe as a file's name.
        results: As they were read.
    """

    name: str
    file: str
    results: Results


class Cell(NamedTuple):
    """A statement on a kernel.

    Args:
        state: What became of it.
        rows: The items that answer for the kernel.
        peers: The items of other subjects, shown beside it.
        deviation: What is listed for this kernel, if anything.
    """

    state: State
    rows: tuple[Row, ...]
    peers: tuple[Row, ...]
    deviation: KnownDeviation | None

    @property
    def seen(self) -> object:
        """The value of the first item that is not simply a pass; None where there is none."""
        return next((row.seen for row in self.rows if row.outcome.value == self.state and row.seen is not None), None)

    @property
    def seconds(self) -> float | None:
        """What its items took on the host, all together; None if that is not known."""
        known = [row.wall_seconds for row in self.rows if row.wall_seconds is not None]
        return sum(known) if known else None


class LeftOut(NamedTuple):
    """What was given and is not in the report: the file, and why."""

    file: str
    why: str


class Site:
    """A report.

    Args:
        columns: The kernels, oldest first.
        statements: By subsystem and id.
        cells: For each statement's id its cells, in the order of columns.
        left_out: What was given and is not in it.
        catalogue_digest: Of the catalogue that the statements come from.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        statements: Sequence[Statement],
        cells: Mapping[str, tuple[Cell, ...]],
        left_out: Sequence[LeftOut],
        catalogue_digest: str,
    ) -> None:
        self.columns = tuple(columns)
        self.statements = tuple(statements)
        self.cells = cells
        self.left_out = tuple(left_out)
        self.catalogue_digest = catalogue_digest

    @cached_property
    def subsystems(self) -> dict[str, list[Statement]]:
        """The statements of each subsystem, both in their order."""
        found: dict[str, list[Statement]] = {}
        for statement in self.statements:
            found.setdefault(statement.subsystem, []).append(statement)
        return found

    def count(self, statements: Iterable[Statement], column: int) -> Counter[State]:
        """How many of the statements are in which state on a kernel."""
        return Counter(self.cells[statement.id][column].state for statement in statements)

    @property
    def planned(self) -> int:
        """How many statements have no test and no row."""
        return sum(not statement.tests and self._is_silent(statement) for statement in self.statements)

    def _is_silent(self, statement: Statement) -> bool:
        return all(not cell.rows for cell in self.cells[statement.id])


def plan_site(
    statements: Iterable[Statement], runs: Iterable[Run], left_out: Iterable[LeftOut], catalogue_digest: str
) -> Site:
    """The report of these results. Rows of unknown statements are left out by name.

    Args:
        statements: Of the catalogue.
        runs: No kernel twice.
        left_out: What the reader of the files left out.
        catalogue_digest: Of the catalogue.
    """
    ordered = sorted(statements, key=lambda statement: (statement.subsystem, statement.id))
    sorted_runs = sorted(runs, key=lambda run: kernel_order(run.results.kernel["name"]))
    columns = [Column(run.results.kernel["name"], run.results.kernel["name"], run.results) for run in sorted_runs]
    known = {statement.id for statement in ordered}
    gone = [*left_out, *(strange for run in sorted_runs if (strange := _find_strange(run, known)) is not None)]
    by_column = [_rows_by_behaviour(column.results.rows) for column in columns]
    cells = {
        statement.id: tuple(
            _plan_cell(statement, column.name, rows.get(statement.id, ()))
            for column, rows in zip(columns, by_column, strict=True)
        )
        for statement in ordered
    }
    return Site(columns, ordered, cells, gone, catalogue_digest)


def kernel_order(name: str) -> tuple[tuple[int, ...], bool, str]:
    """Sorts names of kernels: by version, candidates before releases, a distribution's before one's own. Pure."""
    match = _VERSION.search(name)
    if match is None:
        return (1 << 30,), True, name
    major, minor, patch, candidate = match.groups()
    rc = (-1, int(candidate)) if candidate else (0, 0)
    return (int(major), int(minor), *rc, int(patch or 0)), name[0].isalpha(), name


def excerpt(text: str) -> str:
    """The end of a log or of a reason, which says most, cut to what a page can hold. Pure."""
    shown = text.rstrip()[-_CHARACTERS:]
    lines = shown.splitlines()[-_LINES:]
    cut = "\n".join(lines)
    return cut if len(cut) == len(text.rstrip()) else f"[…]\n{cut}"


def _find_strange(run: Run, known: set[str]) -> LeftOut | None:
    strange = sorted({row.behaviour for row in run.results.rows} - known)
    if not strange:
        return None
    shown = ", ".join(name[:80] for name in strange[:5]) + (f" and {len(strange) - 5} more" if strange[5:] else "")
    return LeftOut(str(run.path), f"rows of unknown statements: {shown}")


def _rows_by_behaviour(rows: Iterable[Row]) -> dict[str, tuple[Row, ...]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.behaviour, []).append(row)
    return {name: tuple(sorted(of, key=lambda row: (row.subject, row.node))) for name, of in found.items()}


def _plan_cell(statement: Statement, kernel: str, rows: Sequence[Row]) -> Cell:
    judged = tuple(row for row in rows if row.subject in JUDGED_SUBJECTS)
    peers = tuple(row for row in rows if row.subject not in JUDGED_SUBJECTS)
    deviation = next((one for one in statement.deviations if kernel in one.on), None)
    return Cell(_find_state(statement, kernel, [row.outcome for row in judged]), judged, peers, deviation)


def _find_state(statement: Statement, kernel: str, outcomes: Sequence[Outcome]) -> State:
    if outcomes:
        return State(worst(outcomes).value)
    if kernel in statement.outside:
        return State.OUTSIDE
    return State.NOT_RUN if statement.tests else State.PLANNED
