"""The results file by value: what stands in it, what its published schema takes and refuses, how it is written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from kernelproof.conformance.report import files
from kernelproof.conformance.report.files import results_path, write_results
from kernelproof.conformance.report.outcomes import Outcome, worst
from kernelproof.conformance.report.records import Project as Suite
from kernelproof.conformance.report.records import Results, Row, behaviour_outcomes
from kernelproof.conformance.report.summary import format_table

SCHEMA = Path(files.__file__).with_name("results.schema.json")

Check = Callable[[dict[str, Any]], None]


def row(outcome: Outcome = Outcome.PASS, **changes: Any) -> Row:
    reason = None if outcome is Outcome.PASS else "so"
    seen = 1 if outcome is Outcome.DEVIATION else None
    whole = Row("a.b.c", "t.py::t", "plain", "impl", outcome, "0" * 32, 0.1234567891, 0.0, reason, seen, None)
    return whole._replace(**changes)


def results(*rows: Row, **changes: Any) -> Results:
    whole = Results(
        project=Suite("1.0", "f" * 40, False),
        catalogue_digest="d" * 64,
        kernel=dict.fromkeys(("name", "series", "release", "package", "build", "config_digest")) | {"name": "6.12"},
        guest=dict.fromkeys(("root_digest", "python", "observers")),
        machine=dict.fromkeys(("qemu", "accelerator", "time", "cpus")),
        selection=(),
        complete=True,
        rows=rows,
    )
    return whole._replace(**changes)


def test_worst_of_items() -> None:
    """A behaviour is as its worst item of the project's own subjects; peers do not count."""
    rows = (row(), row(Outcome.FAIL), row(Outcome.DEVIATION), row(Outcome.BROKEN, subject="runc"))
    assert behaviour_outcomes(rows) == {"a.b.c": Outcome.FAIL}
    assert behaviour_outcomes((row(Outcome.FAIL, subject="runc"),)) == {}
    order = [Outcome.BROKEN, Outcome.FAIL, Outcome.DEVIATION, Outcome.PASS, Outcome.NOT_APPLICABLE]
    for place, outcome in enumerate(order):
        assert worst(order[place:]) is outcome


def test_table_of_peers() -> None:
    """Peers stand below the table; a table of nothing but peers has no lines of its own."""
    rows = (row(Outcome.FAIL, subject="runc"), row(subject="runc"), row(subject="crun"))
    assert format_table(rows, {"a.b.c": "demo"}) == ["beside it, crun: 1 pass", "beside it, runc: 1 pass, 1 fail"]


def test_rows_are_sorted_and_rounded() -> None:
    """The file does not depend on who ran first, and seconds have six digits."""
    first, second = row(behaviour="a.b.a"), row(behaviour="a.b.b")
    assert results(second, first).as_json() == results(first, second).as_json()
    assert results(first).as_json()["results"][0]["wall_seconds"] == 0.123457


@pytest.mark.parametrize("outcome", Outcome)
def test_schema_takes_every_outcome(outcome: Outcome, check: Check) -> None:
    """A row of each outcome is valid."""
    check(results(row(outcome)).as_json())


@pytest.mark.parametrize(
    "changes",
    [
        {"outcome": "passed"},
        {"reason": "so"},
        {"outcome": "fail", "reason": None},
        {"outcome": "deviation", "reason": "so", "seen": None},
        {"clone": "xyz"},
        {"wall_seconds": -1},
        {"behaviour": "a.b"},
        {"subject": ""},
        {"extra": 1},
    ],
)
def test_schema_refuses(changes: dict[str, Any], check: Check) -> None:
    """A row that contradicts itself or has other keys is not valid."""
    data = results(row()).as_json()
    data["results"][0] |= changes
    with pytest.raises(AssertionError):
        check(data)


@pytest.mark.parametrize("name", ["", "..", "../6.12", "a/b", ".hidden", "x\n", "image-" + "y" * 200])
def test_kernel_name_that_is_no_file_name(tmp_path: Path, name: str) -> None:
    """A kernel's name comes from a guest; one that would leave the folder is refused."""
    with pytest.raises(ValueError, match="name of a kernel"):
        results_path(tmp_path, name, whole=True)


def test_writing_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disc is full the old file stays as it was, and no other file is left."""
    path = write_results(tmp_path, results(row()))
    before = path.read_text()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_results(tmp_path, results(row(Outcome.FAIL)))
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]


def test_schema_travels() -> None:
    """The schema lies in the package, where a wheel takes it along, and is itself a schema."""
    jsonschema.Draft202012Validator.check_schema(json.loads(SCHEMA.read_text()))
    assert SCHEMA.parent.name == "report"
