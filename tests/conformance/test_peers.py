"""Peers that a test asks beside its subject, in the same machine: rows of their own that fail nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kernelproof.conformance.deviations import parse_peer_deviations, peer_deviation_on

if TYPE_CHECKING:
    from conftest import Project

ASK = """
@pytest.mark.peers('runc', 'crun')
@behaviour('a.b.c')
def test_it(seen):
    for peer, value in {answers!r}.items():
        with seen.beside(peer):
            assert seen(value) == 1
    assert seen({own}) == 1
"""


def rows(project: Project, answers: dict[str, Any], own: int = 1, more: str = "") -> dict[str, dict[str, Any]]:
    """The rows of a run by subject."""
    project.entry("a.b.c", more)
    project.tests(ASK.format(answers=answers, own=own))
    project.run()
    return {row["subject"]: row for row in project.results()["results"]}


def test_rows_of_peers(project: Project) -> None:
    """Each peer has a row with what it gave; what fails there is no failure of the test, which keeps its own value."""
    found = rows(project, {"runc": 1, "crun": 2})
    assert {name: (row["outcome"], row["seen"]) for name, row in found.items()} == {
        "impl": ("pass", 1),
        "runc": ("pass", 1),
        "crun": ("fail", 2),
    }
    assert "assert 2 == 1" in found["crun"]["reason"]
    assert found["runc"]["wall_seconds"] is None
    assert found["runc"]["clone"] == found["impl"]["clone"]


def test_peers_of_a_failing_test(project: Project) -> None:
    """A peer has its own answer where the project's own fails."""
    found = rows(project, {"runc": 1}, own=3)
    assert {name: row["outcome"] for name, row in found.items()} == {"impl": "fail", "runc": "pass"}


LISTED = "[[behaviour.peers]]\nsubject = 'crun'\nseen = 2\nreason = 'it is so'\n"


@pytest.mark.parametrize(("value", "outcome"), [(2, "deviation"), (3, "fail"), (True, "pass"), ("2", "fail")])
def test_deviation_of_a_peer(project: Project, value: object, outcome: str) -> None:
    """The listed value, with its type, is a deviation of that peer alone; anything else is not."""
    found = rows(project, {"runc": 1, "crun": value}, more=LISTED)
    expected = "fail" if outcome == "pass" else outcome  # as documented where a deviation is listed
    assert (found["crun"]["outcome"], found["runc"]["outcome"]) == (expected, "pass")


def test_peers_that_nobody_named(project: Project) -> None:
    """A guest can't make rows of subjects that the test's marker does not name."""
    found = rows(project, {"impl": 1, "podman": 1})
    assert set(found) == {"impl"}


def test_names_of_peers(project: Project) -> None:
    """A peer is called by small letters, and is none of the subjects that are judged."""
    project.entry("a.b.c")
    project.tests("@pytest.mark.peers('impl')\n@behaviour('a.b.c')\ndef test_it(): pass\n")
    project.run().stdout.fnmatch_lines(["*peers: 'impl' is no peer's name*"])


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"subject": "runc", "seen": 1}, "peer: has no reason; add it"),
        ({"subject": "runc", "seen": 1, "reason": "r", "witness": "w"}, "peer: unknown key 'witness'"),
        ({"subject": "runc", "seen": {}, "reason": "r"}, "peer: seen must be a text"),
        ({"subject": "runc", "seen": 1, "reason": "r", "kernels": "6"}, "peer: "),
    ],
    ids=["no reason", "witness", "value", "kernels"],
)
def test_wrong_tables(table: dict[str, object], problem: str) -> None:
    """Everything that is wrong is told."""
    found, problems = parse_peer_deviations([table])
    assert found == ()
    assert problems[0].startswith(problem)


def test_range_of_kernels() -> None:
    """A peer's deviation may be one of some kernels only."""
    table = {"subject": "runc", "seen": 1, "reason": "r", "kernels": ">=6.12"}
    found, _ = parse_peer_deviations([table])
    assert peer_deviation_on(found, "runc", (6, 12)) == {"seen": 1, "reason": "r"}
    assert peer_deviation_on(found, "runc", (6, 1)) is None
    assert peer_deviation_on(found, "crun", (6, 12)) is None


ASK_WANTED = """
@pytest.mark.peers('runc', 'crun')
@behaviour('a.b.c')
def test_it(seen):
    for peer in seen.wanted_peers:
        with seen.beside(peer):
            seen(1)
"""


@pytest.mark.parametrize(("words", "subjects"), [((), ["crun", "impl", "runc"]), (("--no-peers",), ["impl"])])
def test_peers_can_be_left_out(project: Project, words: tuple[str, ...], subjects: list[str]) -> None:
    """--no-peers asks the project's own alone, and such a run does not pass for a whole one."""
    project.entry("a.b.c")
    project.tests(ASK_WANTED)
    project.run(*words)
    found = project.results("selected/6.12.json" if words else "6.12.json")
    assert [row["subject"] for row in found["results"]] == subjects
    assert found["selection"] == list(words)
