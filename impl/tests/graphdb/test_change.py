"""Single changes: names, compare-and-set, moves, batches, attributes, and how a taken name is recognised."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial

import pytest

from kernelproof.impl.graphdb import (
    Conflict,
    CycleError,
    Entity,
    GraphDatabase,
    InvalidAttributes,
    InvalidPath,
    NameTaken,
    NotFound,
    RootProtected,
    is_non_unique_name_error,
)
from kernelproof.impl.graphdb.batch import Delete, Move, Purge, Set
from kernelproof.impl.graphdb.names import check_name, format_path, parse_path


def execute(statement: str, connection: sqlite3.Connection) -> None:
    """Run one statement, as a program that knows only the file."""
    connection.execute(statement)


# --- G8 ---------------------------------------------------------------------------------------------------------------


def by_text(error: BaseException) -> bool:
    """The comparison of 2014, one ending for each version of SQLite."""
    text = str(error)
    old = text.endswith(("name are not unique", "constraint failed"))
    return old or ("UNIQUE constraint failed" in text and "edge.name" in text)


def refusal(statements: str) -> sqlite3.IntegrityError:
    """What SQLite raises for the last statement."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    *first, last = statements.split(";")
    connection.executescript(";".join(first))
    try:
        with pytest.raises(sqlite3.IntegrityError) as caught:
            connection.execute(last)
    finally:
        connection.close()
    return caught.value


EDGES = "CREATE TABLE {}(parent INT, name TEXT, UNIQUE (parent, name)); INSERT INTO {} VALUES (1, 'a');"
CASES = {
    (EDGES + "INSERT INTO {} VALUES (1, 'a')").replace("{}", "link"): True,
    (EDGES + "INSERT INTO {} VALUES (1, 'a')").replace("{}", "edge"): True,
    "PRAGMA foreign_keys = ON; CREATE TABLE p(k INTEGER PRIMARY KEY); CREATE TABLE c(k REFERENCES p);"
    "INSERT INTO c VALUES (5)": False,
    "CREATE TABLE entity(id TEXT UNIQUE); INSERT INTO entity VALUES ('1'); INSERT INTO entity VALUES ('1')": False,
    "CREATE TABLE x(name TEXT CHECK (name <> '')); INSERT INTO x VALUES ('')": False,
}


@pytest.mark.rule("G8", ours=is_non_unique_name_error, wrong=by_text)
def test_a_taken_name_is_told_from_other_refusals(subject: Callable[[BaseException], bool]) -> None:
    """A unique violation on the edges' names is one, whatever the table is called; a foreign key's is none."""
    assert {statements: subject(refusal(statements)) for statements in CASES} == CASES


# --- G9 ---------------------------------------------------------------------------------------------------------------


def split_as_in_2014(path: str) -> tuple[str, ...]:
    """Split, drop what is empty, look at nothing, and take the first part for the root's."""
    return tuple(part for part in path.split("/")[1:] if part)


@pytest.mark.rule("G9", ours=parse_path, wrong=split_as_in_2014, raises=pytest.fail.Exception)
@pytest.mark.parametrize("path", ["", "foo", "foo/bar", "/a//b", "/a/", "//", "/.", "/a/../b", "/a\0b", "/\ud800"])
def test_paths_have_one_spelling(subject: Callable[[str], object], path: str) -> None:
    """What is not the one spelling of a path is refused, and never taken for the root."""
    with pytest.raises(InvalidPath):
        subject(path)


@pytest.mark.rule("G9")
def test_names_are_kept_as_given(graph: GraphDatabase) -> None:
    """Composed and decomposed letters, blanks, control characters and marks of SQL are different names."""
    names = ["\u00e9", "e\u0301", " ", "a ", "%", "_", "'", '"', ";--", "\n", "...", "\\", "A", "a", "\U0010ffff"]
    for number, name in enumerate(names):
        graph.set(f"/{name}", f"n{number}")
    assert sorted(child.name for child in graph.children("/")) == sorted(names)
    assert [graph.get(f"/{name}") for name in names] == [Entity(f"n{number}") for number in range(len(names))]
    for wrong in ("", ".", "..", "a/b", "a\0"):
        with pytest.raises(InvalidPath):
            check_name(wrong)
    with pytest.raises(TypeError):
        parse_path(b"/a")  # type: ignore[arg-type]
    assert format_path(parse_path("/")) == "/"


def test_the_schema_refuses_what_the_functions_do(graph: GraphDatabase) -> None:
    """A program that writes rows by itself is held to the same names, ends and attributes."""
    graph.set("/a", "1")
    for row in ("0, ''", "0, '.'", "0, '..'", "0, 'a/b'", "0, 'a' || char(0)", "1, 'self'", "0, 'a'", "7, 'x'"):
        statement = f"INSERT INTO link (parent, name, child) VALUES ({row}, 1)"
        with pytest.raises((sqlite3.IntegrityError, sqlite3.OperationalError)):
            graph.store.write(partial(execute, statement))
    for statement in (
        "INSERT INTO node (id) VALUES ('')",
        "UPDATE node SET attributes = '[]'",
        "UPDATE node SET attributes = 'x'",
        "UPDATE node SET id = 'other' WHERE id = '1'",
        "DELETE FROM node WHERE id = '0'",
        "DELETE FROM node WHERE id = '1'",
    ):
        with pytest.raises((sqlite3.IntegrityError, sqlite3.OperationalError)):
            graph.store.write(partial(execute, statement))
    assert graph.check().ok


# --- G+3 --------------------------------------------------------------------------------------------------------------


