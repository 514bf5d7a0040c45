"""The tables of a graph file, and how to tell such a file from others.

Layout (version 1): entities are `node` rows with a small integer key, edges are `link` rows clustered by
(parent, name), so that the children of a node lie side by side in order of name. Constraints hold what the graph
promises: every end of an edge exists, a name is unique below its parent, no entity is its own child, names can be
written in a path, the root stays. `change` is the bounded log behind the change feed, filled by triggers, so that it
also sees what other programs write. `leftover` keeps rows of a 2014 file that broke those promises.

Programs of 2014 read the same file: `entity` and `edge` are views of the old shape, with triggers for writing.

Sources: SQLite documentation, stricttables, withoutrowid, foreignkeys, lang_createtrigger; pragma, application_id
and user_version.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from kernelproof.impl.graphdb.errors import NotAGraph

APPLICATION_ID = 0x6B704764
"""`kpGd`, at offset 68 of every file of ours."""

VERSION = 1
"""The layout that this program writes, in `user_version`; 0 with the tables of 2014 is the layout of 2014."""

ROOT_KEY = 0
ROOT_ID = "0"
"""The id of the root since 2014."""

MINIMUM_SQLITE = (3, 38, 0)
"""STRICT tables (3.37), RETURNING (3.35) and the JSON functions that are always there (3.38)."""

CHANGE_LIMIT = 100_000
"""How many rows the change log keeps unless told otherwise."""

TABLES = """
CREATE TABLE node (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE CHECK (id <> '' AND instr(id, char(0)) = 0),
    attributes TEXT CHECK (json_type(attributes) = 'object')
) STRICT;
CREATE TABLE link (
    parent INTEGER NOT NULL REFERENCES node (key),
    name TEXT NOT NULL CHECK (name NOT IN ('', '.', '..') AND instr(name, '/') = 0 AND instr(name, char(0)) = 0),
    child INTEGER NOT NULL REFERENCES node (key),
    attributes TEXT CHECK (json_type(attributes) = 'object'),
    PRIMARY KEY (parent, name),
    CHECK (parent <> child)
) STRICT, WITHOUT ROWID;
CREATE TABLE change (
    sequence INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    entity TEXT,
    parent TEXT,
    name TEXT,
    detail TEXT
) STRICT;
CREATE TABLE setting (name TEXT NOT NULL PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE leftover (entity_id TEXT, parent_id TEXT, name TEXT, reason TEXT NOT NULL) STRICT;
"""

CHILD_INDEX = "CREATE INDEX link_child ON link (child);"

# Written by triggers, so that what another program writes is logged too. The bulk loader drops and makes them again.
FEED_TRIGGERS = {
    "node_added": """AFTER INSERT ON node BEGIN
        INSERT INTO change (kind, entity, detail) VALUES ('entity-added', NEW.id, NEW.attributes);
    END""",
    "node_removed": """AFTER DELETE ON node BEGIN
        INSERT INTO change (kind, entity) VALUES ('entity-removed', OLD.id);
    END""",
    "node_changed": """AFTER UPDATE OF attributes ON node WHEN NEW.attributes IS NOT OLD.attributes BEGIN
        INSERT INTO change (kind, entity, detail) VALUES ('entity-attributes', NEW.id, NEW.attributes);
    END""",
    "link_added": """AFTER INSERT ON link BEGIN
        INSERT INTO change (kind, entity, parent, name, detail) VALUES ('edge-added',
            (SELECT id FROM node WHERE key = NEW.child), (SELECT id FROM node WHERE key = NEW.parent), NEW.name,
            NEW.attributes);
    END""",
    "link_removed": """AFTER DELETE ON link BEGIN
        INSERT INTO change (kind, entity, parent, name) VALUES ('edge-removed',
            (SELECT id FROM node WHERE key = OLD.child), (SELECT id FROM node WHERE key = OLD.parent), OLD.name);
    END""",
    "link_moved": """AFTER UPDATE OF parent, name, child ON link BEGIN
        INSERT INTO change (kind, entity, parent, name) VALUES ('edge-removed',
            (SELECT id FROM node WHERE key = OLD.child), (SELECT id FROM node WHERE key = OLD.parent), OLD.name);
        INSERT INTO change (kind, entity, parent, name, detail) VALUES ('edge-added',
            (SELECT id FROM node WHERE key = NEW.child), (SELECT id FROM node WHERE key = NEW.parent), NEW.name,
            NEW.attributes);
    END""",
    "link_changed": """AFTER UPDATE OF attributes ON link
        WHEN NEW.attributes IS NOT OLD.attributes AND NEW.child = OLD.child BEGIN
        INSERT INTO change (kind, entity, parent, name, detail) VALUES ('edge-attributes',
            (SELECT id FROM node WHERE key = NEW.child), (SELECT id FROM node WHERE key = NEW.parent), NEW.name,
            NEW.attributes);
    END""",
}

GUARDS = """
CREATE TRIGGER root_stays BEFORE DELETE ON node WHEN OLD.key = 0 BEGIN
    SELECT RAISE(ABORT, 'the root entity cannot be deleted');
END;
CREATE TRIGGER key_and_id_stay BEFORE UPDATE OF key, id ON node WHEN NEW.key <> OLD.key OR NEW.id <> OLD.id BEGIN
    SELECT RAISE(ABORT, 'the key and the id of an entity do not change');
END;
CREATE TRIGGER change_bounded AFTER INSERT ON change WHEN NEW.sequence % 64 = 0 BEGIN
    DELETE FROM change WHERE sequence <= NEW.sequence - (SELECT value FROM setting WHERE name = 'change_limit');
END;
"""

# The shape of 2014. Its program inserts an entity, then an edge, and compares the text of a unique violation.
VIEWS_2014 = """
CREATE VIEW entity AS SELECT id FROM node;
CREATE VIEW edge AS
    SELECT c.id AS entity_id, p.id AS parent_id, l.name AS name
    FROM link AS l JOIN node AS p ON p.key = l.parent JOIN node AS c ON c.key = l.child
    UNION ALL SELECT '0', NULL, '/';
CREATE TRIGGER entity_insert INSTEAD OF INSERT ON entity BEGIN
    INSERT INTO node (id) VALUES (NEW.id);
END;
CREATE TRIGGER entity_delete INSTEAD OF DELETE ON entity BEGIN
    DELETE FROM node WHERE id = OLD.id;
END;
CREATE TRIGGER edge_insert INSTEAD OF INSERT ON edge BEGIN
    SELECT RAISE(ABORT, 'UNIQUE constraint failed: edge.parent_id, edge.name') WHERE EXISTS (
        SELECT 1 FROM link WHERE name = NEW.name AND parent = (SELECT key FROM node WHERE id = NEW.parent_id));
    INSERT INTO link (parent, name, child) VALUES (
        (SELECT key FROM node WHERE id = NEW.parent_id), NEW.name, (SELECT key FROM node WHERE id = NEW.entity_id));
END;
CREATE TRIGGER edge_delete INSTEAD OF DELETE ON edge WHEN OLD.parent_id IS NOT NULL BEGIN
    DELETE FROM link WHERE name = OLD.name AND parent = (SELECT key FROM node WHERE id = OLD.parent_id);
END;
CREATE TRIGGER edge_update INSTEAD OF UPDATE ON edge WHEN OLD.parent_id IS NOT NULL BEGIN
    SELECT RAISE(ABORT, 'UNIQUE constraint failed: edge.parent_id, edge.name') WHERE NEW.name <> OLD.name AND EXISTS (
        SELECT 1 FROM link WHERE name = NEW.name AND parent = (SELECT key FROM node WHERE id = NEW.parent_id));
    UPDATE link SET name = NEW.name WHERE name = OLD.name
        AND parent = (SELECT key FROM node WHERE id = OLD.parent_id);
END;
"""

TABLES_2014 = """
CREATE TABLE entity (id text NOT NULL PRIMARY KEY);
CREATE TABLE edge (
    "entity_id" text NOT NULL, "parent_id" text NULL, "name" text NOT NULL,
    CONSTRAINT "parent_fk" FOREIGN KEY ("parent_id") REFERENCES "entity" ("id"),
    CONSTRAINT "entity_fk" FOREIGN KEY ("entity_id") REFERENCES "entity" ("id")
);
CREATE UNIQUE INDEX "name_parent_ix" ON "edge" (parent_id, name);
"""

OUR_TABLES = frozenset({"node", "link", "change", "setting", "leftover"})


class Found(NamedTuple):
    """What a file holds: `kind` is `ours`, `2014`, `newer`, `empty` or `foreign`, `text` says it to a person."""

    kind: str
    version: int
    text: str


def read_found(connection: sqlite3.Connection) -> Found:
    """Read what kind of file lies behind a connection.

    It asks SQLite and does not open the file by itself: to open and close a file beside the library would cancel the
    locks that the library holds on it in this process.

    Raises:
        sqlite3.DatabaseError: The file is no SQLite database, or is damaged.

    Source: SQLite documentation, howtocorrupt, POSIX advisory locks canceled by close().
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')")}
    listed = ", ".join(sorted(names)) or "none"
    if application == APPLICATION_ID:
        if version > VERSION:
            return Found("newer", version, f"a graph of version {version}; this program knows up to {VERSION}")
        if names >= OUR_TABLES:
            return Found("ours", version, f"a graph of version {version}")
        return Found("foreign", version, f"a graph's application id without its tables (tables: {listed})")
    if not names and application == 0:
        return Found("empty", version, "an SQLite database without tables, or a file of no bytes")
    if application == 0 and version == 0 and names == {"entity", "edge"} and _columns_2014(connection):
        return Found("2014", 0, "a graph of 2014")
    return Found("foreign", version, f"application id {application:#010x}, user version {version}, tables: {listed}")


def _columns_2014(connection: sqlite3.Connection) -> bool:
    columns = {
        table: {row[1] for row in connection.execute(f"PRAGMA table_info({table})")} for table in ("entity", "edge")
    }
    return columns == {"entity": {"id"}, "edge": {"entity_id", "parent_id", "name"}}


def check_found(found: Found, path: str) -> None:
    """Refuse a file that is not a graph that this program can use.

    Raises:
        NotAGraph: The file is empty, foreign or newer; nothing is written over it.
    """
    if found.kind not in ("ours", "2014"):
        raise NotAGraph(f"{path}: found {found.text}; give another path, or move the file away to begin a new graph")


def create(connection: sqlite3.Connection, *, change_limit: int = CHANGE_LIMIT) -> None:
    """Write an empty graph into an empty database, within the caller's transaction."""
    for statement in split_script(TABLES + CHILD_INDEX + GUARDS):
        connection.execute(statement)
    connection.execute("INSERT INTO setting VALUES ('change_limit', ?)", (change_limit,))
    connection.execute("INSERT INTO node (key, id) VALUES (?, ?)", (ROOT_KEY, ROOT_ID))
    create_feed_triggers(connection)
    for statement in split_script(VIEWS_2014):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def create_feed_triggers(connection: sqlite3.Connection) -> None:
    """Make the triggers that fill the change log."""
    for name, body in FEED_TRIGGERS.items():
        connection.execute(f"CREATE TRIGGER {name} {body}")


def drop_feed_triggers(connection: sqlite3.Connection) -> None:
    """Drop the triggers that fill the change log, for the rest of a bulk load's transaction."""
    for name in FEED_TRIGGERS:
        connection.execute(f"DROP TRIGGER IF EXISTS {name}")


def split_script(script: str) -> list[str]:
    """Split a script into statements, so that they run within a transaction (`executescript` would commit it)."""
    statements: list[str] = []
    pending = ""
    for piece in script.split(";"):
        pending += piece + ";"
        if sqlite3.complete_statement(pending):
            if pending.strip(" \n;"):
                statements.append(pending.strip())
            pending = ""
    return statements
