"""The file: how it is opened, what its header says, how it is checked, and what must not be done to it."""

from __future__ import annotations

import os
import sqlite3
import threading
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.impl.graphdb import (
    Busy,
    GraphDatabase,
    NotAGraph,
    ReadOnly,
    migrate,
    opening,
    schema,
)
from kernelproof.impl.graphdb.journal import plan_journal

if TYPE_CHECKING:
    from pathlib import Path

    from kernelproof.conformance.graphdb.conftest import Connect, Refusal, Shell
    from kernelproof.conformance.seen import Seen

IDS = "SELECT id FROM node ORDER BY id;"
ROLLBACK = plan_journal("rollback", sqlite3.sqlite_version_info, None)


@behaviour("graphdb.header.application-id")
def test_the_header_says_whose_file_it_is(graph: GraphDatabase, path: Path, low: sqlite3.Connection) -> None:
    """A graph's application_id lies at offset 68, a big-endian number; another one's, negative, is told on opening."""
    assert int.from_bytes(path.read_bytes()[68:72], "big", signed=True) == schema.APPLICATION_ID == 0x6B704764
    low.execute("PRAGMA application_id = -2")
    assert path.read_bytes()[68:72] == b"\xff\xff\xff\xfe"
    assert low.execute("PRAGMA application_id").fetchone() == (-2,)
    graph.close()
    with pytest.raises(NotAGraph, match="found application id"):
        GraphDatabase.open(path, create=False)


@behaviour("graphdb.header.user-version")
def test_the_header_says_which_layout_it_is(graph: GraphDatabase, path: Path, shell: Shell) -> None:
    """The version of the layout lies at offset 60; SQLite leaves any other number alone too, and `open` refuses it."""
    graph.set("/a", "a")
    assert int.from_bytes(path.read_bytes()[60:64], "big") == schema.VERSION
    assert shell("PRAGMA user_version; PRAGMA user_version = 4711; VACUUM; PRAGMA user_version;") == ["1", "4711"]
    assert int.from_bytes(path.read_bytes()[60:64], "big") == 4711
    graph.close()
    with pytest.raises(NotAGraph, match="a graph of version 4711"):
        GraphDatabase.open(path, create=False)


@behaviour("graphdb.header.user-version-rolls-back")
def test_a_version_is_undone_with_its_transaction(
    graph: GraphDatabase, path: Path, low: sqlite3.Connection, shell: Shell
) -> None:
    """A rolled back transaction takes a new version back with it, so that an upgrade is whole or not at all."""
    low.execute("BEGIN")
    low.execute("PRAGMA user_version = 7")
    assert low.execute("PRAGMA user_version").fetchone() == (7,)
    low.execute("ROLLBACK")
    assert shell("PRAGMA user_version;") == ["1"]

    with pytest.raises(ZeroDivisionError):
        graph.store.write(change_version_and_fail)
    assert int.from_bytes(path.read_bytes()[60:64], "big") == 1


def change_version_and_fail(connection: sqlite3.Connection) -> None:
    """An operation that ends in an error after it set another version."""
    connection.execute("PRAGMA user_version = 8")
    raise ZeroDivisionError


@behaviour("graphdb.check.integrity-ok")
def test_a_sound_file_is_ok(graph: GraphDatabase, shell: Shell) -> None:
    """`check` finds nothing in a sound graph, and integrity_check says "ok" in one row."""
    graph.load([("0", f"n{number}", f"n{number}") for number in range(2000)])
    assert graph.check().ok
    assert graph.store.read(lambda c: c.execute("PRAGMA integrity_check").fetchall()) == [("ok",)]
    assert shell("PRAGMA integrity_check;") == ["ok"]


@behaviour("graphdb.check.integrity-skips-fk")
def test_ends_are_looked_for_elsewhere(graph: GraphDatabase, shell: Shell) -> None:
    """integrity_check says "ok" of an edge without an end, which `check` lists."""
    graph.set("/a", "a")
    shell("INSERT INTO link (parent, name, child) VALUES (0, 'x', 99);")
    assert graph.store.read(lambda c: c.execute("PRAGMA integrity_check").fetchall()) == [("ok",)]
    assert [problem.kind for problem in graph.check().problems] == ["dangling"]
    assert shell("PRAGMA integrity_check; PRAGMA foreign_key_check(link);") == ["ok", "link|NULL|node|0"]


