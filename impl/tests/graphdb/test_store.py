"""The store: transactions, its modes, its end; never left half-way."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from kernelproof.impl.graphdb import (
    Busy,
    Closed,
    GraphDatabase,
    GraphError,
    NameTaken,
    ReadOnly,
)
from kernelproof.impl.graphdb.opening import check_library, sync_directory

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
    with GraphDatabase.in_memory(timeout_seconds=60) as graph:
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
                done.wait(60)

        thread = threading.Thread(target=hold)
        thread.start()
        assert held.wait(60)
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


def test_backup_that_is_done_is_on_disk(graph: GraphDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a backup is done its name is in the directory on disk too, so that a power cut does not take it away."""
    target = tmp_path / "backup.db"
    synchronised: list[int] = []

    def synchronise(descriptor: int) -> None:
        if target.exists():
            synchronised.append(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", synchronise)
    graph.backup(target)
    assert synchronised[-1:] == [tmp_path.stat().st_ino]
    with pytest.raises(NotADirectoryError):
        sync_directory(str(target))


def test_names_of_files_with_marks(tmp_path: Path) -> None:
    """File names that hold what a URI reads as marks, spaces and percent signs are taken as they are."""
    for name in ("a?b#c.db", "100%20.db", "with space.db", "\N{SNOWMAN}.db"):
        with GraphDatabase.open(tmp_path / name) as graph:
            graph.set("/a", "1")
        assert (tmp_path / name).stat().st_size > 0


def test_a_library_that_is_too_old_is_refused() -> None:
    """A SQLite without STRICT tables or JSON is refused with the version that is needed."""
    with pytest.raises(GraphError, match=r"3\.38\.0"):
        check_library((3, 37, 2))
