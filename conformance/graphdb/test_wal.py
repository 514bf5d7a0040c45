"""The write-ahead log: its files, its readers and its one writer. Each test insists on it, as a caller may."""

from __future__ import annotations

import os
import shutil
import sqlite3
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.impl.graphdb import Busy, GraphDatabase
from kernelproof.impl.graphdb.journal import is_wal_repaired, plan_journal

if TYPE_CHECKING:
    from pathlib import Path

    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.graphdb.conftest import Connect, Refusal, Shell
    from kernelproof.conformance.seen import Seen

IDS = "SELECT id FROM node ORDER BY id;"
COUNT = "SELECT count(*) FROM node"


def log_of(path: Path) -> Path:
    """The file that holds the log."""
    return path.with_name(path.name + "-wal")


def index_of(path: Path) -> Path:
    """The file that is the log's index, shared memory."""
    return path.with_name(path.name + "-shm")


@behaviour("graphdb.wal.persistent")
def test_wal_outlives_its_connections(path: Path, shell: Shell) -> None:
    """A graph left in WAL mode is in it for the shell; one left in TRUNCATE mode comes back as DELETE."""
    GraphDatabase.open(path, journal="wal").close()
    assert shell("PRAGMA journal_mode;") == ["wal"]
    shell.kill()
    with GraphDatabase.open(path, journal="rollback") as graph:
        assert graph.journal.mode == "truncate"
        assert graph.store.read(lambda c: c.execute("PRAGMA journal_mode").fetchone()) == ("truncate",)
        assert shell("PRAGMA journal_mode;") == ["delete"]


@behaviour("graphdb.wal.header-version")
def test_the_header_tells_of_wal(path: Path, seen: Seen) -> None:
    """Bytes 18 and 19 of the header are 1 in a graph with a rollback journal and 2 in one with a log."""
    GraphDatabase.open(path, journal="rollback").close()
    assert path.read_bytes()[18:20] == b"\x01\x01"
    GraphDatabase.open(path, journal="wal").close()
    assert seen(path.read_bytes()[18:20]) == b"\x02\x02"


@behaviour("graphdb.wal.returns-mode")
def test_the_pragma_answers_with_the_mode(graph: GraphDatabase, connect: Connect, shell: Shell) -> None:
    """The pragma answers "wal" where that is set, and "memory" in memory, where it cannot be."""
    connection = connect()
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("truncate",)
    graph.close()
    assert connection.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
    assert shell("PRAGMA journal_mode;") == ["wal"]
    with GraphDatabase.in_memory() as memory:
        assert memory.store.read(lambda c: c.execute("PRAGMA journal_mode = WAL").fetchone()) == ("memory",)


@behaviour("graphdb.wal.files-removed-on-last-close")
def test_the_logs_files_go_with_the_last_connection(path: Path, wal_graph: GraphDatabase, shell: Shell) -> None:
    """The two files are there while a connection is, vanish with the last one, and stay after a kill."""
    wal_graph.set("/a", "a")
    assert shell(IDS) == ["0", "a"]
    wal_graph.close()
    assert log_of(path).exists()
    assert index_of(path).exists()
    shell.kill()
    assert log_of(path).exists()
    assert index_of(path).exists()
    GraphDatabase.open(path, journal="wal").close()
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["graph.db"]


@behaviour("graphdb.wal.recovery-after-kill")
def test_commits_in_the_log_survive_a_kill(path: Path, wal_graph: GraphDatabase, shell: Shell) -> None:
    """What the killed shell had committed is there for the next connection, what it had not is gone."""
    wal_graph.close()
    shell("INSERT INTO node (id) VALUES ('committed'); BEGIN; INSERT INTO node (id) VALUES ('begun');")
    shell.kill()
    assert log_of(path).stat().st_size > 0
    with GraphDatabase.open(path, journal="wal") as again:
        assert again.store.read(lambda c: c.execute(IDS).fetchall()) == [("0",), ("committed",)]
        assert again.store.read(lambda c: c.execute("PRAGMA integrity_check").fetchall()) == [("ok",)]
        assert shell(IDS) == ["0", "committed"]


@behaviour("graphdb.wal.losing-wal-loses-commits")
def test_a_copy_without_the_log_lacks_commits(path: Path, wal_graph: GraphDatabase, shell: Shell) -> None:
    """The bare file lacks what lies in the log; a backup has it."""
    wal_graph.set("/a", "a")
    copy, backup = path.with_name("copy.db"), path.with_name("backup.db")
    shutil.copyfile(path, copy)
    wal_graph.backup(backup)
    shown = shell(f"SELECT id FROM node WHERE id <> '0'; ATTACH '{copy}' AS copy; ATTACH '{backup}' AS backup; "
                  "SELECT count(*) FROM copy.node; SELECT count(*) FROM backup.node;")  # fmt: skip
    assert shown == ["a", "1", "2"]


