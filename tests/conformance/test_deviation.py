"""Deviations: only the exact value, printed by the witness too, is one; the documented answer is a failure then."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kernelproof.conformance.deviations import deviation_on, parse_deviations

if TYPE_CHECKING:
    from conftest import Project

TABLE = """
[[behaviour.deviations]]
kernels = "{kernels}"
seen = {seen}
witness = "witnesses/w.py"
reason = "The check came later."
"""


def listed(project: Project, seen: str = '"EINVAL"', kernels: str = ">=6.1", witness: str = "print('EINVAL')") -> None:
    project.entry("a.b.c", TABLE.format(seen=seen, kernels=kernels))
    (project.path / "conformance/witnesses").mkdir()
    (project.path / "conformance/witnesses/w.py").write_text(witness + "\n")


def saw(project: Project, value: str, documented: str = "'EPERM'") -> dict[str, Any]:
    project.tests(f"@behaviour('a.b.c')\ndef test_it(seen):\n    assert seen({value}) == {documented}\n")
    project.run()
    return project.row()


def test_exact_value_with_witness(project: Project) -> None:
    """The listed value, seen by the test and printed by the witness, is a deviation: passed, and said why."""
    listed(project)
    row = saw(project, "'EINVAL'")
    assert (row["outcome"], row["seen"], row["reason"]) == ("deviation", "EINVAL", "EINVAL: The check came later.")
    project.run().assert_outcomes(passed=1)


def test_other_value_is_a_failure(project: Project) -> None:
    """A value that is neither documented nor listed is a failure that names both."""
    listed(project)
    row = saw(project, "'EBUSY'")
    assert row["outcome"] == "fail"
    assert row["reason"] == "the deviation listed for this kernel is 'EINVAL', the test saw 'EBUSY'"


def test_documented_value_is_a_failure(project: Project) -> None:
    """The documented answer where a deviation is listed is a failure: the list is wrong."""
    listed(project)
    row = saw(project, "'EPERM'")
    assert row["outcome"] == "fail"
    assert "does as documented, not 'EINVAL' as listed: remove the deviation" in row["reason"]


def test_unlisted_kernel_is_judged_by_the_document(project: Project) -> None:
    """On a kernel outside the deviation's range the document holds."""
    listed(project, kernels="<6.1")
    assert saw(project, "'EINVAL'")["outcome"] == "fail"
    assert saw(project, "'EPERM'")["outcome"] == "pass"


def test_failure_without_seen_value(project: Project) -> None:
    """A test that fails before it recorded a value is a failure, not a deviation."""
    listed(project)
    project.tests("@behaviour('a.b.c')\ndef test_it(seen):\n    assert 'EINVAL' == 'EPERM'\n")
    project.run().assert_outcomes(failed=1)
    assert "the test saw None" in project.row()["reason"]


def test_broken_fixture_is_no_deviation(project: Project) -> None:
    """A value recorded before a fixture fails makes no deviation."""
    listed(project)
    fixture = "@pytest.fixture\ndef thing(seen):\n    seen('EINVAL')\n    assert 0\n"
    project.tests(fixture + "@behaviour('a.b.c')\ndef test_it(thing): pass\n")
    project.run().assert_outcomes(errors=1)
    assert project.row()["outcome"] == "broken"


@pytest.mark.parametrize(
    ("witness", "complaint"),
    [
        ("print('EBUSY')", "the witness w.py saw 'EBUSY' where 'EINVAL' is listed"),
        ("pass", "the witness w.py saw '' where 'EINVAL' is listed"),
        ("raise OSError('no')", "the witness w.py failed: "),
    ],
)
def test_witness_decides(project: Project, witness: str, complaint: str) -> None:
    """Without the witness's word the value is a failure, with what the witness said."""
    listed(project, witness=witness)
    row = saw(project, "'EINVAL'")
    assert row["outcome"] == "fail"
    assert complaint in row["reason"]