@pytest.mark.rule("G+3")
def test_compare_and_set(graph: GraphDatabase) -> None:
    """A set replaces only what was expected; else it says what was found and changes nothing."""
    graph.set("/a", "1", expect=None)
    with pytest.raises(Conflict) as caught:
        graph.set("/a", "2", expect=None)
    assert (caught.value.expected, caught.value.found) == (None, "1")
    with pytest.raises(Conflict) as caught:
        graph.set("/a", "3", expect="2")
    assert (caught.value.expected, caught.value.found) == ("2", "1")
    graph.set("/a", "3", expect="1")
    assert graph.get("/a") == Entity("3")
    with pytest.raises(Conflict) as caught:
        graph.set("/b", "3", expect="1")
    assert caught.value.found is None
    assert graph.refs("2") == 0


@pytest.mark.rule("G+3")
def test_move(graph: GraphDatabase) -> None:
    """An edge moves across parents with what lies below; it replaces only when told, and goes not below itself."""
    for path, entity_id in (("/a", "1"), ("/a/x", "2"), ("/a/x/y", "3"), ("/b", "4"), ("/b/x", "5")):
        graph.set(path, entity_id)
    with pytest.raises(NameTaken):
        graph.move("/a/x", "/b/x")
    graph.move("/a/x", "/b/x", replace=True)
    assert [step.path for step in graph.walk("/")] == ["/a", "/b", "/b/x", "/b/x/y"]
    assert graph.refs("5") == 0
    for target in ("/b/x/y/z", "/b/x/z"):
        with pytest.raises(CycleError):
            graph.move("/b/x", target)
    graph.move("/b/x", "/b/x")
    with pytest.raises(NotFound):
        graph.move("/none", "/c")
    with pytest.raises(NotFound):
        graph.move("/a", "/none/a")
    for source, target in (("/", "/c"), ("/a", "/")):
        with pytest.raises(RootProtected):
            graph.move(source, target)
    graph.rename("/b", "c")
    assert graph.exists("/c/x/y")
    with pytest.raises(NameTaken):
        graph.rename("/c", "a")
    with pytest.raises(InvalidPath):
        graph.rename("/c", "a/b")


@pytest.mark.rule("G+3")
def test_a_batch_gives_each_its_result(graph: GraphDatabase) -> None:
    """Of a batch the refused operations leave no trace, the others are done together, and each has its result."""
    graph.set("/a", "1")
    outcomes = graph.batch([
        Set("/a/b", "2"), Set("/a/b", "3"), Set("/x/y", "4"), Set("a", "5"), Set("/c", "6", expect="7"),
        Move("/a/b", "/b"), Delete("/none"), Purge("1"), Purge("0"), Set("/d", ""),
    ])  # fmt: skip
    assert [type(outcome.error).__name__ if outcome.error else outcome.result for outcome in outcomes] == [
        None, "NameTaken", "NotFound", "InvalidPath", "Conflict", None, "NotFound", 1, "RootProtected", "ValueError",
    ]  # fmt: skip
    assert [child.name for child in graph.children("/")] == ["b"]
    assert graph.check().ok


def test_an_acyclic_database_refuses_cycles() -> None:
    """Opened so, a database refuses the edge that would close a cycle, and takes shared entities."""
    with GraphDatabase.in_memory(acyclic=True) as graph:
        graph.set("/a", "1")
        graph.set("/a/b", "2")
        graph.set("/b", "2")
        for path, entity_id in (("/a/b/a", "1"), ("/b/root", "0"), ("/b/b", "2")):
            with pytest.raises(CycleError):
                graph.set(path, entity_id)
        assert len(graph.topological_order()) == 3


# --- attributes -------------------------------------------------------------------------------------------------------


def test_attributes_of_entities_and_edges(graph: GraphDatabase) -> None:
    """Entities and edges carry JSON objects, which come back equal; other things are refused."""
    value = {"text": "\N{SNOWMAN}'\"", "number": 1.5, "none": None, "list": [1, {"x": True}]}
    graph.set("/a", "1", attributes=value)
    assert graph.edge_attributes("/a") == value
    assert graph.attributes("1") == {}
    graph.set_attributes("1", value)
    graph.set_edge_attributes("/a", {"other": 1})
    assert (graph.attributes("1"), graph.edge_attributes("/a")) == (value, {"other": 1})
    graph.set_attributes("1", None)
    assert graph.attributes("1") == {}
    recursive: dict[str, object] = {}
    recursive["self"] = recursive
    for wrong in ({"x": float("nan")}, {"x": b""}, {1: 2}, recursive, {"x": "\udcff"}, {"\udcff": 1}):
        with pytest.raises(InvalidAttributes):
            graph.set_attributes("1", wrong)  # type: ignore[arg-type]
    for missing in (
        lambda: graph.attributes("none"),
        lambda: graph.set_attributes("none", {}),
        lambda: graph.edge_attributes("/"),
        lambda: graph.set_edge_attributes("/b", {}),
    ):
        with pytest.raises(NotFound):
            missing()


def test_children_by_prefix_and_page(graph: GraphDatabase) -> None:
    """Children come page by page without a gap, by prefix too, in order."""
    names = sorted([f"a{i:02}" for i in range(25)] + [f"b{i:02}" for i in range(25)] + ["a", "b", "\U0010ffff"])
    graph.load([("0", name, name) for name in reversed(names)])
    for page in (1, 7, 1000):
        assert [child.name for child in graph.children("/", page=page)] == names
        assert [child.name for child in graph.children("/", prefix="b", page=page)] == [
            name for name in names if name.startswith("b")
        ]
    assert list(graph.children("/", prefix="zzz")) == []
    with pytest.raises(NotFound):
        next(graph.children("/none"))
