"""Transactions: who waits for whom, what is seen meanwhile, how they end."""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.impl.graphdb import Busy, Closed, GraphDatabase, NameTaken

if TYPE_CHECKING:
    from pathlib import Path

    from kernelproof.conformance.graphdb.conftest import Connect, Refusal, Shell
    from kernelproof.conformance.seen import Seen

NODES = "SELECT count(*) FROM node;"
ADD = "INSERT INTO node (id) VALUES ('{}')"
LOCKED = "database is locked (5)"


@behaviour("graphdb.txn.default-deferred")
def test_begin_takes_no_lock(low: sqlite3.Connection, shell: Shell, refusal: Refusal) -> None:
    """Two connections both BEGIN and read; only the second one that writes is refused."""
    low.execute("BEGIN")
    assert shell(f"BEGIN; {NODES}") == ["1"]
    assert low.execute("SELECT count(*) FROM node").fetchone() == (1,)
    low.execute(ADD.format("a"))
    assert LOCKED in shell(f"{ADD.format('b')};")[0]
    shell("ROLLBACK;")
    low.execute("COMMIT")
    assert shell(NODES) == ["2"]
    assert refusal(low.execute, "COMMIT") == "SQLITE_ERROR"


@behaviour("graphdb.txn.immediate-busy")
def test_a_second_writer_is_told_to_wait(
    graph: GraphDatabase, low: sqlite3.Connection, shell: Shell, refusal: Refusal, seen: Seen
) -> None:
    """BEGIN IMMEDIATE gives SQLITE_BUSY while another process writes, and `set` gives Busy; readers read."""
    shell(f"BEGIN IMMEDIATE; {ADD.format('a')};")
    assert seen(refusal(low.execute, "BEGIN IMMEDIATE")) == "SQLITE_BUSY"
    with pytest.raises(Busy, match="another connection holds the lock"):
        graph.set("/b", "b")
    assert not graph.exists("/b")
    shell("COMMIT;")
    graph.set("/b", "b")
    assert shell("SELECT id FROM node ORDER BY id;") == ["0", "a", "b"]


@behaviour("graphdb.txn.no-nesting")
def test_begin_does_not_nest(graph: GraphDatabase, low: sqlite3.Connection, shell: Shell) -> None:
    """BEGIN within a transaction is an error; savepoints nest, of which inner `transaction()` blocks are made."""
    low.execute("BEGIN")
    with pytest.raises(sqlite3.OperationalError, match="cannot start a transaction within a transaction"):
        low.execute("BEGIN")
    for statement in ("SAVEPOINT a", "SAVEPOINT b", "RELEASE b", "RELEASE a", "COMMIT"):
        low.execute(statement)
    with graph.transaction(), graph.transaction():
        graph.set("/a", "a")
    assert shell("SELECT name FROM link;") == ["a"]


@behaviour("graphdb.txn.upgrade-busy")
def test_a_reader_cannot_become_a_writer_too_late(
    graph: GraphDatabase, connect: Connect, shell: Shell, refusal: Refusal, seen: Seen
) -> None:
    """A transaction that read before another one wrote cannot write any more, and is told at once."""
    reader = connect(timeout_seconds=2)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM node").fetchone() == (1,)
    shell(f"BEGIN IMMEDIATE; {ADD.format('a')};")
    # In rollback mode the other one cannot finish while this one reads: it holds PENDING, and waiting would not help.
    assert LOCKED in shell("COMMIT;")[0]
    began = time.monotonic()
    refused = refusal(reader.execute, ADD.format("b"))
    assert time.monotonic() - began < 1
    assert seen(refused) == "SQLITE_BUSY"
    with pytest.raises(Busy):
        graph.set("/b", "b")
    reader.execute("ROLLBACK")
    assert shell("COMMIT; SELECT id FROM node ORDER BY id;") == ["0", "a"]


@behaviour("graphdb.txn.commit-busy-retry")
def test_a_commit_that_met_a_reader_can_be_tried_again(
    graph: GraphDatabase, low: sqlite3.Connection, shell: Shell, refusal: Refusal, seen: Seen
) -> None:
    """COMMIT is busy while a reader reads, and succeeds once it does not; an operation of ours is undone instead."""
    assert shell(f"BEGIN; {NODES}") == ["1"]
    with pytest.raises(Busy):
        graph.set("/b", "b")
    low.execute("BEGIN IMMEDIATE")
    low.execute(ADD.format("a"))
    assert seen(refusal(low.execute, "COMMIT")) == "SQLITE_BUSY"
    assert low.in_transaction
    shell("COMMIT;")
    low.execute("COMMIT")
    assert shell("SELECT id FROM node ORDER BY id;") == ["0", "a"]