@behaviour("graphdb.wal.one-writer")
def test_readers_and_the_writer_go_side_by_side(wal_graph: GraphDatabase, shell: Shell) -> None:
    """A reader does not stop `set`, and a writer does not stop `exists`."""
    assert shell(f"BEGIN; {COUNT};") == ["1"]
    wal_graph.set("/a", "a")
    assert shell(f"{COUNT}; COMMIT; BEGIN IMMEDIATE; INSERT INTO node (id) VALUES ('b');") == ["1"]
    assert wal_graph.exists("/a")
    assert wal_graph.store.read(lambda c: c.execute(COUNT).fetchone()) == (2,)
    assert shell(f"COMMIT; {COUNT};") == ["3"]


@behaviour("graphdb.wal.second-writer-busy")
def test_a_second_writer_waits(
    wal_graph: GraphDatabase, connect: Connect, shell: Shell, refusal: Refusal, seen: Seen
) -> None:
    """While the shell writes, impl's connection gets SQLITE_BUSY and `set` raises Busy."""
    shell("BEGIN IMMEDIATE; INSERT INTO node (id) VALUES ('a');")
    with pytest.raises(Busy):
        wal_graph.set("/b", "b")
    assert seen(refusal(connect(journal="wal").execute, "BEGIN IMMEDIATE")) == "SQLITE_BUSY"
    assert shell(f"COMMIT; {IDS}") == ["0", "a"]


@behaviour("graphdb.wal.busy-snapshot")
def test_an_old_snapshot_cannot_be_written_to(
    wal_graph: GraphDatabase, connect: Connect, shell: Shell, refusal: Refusal, seen: Seen
) -> None:
    """A transaction that read before the shell wrote gets BUSY_SNAPSHOT, waiting or not; operations begin anew."""
    reader = connect(journal="wal", timeout_seconds=2)
    reader.execute("BEGIN")
    assert reader.execute(COUNT).fetchone() == (1,)
    shell("INSERT INTO node (id) VALUES ('a');")
    assert seen(refusal(reader.execute, "INSERT INTO node (id) VALUES ('b')")) == "SQLITE_BUSY_SNAPSHOT"
    wal_graph.set("/c", "c")
    reader.execute("ROLLBACK")
    assert shell(IDS) == ["0", "a", "c"]


