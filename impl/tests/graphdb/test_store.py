"""The file: opened with care, shared by threads and processes, never left half-way."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest

from kernelproof.impl.graphdb import (
    Busy,
    Closed,
    Damaged,
    GraphDatabase,
    GraphError,
    NameTaken,
    NotAGraph,
    ReadOnly,
)
from kernelproof.impl.graphdb.journal import Journal
from kernelproof.impl.graphdb.opening import Options, connect
from kernelproof.impl.graphdb.schema import APPLICATION_ID, VERSION

ROLLBACK = Journal("truncate", "full", "")


def run_python(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a program in an interpreter of its own."""
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )


# --- G4 ---------------------------------------------------------------------------------------------------------------


def plain_connection(path: str) -> sqlite3.Connection:
    """What sqlite3 gives."""
    return sqlite3.connect(path, isolation_level=None)


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
        waited = time.monotonic() - began
        assert 0.2 <= waited < 1.5
        other.execute("ROLLBACK")
        assert not graph.exists("/a")
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
graph = GraphDatabase.open(sys.argv[1], timeout_seconds=30)
stop = threading.Event()
def work(number):
    count = 0
    while not stop.wait(0.02):  # SQLite is not fair to other processes: leave them gaps
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


# --- G11 --------------------------------------------------------------------------------------------------------------


def open_over_anything(path: Path) -> object:
    """CREATE TABLE IF NOT EXISTS on whatever is there."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS entity (id text NOT NULL PRIMARY KEY)")
        connection.execute("INSERT OR IGNORE INTO entity VALUES ('0')")
    return None


def open_ours(path: Path) -> object:
    """Ours."""
    return GraphDatabase.open(path)


@pytest.mark.rule("G11", ours=open_ours, wrong=open_over_anything, raises=pytest.fail.Exception)
@pytest.mark.parametrize("kind", ["empty", "foreign"])
def test_what_is_no_graph_is_refused(file: Path, subject: Callable[[Path], object], kind: str) -> None:
    """A file of no bytes and another program's database are refused with what was found, and stay as they are."""
    file.touch()
    if kind == "foreign":
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            connection.execute("CREATE TABLE bookmarks (url)")
    before = file.read_bytes()
    with pytest.raises(NotAGraph, match="no bytes" if kind == "empty" else "bookmarks"):
        subject(file)
    assert file.read_bytes() == before


@pytest.mark.rule("G11")
def test_other_files_are_refused(file: Path) -> None:
    """Text, a newer layout, and a graph's id without its tables are refused with what was found."""
    file.write_bytes(b"no database at all, but long enough to have a header" * 20)
    with pytest.raises(NotAGraph, match="SQLITE_NOTADB"):
        GraphDatabase.open(file)
    file.unlink()
    GraphDatabase.open(file).close()
    with closing(plain_connection(str(file))) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(NotAGraph, match=f"a graph of version {VERSION + 1}"):
        GraphDatabase.open(file)
    with closing(plain_connection(str(file))) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("DROP TABLE leftover")
    with pytest.raises(NotAGraph, match="without its tables"):
        GraphDatabase.open(file)


@pytest.mark.rule("G11")
def test_a_damaged_file_is_refused_or_reported(file: Path) -> None:
    """A file cut off in the middle stops the open; pages of rubbish are found by the check, and nothing is changed."""
    with GraphDatabase.open(file) as graph:
        graph.load([("0", f"{i:05}", f"n{i}") for i in range(3000)])
    whole = file.read_bytes()
    file.write_bytes(whole[:5000])
    with pytest.raises((Damaged, NotAGraph)):
        GraphDatabase.open(file)
    assert file.read_bytes() == whole[:5000]
    middle = len(whole) // 8192 * 4096
    file.write_bytes(whole[:middle] + b"\xff" * 8192 + whole[middle + 8192 :])
    with GraphDatabase.open(file, read_only=True) as graph:
        report = graph.check()
    assert not report.ok
    assert {problem.kind for problem in report.problems} <= {"damaged", "index"}


@pytest.mark.rule("G11")
def test_the_cause_is_the_kernels(tmp_path: Path) -> None:
    """What the kernel refuses comes as its own error, with the path."""
    with pytest.raises(FileNotFoundError):
        GraphDatabase.open(tmp_path / "none" / "graph.db")
    with pytest.raises(FileNotFoundError):
        GraphDatabase.open(tmp_path / "none.db", create=False)
    with pytest.raises(FileNotFoundError):
        GraphDatabase.open(tmp_path / "none.db", read_only=True)
    with pytest.raises(IsADirectoryError):
        GraphDatabase.open(tmp_path)
    with pytest.raises(ValueError, match="NUL"):
        GraphDatabase.open(f"{tmp_path}/a\0b")


AS_NOBODY = """
import os, sys
from kernelproof.impl.graphdb import GraphDatabase
os.setgid(65534); os.setuid(65534)
try:
    GraphDatabase.open(sys.argv[1])
except PermissionError as error:
    print(error.filename, error.__notes__[0].split(";")[0])
with GraphDatabase.open(sys.argv[1], read_only=True) as graph:
    print(graph.exists("/a"))
"""