@behaviour("graphdb.check.quick-check")
def test_the_quick_check_does_not_compare_indexes(graph: GraphDatabase, path: Path, shell: Shell) -> None:
    """An index that lacks a row is no matter to quick_check; integrity_check and `check` tell of it."""
    graph.load([("0", "a", "a"), ("0", "b", "b")])
    graph.close()
    # The index is made over other values, as many, and then said to be over the children, in the schema's text.
    shell(""".dbconfig defensive off
        DROP INDEX link_child; CREATE INDEX link_child ON link (child + 1000); PRAGMA writable_schema = ON;
        UPDATE sqlite_schema SET sql = 'CREATE INDEX link_child ON link (child)' WHERE name = 'link_child';
        PRAGMA writable_schema = RESET;""")
    shell.kill()
    with GraphDatabase.open(path, create=False, journal="rollback") as again:
        assert again.store.read(lambda c: c.execute("PRAGMA quick_check").fetchall()) == [("ok",)]
        problems = again.check().problems
        assert {problem.kind for problem in problems} == {"index"}
        full, quick = shell("PRAGMA integrity_check;"), shell("PRAGMA quick_check;")
        assert (any("link_child" in line for line in full), quick) == (True, ["ok"])
        assert again.repair(problems) == len(problems)
        assert shell("PRAGMA integrity_check;") == ["ok"]


@behaviour("graphdb.check.not-a-database")
def test_other_content_is_told_at_the_first_access(path: Path, shell: Shell, seen: Seen) -> None:
    """Opening a file of other content succeeds, the first statement gives SQLITE_NOTADB; `open` looks at once."""
    path.write_bytes(b"no database at all; " * 1000)
    connection = sqlite3.connect(opening.format_uri(str(path), "rw"), uri=True)
    with pytest.raises(sqlite3.DatabaseError) as refused:
        connection.execute("SELECT 1 FROM sqlite_schema")
    connection.close()
    with pytest.raises(NotAGraph, match="file is not a database"):
        opening.connect(opening.Options(str(path), False, 0, ROLLBACK))
    with pytest.raises(NotAGraph, match="file is not a database"):
        GraphDatabase.open(path)
    assert "file is not a database (26)" in shell("SELECT 1 FROM sqlite_schema;")[0]
    assert path.read_bytes() == b"no database at all; " * 1000
    assert seen(refused.value.sqlite_errorname) == "SQLITE_NOTADB"


@behaviour("graphdb.uri.read-only")
def test_read_only_is_read_only(
    graph: GraphDatabase, path: Path, connect: Connect, shell: Shell, refusal: Refusal, seen: Seen
) -> None:
    """A connection with mode=ro refuses to write with SQLITE_READONLY, a graph opened read-only with ReadOnly."""
    graph.set("/a", "a")
    with GraphDatabase.open(path, read_only=True) as reader:
        assert reader.exists("/a")
        with pytest.raises(ReadOnly, match="was opened read-only"):
            reader.set("/b", "b")
    refused = refusal(connect(read_only=True).execute, "INSERT INTO node (id) VALUES ('b')")
    assert seen(refused) == "SQLITE_READONLY"
    assert shell(IDS) == ["0", "a"]


@behaviour("graphdb.uri.mode-missing-file")
def test_neither_mode_makes_a_file(path: Path, seen: Seen) -> None:
    """Both modes that impl uses, ro and rw, refuse a file that does not exist with SQLITE_CANTOPEN; none is made."""
    answers = []
    for mode in ("ro", "rw"):
        with pytest.raises(sqlite3.OperationalError) as refused:
            sqlite3.connect(opening.format_uri(str(path), mode), uri=True)
        answers.append(refused.value.sqlite_errorname)
    for read_only in (True, False):
        with pytest.raises(sqlite3.OperationalError, match="unable to open database file"):
            opening.connect(opening.Options(str(path), read_only, 0, ROLLBACK))
        with pytest.raises(FileNotFoundError):
            GraphDatabase.open(path, create=False, read_only=read_only)
    assert list(path.parent.iterdir()) == []
    assert seen(answers) == ["SQLITE_CANTOPEN"] * 2


@behaviour("graphdb.uri.immutable-skips-locks")
def test_immutable_takes_no_locks(graph: GraphDatabase, path: Path, connect: Connect, shell: Shell) -> None:
    """A file that the shell has locked exclusively is read with immutable=1, and by nobody else."""
    graph.set("/a", "a")
    shell("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE;")
    with pytest.raises(Busy):
        graph.exists("/a")
    uri = opening.format_uri(str(path), "ro")
    with pytest.raises(sqlite3.OperationalError, match="database is locked"):
        sqlite3.connect(uri, uri=True, timeout=0).execute(IDS)
    immutable = sqlite3.connect(f"{uri}&immutable=1", uri=True, timeout=0)
    assert immutable.execute(IDS).fetchall() == [("0",), ("a",)]
    immutable.close()
    shell("COMMIT; PRAGMA locking_mode = NORMAL; SELECT 1 FROM node;")
    assert graph.exists("/a")


