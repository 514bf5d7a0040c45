"""The functions of 2014: the article's example, and each sentence of what the original promised."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from kernelproof.impl.graphdb import (
    CycleError,
    Database,
    Edge,
    Entities,
    GraphDatabase,
    InvalidPath,
    LimitExceeded,
    NameTaken,
    NotAGraph,
    NotFound,
    RootProtected,
    is_non_unique_name_error,
    new_database,
    new_sqlite_conn,
    path_depth,
    portable,
)
from kernelproof.impl.graphdb.portable import Database as PortableDatabase
from kernelproof.impl.graphdb.store import Store
from kernelproof.impl.graphdb.traverse import Plan, Step, Walk


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    with new_sqlite_conn(tmp_path / "links.db") as opened:
        yield opened


def fill_shared(db: Database) -> None:
    """/webapp {db {logs}, sentry {db}}: the database has two names."""
    for path, entity_id in (
        ("/webapp", "1"),
        ("/db", "2"),
        ("/webapp/db", "2"),
        ("/webapp/db/logs", "4"),
        ("/sentry", "5"),
        ("/webapp/sentry", "5"),
        ("/sentry/db", "2"),
    ):
        db.set(path, entity_id)


def test_the_articles_example(tmp_path: Path) -> None:
    """A parent with two children prints matt, then koye."""
    with new_sqlite_conn(tmp_path / "example.db") as db:
        db.set("/parent", "1")
        db.set("/parent/matt", "2")
        db.set("/parent/koye", "3")
        printed = [path.rpartition("/")[2] for path in db.list("/parent", -1).paths()]
    assert printed == ["matt", "koye"]


def test_the_articles_example_by_id(tmp_path: Path) -> None:
    """Where the names are other and the ids are the words, a walk prints them in order of name."""
    printed: list[str] = []
    with new_sqlite_conn(tmp_path / "example.db") as db:
        db.set("/parent", "1")
        db.set("/parent/first", "matt")
        db.set("/parent/second", "koye")
        db.walk("/parent", lambda path, entity: printed.append(entity.id()), -1)
    assert printed == ["matt", "koye"]


def test_root(db: Database) -> None:
    """The root is the entity 0 under /, named once, and no edge leads to it."""
    assert db.root_entity().id() == "0"
    assert db.get("/") == db.root_entity()
    assert db.refs("0") == 1
    assert db.ref_paths("0") == ()


def test_one_entity_under_two_names(db: Database) -> None:
    """The same id may be set under two names and is then counted twice."""
    db.set("/test", "1")
    db.set("/other", "1")
    assert db.get("/test") == db.get("/other")
    assert db.refs("1") == 2
    assert db.refs_paths("1") == (Edge("1", "other", "0"), Edge("1", "test", "0"))


def test_a_name_is_set_once(db: Database) -> None:
    """A second set of one path fails as non-unique, even with the same id, and leaves no new entity behind."""
    assert db.set("/db", "1").id() == "1"
    with pytest.raises(NameTaken) as same:
        db.set("/db", "1")
    with pytest.raises(sqlite3.IntegrityError) as other:
        db.set("/db", "new")
    assert is_non_unique_name_error(same.value)
    assert is_non_unique_name_error(other.value)
    assert not is_non_unique_name_error(NotFound("x"))
    assert not is_non_unique_name_error(None)
    assert db.graph.store.read(lambda c: c.execute("SELECT count(*) FROM node WHERE id = 'new'").fetchone()) == (0,)


def test_list_has_the_documented_depths(db: Database) -> None:
    """Depth 0 lists children, 1 one level more, -1 all; each path of a shared entity counts."""
    fill_shared(db)
    assert sorted(db.list("/webapp", 0)) == ["/webapp/db", "/webapp/sentry"]
    assert sorted(db.list("/webapp", 1)) == [
        "/webapp/db",
        "/webapp/db/logs",
        "/webapp/sentry",
        "/webapp/sentry/db",
    ]
    assert len(db.list("/", -1)) == 11
    assert db.list("/missing", -1) == {}
    assert db.list("", -1) == {}


def test_five_children(db: Database) -> None:
    """Five children of the root are listed as five."""
    for number in range(1, 6):
        db.set(f"/{number}", str(number))
    assert len(db.list("/", -1)) == 5


def test_an_entity_cannot_be_its_own_child(db: Database) -> None:
    """Setting an entity below itself is refused, and so is a name below a missing parent."""
    db.set("/test", "1")
    with pytest.raises(CycleError, match="Cannot set self as child"):
        db.set("/test/other", "1")
    with pytest.raises(NotFound, match="Cannot find child for /myapp/proxy"):
        db.set("/myapp/proxy/db", "2")


def test_walk_over_shared_entities(db: Database) -> None:
    """A walk goes through shared parts, may use the database, and ends with the first error."""
    fill_shared(db)
    seen: dict[str, str] = {}

    def note(path: str, entity: object) -> None:
        found = db.get(path)
        assert found is not None
        seen[path] = found.id()

    db.walk("/", note, -1)
    assert seen["/webapp/db/logs"] == "4"
    assert seen["/webapp/sentry/db/logs"] == "4"
    calls: list[str] = []

    def fail(path: str, entity: object) -> None:
        calls.append(path)
        raise OSError("stop")

    with pytest.raises(OSError, match="stop"):
        db.walk("/", fail, -1)
    assert calls == ["/db"]
    with pytest.raises(NotFound, match="Cannot find child for /nothing"):
        db.walk("/nothing", note, -1)


def test_walk_function_may_write(db: Database) -> None:
    """The function of a walk may delete what it is shown."""
    fill_shared(db)
    db.walk("/webapp", lambda path, entity: db.delete(path), 0)
    assert db.list("/webapp", -1) == {}


def test_delete(db: Database) -> None:
    """Delete takes one name, is no error for a missing one, and is refused for the root and below a missing parent."""
    fill_shared(db)
    db.delete("/webapp/sentry")
    assert db.get("/webapp/sentry") is None
    assert db.get("/sentry") is not None
    db.delete("/webapp/sentry")
    with pytest.raises(RootProtected, match="Cannot delete root entity"):
        db.delete("/")
    with pytest.raises(NotFound):
        db.delete("/nothing/below")


def test_purge_counts_all_edges(db: Database) -> None:
    """Purge deletes the edges to an entity and from it and returns their number."""
    db.set("/webapp", "1")
    db.set("/db", "2")
    db.set("/db/webapp", "1")
    assert db.purge("2") == 2
    assert db.refs("2") == 0
    assert db.refs("1") == 1
    assert db.purge("unknown") == 0
    with pytest.raises(RootProtected):
        db.purge("0")
    db.set("/a", "9")
    db.set("/b", "9")
    assert db.purge("9") == 2
    assert db.get("/") is not None


def test_rename(db: Database) -> None:
    """Rename moves a name below its parent only; the old one is gone, an unknown one and a taken one are errors."""
    fill_shared(db)
    db.rename("/webapp/db", "/webapp/newdb")
    assert not db.exists("/webapp/db")
    assert db.exists("/webapp/newdb")
    db.rename("/webapp/newdb", "/webapp/newdb")
    with pytest.raises(ValueError, match="Cannot rename when root paths do not match /webapp != /"):
        db.rename("/webapp/newdb", "/newdb")
    with pytest.raises(NotFound, match="Cannot locate edge for"):
        db.rename("/webapp/gone", "/webapp/other")
    with pytest.raises(NameTaken):
        db.rename("/webapp/newdb", "/webapp/sentry")


def test_parents(db: Database) -> None:
    """Each grandchild reports exactly its parent's id."""
    for number in range(1, 6):
        db.set(f"/{number}", str(number))
        db.set(f"/{number}/child", f"{number}00")
    for number in range(1, 6):
        assert db.parents(f"/{number}/child") == [str(number)]
    with pytest.raises(NotFound):
        db.parents("/none")