@behaviour("graphdb.txn.snapshot-isolation")
def test_a_reader_sees_one_state(wal_graph: GraphDatabase, connect: Connect, shell: Shell) -> None:
    """A read transaction sees the state at its start while others commit, be it theirs or ours."""
    assert shell(f"BEGIN; {NODES}") == ["1"]
    reader = connect(journal="wal")
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM node").fetchone() == (1,)
    wal_graph.set("/a", "a")
    assert reader.execute("SELECT count(*) FROM node").fetchone() == (1,)
    assert shell(f"{NODES} COMMIT; {NODES}") == ["1", "2"]
    reader.execute("COMMIT")
    assert reader.execute("SELECT count(*) FROM node").fetchone() == (2,)


@behaviour("graphdb.txn.busy-timeout-waits")
def test_the_busy_timeout_is_waited_for(graph: GraphDatabase, connect: Connect, shell: Shell, refusal: Refusal) -> None:
    """With a timeout of 300 ms a blocked writer is refused after 300 ms, and `timeout_seconds` is that."""
    assert graph.path is not None
    shell("BEGIN IMMEDIATE;")
    waiting = connect(timeout_seconds=0.3)
    began = time.monotonic()
    assert refusal(waiting.execute, "BEGIN IMMEDIATE") == "SQLITE_BUSY"
    assert 0.3 <= time.monotonic() - began < 3
    with GraphDatabase.open(graph.path, journal="rollback", timeout_seconds=0.3) as patient:
        began = time.monotonic()
        with pytest.raises(Busy):
            patient.set("/a", "a")
        assert 0.3 <= time.monotonic() - began < 3
    assert shell(f"COMMIT; {NODES}") == ["1"]


@behaviour("graphdb.txn.busy-timeout-single")
def test_a_connection_waits_by_its_last_word(
    graph: GraphDatabase, connect: Connect, shell: Shell, refusal: Refusal
) -> None:
    """A later timeout replaces the earlier one, and one of 0 or less means not to wait at all."""
    graph.set("/a", "a")
    shell("BEGIN IMMEDIATE;")
    waiting = connect(timeout_seconds=30)
    for milliseconds, least in ((200, 0.2), (0, 0.0), (-5, 0.0)):
        waiting.execute(f"PRAGMA busy_timeout = {milliseconds}")
        assert waiting.execute("PRAGMA busy_timeout").fetchone() == (max(0, milliseconds),)
        began = time.monotonic()
        assert refusal(waiting.execute, "BEGIN IMMEDIATE") == "SQLITE_BUSY"
        assert least <= time.monotonic() - began < 10
    assert shell(f"COMMIT; {NODES}") == ["2"]


@behaviour("graphdb.txn.savepoint-rollback-to")
def test_a_savepoint_undoes_its_part(graph: GraphDatabase, low: sqlite3.Connection, shell: Shell) -> None:
    """ROLLBACK TO undoes what came after the savepoint and leaves the transaction open; so do inner blocks."""
    low.execute("BEGIN")
    low.execute(ADD.format("a"))
    low.execute("SAVEPOINT inner")
    low.execute(ADD.format("b"))
    low.execute("ROLLBACK TO inner")
    assert low.in_transaction
    low.execute("COMMIT")
    with graph.transaction():
        graph.set("/c", "c")
        with pytest.raises(NameTaken), graph.transaction():
            set_twice(graph, "/d")
    assert shell("SELECT id FROM node ORDER BY id;") == ["0", "a", "c"]


@behaviour("graphdb.txn.close-rolls-back")
def test_closing_undoes_what_is_open(path: Path, graph: GraphDatabase, connect: Connect, shell: Shell) -> None:
    """A connection that is closed within a transaction takes its changes with it."""
    open_one = connect()
    open_one.execute("BEGIN")
    open_one.execute(ADD.format("a"))
    open_one.close()
    other = GraphDatabase.open(path, journal="rollback", timeout_seconds=0)
    with pytest.raises(Closed, match="was closed within the transaction"):
        set_and_close(other)
    graph.set("/c", "c")
    assert shell("SELECT id FROM node ORDER BY id;") == ["0", "c"]


def set_twice(graph: GraphDatabase, path: str) -> None:
    """Take a name, and again."""
    graph.set(path, "d")
    graph.set(path, "e")


def set_and_close(graph: GraphDatabase) -> None:
    """Close a graph within a transaction of its own thread."""
    with graph.transaction():
        graph.set("/b", "b")
        graph.close()
