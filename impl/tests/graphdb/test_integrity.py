"""Checking and repairing: what each kind of harm looks like, and that only what was asked for is mended."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from kernelproof.impl.graphdb import GraphDatabase
from kernelproof.impl.graphdb.integrity import Problem


def harm(graph: GraphDatabase, *statements: str) -> None:
    """Run statements as a program without foreign keys does."""
    assert graph.path is not None
    with closing(sqlite3.connect(graph.path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.rule("G10")
def test_what_a_crash_leaves_is_listed_and_mended_when_asked(graph: GraphDatabase) -> None:
    """Entities without a name, edges without an end and cycles that nothing leads to are found; repair is explicit."""
    graph.set("/a", "1")
    graph.set("/a/b", "2")
    graph.set("/c", "3")
    graph.set("/c/d", "4")
    graph.set("/c/d/c", "3")
    graph.delete("/c")
    graph.set("/e", "5")
    graph.delete("/e")
    harm(graph, "DELETE FROM node WHERE id = '1'")
    before = graph.sequence
    report = graph.check()
    assert not report.ok
    assert {(problem.kind, problem.subject) for problem in report.problems} == {
        ("dangling", "0/a"), ("dangling", "1/b"), ("unreachable", "3"), ("unreachable", "4"), ("unnamed", "5"),
    }  # fmt: skip
    assert graph.sequence == before
    assert graph.repair([problem for problem in report.problems if problem.kind == "unnamed"]) == 1
    assert graph.refs("4") == 1
    assert graph.repair(report.problems) == 4
    uncovered = graph.check().problems
    assert [(problem.kind, problem.subject) for problem in uncovered] == [("unnamed", "2")]
    assert graph.repair(uncovered) == 1
    assert graph.check().ok
    assert graph.repair(report.problems) == 0


def test_what_has_no_remedy_is_refused_whole(graph: GraphDatabase) -> None:
    """A damaged page cannot be mended: nothing is done, not even the rest."""
    graph.set("/a", "1")
    graph.delete("/a")
    problems = [*graph.check().problems, Problem("damaged", "file", "page 7", None)]
    with pytest.raises(ValueError, match="restore a backup"):
        graph.repair(problems)
    assert [problem.kind for problem in graph.check().problems] == ["unnamed"]


def test_an_index_that_differs_is_rebuilt(graph: GraphDatabase) -> None:
    """Rows that are missing from an index are found, and the index is made again."""
    graph.set("/a", "1")
    graph.set("/b", "2")
    (text,) = graph.store.read(
        lambda connection: connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'link_child'").fetchone()
    )
    harm(
        graph,
        "PRAGMA writable_schema = ON",
        f"UPDATE sqlite_schema SET sql = '{text} WHERE parent > 5' WHERE name = 'link_child'",
        "PRAGMA writable_schema = RESET",
        "REINDEX link_child",
        "PRAGMA writable_schema = ON",
        f"UPDATE sqlite_schema SET sql = '{text}' WHERE name = 'link_child'",
        "PRAGMA writable_schema = RESET",
    )
    problems = graph.check().problems
    assert {problem.kind for problem in problems} == {"index"}
    assert graph.repair(problems) == len(problems)
    assert graph.check().ok
    assert graph.refs("1") == 1