@pytest.mark.rule("G11")
@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
@pytest.mark.parametrize("refused", ["file", "directory"])
def test_without_permission_to_write(refused: str) -> None:
    """A file or a directory that may not be written stops the open for writing, and read-only still works."""
    import shutil
    import tempfile

    directory = Path(tempfile.mkdtemp(prefix="kernelproof-"))
    try:
        file = directory / "graph.db"
        with GraphDatabase.open(file, journal="rollback") as graph:
            graph.set("/a", "1")
        directory.chmod(0o777 if refused == "file" else 0o755)
        file.chmod(0o644 if refused == "file" else 0o666)
        done = run_python(AS_NOBODY, file)
        place = file if refused == "file" else directory
        assert done.stdout == f"{place} needed to open the graph for writing\nTrue\n", done.stderr
    finally:
        shutil.rmtree(directory)


@pytest.mark.rule("G11")
def test_two_makers_make_one_file(file: Path) -> None:
    """Threads that open a missing file at once all get the same complete graph, and leave nothing else behind."""
    barrier = threading.Barrier(8)
    failed: list[BaseException] = []

    def make(number: int) -> None:
        barrier.wait()
        try:
            with GraphDatabase.open(file) as graph:
                graph.set(f"/{number}", f"n{number}")
        except GraphError as error:
            failed.append(error)

    threads = [threading.Thread(target=make, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    with GraphDatabase.open(file) as graph:
        assert [child.name for child in graph.children("/")] == [str(number) for number in range(8)]
    assert sorted(path.name for path in file.parent.iterdir()) == ["graph.db"]
    header = file.read_bytes()[:100]
    assert int.from_bytes(header[68:72], "big") == APPLICATION_ID
    assert int.from_bytes(header[60:64], "big") == VERSION


# --- G13 --------------------------------------------------------------------------------------------------------------


def look_by_hand(path: Path) -> bytes:
    """Open the file, read its header, close it."""
    return path.read_bytes()[68:72]


def look_through_sqlite(path: Path) -> bytes:
    """Ours."""
    with GraphDatabase.open(path, read_only=True, timeout_seconds=0.1):
        return APPLICATION_ID.to_bytes(4, "big")


TRY_TO_WRITE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=0.1, isolation_level=None)
try:
    connection.execute("BEGIN IMMEDIATE")
    print("in")
except sqlite3.OperationalError as error:
    print(error)
"""


@pytest.mark.rule("G13", ours=look_through_sqlite, wrong=look_by_hand)
def test_looking_at_a_file_drops_no_lock(file: Path, subject: Callable[[Path], bytes]) -> None:
    """While this process holds a write transaction, opening the file once more lets no other process in."""
    with GraphDatabase.open(file, journal="rollback") as graph, graph.transaction():
        graph.set("/a", "1")
        assert subject(file) == APPLICATION_ID.to_bytes(4, "big")
        assert run_python(TRY_TO_WRITE, file).stdout == "database is locked\n"


# --- transactions -----------------------------------------------------------------------------------------------------


def test_a_transaction_is_all_or_nothing(graph: GraphDatabase) -> None:
    """What a block did is undone when it raises, also the part of an inner block that went well."""

    def work() -> None:
        with graph.transaction():
            graph.set("/a", "1")
            with graph.transaction():
                graph.set("/a/b", "2")
            raise OSError("undo")

    with pytest.raises(OSError, match="undo"):
        work()
    assert not graph.exists("/a")
    assert graph.sequence == 0


def test_an_inner_block_is_undone_alone(graph: GraphDatabase) -> None:
    """An inner block that raises is undone, and the outer one goes on."""

    def set_twice() -> None:
        with graph.transaction():
            graph.set("/b", "2")
            graph.set("/b", "3")

    with graph.transaction():
        graph.set("/a", "1")
        with pytest.raises(NameTaken):
            set_twice()
        graph.set("/c", "4")
    assert [child.name for child in graph.children("/")] == ["a", "c"]
    assert graph.refs("3") == 0


def test_others_see_a_transaction_at_its_end(file: Path) -> None:
    """Another database object sees nothing of a block before its end and all of it after."""
    with GraphDatabase.open(file, journal="wal") as graph, GraphDatabase.open(file, journal="wal") as other:
        with graph.transaction():
            graph.set("/a", "1")
            graph.set("/a/b", "2")
            assert graph.exists("/a/b")
            assert not other.exists("/a")
        assert other.exists("/a/b")


def test_a_refused_write_leaves_the_data_as_before(graph: GraphDatabase) -> None:
    """Refusals of every kind change nothing, the change log included."""
    graph.set("/a", "1")
    graph.set("/a/b", "2")
    before, sequence = list(graph.walk("/")), graph.sequence
    for refused in (
        lambda: graph.set("/a/b", "3"),
        lambda: graph.set("/x/y", "3"),
        lambda: graph.set("/a/b/c", "2"),
        lambda: graph.move("/a", "/a/b/c"),
        lambda: graph.rename("/a", "x/y"),
        lambda: graph.set("/a//b/../c", "3"),
        lambda: graph.delete("/a/none"),
        lambda: graph.purge("0"),
        lambda: graph.set("/n", ""),
        lambda: graph.set("/n", "a\0b"),
    ):
        with pytest.raises((GraphError, ValueError)):
            refused()
    assert list(graph.walk("/")) == before
    assert graph.sequence == sequence
    assert graph.check().ok


# --- modes ------------------------------------------------------------------------------------------------------------


def test_read_only(file: Path) -> None:
    """A database opened read-only reads, refuses to write, and leaves no file beside it."""
    with GraphDatabase.open(file, journal="rollback") as graph:
        graph.set("/a", "1")
    with GraphDatabase.open(file, read_only=True) as graph:
        assert [step.path for step in graph.walk("/", snapshot=True)] == ["/a"]
        for refused in (lambda: graph.set("/b", "2"), lambda: graph.load([("0", "b", "2")])):
            with pytest.raises(ReadOnly):
                refused()
    assert sorted(path.name for path in file.parent.iterdir()) == ["graph.db"]


def test_memory_is_shared_by_threads() -> None:
    """A graph in memory is one for all threads, with transactions that keep the others out."""
    with GraphDatabase.in_memory() as graph:
        threads = [threading.Thread(target=lambda n=n: graph.set(f"/{n}", f"n{n}")) for n in range(4)]
        with graph.transaction():
            for thread in threads:
                thread.start()
            graph.set("/main", "main")
        for thread in threads:
            thread.join()
        assert [child.name for child in graph.children("/")] == ["0", "1", "2", "3", "main"]
        assert graph.path is None
        assert graph.journal.mode == "memory"


def test_closing_twice_is_once_and_use_after_it_an_error(file: Path) -> None:
    """A closed database says so; closing it again does nothing."""
    graph = GraphDatabase.open(file)
    graph.set("/a", "1")
    graph.close()
    graph.close()
    for use in (lambda: graph.get("/a"), lambda: graph.set("/b", "2"), lambda: list(graph.walk("/"))):
        with pytest.raises(Closed):
            use()


def test_closing_within_a_transaction_undoes_it(file: Path) -> None:
    """Closed by its own thread within a transaction, the graph says that, and what was begun is undone."""
    graph = GraphDatabase.open(file)

    def set_and_close() -> None:
        with graph.transaction():
            graph.set("/a", "1")
            graph.close()

    with pytest.raises(Closed, match="was closed within the transaction"):
        set_and_close()
    with GraphDatabase.open(file) as again:
        assert not again.exists("/a")


def test_close_waits_for_no_one_for_ever(file: Path) -> None:
    """While another thread is in a transaction, close raises Busy and closes nothing."""
    with GraphDatabase.open(file, timeout_seconds=0.1) as graph:
        held, done = threading.Event(), threading.Event()

        def hold() -> None:
            with graph.transaction():
                graph.set("/a", "1")
                held.set()
                done.wait(10)

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait(10)
        with pytest.raises(Busy):
            graph.close()
        done.set()
        thread.join()
        assert graph.exists("/a")


def test_backup_while_in_use(graph: GraphDatabase, tmp_path: Path) -> None:
    """A backup is a complete graph of one moment, also when its source is being written; an existing file is kept."""
    graph.load([("0", f"{i:05}", f"n{i}") for i in range(5000)])
    told: list[tuple[int, int]] = []

    def write_more(remaining: int, total: int) -> None:
        told.append((remaining, total))
        if len(told) == 2:
            graph.set("/late", "late")

    target = tmp_path / "backup.db"
    graph.backup(target, pages=16, progress=write_more)
    assert len(told) > 3
    with GraphDatabase.open(target) as copy:
        assert copy.check().ok
        assert {step.entity_id for step in copy.walk("/")} >= {f"n{i}" for i in range(5000)}
    with pytest.raises(FileExistsError):
        graph.backup(target)
    with pytest.raises(FileNotFoundError):
        graph.backup(tmp_path / "none" / "backup.db")
    assert sorted(path.name for path in tmp_path.iterdir() if "-" not in path.name) == ["backup.db", "graph.db"]


def test_names_of_files_with_marks(tmp_path: Path) -> None:
    """File names that hold what a URI reads as marks, spaces and percent signs are taken as they are."""
    for name in ("a?b#c.db", "100%20.db", "with space.db", "\N{SNOWMAN}.db"):
        with GraphDatabase.open(tmp_path / name) as graph:
            graph.set("/a", "1")
        assert (tmp_path / name).stat().st_size > 0


def test_a_library_that_is_too_old_is_refused() -> None:
    """A SQLite without STRICT tables or JSON is refused with the version that is needed."""
    from kernelproof.impl.graphdb.opening import check_library

    with pytest.raises(GraphError, match=r"3\.38\.0"):
        check_library((3, 37, 2))
