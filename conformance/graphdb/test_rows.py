"""Keys, conflicts, types: what refuses a row, and what becomes of the rest of the statement."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.impl.graphdb import GraphDatabase, InvalidPath, NameTaken, is_non_unique_name_error, schema

if TYPE_CHECKING:
    from kernelproof.conformance.graphdb.conftest import Refusal, Shell
    from kernelproof.conformance.seen import Seen


@pytest.fixture
def old(low: sqlite3.Connection) -> sqlite3.Connection:
    """A connection that has the tables of 2014 beside ours, under names of their own."""
    script = schema.TABLES_2014.replace("TABLE entity", "TABLE old_entity").replace("TABLE edge", "TABLE old_edge")
    script = script.replace('REFERENCES "entity"', 'REFERENCES "old_entity"').replace('ON "edge"', 'ON "old_edge"')
    for statement in schema.split_script(script):
        low.execute(statement)
    low.execute("INSERT INTO old_entity VALUES ('0'), ('a'), ('b')")
    return low


@pytest.fixture
def pairs(low: sqlite3.Connection) -> sqlite3.Connection:
    """A connection with a small table, which holds (1, 'kept'), and a transaction in which (2, 'earlier') was added."""
    low.execute("CREATE TABLE pair (number INTEGER PRIMARY KEY, word TEXT) STRICT")
    low.execute("INSERT INTO pair VALUES (1, 'kept')")
    low.execute("BEGIN")
    low.execute("INSERT INTO pair VALUES (2, 'earlier')")
    return low


THREE = "VALUES (5, 'five'), (1, 'in the way'), (6, 'six')"
ALL = "SELECT number || ' ' || word FROM pair ORDER BY number;"


@behaviour("graphdb.unique.edge-name")
def test_a_name_is_taken_once(
    graph: GraphDatabase, old: sqlite3.Connection, shell: Shell, refusal: Refusal, seen: Seen
) -> None:
    """A second edge of one name below one parent is refused by the unique index of 2014, and by `set`."""
    old.execute("INSERT INTO old_edge VALUES ('a', '0', 'name')")
    refused = refusal(old.execute, "INSERT INTO old_edge VALUES ('b', '0', 'name')")
    graph.set("/name", "a")
    with pytest.raises(NameTaken) as taken:
        graph.set("/name", "b")
    assert is_non_unique_name_error(taken.value)
    assert seen(refused) == "SQLITE_CONSTRAINT_UNIQUE"
    assert shell("SELECT entity_id FROM old_edge; SELECT entity_id FROM edge WHERE name = 'name';") == ["a", "a"]


@behaviour("graphdb.unique.null-distinct")
def test_nothing_is_unlike_nothing(old: sqlite3.Connection, shell: Shell) -> None:
    """The unique index of 2014 lets two edges without parent have one name."""
    for entity in ("a", "b"):
        old.execute("INSERT INTO old_edge VALUES (?, NULL, '/')", (entity,))
    assert shell("SELECT entity_id FROM old_edge WHERE parent_id IS NULL ORDER BY 1;") == ["a", "b"]


@behaviour("graphdb.unique.primary-key-code")
def test_a_primary_key_has_a_code_of_its_own(
    graph: GraphDatabase, low: sqlite3.Connection, shell: Shell, seen: Seen
) -> None:
    """A second (parent, name) in the table of edges: the message says UNIQUE, the code says PRIMARYKEY."""
    graph.set("/name", "a")
    with pytest.raises(sqlite3.IntegrityError, match=r"^UNIQUE constraint failed: link\.parent, link\.name$") as taken:
        low.execute("INSERT INTO link (parent, name, child) SELECT parent, name, child FROM link")
    assert is_non_unique_name_error(taken.value)
    assert seen(taken.value.sqlite_errorname) == "SQLITE_CONSTRAINT_PRIMARYKEY"
    assert shell("SELECT count(*) FROM link;") == ["1"]


@behaviour("graphdb.unique.text-primary-key-null")
def test_a_key_of_text_may_be_null(low: sqlite3.Connection, shell: Shell, refusal: Refusal) -> None:
    """An ordinary table takes NULL as its key of text; a STRICT one and one without rowid do not."""
    answers = []
    for number, options in enumerate(("", "STRICT", "WITHOUT ROWID", "STRICT, WITHOUT ROWID")):
        low.execute(f"CREATE TABLE t{number} (id TEXT PRIMARY KEY) {options}")
        answers.append(refusal(low.execute, f"INSERT INTO t{number} VALUES (NULL)"))
    assert answers == ["no error", *["SQLITE_CONSTRAINT_NOTNULL"] * 3]
    assert shell("SELECT id FROM t0; SELECT id FROM t1; SELECT id FROM t2; SELECT id FROM t3;") == ["NULL"]


@behaviour("graphdb.conflict.abort-default")
def test_a_failed_statement_is_undone_alone(
    graph: GraphDatabase, pairs: sqlite3.Connection, shell: Shell, refusal: Refusal
) -> None:
    """The statement's own rows go, earlier ones stay, the transaction is open; so it is after a refused `set`."""
    assert refusal(pairs.execute, f"INSERT INTO pair {THREE}") == "SQLITE_CONSTRAINT_PRIMARYKEY"
    assert pairs.in_transaction
    pairs.execute("COMMIT")
    with graph.transaction():
        graph.set("/a", "a")
        with pytest.raises(NameTaken):
            graph.set("/a", "b")
    assert shell(f"{ALL} SELECT id FROM node ORDER BY id;") == ["1 kept", "2 earlier", "0", "a"]


