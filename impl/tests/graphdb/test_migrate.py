"""Files of 2014: opened, upgraded with a copy kept, read and written by the old program, and taken back."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from kernelproof.impl.graphdb import Database, Entity, GraphDatabase, GraphError, NotAGraph, new_sqlite_conn
from kernelproof.impl.graphdb.journal import Journal
from kernelproof.impl.graphdb.migrate import Report, downgrade, upgrade
from kernelproof.impl.graphdb.opening import Options

FIXTURE = Path(__file__).parents[3] / "fixtures" / "graphdb" / "links-2014.sql"

PATHS = [
    "/redis", "/redis/log", "/redis/log/front", "/sad_turing", "/sad_turing/front", "/sad_turing/front/db",
    "/webapp", "/webapp/db", "/webapp/db/log",
]  # fmt: skip


@pytest.fixture
def old(file: Path) -> Path:
    """A file in the layout of 2014."""
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(FIXTURE.read_text())
    return file


def options(file: Path) -> Options:
    """How the migrations open a file."""
    return Options(str(file), False, 1.0, Journal("truncate", "full", ""))


def dump(file: Path) -> list[tuple[object, ...]]:
    """All rows of a file of 2014."""
    with closing(sqlite3.connect(file)) as connection:
        entities = connection.execute("SELECT id FROM entity ORDER BY id").fetchall()
        edges = connection.execute("SELECT entity_id, parent_id, name FROM edge ORDER BY 1, 2, 3").fetchall()
    return [*entities, *edges]


def test_an_old_file_opens(old: Path) -> None:
    """A file of 2014 is upgraded as it is opened; names, shared entities and cycles are there, and a copy is kept."""
    before = dump(old)
    with new_sqlite_conn(old) as db:
        assert sorted(db.list("/", -1)) == PATHS
        assert db.get("/webapp/db") == db.get("/redis") == Entity("d7886598dbe2")
        assert db.refs("0") == 1
        db.set("/new", "5")
    assert dump(old.with_name("graph.db.2014")) == before
    with closing(sqlite3.connect(old)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    assert sorted(path.name for path in old.parent.iterdir()) == ["graph.db", "graph.db.2014"]


def test_what_broke_a_rule_is_set_aside_and_reported(old: Path) -> None:
    """Rows that no path reached are kept with the reason, and the check lists them beside what has no name."""
    with GraphDatabase.open(old) as graph:
        problems = {(problem.kind, problem.detail.removeprefix("of 2014: ")) for problem in graph.check().problems}
        assert problems == {
            ("unnamed", "no edge leads to it"),
            ("leftover", "entity '8d1e34f62a90', parent 'purged000000', name 'orphan': no such parent"),
            ("leftover", "entity '8d1e34f62a90', parent '4c01db0b339c', name '': an empty name"),
            ("leftover", "entity 'd7886598dbe2', parent '8d1e34f62a90', name '..': a name that is a place in a path"),
        }
        assert graph.repair(graph.check().problems) == 4
        assert graph.check().ok


def test_the_way_back(old: Path) -> None:
    """Upgraded and taken back, a file holds the same rows, also those that were set aside; a copy is kept each way."""
    before = dump(old)
    report = upgrade(options(old))
    assert (report.entities, report.edges, len(report.leftovers)) == (5, 6, 3)
    assert report.copy == str(old.with_name("graph.db.2014"))
    assert upgrade(options(old)).copy is None
    back = downgrade(options(old))
    assert back.copy == str(old.with_name("graph.db.v1"))
    assert dump(old) == before
    with GraphDatabase.open(back.copy) as graph:
        assert graph.exists("/webapp/db")
    with GraphDatabase.open(old) as graph:
        assert graph.exists("/webapp/db")
    assert old.with_name("graph.db.2014.1").exists()


def test_the_file_is_as_before_if_the_upgrade_fails(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upgrade that is refused in its last step changes nothing."""
    before = old.read_bytes()

    def refuse(connection: sqlite3.Connection) -> None:
        raise NotAGraph("refused")

    monkeypatch.setattr("kernelproof.impl.graphdb.migrate._check_foreign_keys", refuse)
    with pytest.raises(NotAGraph, match="refused"):
        GraphDatabase.open(old)
    assert old.read_bytes() == before