def test_children_of_chains(db: Database) -> None:
    """On a chain of 5 and one of 20, depth 5 gives 11 entries and depth 20 gives 25."""
    for chain, length in (("a", 5), ("b", 20)):
        path = ""
        for number in range(length):
            path += f"/{chain}{number}"
            db.set(path, f"{chain}{number}")
    assert len(db.children("/", 5)) == 11
    assert len(db.children("/", 20)) == 25
    assert len(db.children("/", -1)) == 25


def test_children_come_before_their_own_children(db: Database) -> None:
    """Children are listed in order of name, each before what lies below it, with parent, edge and full path."""
    for path, entity_id in (("/b", "2"), ("/a", "1"), ("/a/z", "3"), ("/a b", "5"), ("/a/y", "4")):
        db.set(path, entity_id)
    metas = db.children("/", -1)
    assert [meta.full_path for meta in metas] == ["/a", "/a/y", "/a/z", "/a b", "/b"]
    assert metas[1].parent.id() == "1"
    assert metas[1].entity.id() == "4"
    assert metas[1].edge == Edge("4", "y", "1")


def test_cycles_end(db: Database) -> None:
    """Two entities below each other are each listed once below the other, at every depth."""
    db.set("/one", "1")
    db.set("/two", "2")
    db.set("/one/two", "2")
    db.set("/two/one", "1")
    assert [meta.full_path for meta in db.children("/one", -1)] == ["/one/two"]
    assert [meta.full_path for meta in db.children("/two", -1)] == ["/two/one"]
    assert [meta.full_path for meta in db.children("/one", 7)] == ["/one/two"]


def test_too_many_paths_raise(tmp_path: Path) -> None:
    """A list that would pass its bound raises; it never comes shortened."""
    with new_sqlite_conn(tmp_path / "links.db") as opened:
        db = PortableDatabase(opened.graph, max_rows=50)
        names = "abcde"
        for name in names:
            db.set(f"/{name}", name)
        for first in names:
            for second in names:
                if first != second:
                    db.set(f"/{first}/{second}", second)
        with pytest.raises(LimitExceeded):
            db.list("/", -1)
        assert len(db.list("/", 1)) == 25


