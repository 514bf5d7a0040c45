"""Foreign keys: edges that cannot lack an end, as long as a connection asks for it."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.impl.graphdb import GraphDatabase, NotFound, RootProtected, StorageError, migrate, opening

if TYPE_CHECKING:
    from pathlib import Path

    from kernelproof.conformance.graphdb.conftest import Connect, Refusal, Shell
    from kernelproof.conformance.seen import Seen

DANGLING = "INSERT INTO link (parent, name, child) VALUES (98, 'x', 99)"
FOREIGN_KEY = "SQLITE_CONSTRAINT_FOREIGNKEY"


@behaviour("graphdb.fk.off-by-default")
def test_a_connection_must_ask(low: sqlite3.Connection, shell: Shell, refusal: Refusal) -> None:
    """The shell, which does not ask, may store an edge without ends until it does; a connection of impl asks."""
    assert low.execute("PRAGMA foreign_keys").fetchone() == (1,)
    assert refusal(low.execute, DANGLING) == FOREIGN_KEY
    assert shell(f"PRAGMA foreign_keys; {DANGLING}; SELECT count(*) FROM link;") == ["0", "1"]
    (answer,) = shell(f"PRAGMA foreign_keys = ON; {DANGLING.replace('x', 'y')};")
    assert "FOREIGN KEY constraint failed (19)" in answer


@behaviour("graphdb.fk.per-connection")
def test_each_connection_asks_for_itself(connect: Connect, graph: GraphDatabase, shell: Shell) -> None:
    """Enforcement in impl's connections leaves the shell's connection to the same file without it."""
    graph.set("/a", "a")
    first, second = connect(), connect()
    second.execute("PRAGMA foreign_keys = OFF")
    assert first.execute("PRAGMA foreign_keys").fetchone() == (1,)
    assert shell(f"PRAGMA foreign_keys; {DANGLING}; SELECT count(*) FROM link;") == ["0", "2"]


@behaviour("graphdb.fk.no-op-in-transaction")
def test_nothing_is_switched_within_a_transaction(graph: GraphDatabase, shell: Shell, refusal: Refusal) -> None:
    """Within a transaction the pragma neither switches enforcement off nor says that it did not."""
    graph.set("/a", "a")
    with graph.transaction():
        assert graph.store.read(lambda c: c.execute("PRAGMA foreign_keys = OFF").fetchall()) == []
        assert graph.store.read(lambda c: c.execute("PRAGMA foreign_keys").fetchone()) == (1,)
        refused = graph.store.read(lambda c: refusal(c.execute, DANGLING))
        assert refused == FOREIGN_KEY
    switched = shell("BEGIN; PRAGMA foreign_keys = ON; PRAGMA foreign_keys; SELECT count(*) FROM link; COMMIT;")
    assert switched == ["0", "1"]


@behaviour("graphdb.fk.existing-violations-stay")
def test_what_was_broken_before_stays_and_is_listed(graph: GraphDatabase, shell: Shell, seen: Seen) -> None:
    """Edges that were stored without ends before enforcement stay; foreign_key_check and `check` list each."""
    shell(f"{DANGLING}; {DANGLING.replace('x', 'y')};")
    kept = graph.store.read(lambda c: c.execute("SELECT name FROM link ORDER BY name").fetchall())
    assert kept == [("x",), ("y",)]
    dangling = [problem.subject for problem in graph.check().problems if problem.kind == "dangling"]
    assert dangling == ["98/x", "98/y"]
    listed = graph.store.read(lambda c: c.execute("PRAGMA foreign_key_check").fetchall())
    assert seen(len(listed)) == 4  # each lacks both of its ends
    assert len(shell("PRAGMA foreign_key_check;")) == 4


@behaviour("graphdb.fk.check-columns")
def test_what_the_check_tells(graph: GraphDatabase, low: sqlite3.Connection, shell: Shell) -> None:
    """Table, rowid (NULL for `link`, which has none), parent table and number of the constraint."""
    graph.set("/a", "a")
    low.execute("CREATE TABLE note (number INTEGER PRIMARY KEY, about INTEGER REFERENCES node (key))")
    numbers = {
        (row[3]): row[0] for row in low.execute("PRAGMA foreign_key_list(link)")
    }  # the column to its constraint's number
    low.execute("PRAGMA foreign_keys = OFF")
    low.execute("INSERT INTO note VALUES (7, 99)")
    low.execute("UPDATE link SET child = 99")
    rows = low.execute("PRAGMA foreign_key_check").fetchall()
    assert sorted(rows, key=repr) == [("link", None, "node", numbers["child"]), ("note", 7, "node", 0)]
    assert sorted(shell("PRAGMA foreign_key_check;")) == [f"link|NULL|node|{numbers['child']}", "note|7|node|0"]


@behaviour("graphdb.fk.insert-dangling-fails")
def test_an_edge_needs_its_ends(
    graph: GraphDatabase, low: sqlite3.Connection, shell: Shell, refusal: Refusal, seen: Seen
) -> None:
    """An edge to a missing entity is refused by the constraint, and by `set` and `load` before that."""
    graph.set("/a", "a")
    with pytest.raises(NotFound, match="Cannot find child for /missing"):
        graph.set("/missing/b", "b")
    with pytest.raises(NotFound, match="no entity has the id 'b'"):
        graph.load([("a", "b", "b")], create_missing=False)
    assert seen(refusal(low.execute, "INSERT INTO link (parent, name, child) VALUES (0, 'x', 99)")) == FOREIGN_KEY
    assert shell("SELECT name FROM link;") == ["a"]


@behaviour("graphdb.fk.null-parent-allowed")
def test_the_root_of_2014_has_no_parent(graph: GraphDatabase, path: Path, connect: Connect, shell: Shell) -> None:
    """In the layout of 2014 the root's edge has NULL as its parent, and is no violation."""
    graph.set("/a", "a")
    graph.close()
    migrate.downgrade(opening.Options(str(path), False, 0, graph.journal))
    connection = connect()
    connection.execute("INSERT INTO edge VALUES ('a', NULL, 'orphan')")
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    assert shell("SELECT parent_id, name FROM edge ORDER BY name;") == ["NULL|/", "0|a", "NULL|orphan"]