@behaviour("graphdb.conflict.fail-keeps-rows")
def test_fail_keeps_what_was_done(pairs: sqlite3.Connection, shell: Shell, refusal: Refusal) -> None:
    """OR FAIL keeps the row before the one in the way, and does not reach the one behind it."""
    assert refusal(pairs.execute, f"INSERT OR FAIL INTO pair {THREE}") == "SQLITE_CONSTRAINT_PRIMARYKEY"
    assert pairs.in_transaction
    pairs.execute("COMMIT")
    assert shell(ALL) == ["1 kept", "2 earlier", "5 five"]


@behaviour("graphdb.conflict.rollback-ends-transaction")
def test_rollback_ends_the_transaction(pairs: sqlite3.Connection, shell: Shell, refusal: Refusal) -> None:
    """OR ROLLBACK undoes the whole transaction, and COMMIT finds none."""
    assert refusal(pairs.execute, f"INSERT OR ROLLBACK INTO pair {THREE}") == "SQLITE_CONSTRAINT_PRIMARYKEY"
    assert not pairs.in_transaction
    with pytest.raises(sqlite3.OperationalError, match="no transaction is active"):
        pairs.execute("COMMIT")
    assert shell(ALL) == ["1 kept"]


@behaviour("graphdb.conflict.ignore-continues")
def test_ignore_skips_the_row_in_the_way(pairs: sqlite3.Connection, shell: Shell) -> None:
    """OR IGNORE leaves the row in the way as it is and adds the others."""
    assert pairs.execute(f"INSERT OR IGNORE INTO pair {THREE}").rowcount == 2
    pairs.execute("COMMIT")
    assert shell(ALL) == ["1 kept", "2 earlier", "5 five", "6 six"]


@behaviour("graphdb.conflict.replace-deletes-first")
def test_replace_deletes_before_it_inserts(graph: GraphDatabase, low: sqlite3.Connection, shell: Shell) -> None:
    """REPLACE of an entity by itself loses what hangs on it; `set_attributes` changes it in place."""
    graph.load([], ["a", "b"])
    low.execute("CREATE TABLE tag (name TEXT, about INTEGER REFERENCES node (key) ON DELETE CASCADE)")
    low.execute("INSERT INTO tag SELECT id, key FROM node")
    graph.set_attributes("b", {"size": 1})
    low.execute("INSERT OR REPLACE INTO node SELECT key, id, attributes FROM node WHERE id = 'a'")
    assert shell("SELECT id FROM node ORDER BY id; SELECT name FROM tag ORDER BY name;") == ["0", "a", "b", "0", "b"]


@behaviour("graphdb.upsert.do-update")
def test_a_row_in_the_way_is_changed_in_place(graph: GraphDatabase, low: sqlite3.Connection, shell: Shell) -> None:
    """ON CONFLICT DO UPDATE changes the row that is there: its key and its edges stay."""
    graph.set("/a", "a")
    low.execute("""INSERT INTO node (id, attributes) VALUES ('a', '{"n":1}'), ('b', '{"n":2}')
        ON CONFLICT (id) DO UPDATE SET attributes = excluded.attributes""")
    assert graph.attributes("a") == {"n": 1}
    query = "SELECT id, attributes, (SELECT count(*) FROM link WHERE child = key) FROM node ORDER BY id;"
    assert shell(query) == ["0|NULL|0", 'a|{"n":1}|1', 'b|{"n":2}|0']


@behaviour("graphdb.returning.rows")
def test_changes_give_back_their_rows(low: sqlite3.Connection, shell: Shell) -> None:
    """RETURNING gives the rows that INSERT, UPDATE and DELETE changed, and no others."""
    added = low.execute("INSERT INTO node (id) VALUES ('a'), ('b'), ('c') RETURNING id").fetchall()
    changed = low.execute("UPDATE node SET attributes = '{}' WHERE id > 'a' RETURNING id, attributes").fetchall()
    removed = low.execute("DELETE FROM node WHERE id = 'c' RETURNING id").fetchall()
    assert (added, changed, removed) == ([("a",), ("b",), ("c",)], [("b", "{}"), ("c", "{}")], [("c",)])
    assert shell("SELECT id, attributes FROM node ORDER BY id;") == ["0|NULL", "a|NULL", "b|{}"]


