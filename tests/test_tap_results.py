"""TAP as rows of a results file: what they say, where they go, and what is never mixed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from kernelproof.cli import tap_results
from kernelproof.cli.tap_results import Ran, find_behaviour, judge, plan_rows, write
from kernelproof.conformance.project import read_project
from kernelproof.conformance.report import reading
from kernelproof.conformance.report.outcomes import Outcome
from kernelproof.conformance.report.records import behaviour_outcomes
from kernelproof.vm.errors import VmError
from kernelproof.vm.tap import Result, TapReader

SCHEMA = json.loads(Path(reading.__file__).with_name("results.schema.json").read_text("utf-8"))
FACTS: dict[str, dict[str, Any]] = {
    "kernel": {
        "name": "6.12",
        "series": "6.12",
        "release": "6.12.9",
        "package": "p",
        "build": "1",
        "config_digest": "c",
    },
    "guest": {"root_digest": "r", "python": "3.13", "observers": {}},
    "machine": {"qemu": "10.0.0", "accelerator": "tcg", "time": "real", "cpus": 2, "other": 1},
}
RAN = Ran("tests/check.sh", FACTS, "plain", "stand-in", "0" * 32, 1.5)
TAP = b"""KTAP version 1
1..7
ok 1 pass
not ok 2 fail
ok 3 skip # SKIP why
not ok 4 xfail # XFAIL known
not ok 5 time # TIMEOUT 30 s
not ok 6 netlink.bridge.port-mtu: as documented
ok 7 pass
"""


def read(data: bytes = TAP) -> tuple[Result, ...]:
    reader = TapReader()
    reader.feed(data)
    return reader.finish()


@pytest.mark.parametrize(
    ("ok", "directive", "reason", "outcome", "said"),
    [
        (True, "", "", Outcome.PASS, None),
        (True, "", "rcode=0", Outcome.PASS, None),
        (False, "", "", Outcome.FAIL, "not ok"),
        (False, "", "why", Outcome.FAIL, "why"),
        (True, "SKIP", "", Outcome.NOT_APPLICABLE, "skipped"),
        (False, "SKIP", "why", Outcome.NOT_APPLICABLE, "why"),
        (False, "TODO", "why", Outcome.DEVIATION, "known (TODO): why"),
        (True, "TODO", "why", Outcome.PASS, None),
        (True, "XFAIL", "", Outcome.DEVIATION, "known (XFAIL): no reason given"),
        (False, "XFAIL", "why", Outcome.DEVIATION, "known (XFAIL): why"),
        (False, "TIMEOUT", "30 s", Outcome.BROKEN, "TIMEOUT: 30 s"),
        (False, "ERROR", "", Outcome.BROKEN, "ERROR: no reason given"),
    ],
)
def test_outcomes(ok: bool, directive: str, reason: str, outcome: Outcome, said: str | None) -> None:
    """Each result is one of the five outcomes, with a reason unless it is a pass."""
    assert judge(Result(("x",), ok, directive, reason)) == (outcome, said)


def test_diagnostics_are_a_reason() -> None:
    """What was said before a failure is its reason where it names none."""
    assert judge(Result(("x",), False, diagnostics="expected 1\nseen 2")) == (Outcome.FAIL, "expected 1\nseen 2")


@pytest.mark.parametrize(
    ("path", "behaviour"),
    [
        (("suite", "case"), "tap.tests-check-sh.suite-case"),
        (("netlink.bridge.port-mtu: the MTU",), "netlink.bridge.port-mtu"),
        (("suite", "netlink.bridge.port-mtu"), "netlink.bridge.port-mtu"),
        (("1.2.3",), "1.2.3"),
        (("Ünwörd!",), "tap.tests-check-sh.nw-rd"),
        (("!?",), "tap.tests-check-sh.test"),
    ],
)
def test_behaviour(path: tuple[str, ...], behaviour: str) -> None:
    """A result that begins with a statement's id is about that statement; else it has an id made of its names."""
    assert find_behaviour("tests/check.sh", path) == behaviour


