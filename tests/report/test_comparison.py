"""`kernelproof diff` and the rules of a change."""

from __future__ import annotations

import json
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from kernelproof.cli import main
from kernelproof.conformance.report.comparison import Answer, Kind, compare, find_kind
from kernelproof.conformance.report.outcomes import Outcome

if TYPE_CHECKING:
    from conftest import Suite

ORDER = (None, "not_applicable", "pass", "deviation", "fail", "broken")
# Rows: before; columns: after, in the order above. r regression, o other, i improvement, g gone, n new.
TABLE = (
    "--nnrr",
    "--nnrr",
    "gg-rrr",
    "ggi-rr",
    "ggii-r",
    "ggiio-",
)
KINDS = {"-": None, "r": Kind.REGRESSION, "o": Kind.OTHER, "i": Kind.IMPROVEMENT, "g": Kind.GONE, "n": Kind.NEW}


def answer(outcome: str | None, seen: Any = None) -> Answer | None:
    return None if outcome is None else Answer(Outcome(outcome), seen, "why")


def row(behaviour: str, outcome: str = "pass", **changes: Any) -> dict[str, Any]:
    reason = None if outcome == "pass" else f"{behaviour} \x1b[2J\nmore"
    return {
        **{"behaviour": behaviour, "node": "t.py::t", "profile": "plain", "subject": "impl", "outcome": outcome},
        **{"clone": None, "wall_seconds": 1, "guest_seconds": 1, "reason": reason, "seen": None, "log": None},
        **changes,
    }


@pytest.mark.parametrize(("before", "after"), [*product(range(6), range(6))])
def test_every_pair_has_its_kind(before: int, after: int) -> None:
    """Worse is a regression, and so is a new failure; not applicable is no answer."""
    assert find_kind(answer(ORDER[before]), answer(ORDER[after])) == KINDS[TABLE[before][after]]


def test_another_value_is_told() -> None:
    """A deviation by another value is a change, and regressions come first."""
    old = {"b": answer("deviation", 1), "a": answer("pass"), "c": answer("deviation", [2]), "d": answer("fail")}
    new = {"b": answer("deviation", 2), "a": answer("pass"), "c": answer("fail"), "d": answer("pass")}
    changes = compare(old, new)  # type: ignore[arg-type]  # no None in it
    assert [(change.behaviour, change.kind) for change in changes] == [
        ("c", Kind.REGRESSION),
        ("b", Kind.OTHER),
        ("d", Kind.IMPROVEMENT),
    ]


def test_regressions_first_and_in_the_exit_status(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    """Regressions come first, with their reason; the exit status says whether there are any."""
    old = suite.write("6.1", row("a.a.better", "fail"), row("z.z.worse"), row("p.p.same"), row("g.g.gone"))
    new = suite.write("6.12", row("a.a.better"), row("z.z.worse", "fail"), row("p.p.same"), row("n.n.new"))
    assert main.main(["diff", str(old), str(new)]) == 1
    output = capsys.readouterr().out
    lines = [line for line in output.splitlines() if line]
    assert lines[0].endswith(
        "3 statements in both: 1 regressions, 1 no longer answered, 1 improvements, 1 newly answered"
    )
    assert lines[1:4] == ["REGRESSIONS (1)", "  z.z.worse: pass -> fail", "      z.z.worse \\x1b[2J"]
    assert [line.split(" (")[0] for line in lines if line.isupper() or "(" in line][1:] == [
        "REGRESSIONS",
        "NO LONGER ANSWERED",
        "IMPROVEMENTS",
        "NEWLY ANSWERED",
    ]
    assert main.main(["diff", str(old), str(old)]) == 0
    assert "no change" in capsys.readouterr().out


def test_json(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    """With --json every change is there with both answers."""
    old = suite.write("6.1", row("a.a.a", "deviation", seen=[1]))
    new = suite.write("6.12", row("a.a.a", "deviation", seen=[2]), complete=False)
    assert main.main(["diff", str(old), str(new), "--json"]) == 0
    output = capsys.readouterr()
    (one,) = json.loads(output.out)["comparisons"]
    assert one["counts"] == {"regression": 0, "other": 1, "gone": 0, "improvement": 0, "new": 0}
    (change,) = one["changes"]
    assert (change["old"]["seen"], change["new"]["seen"], change["new"]["outcome"]) == ([1], [2], "deviation")
    assert (one["old"]["kernel"], one["new"]["whole"]) == ("6.1", False)
    assert "6.12: not a whole run (it did not come to its end)" in output.err


def test_merged_files_are_compared_kernel_by_kernel(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    """Of merged files each kernel is compared with itself; one that is in one of them alone is named."""
    suite.write("6.1", row("a.a.a"))
    suite.write("6.12", row("a.a.a"))
    assert main.main(["merge", "results", "-o", "old.json"]) == 0
    suite.write("6.12", row("a.a.a", "broken"))
    suite.write("7.3", row("a.a.a"))
    (suite.path / "results/6.1.json").unlink()
    assert main.main(["merge", "results", "-o", "new.json"]) == 0
    capsys.readouterr()
    assert main.main(["diff", "old.json", "new.json"]) == 1
    output = capsys.readouterr()
    assert output.out.startswith("6.12 (old.json) -> 6.12 (new.json): 1 statements in both: 1 regressions")
    assert "kernel 6.1 is in old.json alone" in output.err
    assert "kernel 7.3 is in new.json alone" in output.err


def test_another_catalogue_is_told(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    """Runs of different catalogues are compared, and that is said."""
    old = suite.write("6.1", row("a.a.a"), catalogue={"digest": "1" * 64})
    new = suite.write("6.12", row("a.a.a"))
    assert main.main(["diff", str(old), str(new)]) == 0
    assert "other catalogues" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "seen"),
    [
        ('{"schema": 9}', "schema 9, this version reads 1"),
        ('{"schema": 1', "no JSON"),
        ('{"schema": 1, "merged": []}', "no results in it"),
        (None, "No such file"),
    ],
    ids=["newer", "truncated", "empty", "absent"],
)
def test_what_can_t_be_compared(
    suite: Suite, content: str | None, seen: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What holds no results is named, with the status that says that nothing can be said."""
    suite.write("6.1", row("a.a.a"))
    if content is not None:
        (suite.path / "bad.json").write_text(content)
    for words in (["bad.json", "results/6.1.json"], ["results/6.1.json", "bad.json"]):
        assert main.main(["diff", *words]) == 125
        output = capsys.readouterr()
        assert seen in output.err
        assert output.out == ""


def test_twice_the_same_kernel_is_refused(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    """A merged file that holds a kernel twice is refused by name."""
    one = suite.document("6.1", row("a.a.a"))
    (suite.path / "twice.json").write_text(json.dumps({"schema": 1, "merged": [one, one]}))
    assert main.main(["diff", "twice.json", "twice.json"]) == 125
    assert "kernel 6.1 is in twice.json and in twice.json" in capsys.readouterr().err
