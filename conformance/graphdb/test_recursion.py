"""Recursive queries: how walks end, how far they go, in which order."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.impl.graphdb import GraphDatabase, LimitExceeded, queries

if TYPE_CHECKING:
    from kernelproof.conformance.graphdb.conftest import Shell

# Ids of what is below the root, by a recursion that is written with the words put in.
BELOW = """WITH RECURSIVE below (key) AS (VALUES (0) {union} SELECT l.child FROM link AS l JOIN below AS b
    ON l.parent = b.key {limit}) SELECT n.id FROM below CROSS JOIN node AS n USING (key)"""
DEEP = """WITH RECURSIVE below (key, depth) AS (VALUES (0, 0) UNION SELECT l.child, b.depth + 1 FROM link AS l
    JOIN below AS b ON l.parent = b.key {rest}) SELECT (SELECT id FROM node WHERE key = b.key) || b.depth
    FROM below AS b"""


@pytest.fixture
def cyclic(graph: GraphDatabase) -> GraphDatabase:
    """The root above a, a above b, b above c, c above a; d alone."""
    graph.load([("0", "a", "a"), ("a", "b", "b"), ("b", "c", "c"), ("c", "a", "a")], ["d"])
    return graph


@pytest.fixture
def tree(graph: GraphDatabase) -> GraphDatabase:
    """Two branches below the root, each two deep."""
    graph.load([("0", "a", "a"), ("0", "b", "b"), ("a", "c", "c"), ("b", "d", "d")])
    return graph


@behaviour("graphdb.cte.union-ends-cycle")
def test_union_ends_on_a_cycle(cyclic: GraphDatabase, low: sqlite3.Connection, shell: Shell) -> None:
    """A recursion with UNION visits each entity of a cycle once and ends; `reachable` is one such."""
    query = f"{queries.BELOW} SELECT n.id FROM below JOIN node AS n USING (key) ORDER BY n.id"
    assert low.execute(query, (0,)).fetchall() == [("0",), ("a",), ("b",), ("c",)]
    assert cyclic.reachable("/") == {"a", "b", "c"}
    assert sorted(shell(BELOW.format(union="UNION", limit="") + ";")) == ["0", "a", "b", "c"]


@behaviour("graphdb.cte.union-all-needs-limit")
def test_union_all_goes_on(cyclic: GraphDatabase, low: sqlite3.Connection, shell: Shell) -> None:
    """With UNION ALL the rows of a cycle come again and again until LIMIT; a walk of paths stops at its own limit."""
    query = BELOW.format(union="UNION ALL", limit="LIMIT 10000")
    found = [row[0] for row in low.execute(query)]
    assert (len(found), found[:8]) == (10_000, ["0", "a", "b", "c", "a", "b", "c", "a"])
    with pytest.raises(LimitExceeded, match="more than 100 rows"):
        list(cyclic.walk("/", mode="walk", max_depth=1000, max_rows=100))
    assert len(shell(f"{query};")) == 10_000


@behaviour("graphdb.cte.depth-column-defeats-union")
def test_depths_make_rows_differ(cyclic: GraphDatabase, low: sqlite3.Connection, shell: Shell) -> None:
    """With a depth beside it each visit is another row, so that UNION does not end the recursion: a bound must."""
    found = [row[0] for row in low.execute(DEEP.format(rest="WHERE b.depth < 1000"))]
    assert (len(found), found[:6], found[-1]) == (1001, ["00", "a1", "b2", "c3", "a4", "b5"], "a1000")
    steps = cyclic.walk("/", mode="walk", max_depth=5)
    assert [f"{step.entity_id}{step.depth}" for step in steps] == found[1:6]
    assert shell(DEEP.format(rest="LIMIT 1001") + ";") == found


@behaviour("graphdb.cte.limit-zero")
def test_limits_of_zero_and_below(cyclic: GraphDatabase, low: sqlite3.Connection, shell: Shell) -> None:
    """LIMIT 0 in the recursion yields no row, a negative one is none; walks begin at 1."""
    with pytest.raises(ValueError, match="begin at 1"):
        cyclic.walk("/", max_rows=0)
    none, all_of_them = (BELOW.format(union="UNION", limit=f"LIMIT {limit}") for limit in (0, -1))
    assert low.execute(none).fetchall() == []
    assert len(low.execute(all_of_them).fetchall()) == 4
    assert [len(shell(f"{query};")) for query in (none, all_of_them)] == [0, 4]


@behaviour("graphdb.cte.order-by-depth")
def test_order_by_depth_chooses_breadth_or_depth(tree: GraphDatabase, low: sqlite3.Connection, shell: Shell) -> None:
    """Ascending depth walks breadth first, as `walk` does, descending depth walks depth first."""
    broad, deep = (DEEP.format(rest=f"ORDER BY 2 {order}") for order in ("ASC", "DESC"))
    assert [row[0] for row in low.execute(broad)] == ["00", "a1", "b1", "c2", "d2"]
    assert [f"{step.entity_id}{step.depth}" for step in tree.walk("/")] == ["a1", "b1", "c2", "d2"]
    by_depth = [row[0] for row in low.execute(deep)]
    assert by_depth in (["00", "a1", "c2", "b1", "d2"], ["00", "b1", "d2", "a1", "c2"])
    assert shell(f"{broad}; {deep};") == ["00", "a1", "b1", "c2", "d2", *by_depth]


@behaviour("graphdb.cte.single-reference")
def test_the_recursion_names_itself_once(cyclic: GraphDatabase, low: sqlite3.Connection, shell: Shell) -> None:
    """Two references to itself in one FROM, and an aggregate over itself, are errors."""
    twice = (
        "WITH RECURSIVE r (x) AS (VALUES (1) UNION SELECT a.x + 1 FROM r AS a, r AS b WHERE a.x < 5) SELECT x FROM r"
    )
    most = "WITH RECURSIVE r (x) AS (VALUES (1) UNION SELECT max(x) + 1 FROM r WHERE x < 5) SELECT x FROM r"
    with pytest.raises(sqlite3.OperationalError, match="multiple references to recursive table: r"):
        low.execute(twice)
    with pytest.raises(sqlite3.OperationalError, match="recursive aggregate queries not supported"):
        low.execute(most)
    answers = shell(f"{twice};\n{most};")
    assert any("multiple references" in line for line in answers)
    assert any("recursive aggregate" in line for line in answers)
    assert cyclic.reachable("/a") == {"a", "b", "c"}