@behaviour("graphdb.uri.authority-error")
def test_a_file_is_on_this_host(graph: GraphDatabase, path: Path, seen: Seen) -> None:
    """An empty authority and localhost are taken, another one is an error; the URIs that impl writes have none."""
    graph.set("/a", "a")
    uri = opening.format_uri(str(path), "rw")
    assert uri.startswith("file:/")
    answers = []
    for authority in ("//", "//localhost", "//example.org"):
        try:
            connection = sqlite3.connect(uri.replace("file:", f"file:{authority}"), uri=True)
        except sqlite3.OperationalError as error:
            answers.append(str(error))
            continue
        answers.append(connection.execute("SELECT id FROM node WHERE id <> '0'").fetchone()[0])
        connection.close()
    assert seen(answers) == ["a", "a", "invalid uri authority: example.org"]


@behaviour("graphdb.uri.escape-question-mark")
def test_names_of_files_may_hold_marks(tmp_path: Path, seen: Seen) -> None:
    """A graph whose file's name holds a question mark, a hash and a per cent sign lies under that very name."""
    name = "what?#100%3f.db"
    with GraphDatabase.open(tmp_path / name, journal="rollback") as graph:
        graph.set("/a", "a")
    assert opening.format_uri("/x?y#z", "rw") == "file:/x%3fy%23z?mode=rw"
    assert seen([entry.name for entry in tmp_path.iterdir()]) == [name]
    with sqlite3.connect(tmp_path / name) as plain:
        assert plain.execute("SELECT name FROM link").fetchall() == [("a",)]


@behaviour("graphdb.query-only.refuses")
def test_query_only_refuses_every_change(graph: GraphDatabase, shell: Shell, refusal: Refusal, seen: Seen) -> None:
    """Under query_only each kind of change is SQLITE_READONLY, and `set` raises ReadOnly."""
    graph.set("/a", "a")
    connection = graph.store.slot().connection
    connection.execute("PRAGMA query_only = ON")
    changes = ("INSERT INTO node (id) VALUES ('b')", "UPDATE node SET attributes = '{}'", "DELETE FROM link",
               "CREATE TABLE t (x)", "DROP TABLE leftover")  # fmt: skip
    answers = [refusal(connection.execute, change) for change in changes]
    with pytest.raises(ReadOnly, match="attempt to write a readonly database"):
        graph.set("/b", "b")
    assert graph.exists("/a")
    assert shell(f"{IDS} SELECT count(*) FROM link; SELECT count(*) FROM leftover;") == ["0", "a", "1", "0"]
    assert seen(answers) == ["SQLITE_READONLY"] * 5


@behaviour("graphdb.watch.data-version")
def test_others_commits_change_the_data_version(graph: GraphDatabase, shell: Shell) -> None:
    """data_version changes after the shell's commit and not after an own one, which the feed tells all the same."""

    def version() -> int:
        return int(graph.store.read(lambda c: c.execute("PRAGMA data_version").fetchone()[0]))

    before, sequence = version(), graph.sequence
    graph.set("/a", "a")
    assert version() == before
    assert graph.sequence > sequence
    shell("INSERT INTO node (id) VALUES ('b');")
    assert version() != before
    assert [change.entity_id for change in graph.changes(sequence)] == ["a", "a", "b"]


