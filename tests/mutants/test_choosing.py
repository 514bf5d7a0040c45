"""Which tests are tried on an edit, what their answers mean, and what is kept of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from answers import Answers
from choosing import Graph
from edits import Edit
from hollow_run import judge
from machine_run import Attempts, is_killer
from mutant_run import covering, needs_unit_tests

EDIT = Edit("impl/mount/x.py", "inner", 3, 10, "1", "2", 1)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A package of two functions, a helper, and tests that come to it by different ways."""
    files = {
        "impl/mount/x.py": "def inner(): pass\n\nclass Table:\n    def __init__(self): inner()\n",
        "impl/term/y.py": "def inner(): pass\n",
        "conformance/conftest.py": "",
        "conformance/mount/conftest.py": "from kernelproof.impl.mount import Table\ndef table(): return Table()\n",
        "conformance/mount/test_a.py": (
            "from kernelproof.impl.mount import x\n"
            "def test_directly(): x.inner()\n"
            "def test_by_fixture(table): pass\n"
            "def test_other(): pass\n"
        ),
        "conformance/term/test_b.py": "from kernelproof.impl.term import y\ndef test_of_term(): y.inner()\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_nearest_tests_come_first(project: Path) -> None:
    """A test that calls the function stands before one whose fixture does, and a namesake's tests are not there."""
    graph = Graph(project)
    assert [node.name for node in graph.nearest_tests("impl/mount/x.py", "inner")] == [
        "test_directly",
        "test_by_fixture",
    ]
    assert [node.name for node in graph.nearest_tests("impl/mount/x.py", "Table.__init__")] == ["test_by_fixture"]
    assert [node.name for node in graph.nearest_tests("impl/term/y.py", "inner")] == ["test_of_term"]


def test_special_tests_are_tried_first() -> None:
    """Of tests that run a function those that run little else come first, slow ones last, and not too many."""
    place = "impl/mount/x.py::inner"
    reached: dict[str, dict[str, Any]] = {
        "slow": {"places": [place], "seconds": 2.0},
        "wide": {"places": [place, "a", "b"], "seconds": 0.1},
        "narrow": {"places": [place, "a"], "seconds": 0.1},
        "elsewhere": {"places": ["a"], "seconds": 0.1},
    }
    assert covering(EDIT, reached) == ["narrow", "wide", "slow"]
    assert covering(EDIT, {name: what | {"seconds": 20.0} for name, what in reached.items()}) == ["slow"]


@pytest.mark.parametrize(
    ("answer", "how"),
    [
        ({"outcome": "failed", "said": "assert 1 == 2"}, "observed"),
        ({"outcome": "failed", "said": "TypeError: 'NoneType' object is not iterable"}, "no value"),
        ({"outcome": "passed", "said": "", "guest": {"called": ["mount.x:f"]}}, "passes"),
        ({"outcome": "passed", "said": "", "guest": {"called": []}}, "calls nothing"),
        ({"outcome": "passed", "said": "", "fixtures": "setup failed"}, "by fixtures"),
        ({"outcome": "passed", "said": "", "fixtures": "passed"}, "calls nothing"),
        ({"outcome": "setup failed", "said": "no machine", "lost": "session"}, "not tried"),
        ({"outcome": "setup failed", "said": "", "lost": "hang"}, "observed"),
        ({"outcome": "passed", "said": "", "guest": {"subject": "stand-in"}}, "no claim"),
    ],
    ids=["saw", "None", "passes", "nothing", "fixtures", "not even then", "no machine", "waits", "stand-in"],
)
def test_verdicts_on_hollow_tests(answer: dict[str, Any], how: str) -> None:
    """Only a test that passes is wrong, and one that was not tried is neither."""
    verdict = judge(answer)
    assert verdict.how == how
    wrong, unknown = ("passes", "calls nothing"), ("not tried", "no claim")
    assert verdict.fails == (False if how in wrong else None if how in unknown else True)


@pytest.mark.parametrize(
    ("answer", "kills"),
    [
        ({"outcome": "failed", "guest": {"reached": True}}, True),
        ({"outcome": "setup failed", "guest": {"reached": True}}, True),
        ({"outcome": "failed", "guest": {"reached": False}}, False),
        ({"outcome": "passed", "guest": {"reached": True}}, False),
        ({"outcome": "setup failed", "lost": "panic"}, True),
        ({"outcome": "setup failed", "lost": "collect"}, False),
    ],
    ids=["fails", "breaks", "fails without it", "passes", "machine dies", "no session"],
)
def test_who_noticed_an_edit(answer: dict[str, Any], kills: bool) -> None:
    """A test that failed notices only what it ran; a run that could not begin notices nothing."""
    assert is_killer(answer) == kills


def test_each_test_is_asked_once() -> None:
    """In a round an edit takes the nearest test that is free; after three that pass it survives."""
    attempt = Attempts(EDIT, ["a", "b", "c", "d"])
    assert attempt.next_item({"a"}) == "b"
    assert attempt.next_item(()) == "a"
    assert attempt.verdict()["outcome"] == "not reached"
    for name in ("a", "b", "c"):
        attempt.note({"nodeid": name, "outcome": "passed", "guest": {"reached": True}})
    assert not attempt.is_open
    assert attempt.verdict() == {"outcome": "survived", "by": "", "passed": ["a", "b", "c"]}
    attempt.note({"nodeid": "d", "outcome": "failed", "said": "no", "guest": {"reached": True}})
    assert attempt.verdict()["by"] == "d"


def test_answers_outlive_a_cut(tmp_path: Path) -> None:
    """Of two answers the later one holds, and a line that was cut is no answer."""
    answers = Answers(tmp_path / "deep" / "answers.jsonl", "name")
    assert answers.read() == {}
    answers.add({"name": "x", "outcome": "survived"})
    answers.add({"name": "x", "outcome": "killed"})
    with answers.path.open("a") as file:
        file.write(json.dumps({"name": "y"})[:-3])
    assert answers.read() == {"x": {"name": "x", "outcome": "killed"}}


def test_what_is_known_is_not_asked_again() -> None:
    """A killed edit stays so while its file does; a survivor is tried again when tests changed."""
    edit = EDIT._replace(path="tests/mutants/edits.py")
    assert needs_unit_tests(None, edit, "d")
    assert needs_unit_tests({"outcome": "killed", "source": "other", "digest": "d"}, edit, "d")
