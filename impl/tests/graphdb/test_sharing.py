"""A file shared by connections, threads and forked processes."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest

from kernelproof.impl.graphdb import (
    Busy,
    Forked,
    GraphDatabase,
    NameTaken,
    connection,
)
from kernelproof.impl.graphdb.journal import Journal
from kernelproof.impl.graphdb.opening import Options, connect
from kernelproof.impl.tests.graphdb.beside import plain_connection, run_python

ROLLBACK = Journal("truncate", "full", "")


# --- G4 ---------------------------------------------------------------------------------------------------------------


def our_connection(path: str) -> sqlite3.Connection:
    """Ours."""
    return connect(Options(path, False, 1.0, ROLLBACK))


@pytest.mark.rule("G4", ours=our_connection, wrong=plain_connection, raises=pytest.fail.Exception)
def test_every_connection_enforces_foreign_keys(file: Path, subject: Callable[[str], sqlite3.Connection]) -> None:
    """An edge to a missing entity is refused on each new connection."""
    GraphDatabase.open(file, journal="rollback").close()
    for _ in range(2):
        with closing(subject(str(file))) as connection:
            with pytest.raises(sqlite3.IntegrityError) as caught:
                connection.execute("INSERT INTO link (parent, name, child) VALUES (0, 'x', 99)")
            assert caught.value.sqlite_errorname == "SQLITE_CONSTRAINT_FOREIGNKEY"


def purge_as_in_2014(graph: GraphDatabase, entity_id: str) -> None:
    """The edges to the entity and the entity, without foreign keys: what lies below keeps half an edge."""
    assert graph.path is not None
    with closing(sqlite3.connect(graph.path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM link WHERE child = (SELECT key FROM node WHERE id = ?)", (entity_id,))
        connection.execute("DELETE FROM node WHERE id = ?", (entity_id,))


@pytest.mark.rule("G4", ours=GraphDatabase.purge, wrong=purge_as_in_2014)
def test_purge_leaves_no_half_edge(graph: GraphDatabase, subject: Callable[[GraphDatabase, str], object]) -> None:
    """After a purge no edge lacks an end."""
    graph.set("/a", "1")
    graph.set("/a/b", "2")
    graph.set("/b", "2")
    subject(graph, "1")
    assert graph.check().problems == ()
    assert graph.refs("2") == 1


# --- G6 ---------------------------------------------------------------------------------------------------------------


@contextmanager
def deferred_transaction(graph: GraphDatabase) -> Iterator[None]:
    """BEGIN, as sqlite3 and most programs do."""
    connection = graph.store.slot().connection
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


@pytest.mark.rule("G6", ours=GraphDatabase.transaction, wrong=deferred_transaction, raises=pytest.fail.Exception)
def test_a_writer_is_one_from_the_start(
    file: Path, subject: Callable[[GraphDatabase], AbstractContextManager[None]]
) -> None:
    """While a transaction has only read yet, no other writer comes between its reading and its writing."""
    with (
        GraphDatabase.open(file, journal="wal", timeout_seconds=0.1) as one,
        GraphDatabase.open(file, journal="wal", timeout_seconds=0.1) as other,
        subject(one),
    ):
        assert not one.exists("/a")
        with pytest.raises(Busy):
            other.set("/a", "other")


@pytest.mark.rule("G6")
def test_busy_is_raised_at_the_deadline(file: Path) -> None:
    """A write that cannot get its lock raises Busy once its time is over, and nothing has changed."""
    with GraphDatabase.open(file, timeout_seconds=0.2) as graph, closing(plain_connection(str(file))) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        with pytest.raises(Busy):
            graph.set("/a", "1")
        assert time.monotonic() - began >= 0.2
        other.execute("ROLLBACK")
        assert not graph.exists("/a")
        graph.set("/a", "1")


@pytest.mark.rule("G6")
@pytest.mark.parametrize("seconds", [3e6, 1e10, float("inf")])
def test_a_timeout_may_be_without_end(file: Path, seconds: float) -> None:
    """A timeout that SQLite cannot count in milliseconds waits for a lock as any other does."""
    with (
        GraphDatabase.open(file, timeout_seconds=seconds) as graph,
        closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.1, other.execute, ("COMMIT",))
        release.start()
        graph.set("/a", "1")
        release.join()
        assert graph.exists("/a")
    with GraphDatabase.in_memory(timeout_seconds=seconds) as graph:
        graph.set("/a", "1")


@pytest.mark.rule("G6")
def test_a_commit_that_readers_keep_waiting_is_undone(file: Path) -> None:
    """In rollback mode a reader that stays keeps the commit waiting; after the timeout nothing was changed."""
    with GraphDatabase.open(file, journal="rollback", timeout_seconds=0.1) as graph:
        graph.set("/a", "1")
        with closing(plain_connection(str(file))) as other:
            other.execute("BEGIN")
            other.execute("SELECT * FROM node").fetchall()
            with pytest.raises(Busy):
                graph.set("/b", "2")
        assert not graph.exists("/b")
        graph.set("/b", "2")


@pytest.mark.rule("G6")
def test_threads_of_a_process_wait_in_line(file: Path) -> None:
    """A thread that finds another one writing waits for it without an error, up to its timeout."""
    with GraphDatabase.open(file, timeout_seconds=0.1) as graph:
        caught: list[BaseException] = []

        def write() -> None:
            try:
                graph.set("/a", "1")
            except Busy as error:
                caught.append(error)

        with graph.transaction():
            thread = threading.Thread(target=write)
            thread.start()
            thread.join()
        assert len(caught) == 1
        assert "another thread" in str(caught[0])


def close_plainly(graph: GraphDatabase) -> None:
    """Close the connections and nothing more."""
    graph.store._connections.close(lambda connection: None)


@pytest.mark.rule("G6", ours=GraphDatabase.close, wrong=close_plainly)
def test_close_empties_the_log(file: Path, subject: Callable[[GraphDatabase], None]) -> None:
    """After the last writer's close the log is empty, even while a reader keeps the file open."""
    graph = GraphDatabase.open(file, journal="wal")
    with closing(plain_connection(str(file))) as reader:
        graph.set("/a", "1")
        reader.execute("SELECT count(*) FROM node").fetchall()
        subject(graph)
        assert file.with_name("graph.db-wal").stat().st_size == 0


