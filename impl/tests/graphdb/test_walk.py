"""Walks: they end, they are bounded, they are ordered, they are cheap, and they know when the graph changed."""

from __future__ import annotations

import sqlite3
import threading
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import pytest

from kernelproof.impl.graphdb import (
    Closed,
    Cursor,
    DeadlineExceeded,
    GraphDatabase,
    LimitExceeded,
    NotFound,
    Stale,
    traverse,
)

Walk = Callable[[GraphDatabase, str], list[str]]
Paths = Callable[[GraphDatabase, str, str], list[str]]


def rows(graph: GraphDatabase, query: str, *values: object) -> list[tuple[str, ...]]:
    """Read rows the way programs of 2014 do, through the views of the old shape."""
    return graph.store.read(lambda connection: connection.execute(query, values).fetchall())


def link_all(graph: GraphDatabase, ids: Iterable[str]) -> None:
    """Put every entity below the root and below every other one."""
    ids = list(ids)
    edges = [("0", one, one) for one in ids]
    graph.load([*edges, *((one, other, other) for one in ids for other in ids if one != other)])


# --- G1 ---------------------------------------------------------------------------------------------------------------


def walk_as_in_2014(graph: GraphDatabase, path: str) -> list[str]:
    """No memory of what was seen: each entity's children, and theirs, and theirs."""

    def below(entity_id: str, prefix: str) -> Iterator[str]:
        for child, name in rows(graph, "SELECT entity_id, name FROM edge WHERE parent_id = ?", entity_id):
            yield f"{prefix}/{name}"
            yield from below(child, f"{prefix}/{name}")

    start = graph.get(path)
    assert start is not None
    return list(below(start.id(), path.rstrip("/")))


def walk_entities(graph: GraphDatabase, path: str) -> list[str]:
    """Ours."""
    return [step.path for step in graph.walk(path)]


@pytest.mark.rule("G1", ours=walk_entities, wrong=walk_as_in_2014, raises=RecursionError)
def test_walks_end_on_cycles(graph: GraphDatabase, subject: Walk) -> None:
    """A walk of things that link each other visits each once and ends."""
    graph.set("/one", "1")
    graph.set("/one/two", "2")
    graph.set("/one/two/one", "1")
    assert subject(graph, "/") == ["/one", "/one/two"]


def first_hundred(graph: GraphDatabase, mode: str) -> list[str]:
    """What others do with too many paths: hand out some and say nothing."""
    steps = graph.walk("/", mode=mode, max_rows=1_000_000)
    return [step.path for step in islice(steps, 100)]


def at_most_hundred(graph: GraphDatabase, mode: str) -> list[str]:
    """Ours."""
    return [step.path for step in graph.walk("/", mode=mode, max_rows=100)]


@pytest.mark.rule("G1", ours=at_most_hundred, wrong=first_hundred, raises=pytest.fail.Exception)
@pytest.mark.parametrize("mode", ["acyclic", "trail"])
def test_too_many_paths_are_an_error(graph: GraphDatabase, subject: Callable[..., list[str]], mode: str) -> None:
    """More paths than the limit raise LimitExceeded."""
    link_all(graph, "abcdef")
    with pytest.raises(LimitExceeded):
        subject(graph, mode)


@pytest.mark.rule("G1")
@pytest.mark.parametrize(("count", "paths"), [(3, 15), (5, 325), (7, 13_699)])
def test_the_number_of_acyclic_paths(graph: GraphDatabase, count: int, paths: int) -> None:
    """The paths through things that all link each other are counted exactly: sums of falling factorials."""
    link_all(graph, "abcdefg"[:count])
    assert sum(1 for _ in graph.walk("/", mode="acyclic")) == paths
    assert sum(1 for _ in graph.walk("/")) == count


# --- G2 ---------------------------------------------------------------------------------------------------------------


def paths_with_like(graph: GraphDatabase, path: str, mode: str) -> list[str]:
    """Visited ids in one text, searched with LIKE, and nodes where edges are asked for."""
    query = """WITH RECURSIVE seen (id, path, trace) AS (
            SELECT '0', '', ',0,'
            UNION ALL SELECT e.entity_id, s.path || '/' || e.name, s.trace || e.entity_id || ','
            FROM seen AS s JOIN edge AS e ON e.parent_id = s.id
            WHERE s.trace NOT LIKE '%,' || e.entity_id || ',%')
        SELECT path FROM seen WHERE path <> '' ORDER BY length(path), path"""
    return [found for (found,) in rows(graph, query)]


