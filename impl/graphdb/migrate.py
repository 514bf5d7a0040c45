"""From the layout of 2014 to ours and back, each way in one transaction, with a copy kept.

The upgrade copies the file to `NAME.2014` (a number is added if that exists), then writes the new tables, moves every
row, and puts views of the old shape in place of the old tables. Rows that the new constraints cannot hold (edges
with a missing end, an empty name, `.` or `..`, an entity below itself) were unreachable or harmful before; they are
kept in the table `leftover` with the reason, and go back into place when the file is taken back to 2014.

A file of 2014 that is opened read-only stays as it is: temporary views show it in our shape.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from typing import NamedTuple

from kernelproof.impl.graphdb import opening, schema
from kernelproof.impl.graphdb.errors import GraphError, NotAGraph, translate

# The reasons why a row of 2014 cannot become an edge, in the order in which they are looked for.
_REFUSALS = (
    ("no such parent", "e.parent_id IS NULL OR p.key IS NULL"),
    ("no such entity", "c.key IS NULL"),
    ("an empty name", "e.name = ''"),
    ("a name that is a place in a path", "e.name IN ('.', '..')"),
    ("a slash or a NUL in the name", "instr(e.name, '/') <> 0 OR instr(e.name, char(0)) <> 0"),
    ("an entity below itself", "p.key = c.key"),
)

_EDGES = """FROM old_edge AS e LEFT JOIN node AS p ON p.id = e.parent_id LEFT JOIN node AS c ON c.id = e.entity_id
    WHERE NOT (e.parent_id IS NULL AND e.entity_id = '0')"""


class Report(NamedTuple):
    """What a migration did.

    Attributes:
        copy: The path of the file as it was before, None if nothing had to be done.
        entities: Entities in the file, the root included.
        edges: Edges that took part.
        leftovers: Rows set aside (upgrade) or put back (downgrade), as (entity id, parent id, name, reason).
    """

    copy: str | None
    entities: int
    edges: int
    leftovers: tuple[tuple[str | None, str | None, str | None, str], ...]


_Rows = Callable[[sqlite3.Connection, str], "Report"]


def upgrade(options: opening.Options) -> Report:
    """Upgrade a file of 2014 in place.

    Two processes may try at once: the second finds it done.

    Raises:
        Busy: Another program uses the file.
        NotAGraph: It is neither a file of 2014 nor one of ours.
        OSError: The copy cannot be written (EACCES, ENOSPC, EROFS).
        GraphError: What SQLite refused; the file is as before.
    """
    return _migrate(options, "2014", _upgrade_rows)


def downgrade(options: opening.Options) -> Report:
    """Take a file of ours back to the layout of 2014, in place; a copy of ours is kept.

    Attributes and the change log have no place there: they are only in the copy.

    Raises:
        Busy: Another program uses the file.
        NotAGraph: It is neither a file of 2014 nor one of ours.
        OSError: The copy cannot be written (EACCES, ENOSPC, EROFS).
        GraphError: What SQLite refused; the file is as before.
    """
    return _migrate(options, "ours", _downgrade_rows)


def _migrate(options: opening.Options, kind: str, rows: _Rows) -> Report:
    connection = opening.connect(options)
    try:
        # Foreign keys cannot be switched within a transaction, and dropping a table would check each row.
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("PRAGMA legacy_alter_table = ON")
        connection.execute("BEGIN IMMEDIATE")
        found = schema.read_found(connection)
        schema.check_found(found, options.path)
        if found.kind != kind:
            connection.execute("ROLLBACK")
            return Report(None, 0, 0, ())
        copy = keep_copy(options.path, "2014" if kind == "2014" else f"v{found.version}")
        report = rows(connection, copy)
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise (error if isinstance(error, GraphError) else translate(error, options.path)) from error
    finally:
        connection.close()
    return report


def keep_copy(path: str, label: str) -> str:
    """Copy a database file beside itself as `NAME.LABEL`, through SQLite, and write it to disk.

    The copy is made by another connection, so a writer that holds the lock and has not written yet may call it.

    Raises:
        OSError: The copy cannot be written.
        sqlite3.Error: The file cannot be read.
    """
    target = f"{path}.{label}"
    number = 0
    while os.path.lexists(target):
        number += 1
        target = f"{path}.{label}.{number}"
    temporary = f"{target}.{os.getpid()}.new"
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    try:
        copy_database(path, temporary)
        os.link(temporary, target)
    finally:
        os.unlink(temporary)
    opening.sync_directory(os.path.dirname(path))
    return target


def copy_database(path: str, target: str) -> None:
    """Copy a database page by page into an existing empty file.

    Raises:
        sqlite3.Error: One of the two cannot be opened, read or written.
    """
    source = sqlite3.connect(opening.format_uri(path, "ro"), uri=True, isolation_level=None)
    copy = sqlite3.connect(opening.format_uri(target, "rw"), uri=True, isolation_level=None)
    try:
        source.backup(copy)
    finally:
        copy.close()
        source.close()
    os.chmod(target, os.stat(path).st_mode & 0o7777)


def _upgrade_rows(connection: sqlite3.Connection, copy: str) -> Report:
    connection.execute("ALTER TABLE entity RENAME TO old_entity")
    connection.execute("ALTER TABLE edge RENAME TO old_edge")
    connection.execute("DROP INDEX IF EXISTS name_parent_ix")
    for statement in schema.split_script(schema.TABLES + schema.CHILD_INDEX):
        connection.execute(statement)
    connection.execute("INSERT INTO setting VALUES ('change_limit', ?)", (schema.CHANGE_LIMIT,))
    connection.execute("INSERT INTO node (key, id) VALUES (?, ?)", (schema.ROOT_KEY, schema.ROOT_ID))
    connection.execute("""INSERT INTO node (id) SELECT id FROM old_entity
        WHERE id NOT IN ('0', '') AND instr(id, char(0)) = 0 ORDER BY rowid""")
    connection.execute("""INSERT INTO leftover SELECT id, NULL, NULL, 'an empty id, or a NUL in it'
        FROM old_entity WHERE id = '' OR instr(id, char(0)) <> 0""")
    refused = " OR ".join(f"({condition})" for _, condition in _REFUSALS)
    reasons = " ".join(f"WHEN {condition} THEN '{reason}'" for reason, condition in _REFUSALS)
    connection.execute(f"""INSERT INTO leftover
        SELECT e.entity_id, e.parent_id, e.name, CASE {reasons} END {_EDGES} AND ({refused})""")
    connection.execute(f"""INSERT INTO link (parent, name, child)
        SELECT p.key, e.name, c.key {_EDGES} AND NOT ({refused}) ORDER BY p.key, e.name""")
    connection.execute("DROP TABLE old_edge")
    connection.execute("DROP TABLE old_entity")
    for statement in schema.split_script(schema.GUARDS + schema.VIEWS_2014):
        connection.execute(statement)
    schema.create_feed_triggers(connection)
    connection.execute("INSERT INTO change (kind, detail) VALUES ('reset', 'upgraded from the layout of 2014')")
    connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {schema.VERSION}")
    _check_foreign_keys(connection)
    return _report(connection, copy)


def _downgrade_rows(connection: sqlite3.Connection, copy: str) -> Report:
    report = _report(connection, copy)
    connection.execute("DROP VIEW edge")
    connection.execute("DROP VIEW entity")
    for statement in schema.split_script(schema.TABLES_2014):
        connection.execute(statement)
    connection.execute("INSERT INTO entity SELECT id FROM node ORDER BY key")
    connection.execute("INSERT INTO edge VALUES ('0', NULL, '/')")
    connection.execute("""INSERT INTO edge SELECT c.id, p.id, l.name
        FROM link AS l JOIN node AS p ON p.key = l.parent JOIN node AS c ON c.key = l.child""")
    connection.execute("INSERT OR IGNORE INTO entity SELECT entity_id FROM leftover WHERE name IS NULL")
    connection.execute(
        "INSERT OR IGNORE INTO edge SELECT entity_id, parent_id, name FROM leftover WHERE name IS NOT NULL"
    )
    for table in ("link", "node", "change", "setting", "leftover"):
        connection.execute(f"DROP TABLE {table}")
    connection.execute("PRAGMA application_id = 0")
    connection.execute("PRAGMA user_version = 0")
    return report


def _check_foreign_keys(connection: sqlite3.Connection) -> None:
    broken = connection.execute("PRAGMA foreign_key_check").fetchall()
    if broken:
        raise NotAGraph(f"the upgrade would leave {len(broken)} edges without an end; the file is as before")


def _report(connection: sqlite3.Connection, copy: str) -> Report:
    (entities,) = connection.execute("SELECT count(*) FROM node").fetchone()
    (edges,) = connection.execute("SELECT count(*) FROM link").fetchone()
    leftovers = connection.execute("SELECT entity_id, parent_id, name, reason FROM leftover").fetchall()
    return Report(copy, entities, edges, tuple(tuple(row) for row in leftovers))


def create_temporary_views(connection: sqlite3.Connection) -> None:
    """Show a file of 2014 in our shape, on this connection only; the root keeps key 0, others their row's number.

    Raises:
        sqlite3.Error: SQLite cannot make temporary views.
    """
    connection.execute("""CREATE TEMP VIEW node AS SELECT CASE id WHEN '0' THEN 0 ELSE rowid END AS key, id,
        NULL AS attributes FROM main.entity""")
    connection.execute("""CREATE TEMP VIEW link AS SELECT
        CASE p.id WHEN '0' THEN 0 ELSE p.rowid END AS parent, e.name AS name,
        CASE c.id WHEN '0' THEN 0 ELSE c.rowid END AS child, NULL AS attributes
        FROM main.edge AS e JOIN main.entity AS p ON p.id = e.parent_id JOIN main.entity AS c ON c.id = e.entity_id
        WHERE e.name NOT IN ('', '.', '..') AND instr(e.name, '/') = 0 AND p.id <> c.id""")
    connection.execute("""CREATE TEMP TABLE change
        (sequence INTEGER PRIMARY KEY, kind TEXT, entity TEXT, parent TEXT, name TEXT, detail TEXT)""")
