"""What is opened as a graph, what is refused, and what looking at a file must not do."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from kernelproof.impl.graphdb import (
    Damaged,
    GraphDatabase,
    GraphError,
    NotAGraph,
)
from kernelproof.impl.graphdb.schema import APPLICATION_ID, VERSION
from kernelproof.impl.tests.graphdb.beside import plain_connection, python_beside, run_python

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


READ_AS_NOBODY = """
import os, sys
from kernelproof.impl.graphdb import GraphDatabase, GraphError
os.setgid(65534); os.setuid(65534)
try:
    with GraphDatabase.open(sys.argv[1], read_only=True) as graph:
        print(graph.exists("/a"), flush=True)
        sys.stdin.readline()
        print(graph.exists("/a"), flush=True)
except GraphError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.rule("G11")
@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_reading_where_nothing_can_be_made_beside_the_file() -> None:
    """A file in WAL mode is read in a directory that is not writable, until it changes; changes in a log are told."""
    directory = Path(tempfile.mkdtemp(prefix="kernelproof-"))
    directory.chmod(0o755)
    file = directory / "graph.db"
    try:
        with GraphDatabase.open(file, journal="wal") as graph:
            graph.set("/a", "1")
        assert [path.name for path in directory.iterdir()] == ["graph.db"]
        with python_beside(READ_AS_NOBODY, file) as reader:
            assert reader.stdout is not None
            assert reader.stdout.readline() == "True\n"
            with GraphDatabase.open(file, journal="wal") as graph:
                graph.set("/b", "1")
            answer = reader.communicate("\n", timeout=60)[0]
        assert answer.startswith(f"Stale {file} was written to since it was opened")
        with GraphDatabase.open(file, journal="wal") as graph:
            graph.set("/c", "1")
            log = Path(f"{file}-wal").read_bytes()
        Path(f"{file}-wal").write_bytes(log)
        assert run_python(READ_AS_NOBODY, file).stdout.startswith(f"ReadOnly {file}: {file}-wal holds changes")
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
            with GraphDatabase.open(file, timeout_seconds=60) as graph:
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