@behaviour("graphdb.strict.type-error")
def test_a_key_is_a_number(
    graph: GraphDatabase, low: sqlite3.Connection, shell: Shell, refusal: Refusal, seen: Seen
) -> None:
    """The strict table of edges refuses a text as the key of its end, and `load` one that is no text as a name."""
    graph.set("/a", "a")
    low.execute("PRAGMA foreign_keys = OFF")
    refused = refusal(low.execute, "INSERT INTO link (parent, name, child) VALUES (0, 'x', 'word')")
    assert seen(refused) == "SQLITE_CONSTRAINT_DATATYPE"
    with pytest.raises((InvalidPath, ValueError, sqlite3.Error)):
        graph.load([("0", b"bytes", "b")])  # type: ignore[list-item]
    assert shell("SELECT name FROM link;") == ["a"]


@behaviour("graphdb.strict.converts-lossless")
def test_a_number_may_come_as_text(graph: GraphDatabase, low: sqlite3.Connection, shell: Shell) -> None:
    """The text '12' becomes the integer 12 in a key's column, as nothing is lost."""
    graph.set("/a", "a")
    low.execute("INSERT INTO node (key, id) VALUES ('12', 'b')")
    low.execute("INSERT INTO link (parent, name, child) VALUES ('0', 'b', '12')")
    assert graph.children("/").__next__().entity_id == "a"
    assert shell("SELECT child, typeof(child) FROM link WHERE name = 'b';") == ["12|integer"]


@behaviour("graphdb.strict.declared-types")
def test_a_strict_column_has_one_of_six_types(low: sqlite3.Connection, shell: Shell) -> None:
    """INT, INTEGER, REAL, TEXT, BLOB and ANY are taken, also by our tables; other words and none are refused."""
    for word in ("INT", "INTEGER", "REAL", "TEXT", "BLOB", "ANY"):
        low.execute(f"CREATE TABLE t_{word.lower()} (x {word}) STRICT")
    for word in ("VARCHAR(10)", "BOOLEAN", "DATETIME"):
        with pytest.raises(sqlite3.OperationalError, match="unknown datatype"):
            low.execute(f"CREATE TABLE other (x {word}) STRICT")
    with pytest.raises(sqlite3.OperationalError, match="missing datatype"):
        low.execute("CREATE TABLE other (x) STRICT")
    made = shell("SELECT name FROM pragma_table_list WHERE strict = 1 AND name GLOB 't_*' ORDER BY 1;")
    assert made == ["t_any", "t_blob", "t_int", "t_integer", "t_real", "t_text"]
    ours = shell("SELECT name FROM pragma_table_list WHERE strict = 1 AND name NOT GLOB 't_*';")
    assert set(ours) == set(schema.OUR_TABLES)


@behaviour("graphdb.rowid.without-rowid-not-null")
def test_no_part_of_an_edges_key_is_null(
    graph: GraphDatabase, low: sqlite3.Connection, shell: Shell, refusal: Refusal
) -> None:
    """Both columns of the key of a table without rowid refuse NULL though none is declared NOT NULL; so do edges'."""
    graph.set("/a", "a")
    low.execute("CREATE TABLE pair (parent INTEGER, name TEXT, PRIMARY KEY (parent, name)) WITHOUT ROWID")
    for parent, name in ((None, "x"), (0, None)):
        row = (parent, name)
        assert refusal(low.execute, "INSERT INTO pair VALUES (?, ?)", row) == "SQLITE_CONSTRAINT_NOTNULL"
        edge = "INSERT INTO link (parent, name, child) VALUES (?, ?, 1)"
        assert refusal(low.execute, edge, row) == "SQLITE_CONSTRAINT_NOTNULL"
    assert shell("SELECT count(*) FROM pair; SELECT name FROM link;") == ["0", "a"]


@behaviour("graphdb.rowid.without-rowid-no-rowid")
def test_edges_have_no_row_numbers(graph: GraphDatabase, low: sqlite3.Connection, shell: Shell) -> None:
    """The table of edges has no rowid and leaves the number of the last insertion alone; AUTOINCREMENT is refused."""
    graph.set("/a", "a")
    low.execute("INSERT INTO node (key, id) VALUES (77, 'b')")
    low.execute("INSERT INTO setting VALUES ('x', 1)")
    assert low.execute("SELECT last_insert_rowid()").fetchone() == (77,)
    with pytest.raises(sqlite3.OperationalError, match="no such column: rowid"):
        low.execute("SELECT rowid FROM link")
    with pytest.raises(sqlite3.OperationalError, match="AUTOINCREMENT not allowed on WITHOUT ROWID tables"):
        low.execute("CREATE TABLE t (x INTEGER PRIMARY KEY AUTOINCREMENT) WITHOUT ROWID")
    assert "no such column: rowid" in shell("SELECT rowid FROM link;")[0]
    assert shell("SELECT count(*) FROM link;") == ["1"]