def test_rows_fit_the_schema(tmp_path: Path) -> None:
    """A file made of TAP alone is a results file, and shell tests count as others do."""
    rows = plan_rows(RAN._replace(problem="lost", log="BUG"), read())
    path, note = write(tmp_path, tmp_path, RAN, rows)
    document = json.loads(path.read_text("utf-8"))
    jsonschema.validate(document, SCHEMA)
    assert (path.name, note) == ("6.12.json", None)
    assert reading.read_results(path).rows == tuple(sorted(rows, key=lambda row: (row.behaviour, row.node)))
    outcomes = behaviour_outcomes(rows)
    assert outcomes["netlink.bridge.port-mtu"] is Outcome.FAIL
    assert outcomes["tap.tests-check-sh.end"] is Outcome.BROKEN
    nodes = [row["node"] for row in document["results"]]
    assert {"tests/check.sh::pass", "tests/check.sh::pass #2"} <= set(nodes)


def test_complaints_of_the_kernel(tmp_path: Path) -> None:
    """What the kernel complained of while a program ran is a failure, also when all its tests pass."""
    ran = RAN._replace(complaints=("WARNING: CPU: 0", "BUG: x"), log="WARNING: CPU: 0 …")
    rows = {row.node: row for row in plan_rows(ran, read(b"1..1\nok 1 a\n"))}
    assert rows["tests/check.sh::a"].outcome is Outcome.PASS
    row = rows["tests/check.sh::kernel log"]
    assert (row.outcome, row.log) == (Outcome.FAIL, ran.log)
    assert row.reason == "kernel log: WARNING: CPU: 0\nkernel log: BUG: x"


def test_rows_are_replaced(tmp_path: Path) -> None:
    """A second run of a program replaces its rows; those of others stay, with the header."""
    other = RAN._replace(name="other")
    write(tmp_path, tmp_path, other, plan_rows(other, read(b"1..1\nok 1 stays\n")))
    write(tmp_path, tmp_path, RAN, plan_rows(RAN, read()))
    path, _ = write(tmp_path, tmp_path, RAN, plan_rows(RAN, read(b"1..1\nok 1 new\n")))
    assert [row.node for row in reading.read_results(path).rows] == ["other::stays", "tests/check.sh::new"]


@pytest.mark.parametrize("name", ["release", "build", "config_digest"])
def test_another_kernel_is_not_mixed_in(tmp_path: Path, name: str) -> None:
    """Rows of another build of a kernel are not put beside those of the first; the file stays as it is."""
    path, _ = write(tmp_path, tmp_path, RAN, plan_rows(RAN, read()))
    before = path.read_bytes()
    facts = {**FACTS, "kernel": {**FACTS["kernel"], name: "else"}}
    with pytest.raises(VmError, match=rf"is of another kernel: {name} \S+ there, else here"):
        write(tmp_path, tmp_path, RAN._replace(facts=facts), plan_rows(RAN, read()))
    assert path.read_bytes() == before


def test_another_schema_is_not_mixed_in(tmp_path: Path) -> None:
    """A file that this version does not read is left alone."""
    (tmp_path / "6.12.json").write_text('{"schema": 2}')
    with pytest.raises(VmError, match="schema 2, this version reads 1"):
        write(tmp_path, tmp_path, RAN, ())
    assert (tmp_path / "6.12.json").read_text() == '{"schema": 2}'


def test_another_commit_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows beside others of another commit are written, and that is told."""
    project = read_project(tmp_path)
    monkeypatch.setattr(tap_results, "read_project", lambda _: project._replace(commit="a" * 40))
    other = RAN._replace(name="other")
    write(tmp_path, tmp_path, other, plan_rows(other, read()))
    monkeypatch.setattr(tap_results, "read_project", lambda _: project._replace(commit="b" * 40))
    _, note = write(tmp_path, tmp_path, RAN, plan_rows(RAN, read()))
    assert note is not None
    assert "are of commit aaaa" in note


def test_name_of_a_kernel_stays_in_the_folder(tmp_path: Path) -> None:
    """A guest's kernel can't name a file outside the folder."""
    facts = {**FACTS, "kernel": {**FACTS["kernel"], "name": "../x"}}
    with pytest.raises(ValueError, match="name of a kernel"):
        write(tmp_path, tmp_path, RAN._replace(facts=facts), ())