# --- G7 ---------------------------------------------------------------------------------------------------------------

FORK_PLAIN = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 5")
connection.execute("BEGIN IMMEDIATE")
connection.executemany("INSERT INTO node (id) VALUES (?)", ((f"{i}" * 50,) for i in range(1, 3000)))
child = os.fork()
if child == 0:
    sys.exit(0)
os.waitpid(child, 0)
connection.execute("COMMIT")
print(connection.execute("SELECT count(*) FROM node").fetchone()[0])
"""

FORK_OURS = """
import os, sys
from kernelproof.impl.graphdb import Forked, GraphDatabase
graph = GraphDatabase.open(sys.argv[1])
graph.store.read(lambda connection: connection.execute("PRAGMA cache_size = 5"))
with graph.transaction():
    for i in range(1, 3000):
        graph.store.write(lambda connection: connection.execute("INSERT INTO node (id) VALUES (?)", (f"{i}" * 50,)))
    child = os.fork()
    if child == 0:
        for use in (lambda: graph.exists("/a"), lambda: GraphDatabase.open(sys.argv[1])):
            try:
                use()
            except Forked:
                continue
            sys.exit(1)
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
print(graph.store.read(lambda connection: connection.execute("SELECT count(*) FROM node").fetchone()[0]))
"""


@pytest.mark.rule("G7", ours=FORK_OURS, wrong=FORK_PLAIN)
def test_a_fork_within_a_transaction_harms_nothing(file: Path, subject: str) -> None:
    """A child that ends while its parent is in a transaction leaves the parent's transaction and the file whole."""
    GraphDatabase.open(file, journal="rollback").close()
    done = run_python(subject, file)
    assert (done.stdout, done.returncode) == ("3000\n", 0), done.stderr
    with GraphDatabase.open(file) as graph:
        assert graph.store.read(lambda connection: connection.execute("PRAGMA integrity_check").fetchall()) == [("ok",)]