@behaviour("graphdb.fk.cascade-delete")
def test_rows_go_with_their_entity(graph: GraphDatabase, low: sqlite3.Connection, shell: Shell) -> None:
    """ON DELETE CASCADE deletes every child row of a purged entity and none of another."""
    graph.load([("0", "a", "a"), ("0", "b", "b")])
    low.execute("CREATE TABLE tag (name TEXT, about INTEGER REFERENCES node (key) ON DELETE CASCADE)")
    low.execute("INSERT INTO tag SELECT 'first ' || id, key FROM node")
    low.execute("INSERT INTO tag SELECT 'second ' || id, key FROM node")

    assert graph.purge("a") == 1
    assert shell("SELECT name FROM tag ORDER BY name;") == ["first 0", "first b", "second 0", "second b"]


@behaviour("graphdb.fk.cascade-update")
def test_rows_follow_a_new_key(graph: GraphDatabase, low: sqlite3.Connection, shell: Shell, refusal: Refusal) -> None:
    """ON UPDATE CASCADE writes a new parent key into the child rows; the key of an entity itself never changes."""
    graph.set("/a", "a")
    low.execute("CREATE TABLE label (name TEXT PRIMARY KEY)")
    low.execute("CREATE TABLE tag (number INTEGER, label TEXT REFERENCES label (name) ON UPDATE CASCADE)")
    low.execute("INSERT INTO label VALUES ('old'), ('other')")
    low.execute("INSERT INTO tag VALUES (1, 'old'), (2, 'old'), (3, 'other')")
    low.execute("UPDATE label SET name = 'new' WHERE name = 'old'")
    assert refusal(low.execute, "UPDATE node SET key = 50 WHERE id = 'a'") == "SQLITE_CONSTRAINT_TRIGGER"
    assert shell("SELECT number, label FROM tag ORDER BY number;") == ["1|new", "2|new", "3|other"]