def test_look_ups_drop_empty_parts(db: Database) -> None:
    """Empty parts of a path do not count in look-ups; the end of a new name may not be empty."""
    db.set("/todo", "1")
    db.set("//todo//list", "2")
    for spelling in ("/todo", "/todo/", "//todo//", "todo"):
        assert db.get(spelling) == db.get("/todo")
    assert list(db.list("//todo/", -1)) == ["/todo/list"]
    with pytest.raises(InvalidPath):
        db.set("/x/", "3")
    with pytest.raises(RootProtected):
        db.set("/", "3")


def test_relative_and_empty_paths_are_never_the_root(db: Database) -> None:
    """What has no leading slash is looked up below the root, and nothing is nothing: neither is the root. (G9)"""
    db.set("/foo", "1")
    assert db.get("foo") == db.get("/foo")
    assert db.get("bar") is None
    assert db.get("foo/bar") is None
    assert db.get("") is None
    assert not db.exists("")


@pytest.mark.parametrize("path", ["/a/../b", "/./a", "/a/.", ".."])
def test_dots_are_refused(db: Database, path: str) -> None:
    """Parts that mean a place in file systems are refused by writes and not found by look-ups."""
    db.set("/a", "1")
    db.set("/b", "2")
    assert db.get(path) is None
    for call in (lambda: db.set(path, "3"), lambda: db.delete(path), lambda: db.children(path, 0)):
        with pytest.raises(InvalidPath):
            call()


def test_path_depth_counts_as_it_did() -> None:
    """The depth of a path is the number of its parts between slashes; the root's is 1."""
    depths = {path: path_depth(path) for path in ("/", "/a", "/a/b", "a", "", "/a/")}
    assert depths == {"/": 1, "/a": 2, "/a/b": 3, "a": 1, "": 1, "/a/": 3}


def test_paths_are_sorted_deepest_first(db: Database) -> None:
    """The deepest path comes first."""
    entities = Entities({path: db.root_entity() for path in ("/", "/myreallylongname", "/app/db")})
    assert entities.paths() == ["/app/db", "/myreallylongname", "/"]


def test_new_database_takes_a_connection(tmp_path: Path) -> None:
    """A database is made from a connection to a file; none, and one to memory, are refused, and init only once."""
    connection = sqlite3.connect(tmp_path / "links.db")
    try:
        with new_database(connection, True) as db:
            db.set("/a", "1")
        with new_database(connection) as db:
            assert db.exists("/a")
        with pytest.raises(NameTaken, match=r"entity\.id"):
            new_database(connection, True)
    finally:
        connection.close()
    with pytest.raises(ValueError, match="Database connection cannot be nil"):
        new_database(None, False)
    memory = sqlite3.connect(":memory:")
    with pytest.raises(ValueError, match="in memory"):
        new_database(memory)
    memory.close()


CONNECTIONS: list[dict[str, Any]] = [{}, {"isolation_level": None}]
if sys.version_info >= (3, 12):
    CONNECTIONS += [{"autocommit": True}, {"autocommit": False}]


@pytest.mark.parametrize("how", CONNECTIONS, ids=str)
def test_new_database_is_made_in_the_callers_file(tmp_path: Path, how: dict[str, Any]) -> None:
    """The caller's connection sees the graph that is made, and what it writes then is in the file."""
    file = tmp_path / "links.db"
    with closing(sqlite3.connect(file, **how)) as connection:
        with new_database(connection, True) as db:
            db.set("/a", "1")
        assert connection.execute("SELECT id FROM entity ORDER BY id").fetchall() == [("0",), ("1",)]
        connection.commit()
        connection.execute("INSERT INTO entity VALUES ('2')")
        connection.commit()
        with pytest.raises(NameTaken, match="initialised already"):
            new_database(connection, True)
        assert connection.execute("SELECT count(*) FROM entity").fetchone() == (3,)
    with closing(sqlite3.connect(tmp_path / "other.db", **how)) as connection:
        connection.execute("CREATE TABLE mine (x)")
        connection.commit()
        with pytest.raises(NotAGraph, match="mine"):
            new_database(connection, True)


def test_memory_path() -> None:
    """The path :memory: gives a database in memory."""
    with new_sqlite_conn(":memory:") as db:
        db.set("/a", "1")
        assert db.exists("/a")


def test_listing_is_of_one_moment(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is set while a list is read neither ends the list nor is in it."""
    fill_shared(db)
    before = db.list("/", -1).paths()

    def walk(store: Store, plan: Plan) -> Iterator[Step]:
        steps = Walk(store, plan)
        yield next(steps)
        db.set("/late", "9")
        yield from steps

    monkeypatch.setattr(portable, "Walk", walk)
    assert db.list("/", -1).paths() == before
    assert db.exists("/late")


def test_file_names_itself_in_errors(db: Database, tmp_path: Path) -> None:
    """Messages name the file, and one in memory as SQLite does."""
    assert db.graph.store.label == str(tmp_path / "links.db")
    with GraphDatabase.in_memory() as graph:
        assert graph.store.label == ":memory:"
