"""Reasons are for edits that there are."""

from __future__ import annotations

from pathlib import Path

import pytest
from edits import read_edits, read_observers
from mutant_run import PACKAGES
from reasons import ReasonsError, parse_reasons

ROOT = Path(__file__).resolve().parent.parent.parent
NAME = "impl/x.py::f: '1' -> '(1 + 1)' #1"
GOOD = '[[reason]]\nfile = "impl/x.py"\nfunction = "f"\nold = "1"\nnew = "(1 + 1)"\nwhy = "so"\n'


def test_reason_is_for_one_edit() -> None:
    """A number that is left out is 1."""
    assert parse_reasons(GOOD, {NAME}) == {NAME: "so"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (GOOD + GOOD, "reason 2: .* has one already"),
        (GOOD.replace('"f"', '"g"'), "there is no edit impl/x.py::g"),
        (GOOD.replace("why", "because"), "it needs file, function, new, number, old, why"),
        (GOOD.replace('"so"', "1"), "it needs"),
        ("[[reason", "reasons.toml: "),
    ],
    ids=["twice", "gone", "key", "type", "no TOML"],
)
def test_wrong_reasons_are_refused(text: str, problem: str) -> None:
    """What the file has wrong is said with the number of the entry."""
    with pytest.raises(ReasonsError, match=problem):
        parse_reasons(text, {NAME})


def test_all_problems_are_told_at_once() -> None:
    """Two wrong entries are two lines."""
    with pytest.raises(ReasonsError) as refused:
        parse_reasons(GOOD.replace('"f"', '"g"') + GOOD.replace('"f"', '"h"'), {NAME})
    assert len(str(refused.value).splitlines()) == 2


def test_our_reasons_hold() -> None:
    """Each reason of this repository names an edit that exists, and says something."""
    names = {edit.name for package in PACKAGES for edit in read_edits(ROOT, f"impl/{package}")}
    names |= {edit.name for edit in read_observers(ROOT)}
    reasons = parse_reasons((ROOT / "tests" / "mutants" / "reasons.toml").read_text("utf-8"), names)
    assert all(len(why.split()) > 3 for why in reasons.values())