@behaviour("graphdb.fk.no-action-default")
def test_an_entity_with_edges_stays(
    graph: GraphDatabase, low: sqlite3.Connection, shell: Shell, refusal: Refusal, seen: Seen
) -> None:
    """Deleting an entity that has edges is refused; `purge` deletes those first."""
    graph.set("/a", "a")
    assert seen(refusal(low.execute, "DELETE FROM node WHERE id = 'a'")) == FOREIGN_KEY
    assert shell("SELECT id FROM node ORDER BY id;") == ["0", "a"]
    with pytest.raises(RootProtected, match="the root cannot be purged"):
        graph.purge("0")
    assert graph.purge("a") == 1
    assert shell("SELECT id FROM node;") == ["0"]


@behaviour("graphdb.fk.restrict-immediate")
def test_restrict_does_not_wait(
    graph: GraphDatabase, low: sqlite3.Connection, shell: Shell, refusal: Refusal, seen: Seen
) -> None:
    """RESTRICT fails at once, deferred or not; `purge` then leaves all as it was."""
    graph.set("/a", "a")
    low.execute("""CREATE TABLE tag (about INTEGER REFERENCES node (key) ON DELETE RESTRICT
        DEFERRABLE INITIALLY DEFERRED)""")
    low.execute("INSERT INTO tag SELECT key FROM node WHERE id = 'a'")
    low.execute("BEGIN")
    low.execute("DELETE FROM link")
    refused = refusal(low.execute, "DELETE FROM node WHERE id = 'a'")
    low.execute("ROLLBACK")
    assert seen(refused.startswith("SQLITE_CONSTRAINT"))
    with pytest.raises(StorageError, match="FOREIGN KEY constraint failed"):
        graph.purge("a")
    assert shell("SELECT name FROM link; SELECT count(*) FROM node;") == ["a", "2"]


@behaviour("graphdb.fk.set-default-needs-row")
def test_a_default_needs_its_entity(
    graph: GraphDatabase, low: sqlite3.Connection, shell: Shell, refusal: Refusal, seen: Seen
) -> None:
    """ON DELETE SET DEFAULT fails where the default names no entity, and takes the root where it names that."""
    graph.load([("0", "a", "a"), ("0", "b", "b")])
    for table, default, entity in (("tag", 99, "a"), ("mark", 0, "b")):
        low.execute(f"""CREATE TABLE {table} (about INTEGER DEFAULT {default} REFERENCES node (key)
            ON DELETE SET DEFAULT)""")
        low.execute(f"INSERT INTO {table} SELECT key FROM node WHERE id = '{entity}'")
    graph.delete("/a")
    assert seen(refusal(low.execute, "DELETE FROM node WHERE id = 'a'")) == FOREIGN_KEY
    assert graph.purge("b") == 1
    assert shell("SELECT about FROM mark; SELECT id FROM node ORDER BY id;") == ["0", "0", "a"]


@behaviour("graphdb.fk.deferred-commit-fails")
def test_a_deferred_violation_stops_the_commit(low: sqlite3.Connection, shell: Shell, refusal: Refusal) -> None:
    """The statement passes, COMMIT fails and leaves the transaction open; mended, it commits."""
    low.execute("BEGIN")
    low.execute("PRAGMA defer_foreign_keys = ON")
    low.execute("INSERT INTO link (parent, name, child) VALUES (0, 'a', 5)")
    assert refusal(low.execute, "COMMIT") == FOREIGN_KEY
    assert low.in_transaction
    assert shell("SELECT count(*) FROM link;") == ["0"]
    low.execute("INSERT INTO node (key, id) VALUES (5, 'a')")
    low.execute("COMMIT")
    assert shell("SELECT name, child FROM link;") == ["a|5"]