def paths_by_mode(graph: GraphDatabase, path: str, mode: str) -> list[str]:
    """Ours."""
    return sorted((step.path for step in graph.walk(path, mode=mode)), key=lambda found: (len(found), found))


@pytest.mark.rule("G2", ours=paths_by_mode, wrong=paths_with_like)
def test_wildcards_in_ids_are_plain_text(graph: GraphDatabase, subject: Paths) -> None:
    """An id that reads as a pattern hides no other one."""
    graph.set("/a", "xyz")
    graph.set("/a/b", "x%")
    graph.set("/a/b/c", "x_z")
    assert subject(graph, "/", "acyclic") == ["/a", "/a/b", "/a/b/c"]


@pytest.mark.rule("G2", ours=paths_by_mode, wrong=paths_with_like)
def test_a_trail_may_come_back_to_an_entity(graph: GraphDatabase, subject: Paths) -> None:
    """On a trail edges do not repeat and entities may: two ways round a triangle and back."""
    graph.set("/a", "1")
    graph.set("/a/b", "2")
    graph.set("/a/b/a", "1")
    graph.set("/a/b/a/c", "3")
    assert subject(graph, "/", "trail") == ["/a", "/a/b", "/a/c", "/a/b/a", "/a/b/a/c"]


@pytest.mark.rule("G2")
def test_the_modes_differ_as_their_names_say(graph: GraphDatabase) -> None:
    """On a diamond with a way back, each mode hands out exactly its paths."""
    for path, entity_id in (("/a", "1"), ("/b", "2"), ("/a/x", "3"), ("/b/x", "3"), ("/b/x/up", "2")):
        graph.set(path, entity_id)

    def found(mode: str, depth: int | None = None) -> list[str]:
        return [step.path for step in graph.walk("/", mode=mode, max_depth=depth)]

    assert found("entities") == ["/a", "/b", "/a/x"]
    assert found("shortest") == ["/a", "/b", "/a/x", "/b/x"]
    assert found("acyclic") == ["/a", "/b", "/a/x", "/b/x", "/a/x/up"]
    assert found("trail") == ["/a", "/b", "/a/x", "/b/x", "/a/x/up", "/b/x/up", "/a/x/up/x"]
    assert found("walk", 4)[-2:] == ["/a/x/up/x", "/b/x/up/x"]
    with pytest.raises(ValueError, match="max_depth"):
        graph.walk("/", mode="walk")
    with pytest.raises(ValueError, match="choose one of"):
        graph.walk("/", mode="path")


# --- G3 ---------------------------------------------------------------------------------------------------------------


def ids_one_query_a_node(graph: GraphDatabase, path: str) -> list[str]:
    """A statement for each entity."""
    seen, level = {"0"}, ["0"]
    while level:
        below = [
            child
            for parent in level
            for (child,) in rows(graph, "SELECT entity_id FROM edge WHERE parent_id = ? ORDER BY name", parent)
            if child not in seen
        ]
        seen.update(below)
        level = below
    return sorted(seen - {"0"})


def ids_by_level(graph: GraphDatabase, path: str) -> list[str]:
    """Ours."""
    return sorted(step.entity_id for step in graph.walk(path))


@pytest.mark.rule("G3", ours=ids_by_level, wrong=ids_one_query_a_node)
def test_statements_grow_with_levels_not_with_nodes(graph: GraphDatabase, subject: Walk) -> None:
    """A walk over 300 entities on 3 levels asks less than 40 times."""
    graph.load([("0" if i < 10 else f"n{i // 10 - 1}", f"{i}", f"n{i}") for i in range(300)])
    asked: list[str] = []
    graph.store.read(lambda connection: connection.set_trace_callback(asked.append))
    assert len(subject(graph, "/")) == 300
    assert len(asked) < 40


# --- G12 --------------------------------------------------------------------------------------------------------------


def children_without_order(graph: GraphDatabase, path: str) -> list[str]:
    """As the rows come, from whichever index SQLite takes; here the one over children."""
    query = """SELECT l.name FROM link AS l INDEXED BY link_child WHERE l.child > 0
        AND l.parent = (SELECT key FROM node WHERE id = '0')"""
    return [name for (name,) in rows(graph, query)]