@pytest.mark.rule("G7")
def test_what_crossed_leads_nowhere(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a child that was forked off in a transaction has open of the file leads to /dev/null, and stays so."""
    monkeypatch.setattr(connection, "_CROSSED", set())
    file.write_bytes(b"of the parent")
    with file.open("r+b", buffering=0) as crossed, open(os.devnull, "rb") as null:
        connection._cut_off(str(file))
        assert os.path.samestat(os.fstat(crossed.fileno()), os.fstat(null.fileno()))
        assert not os.get_inheritable(crossed.fileno())
        crossed.write(b"of the child!")
    assert file.read_bytes() == b"of the parent"
    with pytest.raises(Forked, match="forked off while"):
        connection.check_not_crossed(str(file))


FORK_IDLE = """
import os, sys
from kernelproof.impl.graphdb import GraphDatabase
graph = GraphDatabase.open(sys.argv[1], journal=sys.argv[2])
graph.set("/parent", "1")
before = graph.store.slot().connection
child = os.fork()
if child == 0:
    assert graph.store.slot().connection is not before
    graph.set("/child", "2")
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
graph.set("/after", "3")
print(" ".join(step.path for step in graph.walk("/")))
graph.close()
"""


@pytest.mark.rule("G7")
@pytest.mark.parametrize("journal", ["rollback", "wal"])
def test_a_child_gets_connections_of_its_own(file: Path, journal: str) -> None:
    """After a fork parent and child both go on, each with its own connection."""
    done = run_python(FORK_IDLE, file, journal)
    assert (done.stdout, done.returncode) == ("/after /child /parent\n", 0), done.stderr


FORK_THREADS = """
import os, sys, threading
from kernelproof.impl.graphdb import GraphDatabase
graph = GraphDatabase.open(sys.argv[1], timeout_seconds=120)
stop = threading.Event()
def work(number):
    count = 0
    while not stop.wait(0.1):  # SQLite is not fair to other processes: leave them gaps
        graph.set(f"/{number}.{count}", f"{number}.{count}")
        count += 1
threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(2)]
for thread in threads:
    thread.start()
for number in range(20):
    child = os.fork()
    if child == 0:
        graph.set(f"/child{number}", f"child{number}")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, number
stop.set()
for thread in threads:
    thread.join()
print(sum(1 for child in graph.children("/", prefix="child")), graph.check().ok)
"""


@pytest.mark.rule("G7")
def test_forks_beside_writing_threads(file: Path) -> None:
    """Children forked while other threads write can use the database, every time."""
    done = run_python(FORK_THREADS, file)
    assert (done.stdout, done.returncode) == ("20 True\n", 0), done.stderr


@pytest.mark.rule("G7")
def test_each_thread_has_its_connection(graph: GraphDatabase) -> None:
    """Two threads use two connections; what a thread that ended leaves is closed by the next one."""
    seen: list[sqlite3.Connection] = [graph.store.slot().connection]

    def look() -> None:
        graph.set(f"/{len(seen)}", "1")
        seen.append(graph.store.slot().connection)

    for _ in range(3):
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    assert len({id(connection) for connection in seen}) == 4
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        seen[1].execute("SELECT 1")
    seen[3].execute("SELECT 1")


# --- G10 --------------------------------------------------------------------------------------------------------------


def reserve_in_two_steps(graph: GraphDatabase, owner: str, looked: threading.Barrier) -> bool:
    """Look whether the name is free, then take it."""
    free = not graph.exists("/name")
    looked.wait()
    if free:
        with graph.transaction():
            present = graph.get("/name")
            graph.set("/name", owner, expect=None if present is None else present.id())
    return free


def reserve_in_one_step(graph: GraphDatabase, owner: str, looked: threading.Barrier) -> bool:
    """Ours."""
    looked.wait()
    try:
        graph.set("/name", owner)
    except NameTaken:
        return False
    return True


@pytest.mark.rule("G10", ours=reserve_in_one_step, wrong=reserve_in_two_steps)
def test_of_many_exactly_one_gets_the_name(
    graph: GraphDatabase, subject: Callable[[GraphDatabase, str, threading.Barrier], bool]
) -> None:
    """Of four threads that want one name one gets it, and the name leads to that one's entity."""
    looked = threading.Barrier(4)
    won: list[str] = []

    def reserve(owner: str) -> None:
        if subject(graph, owner, looked):
            won.append(owner)

    threads = [threading.Thread(target=reserve, args=(f"owner{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    found = graph.get("/name")
    assert found is not None
    assert found.id() == won[0]
