"""What a graph kept in SQLite rests on: edges that vanish with their ends, walks that end, one writer."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour

if TYPE_CHECKING:
    from pathlib import Path

    from kernelproof.conformance.graphdb.conftest import Shell
    from kernelproof.conformance.seen import Seen

WALK = """
WITH RECURSIVE reached(id) AS (VALUES(1) UNION SELECT child FROM edge JOIN reached ON parent = reached.id)
SELECT id FROM reached ORDER BY id;
"""


@behaviour("graphdb.cte.union-ends-cycle", subject="stand-in")
def test_walk_of_a_cycle_ends(database: sqlite3.Connection, shell: Shell) -> None:
    """A recursive query with UNION visits each row of a cyclic graph once and ends."""
    database.execute("CREATE TABLE edge (parent INTEGER, child INTEGER)")
    database.executemany("INSERT INTO edge VALUES (?, ?)", [(1, 2), (2, 3), (3, 1), (3, 3), (4, 1)])

    assert database.execute(WALK).fetchall() == [(1,), (2,), (3,)]
    shown = shell(WALK)
    assert (shown.stdout.split(), shown.stderr) == (["1", "2", "3"], "")


@behaviour("graphdb.fk.cascade-delete", subject="stand-in")
def test_edges_go_with_their_entity(database: sqlite3.Connection, shell: Shell) -> None:
    """ON DELETE CASCADE deletes every child row of a deleted parent and none of another."""
    database.execute("PRAGMA foreign_keys = ON")
    database.execute("CREATE TABLE entity (id INTEGER PRIMARY KEY)")
    database.execute("CREATE TABLE edge (name TEXT, parent INTEGER REFERENCES entity ON DELETE CASCADE)")
    database.executemany("INSERT INTO entity VALUES (?)", [(1,), (2,)])
    database.executemany("INSERT INTO edge VALUES (?, ?)", [("a", 1), ("b", 1), ("c", 2)])

    database.execute("DELETE FROM entity WHERE id = 1")
    shown = shell("SELECT name FROM edge; SELECT id FROM entity;")
    assert shown.stdout.split() == ["c", "2"]


@behaviour("graphdb.txn.immediate-busy", subject="stand-in")
def test_second_writer_is_told_to_wait(database: sqlite3.Connection, path: Path, shell: Shell, seen: Seen) -> None:
    """BEGIN IMMEDIATE gives SQLITE_BUSY while another connection has a write transaction."""
    database.execute("CREATE TABLE entity (id INTEGER PRIMARY KEY)")
    database.execute("BEGIN IMMEDIATE")
    second = sqlite3.connect(path, isolation_level=None, timeout=0)
    with pytest.raises(sqlite3.OperationalError) as refused:
        second.execute("BEGIN IMMEDIATE")
    assert seen(refused.value.sqlite_errorname) == "SQLITE_BUSY"
    shown = shell("SELECT 'read'; BEGIN IMMEDIATE; SELECT 'written';")
    assert shown.stdout == "read\n"
    assert "database is locked (5)" in shown.stderr

    database.execute("COMMIT")
    second.execute("BEGIN IMMEDIATE")
    second.close()


@behaviour("graphdb.wal.header-version", subject="stand-in")
def test_wal_is_told_by_the_header(database: sqlite3.Connection, path: Path, seen: Seen) -> None:
    """Bytes 18 and 19 of the header, 1 before, are 2 in WAL mode."""
    database.execute("CREATE TABLE entity (id INTEGER PRIMARY KEY)")
    assert path.read_bytes()[18:20] == b"\x01\x01"

    assert database.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
    assert seen(path.read_bytes()[18:20]) == b"\x02\x02"


@behaviour("graphdb.header.application-id", subject="stand-in")
def test_application_id_is_in_the_header(database: sqlite3.Connection, path: Path) -> None:
    """application_id is a signed 32-bit big-endian number at offset 68 of the file."""
    for number in (0x6B70726F, -2):
        database.execute(f"PRAGMA application_id = {number}")
        header = path.read_bytes()
        assert int.from_bytes(header[68:72], "big", signed=True) == number
        assert database.execute("PRAGMA application_id").fetchone() == (number,)