def children_in_order(graph: GraphDatabase, path: str) -> list[str]:
    """Ours."""
    return [child.name for child in graph.children(path)]


@pytest.mark.rule("G12", ours=children_in_order, wrong=children_without_order)
def test_children_come_in_order_of_name(graph: GraphDatabase, subject: Walk) -> None:
    """Siblings come by code point of their names, however they were made."""
    names = ["b", "\N{LATIN SMALL LETTER A WITH DIAERESIS}", "B", "a b", "a", "\N{GRINNING FACE}", "\ufffd"]
    for number, name in enumerate(names):
        graph.set(f"/{name}", str(number + 1))
    assert subject(graph, "/") == sorted(names)


@pytest.mark.rule("G12")
def test_levels_follow_the_order_of_their_parents(graph: GraphDatabase) -> None:
    """On each level entities come by their parents' order, then by name."""
    for path, entity_id in (("/z", "1"), ("/a", "2"), ("/z/a", "3"), ("/a/z", "4"), ("/a/b", "5"), ("/z/a/q", "6")):
        graph.set(path, entity_id)
    steps = list(graph.walk("/"))
    assert [step.path for step in steps] == ["/a", "/z", "/a/b", "/a/z", "/z/a", "/z/a/q"]
    assert steps[2] == traverse.Step("/a/b", "5", 2)
    assert steps[2].name == "b"


# --- G+2 --------------------------------------------------------------------------------------------------------------


def chain(graph: GraphDatabase, length: int, width: int) -> None:
    """A chain of entities, each with more children that have none."""
    edges = [("0" if i == 0 else f"c{i - 1}", "next", f"c{i}") for i in range(length)]
    graph.load([*edges, *((f"c{i}", f"leaf{j}", f"l{i}.{j}") for i in range(length) for j in range(width))])


@pytest.mark.rule("G+2")
def test_depth_and_rows_are_bounded(graph: GraphDatabase) -> None:
    """A walk goes as deep as it is told, hands out what fits, and raises beyond."""
    chain(graph, 10, 3)
    assert [step.depth for step in graph.walk("/", max_depth=2)] == [1, 2, 2, 2, 2]
    with pytest.raises(LimitExceeded) as caught:
        list(graph.walk("/", max_rows=39))
    assert caught.value.limit == 39
    assert len(list(graph.walk("/", max_rows=40))) == 40
    assert len(list(graph.walk("/c", max_rows=None) if graph.exists("/c") else graph.walk("/next"))) == 39
    for wrong in ({"max_rows": 0}, {"max_depth": 0}, {"max_rows": None, "mode": "trail"}):
        with pytest.raises(ValueError, match="max_"):
            graph.walk("/", **wrong)
    with pytest.raises(NotFound):
        next(graph.walk("/nothing"))


@pytest.mark.rule("G+2")
def test_a_deadline_interrupts_a_statement(graph: GraphDatabase) -> None:
    """A walk whose time is over raises, within a statement too, and the connection goes on working."""
    link_all(graph, [f"n{i}" for i in range(60)])
    walk = graph.walk("/", mode="acyclic", max_rows=10**9, deadline_seconds=0.05)
    with pytest.raises(DeadlineExceeded) as caught:
        list(walk)
    assert isinstance(caught.value.cursor, Cursor)
    assert graph.exists("/n1")
    with pytest.raises(DeadlineExceeded):
        list(graph.walk("/", deadline_seconds=-1))


@pytest.mark.rule("G+2")
def test_a_cursor_goes_on_where_the_walk_stood(graph: GraphDatabase) -> None:
    """A walk that is resumed hands out the rest and nothing twice, until the graph changes."""
    chain(graph, 6, 2)
    everything = [step.path for step in graph.walk("/")]
    for taken in (0, 1, 4, 17, 18):
        walker = graph.walk("/")
        first = [step.path for step in islice(walker, taken)]
        cursor = Cursor(*walker.cursor())
        rest = [step.path for step in graph.walk("/", resume=cursor)]
        assert first + rest == everything
    graph.set("/new", "new")
    with pytest.raises(Stale):
        list(graph.walk("/", resume=cursor))
    with pytest.raises(ValueError, match="another walk"):
        graph.walk("/", mode="acyclic", resume=cursor)