@behaviour("graphdb.wal.auto-checkpoint-1000")
def test_a_thousand_pages_start_a_checkpoint(path: Path, wal_graph: GraphDatabase, shell: Shell) -> None:
    """The file itself grows with the commit that brings the log to 1000 pages, and not with the ones before."""
    assert wal_graph.store.read(lambda c: c.execute("PRAGMA wal_autocheckpoint").fetchone()) == (1000,)
    page = int(shell("PRAGMA page_size;")[0])
    wal_graph.set("/first", "first")
    before = path.stat().st_size
    frames = []
    while path.stat().st_size == before:
        frames.append((log_of(path).stat().st_size - 32) // (24 + page))
        assert frames[-1] < 3000
        number = len(frames)
        wal_graph.load((("0", f"{number}.{n}", "x" * 400 + f"{number}.{n}") for n in range(100)), ())
    after = (log_of(path).stat().st_size - 32) // (24 + page)
    assert frames[-1] < 1000 <= after


@behaviour("graphdb.wal.reader-blocks-checkpoint")
def test_a_reader_keeps_the_log_from_being_emptied(
    path: Path, wal_graph: GraphDatabase, connect: Connect, shell: Shell, seen: Seen
) -> None:
    """A TRUNCATE checkpoint answers 1 while the shell reads an old state; closing is no error, and leaves the log."""
    wal_graph.set("/a", "a")
    assert shell(f"BEGIN; {COUNT};") == ["2"]
    wal_graph.set("/b", "b")
    busy, _, _ = connect(journal="wal").execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert seen(busy) == 1
    wal_graph.close()
    assert log_of(path).stat().st_size > 0
    assert shell(f"{COUNT}; COMMIT; {COUNT}; PRAGMA wal_checkpoint(TRUNCATE);") == ["2", "3", "0|0|0"]


@behaviour("graphdb.wal.reader-keeps-wal")
def test_the_log_is_not_begun_anew_under_a_reader(path: Path, wal_graph: GraphDatabase, shell: Shell) -> None:
    """With a reader at its end the log grows with each write, though all of it is checkpointed; without one it is
    written from its beginning again."""
    wal_graph.set("/a", "a")

    def grown(name: str) -> int:
        before = log_of(path).stat().st_size
        wal_graph.store.read(lambda c: c.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall())
        wal_graph.set(f"/{name}", name)
        return log_of(path).stat().st_size - before

    assert shell(f"BEGIN; {COUNT};") == ["2"]
    assert grown("b") > 0
    assert shell(f"{COUNT}; COMMIT;") == ["2"]
    assert grown("c") == 0


@behaviour("graphdb.wal.checkpoint-truncate")
def test_a_truncating_checkpoint_empties_the_log(path: Path, wal_graph: GraphDatabase, shell: Shell) -> None:
    """Without readers the log has no bytes afterwards; `close` does the same where another connection stays."""
    assert shell(IDS) == ["0"]
    wal_graph.set("/a", "a")
    assert log_of(path).stat().st_size > 0
    answer = wal_graph.store.read(lambda c: c.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone())
    assert (answer, log_of(path).stat().st_size) == ((0, 0, 0), 0)
    wal_graph.set("/b", "b")
    wal_graph.close()
    assert log_of(path).stat().st_size == 0
    assert shell(IDS) == ["0", "a", "b"]


@behaviour("graphdb.wal.page-size-fixed")
def test_the_page_size_stays(path: Path, wal_graph: GraphDatabase, shell: Shell) -> None:
    """In WAL mode another page size takes no effect, not even with VACUUM; in rollback mode VACUUM takes it."""
    wal_graph.set("/a", "a")
    sizes = []
    for mode in ("wal", "delete"):
        wal_graph.close()
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute(f"PRAGMA journal_mode = {mode}").fetchall()
        connection.execute("PRAGMA page_size = 8192")
        connection.execute("VACUUM")
        connection.close()
        with GraphDatabase.open(path, journal="wal" if mode == "wal" else "rollback") as again:
            assert again.exists("/a")
            sizes.append(again.store.read(lambda c: c.execute("PRAGMA page_size").fetchone()[0]))
    assert sizes == [4096, 8192]
    assert shell("PRAGMA page_size;") == ["8192"]


@behaviour("graphdb.wal.read-only-directory")
def test_a_log_in_a_directory_without_write_permission(
    path: Path, wal_graph: GraphDatabase, shell: Shell, in_child: InChild, seen: Seen
) -> None:
    """Where the directory cannot be written, a graph in WAL mode opens only beside its two files, or as immutable.

    That is how ours opens it then.
    """
    wal_graph.set("/a", "a")
    assert shell(IDS) == ["0", "a"]  # it keeps the files there
    for folder in (path.parent, *path.parents):
        if not folder.stat().st_mode & 0o001:
            folder.chmod(0o755)
    for file in path.parent.iterdir():
        file.chmod(0o644)

    def as_nobody() -> list[object]:
        os.setresuid(65534, 65534, 65534)
        answers: list[object] = []
        for uri in ("mode=ro", "mode=ro&immutable=1"):
            connection = sqlite3.connect(f"file:{path}?{uri}", uri=True)
            try:
                answers.append(connection.execute(COUNT).fetchone()[0])
            except sqlite3.Error as error:
                answers.append(error.sqlite_errorname)
            connection.close()
        with GraphDatabase.open(path, read_only=True) as graph:
            answers.append(graph.exists("/a"))
        return answers

    assert in_child(as_nobody)[::2] == [2, True]
    wal_graph.close()
    shell.kill()
    GraphDatabase.open(path, journal="wal").close()
    assert not log_of(path).exists()
    assert seen(in_child(as_nobody)) == ["SQLITE_READONLY_DIRECTORY", 2, True]


@behaviour("graphdb.wal.exclusive-no-shm")
def test_exclusive_locking_needs_no_index(path: Path, wal_graph: GraphDatabase, connect: Connect, shell: Shell) -> None:
    """With exclusive locking before the first access there is a log and no shared memory, and nobody else gets in."""
    wal_graph.close()
    assert not index_of(path).exists()
    alone = sqlite3.connect(path, isolation_level=None)
    alone.execute("PRAGMA locking_mode = EXCLUSIVE")
    alone.execute("INSERT INTO node (id) VALUES ('a')")
    assert log_of(path).exists()
    assert not index_of(path).exists()
    with pytest.raises(Busy, match="database is locked"):
        connect(journal="wal")
    assert "database is locked (5)" in shell(IDS)[0]
    alone.close()
    with GraphDatabase.open(path, journal="wal") as again:
        assert again.store.read(lambda c: c.execute(COUNT).fetchone()) == (2,)
        assert index_of(path).exists()


@behaviour("graphdb.wal.reset-bug-versions")
def test_repaired_releases_are_known(path: Path, shell: Shell) -> None:
    """The releases that can corrupt a log are told from the repaired ones, and the library in use by its version."""
    broken = ((3, 7, 0), (3, 44, 5), (3, 45, 0), (3, 46, 1), (3, 50, 6), (3, 51, 0), (3, 51, 2))
    repaired = ((3, 44, 6), (3, 50, 7), (3, 51, 3), (3, 53, 0))
    assert [is_wal_repaired(version) for version in broken] == [False] * len(broken)
    assert [is_wal_repaired(version) for version in repaired] == [True] * len(repaired)
    (version,) = shell("SELECT sqlite_version();")
    numbers = tuple(map(int, version.split(".")))
    assert numbers == sqlite3.sqlite_version_info
    with GraphDatabase.open(path.with_name("new.db")) as graph:
        assert graph.journal == plan_journal("auto", sqlite3.sqlite_version_info, "tmpfs")
        assert (graph.journal.mode == "wal") is is_wal_repaired(sqlite3.sqlite_version_info)