@pytest.mark.parametrize("migrate", [upgrade, downgrade], ids=["upgrade", "downgrade"])
def test_what_is_no_graph_is_not_migrated(file: Path, migrate: Callable[[Options], object]) -> None:
    """Another program's database is refused with what was found; it stays as it is, and no copy is made."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE bookmarks (url)")
    before = file.read_bytes()
    with pytest.raises(NotAGraph, match="bookmarks"):
        migrate(options(file))
    assert file.read_bytes() == before
    assert os.listdir(file.parent) == ["graph.db"]


@pytest.mark.parametrize("migrate", [upgrade, downgrade], ids=["upgrade", "downgrade"])
def test_what_was_migrated_meanwhile_is_left_alone(old: Path, migrate: Callable[[Options], Report]) -> None:
    """Who comes second finds nothing to do: no row is written, and no copy is made."""
    GraphDatabase.open(old).close()
    if migrate is downgrade:
        downgrade(options(old))
    before, files = old.read_bytes(), sorted(os.listdir(old.parent))
    assert migrate(options(old)) == Report(None, 0, 0, ())
    assert old.read_bytes() == before
    assert sorted(os.listdir(old.parent)) == files


def test_reading_only_leaves_an_old_file_alone(old: Path) -> None:
    """Opened read-only, a file of 2014 is read in its own layout; without leave to upgrade, opening is refused."""
    before = old.read_bytes()
    with Database(GraphDatabase.open(old, read_only=True)) as db:
        assert sorted(db.list("/", -1)) == PATHS
        assert db.refs("d7886598dbe2") == 2
        assert [child.name for child in db.graph.children("/")] == ["redis", "sad_turing", "webapp"]
        assert db.graph.names_of("8d1e34f62a90")[0] == "/sad_turing"
        with pytest.raises(GraphError):
            db.set("/x", "1")
    with pytest.raises(NotAGraph, match="upgrade=True"):
        GraphDatabase.open(old, upgrade=False)
    assert old.read_bytes() == before
    assert sorted(path.name for path in old.parent.iterdir()) == ["graph.db"]


# --- the old program on the new layout --------------------------------------------------------------------------------


class OldProgram:
    """The statements of 2014, in our own code, on a connection as its driver made them."""

    def __init__(self, file: Path) -> None:
        self.connection = sqlite3.connect(file, isolation_level=None)

    def child(self, parent: str, name: str) -> str | None:
        """One step of a look-up."""
        query = "SELECT entity_id FROM edge WHERE parent_id = ? AND name = ?;"
        row = self.connection.execute(query, (parent, name)).fetchone()
        return None if row is None else str(row[0])

    def get(self, path: str) -> str | None:
        """A look-up."""
        entity: str | None = "0"
        for part in path.split("/")[1:]:
            entity = None if entity is None else self.child(entity, part)
        return entity

    def children(self, entity: str) -> list[tuple[str, str]]:
        """The children, as the rows come."""
        return self.connection.execute("SELECT entity_id, name FROM edge where parent_id = ?;", (entity,)).fetchall()

    def refs(self, entity: str) -> int:
        """The number of edges to an entity."""
        query = "SELECT COUNT(*) FROM edge WHERE entity_id = ?;"
        return int(self.connection.execute(query, (entity,)).fetchone()[0])

    def set(self, parent: str, name: str, entity: str) -> None:
        """An entity and an edge."""
        self.connection.execute("BEGIN EXCLUSIVE")
        try:
            if self.connection.execute("SELECT id FROM entity WHERE id = ?;", (entity,)).fetchone() is None:
                self.connection.execute("INSERT INTO entity (id) VALUES(?);", (entity,))
            query = "INSERT INTO edge (parent_id, name, entity_id) VALUES (?,?,?);"
            self.connection.execute(query, (parent, name, entity))
        except sqlite3.Error:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    def rename(self, parent: str, name: str, new: str) -> int:
        """Rename an edge."""
        query = "UPDATE edge SET name = ? WHERE parent_id = ? AND name = ?;"
        self.connection.execute(query, (new, parent, name))
        return int(
            self.connection.execute(
                "SELECT COUNT(*) FROM edge WHERE parent_id = ? AND name = ?", (parent, new)
            ).fetchone()[0]
        )

    def purge(self, entity: str) -> None:
        """Delete edges to and from an entity, and it."""
        self.connection.execute("DELETE FROM edge WHERE entity_id = ?;", (entity,))
        self.connection.execute("DELETE FROM edge WHERE parent_id = ?;", (entity,))
        self.connection.execute("DELETE FROM entity where id = ?;", (entity,))


class NewTables(OldProgram):
    """The same program where the migration put only new tables in place."""

    def __init__(self, file: Path) -> None:
        super().__init__(file)
        self.connection.execute("DROP VIEW edge")
        self.connection.execute("DROP VIEW entity")


@pytest.mark.rule("G11", ours=OldProgram, wrong=NewTables, raises=sqlite3.OperationalError)
def test_the_old_program_reads_and_writes_an_upgraded_file(old: Path, subject: Callable[[Path], OldProgram]) -> None:
    """The statements of 2014 find, list, count, set, rename and purge in an upgraded file."""
    GraphDatabase.open(old).close()
    with closing(subject(old).connection) as connection:
        program = OldProgram.__new__(OldProgram)
        program.connection = connection
        assert program.get("/webapp/db/log") == "8d1e34f62a90"
        assert program.get("/none") is None
        assert [name for _, name in program.children("0")] == ["redis", "sad_turing", "webapp"]
        assert (program.refs("0"), program.refs("d7886598dbe2")) == (1, 2)
        program.set("0", "old", "fresh")
        program.set("0", "older", "fresh")
        with pytest.raises(sqlite3.IntegrityError) as caught:
            program.set("0", "old", "other")
        assert "UNIQUE constraint failed" in str(caught.value)
        assert "edge.name" in str(caught.value)
        assert program.rename("0", "older", "eldest") == 1
        program.purge("4c01db0b339c")
    with GraphDatabase.open(old) as graph:
        assert [child.name for child in graph.children("/")] == ["eldest", "old", "redis", "sad_turing"]
        assert graph.refs("other") == 0
        assert graph.changes(0) is not None
        assert [problem.kind for problem in graph.check().problems].count("dangling") == 0


def test_the_sqlite3_shell_sees_the_old_shape(old: Path) -> None:
    """Another program, the shell, lists entities and edges of an upgraded file in the old shape."""
    GraphDatabase.open(old).close()
    query = "SELECT entity_id, parent_id, name FROM edge WHERE parent_id = '0' OR parent_id IS NULL ORDER BY name;"
    module = sys.version_info >= (3, 12)
    done = subprocess.run(
        [*([sys.executable, "-m", "sqlite3"] if module else ["sqlite3"]), str(old), query],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    text = done.stdout.replace("'", "").replace(", ", "|").replace("(", "").replace(")", "").replace("None", "")
    assert text.splitlines() == [
        "0||/", "d7886598dbe2|0|redis", "8d1e34f62a90|0|sad_turing", "4c01db0b339c|0|webapp",
    ]  # fmt: skip


def test_two_upgrades_at_once(old: Path) -> None:
    """Of threads that open an old file at once one upgrades it; all get the graph, and one copy is kept."""
    barrier = threading.Barrier(6)
    found: list[bool] = []
    failed: list[BaseException] = []

    def open_it() -> None:
        barrier.wait()
        try:
            with GraphDatabase.open(old) as graph:
                found.append(graph.exists("/webapp/db/log"))
        except GraphError as error:
            failed.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (found, failed) == ([True] * 6, [])
    assert sorted(path.name for path in old.parent.iterdir()) == ["graph.db", "graph.db.2014"]