@pytest.mark.rule("G+2")
def test_a_change_makes_a_walk_stale(graph: GraphDatabase) -> None:
    """A walk does not mix two states of the graph: after a change its next batch raises, its snapshot goes on."""
    chain(graph, 3, 2)
    steps = graph.walk("/")
    taken = [next(steps).path]
    kept = graph.walk("/", snapshot=True)
    next(kept)
    graph.purge("c2")
    with pytest.raises(Stale) as caught:
        taken.extend(step.path for step in steps)
    assert caught.value.cursor == Cursor("/", "entities", None, len(taken), graph.sequence - 4)
    rest = [step.path for step in kept]
    assert rest[-1] == "/next/next/next/leaf1"
    assert len(rest) == 8


@pytest.mark.rule("G+2")
def test_a_walk_belongs_to_its_thread(graph: GraphDatabase) -> None:
    """A walk that another thread goes on with raises instead of mixing connections."""
    chain(graph, 3, 2)
    steps = graph.walk("/")
    next(steps)
    caught: list[BaseException] = []

    def go_on() -> None:
        try:
            list(steps)
        except Stale as error:
            caught.append(error)

    thread = threading.Thread(target=go_on)
    thread.start()
    thread.join()
    assert len(caught) == 1


@pytest.mark.rule("G+2")
def test_a_walk_within_a_transaction_sees_it(graph: GraphDatabase) -> None:
    """A walk in a transaction walks the uncommitted state; a rollback under it makes it stale."""
    steps: Iterator[traverse.Step] = iter(())

    def begin() -> None:
        nonlocal steps
        with graph.transaction():
            graph.set("/a", "1")
            assert [step.path for step in graph.walk("/")] == ["/a"]
            graph.set("/b", "1")
            steps = graph.walk("/", mode="shortest")
            next(steps)
            raise OSError("undo")

    with pytest.raises(OSError, match="undo"):
        begin()
    with pytest.raises(Stale):
        list(steps)
    assert list(graph.walk("/")) == []


@pytest.mark.rule("G+2")
def test_memory_does_not_grow_with_the_graph(graph: GraphDatabase) -> None:
    """Python's memory for a walk of 20,000 entities is that for 2,000."""

    def peak(start: str) -> int:
        tracemalloc.start()
        count = sum(1 for _ in graph.walk(start, max_rows=None))
        _, used = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert count in (2_000, 20_000)
        return used

    edges = [("0", "small", "s"), ("0", "big", "b")]
    edges += [("s", f"{i}", f"s{i}") for i in range(2_000)]
    edges += [("b", f"{i}", f"b{i}") for i in range(20_000)]
    graph.load(edges)
    peak("/small")
    assert peak("/big") < 1.2 * peak("/small")


@pytest.mark.parametrize("journal", ["rollback", "wal"])
def test_close_while_a_walk_is_under_way(tmp_path: Path, journal: str) -> None:
    """A graph is closed whole though a walk is not at its end, which then says that it is closed."""
    file = tmp_path / "graph.db"
    with GraphDatabase.open(file, journal=journal) as graph:
        graph.load([("0", f"n{number}", f"n{number}") for number in range(3000)])
        walk = graph.walk("/")
        assert next(walk).path == "/n0"
    with pytest.raises(Closed):
        list(walk)
    assert [path.name for path in tmp_path.iterdir()] == ["graph.db"]


def test_the_temporary_table_goes(graph: GraphDatabase) -> None:
    """A walk leaves nothing behind, whether it ended, failed or was given up."""
    chain(graph, 3, 2)
    list(graph.walk("/"))
    list(graph.walk("/", snapshot=True))
    given_up = graph.walk("/")
    next(given_up)
    del given_up
    with pytest.raises(LimitExceeded):
        list(graph.walk("/", max_rows=1))
    assert rows(graph, "SELECT name FROM sqlite_temp_schema") == []


def test_no_read_transaction_is_open_between_steps(graph: GraphDatabase) -> None:
    """While a walk rests, another connection writes without waiting."""
    chain(graph, 3, 2)
    steps = graph.walk("/")
    next(steps)
    assert graph.path is not None
    other = sqlite3.connect(graph.path, timeout=0, isolation_level=None)
    other.execute("INSERT INTO node (id) VALUES ('other')")
    other.close()
    with pytest.raises(Stale):
        list(steps)