@behaviour("graphdb.threads.serialized-default")
def test_threads_may_share_a_connection(graph: GraphDatabase, shell: Shell, seen: Seen) -> None:
    """The library is built serialized: threads share the graph's connection, and each row that they add is there."""
    assert seen(sqlite3.threadsafety) == 3
    with GraphDatabase.in_memory() as memory:
        slots = []

        def add(start: int) -> None:
            slots.append(memory.store.slot())
            for number in range(start, start + 50):
                memory.set(f"/n{number}", f"n{number}")

        threads = [threading.Thread(target=add, args=(start,)) for start in (0, 50, 100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({id(slot) for slot in slots}) == 1
        assert len(list(memory.children("/"))) == 150
    assert [line for line in shell("PRAGMA compile_options;") if "THREADSAFE" in line] == ["THREADSAFE=1"]
    assert not graph.exists("/n0")


@behaviour("graphdb.limits.variables")
def test_how_many_values_a_statement_takes(low: sqlite3.Connection, shell: Shell, seen: Seen) -> None:
    """A statement takes 32766 host parameters and no more; impl hands over longer lists as one JSON text."""
    limit = low.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
    query = "SELECT count(*) FROM (VALUES {})"
    rows = ", ".join(["(?)"] * limit)
    assert low.execute(query.format(rows), [0] * limit).fetchone() == (limit,)
    with pytest.raises(sqlite3.OperationalError, match="too many SQL variables"):
        low.execute(query.format(f"{rows}, (?)"), [0] * (limit + 1))
    assert f"variable_number {limit}" in [" ".join(line.split()) for line in shell(".limit")]
    assert seen(limit) == 32766


@behaviour("graphdb.limits.compound-select")
def test_how_many_selects_are_joined(low: sqlite3.Connection, shell: Shell, seen: Seen) -> None:
    """500 SELECTs joined by UNION ALL are taken, 501 are refused."""
    query = " UNION ALL ".join(["SELECT count(*) AS n FROM node"] * 500)
    assert low.execute(f"SELECT sum(n) FROM ({query})").fetchone() == (500,)
    with pytest.raises(sqlite3.OperationalError, match="too many terms in compound SELECT"):
        low.execute(f"{query} UNION ALL SELECT 1")
    assert "compound_select 500" in [" ".join(line.split()) for line in shell(".limit")]
    assert seen(low.getlimit(sqlite3.SQLITE_LIMIT_COMPOUND_SELECT)) == 500


@behaviour("graphdb.corrupt.close-drops-locks")
def test_closing_the_file_drops_the_librarys_locks(
    graph: GraphDatabase, path: Path, low: sqlite3.Connection, shell: Shell
) -> None:
    """While a connection writes, opening and closing the file by hand lets the shell in; `read_found` does not."""
    low.execute("BEGIN IMMEDIATE")
    assert "database is locked (5)" in shell("BEGIN IMMEDIATE;")[0]
    other = opening.connect(opening.Options(str(path), False, 0, ROLLBACK), look=True)
    assert schema.read_found(other).kind == "ours"
    other.close()
    assert "database is locked (5)" in shell("BEGIN IMMEDIATE;")[0]
    os.close(os.open(path, os.O_RDONLY))
    assert shell("BEGIN IMMEDIATE; SELECT 'in'; ROLLBACK;") == ["in"]
    low.execute("ROLLBACK")
    graph.set("/a", "a")


@behaviour("graphdb.corrupt.unlink-while-open")
def test_an_unlinked_file_is_another_one(graph: GraphDatabase, path: Path, shell: Shell) -> None:
    """After the file was unlinked a new one of its name is another graph; the old connection still reads its own."""
    graph.set("/old", "old")
    path.unlink()
    with GraphDatabase.open(path, journal="rollback") as new:
        new.set("/new", "new")
        assert graph.exists("/old")
        assert not graph.exists("/new")
        assert shell("SELECT name FROM link;") == ["new"]
        with pytest.raises(ReadOnly, match="READONLY_DBMOVED"):
            graph.set("/more", "more")
        assert [child.name for child in new.children("/")] == ["new"]


@behaviour("graphdb.corrupt.two-names")
def test_two_links_have_two_journals(graph: GraphDatabase, path: Path, connect: Connect, refusal: Refusal) -> None:
    """Through a hard link the journal lies beside that link; through a symbolic one it lies beside the real file."""
    graph.close()
    folder = path.parent / "elsewhere"
    folder.mkdir()
    hard, symbolic = folder / "hard.db", folder / "symbolic.db"
    os.link(path, hard)
    symbolic.symlink_to(path)
    places = []
    for name in (path, hard, symbolic):
        with GraphDatabase.open(name, journal="rollback", timeout_seconds=0) as one:
            before = set(path.parent.rglob("*"))
            with one.transaction():
                one.set(f"/{name.stem}", name.stem)
                places += sorted(str(new.relative_to(path.parent)) for new in set(path.parent.rglob("*")) - before)
    assert places == ["graph.db-journal", "elsewhere/hard.db-journal", "graph.db-journal"]
    assert refusal(connect().execute, "SELECT 1 FROM node") == "no error"
    assert migrate.keep_copy(str(symbolic.resolve()), "copy").endswith("/graph.db.copy")