@pytest.mark.parametrize(
    ("listed_value", "recorded", "outcome"),
    [
        ("1", "1", "deviation"),
        ("1", "True", "fail"),
        ("1", "1.0", "fail"),
        ("true", "True", "deviation"),
        ('"1"', "1", "fail"),
        ('["a", 1]', "('a', 1)", "deviation"),
        ('"EINVAL"', "OSError(22, 'Invalid argument')", "deviation"),
        ('"x\\\\xff"', "b'x\\xff'", "deviation"),
    ],
)
def test_values_are_compared_with_their_type(project: Project, listed_value: str, recorded: str, outcome: str) -> None:
    """A number is no truth and no text; errors are their errno's name, tuples lists."""
    witness = f"import json\nvalue = json.loads('''{listed_value}''')\n"
    witness += "print(value if isinstance(value, str) else json.dumps(value))"
    listed(project, seen=listed_value, witness=witness.replace("\\\\", "\\\\\\\\"))
    assert saw(project, recorded, documented="'other'")["outcome"] == outcome


def test_peer_that_fails_fails_nothing(project: Project) -> None:
    """A peer's failure is a row of its own and no failure of the run."""
    project.entry("a.b.c")
    project.tests("@behaviour('a.b.c', subject='runc')\ndef test_runc():\n    assert 0, 'runc does not'\n")
    result = project.run()
    result.assert_outcomes(passed=1)
    row = project.row()
    assert (row["subject"], row["outcome"]) == ("runc", "fail")
    assert "runc does not" in row["reason"]
    result.stdout.fnmatch_lines(["beside it, runc: 1 fail"])


WHOLE = {"kernels": ">=6.1", "seen": "EINVAL", "witness": "w.py", "reason": "so"}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"kernels": None}, "deviation: has no kernels; add it"),
        ({"seen": None}, "deviation: has no seen; add it"),
        ({"witness": None}, "deviation: has no witness; add it"),
        ({"reason": None}, "deviation: has no reason; add it"),
        ({"reason": " "}, "deviation: reason must be a text that is not empty"),
        ({"seen": {"a": 1}}, "deviation: seen must be a text, a number, a truth or a list of these"),
        ({"errno": "EINVAL"}, "deviation: unknown key 'errno'; known are kernels, seen, witness, reason"),
        ({"kernels": "new"}, "deviation: kernels 'new' is not a range"),
        ({"witness": "absent.py"}, "absent.py can't be read as Python"),
        ({"witness": "../w.py"}, "lies outside"),
        ({"witness": "bad.py"}, "bad.py can't be read as Python"),
        ({"witness": "long.py"}, "long.py has 41 lines; at most 40"),
        ({"witness": "foreign.py"}, "foreign.py imports kernelproof, pyroute2; the standard library must do"),
        ({"witness": "relative.py"}, "relative.py imports .; the standard library must do"),
    ],
)
def test_malformed(tmp_path: Path, change: dict[str, Any], complaint: str) -> None:
    """A deviation without one of its four parts, or with a witness that is none, is refused."""
    (tmp_path / "w.py").write_text("print('EINVAL')\n")
    (tmp_path / "bad.py").write_text("print(\n")
    (tmp_path / "long.py").write_text("pass\n" * 41)
    (tmp_path / "foreign.py").write_text("import os, pyroute2.netns\nfrom kernelproof.impl import netlink\n")
    (tmp_path / "relative.py").write_text("from . import x\n")
    table = {key: value for key, value in (WHOLE | change).items() if value is not None}
    deviations, problems = parse_deviations([table], folder=tmp_path)
    assert deviations == ()
    assert len(problems) == 1
    assert complaint in problems[0]


def test_one_value_a_kernel(tmp_path: Path) -> None:
    """Two ranges that overlap are refused; where they do not, each kernel has its own value or none."""
    (tmp_path / "w.py").write_text("print('EINVAL')\n")
    early, late = WHOLE | {"kernels": "5.10..6.1"}, WHOLE | {"kernels": ">=6.12", "seen": "ENOENT"}
    deviations, problems = parse_deviations([early, late], folder=tmp_path)
    assert problems == []
    found = [deviation_on(deviations, series) for series in [(5, 10), (6, 6), (7, 3)]]
    assert [deviation and deviation.seen for deviation in found] == ["EINVAL", None, "ENOENT"]
    _, problems = parse_deviations([early, WHOLE], folder=tmp_path)
    assert problems == ["deviation: kernels 5.10..6.1 and >=6.1 overlap; a kernel can have one value only"]