@behaviour("graphdb.fk.defer-pragma-resets")
def test_deferral_ends_with_the_transaction(graph: GraphDatabase, low: sqlite3.Connection, shell: Shell) -> None:
    """Deferral, of which `repair` makes use, is off again after each COMMIT and ROLLBACK."""
    for end in ("COMMIT", "ROLLBACK"):
        low.execute("BEGIN")
        low.execute("PRAGMA defer_foreign_keys = ON")
        assert low.execute("PRAGMA defer_foreign_keys").fetchone() == (1,)
        low.execute(end)
        assert low.execute("PRAGMA defer_foreign_keys").fetchone() == (0,)
    shell("INSERT INTO node (id) VALUES ('lost');")
    assert graph.repair(graph.check().problems) == 1
    assert graph.store.read(lambda c: c.execute("PRAGMA defer_foreign_keys").fetchone()) == (0,)
    assert shell("SELECT id FROM node;") == ["0"]


@behaviour("graphdb.fk.mismatch-error")
def test_a_parent_key_must_be_unique(low: sqlite3.Connection, shell: Shell) -> None:
    """A reference to a column that is no key is an error when data change, not when the table is made."""
    low.execute("CREATE TABLE tag (about TEXT REFERENCES node (attributes))")
    with pytest.raises(sqlite3.OperationalError, match="foreign key mismatch"):
        low.execute("INSERT INTO tag VALUES ('{}')")
    assert shell("SELECT count(*) FROM tag;") == ["0"]


@behaviour("graphdb.fk.missing-parent-table")
def test_a_parent_table_may_be_missing_until_it_is_needed(low: sqlite3.Connection, shell: Shell) -> None:
    """A reference to no table is an error when a key is stored, not when the table is made."""
    low.execute("CREATE TABLE tag (about INTEGER REFERENCES nowhere (key))")
    with pytest.raises(sqlite3.OperationalError, match=r"no such table: main\.nowhere"):
        low.execute("INSERT INTO tag VALUES (1)")
    assert shell("SELECT count(*) FROM tag;") == ["0"]


@behaviour("graphdb.fk.or-ignore-does-not-apply")
def test_ignore_does_not_ignore_a_missing_end(
    low: sqlite3.Connection, shell: Shell, refusal: Refusal, seen: Seen
) -> None:
    """INSERT OR IGNORE of an edge without ends fails all the same."""
    assert seen(refusal(low.execute, DANGLING.replace("INSERT", "INSERT OR IGNORE"))) == FOREIGN_KEY
    assert shell("SELECT count(*) FROM link;") == ["0"]


@behaviour("graphdb.fk.drop-parent-implicit-delete")
def test_a_parent_table_is_emptied_before_it_goes(
    graph: GraphDatabase, low: sqlite3.Connection, shell: Shell, refusal: Refusal, seen: Seen
) -> None:
    """The table of entities cannot be dropped while edges need them, and can once there are none."""
    graph.set("/a", "a")
    assert seen(refusal(low.execute, "DROP TABLE node")) == FOREIGN_KEY
    assert shell("SELECT id FROM node ORDER BY id;") == ["0", "a"]
    graph.delete("/a")
    low.execute("DROP TABLE node")
    assert shell("SELECT count(*) FROM sqlite_schema WHERE name = 'node';") == ["0"]


@behaviour("graphdb.fk.cascade-depth-limit")
def test_a_long_chain_of_cascades_fails_whole(low: sqlite3.Connection, shell: Shell) -> None:
    """A cascade over 1500 levels is more than the limit of 1000 allows: it fails and all rows stay."""
    low.execute("CREATE TABLE chain (key INTEGER PRIMARY KEY, above INTEGER REFERENCES chain ON DELETE CASCADE)")
    low.execute("BEGIN")
    low.executemany("INSERT INTO chain VALUES (?, ?)", [(n, n - 1 if n > 1 else None) for n in range(1, 1501)])
    low.execute("COMMIT")
    with pytest.raises(sqlite3.Error, match="too many levels of trigger recursion"):
        low.execute("DELETE FROM chain WHERE key = 1")
    assert shell("SELECT count(*) FROM chain;") == ["1500"]
    low.execute("DELETE FROM chain WHERE key = 1001")  # 500 levels
    assert shell("SELECT count(*) FROM chain;") == ["1000"]
