"""Loading many entities and edges in one transaction, at the speed of the bare statements.

The index over children is built at the end, sorted, and the change log gets one row `reset` instead of one for each
row, so readers of the feed read the graph anew. Constraints hold all the same. A row that is refused undoes the load.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from kernelproof.impl.graphdb import lookup, schema
from kernelproof.impl.graphdb.attributes import format_attributes
from kernelproof.impl.graphdb.errors import (
    GraphError,
    InvalidPath,
    NameTaken,
    NotFound,
    StorageError,
    is_unique_violation,
)

EdgeRow = tuple[str, str, str] | tuple[str, str, str, Mapping[str, object] | None]
"""Parent id, name, entity id, and perhaps the edge's attributes."""

EntityRow = str | tuple[str, Mapping[str, object] | None]
"""An id, or an id with the entity's attributes."""


class Loaded(NamedTuple):
    """How many entities and edges were added."""

    entities: int
    edges: int


class _Counter:
    # Hands rows on and remembers the last one, so that a refusal can name it.
    def __init__(self, what: str) -> None:
        self.what = what
        self.count = 0
        self.last: object = None

    def error(self, error: sqlite3.Error) -> GraphError:
        where = f"{self.what} number {self.count} {self.last!r}"
        if is_unique_violation(error):
            return NameTaken(f"{where} exists already; nothing was loaded")
        if error.sqlite_errorcode == sqlite3.SQLITE_CONSTRAINT_CHECK:
            return InvalidPath(f"{where} cannot be: {error}; nothing was loaded")
        return StorageError(f"{where}: {error}; nothing was loaded")


def load(
    connection: sqlite3.Connection, edges: Iterable[EdgeRow], entities: Iterable[EntityRow], *, create_missing: bool
) -> Loaded:
    """Load entities, then edges, within the caller's transaction; see `GraphDatabase.load`."""
    schema.drop_feed_triggers(connection)
    connection.execute("DROP INDEX link_child")
    (first,) = connection.execute("SELECT max(key) + 1 FROM node").fetchone()
    keys: dict[str, int] = {schema.ROOT_ID: schema.ROOT_KEY}
    entity_counter, edge_counter = _Counter("entity"), _Counter("edge")
    _insert(
        connection,
        "INSERT INTO node (key, id, attributes) VALUES (?, ?, ?)",
        _entity_rows(entities, first, keys, entity_counter),
        entity_counter,
    )
    added = _insert(
        connection,
        "INSERT INTO link (parent, name, child, attributes) VALUES (?, ?, ?, ?)",
        _edge_rows(connection, edges, keys, edge_counter, create_missing=create_missing),
        edge_counter,
    )
    connection.execute(schema.CHILD_INDEX)
    schema.create_feed_triggers(connection)
    (after,) = connection.execute("SELECT max(key) + 1 FROM node").fetchone()
    connection.execute("INSERT INTO change (kind, detail) VALUES ('reset', 'bulk load')")
    return Loaded(after - first, added)


def _insert(connection: sqlite3.Connection, query: str, rows: Iterator[tuple[object, ...]], counter: _Counter) -> int:
    try:
        return max(0, connection.executemany(query, rows).rowcount)
    except GraphError:
        raise
    except UnicodeEncodeError as error:
        where = f"{counter.what} number {counter.count} {counter.last!r}"
        raise InvalidPath(f"{where} cannot be written as UTF-8: {error.reason}; nothing was loaded") from None
    except (sqlite3.IntegrityError, sqlite3.InterfaceError) as error:
        raise counter.error(error) from error


def _entity_rows(
    entities: Iterable[EntityRow], key: int, keys: dict[str, int], counter: _Counter
) -> Iterator[tuple[object, ...]]:
    for counter.count, row in enumerate(entities, 1):
        counter.last = row
        if isinstance(row, str):
            entity_id, attributes = row, None
        else:
            entity_id, attributes = row[0], None if row[1] is None else format_attributes(row[1])
        keys[entity_id] = key
        yield key, entity_id, attributes
        key += 1


def _edge_rows(
    connection: sqlite3.Connection,
    edges: Iterable[EdgeRow],
    keys: dict[str, int],
    counter: _Counter,
    *,
    create_missing: bool,
) -> Iterator[tuple[object, ...]]:
    def find(entity_id: str) -> int:
        # Not met in this load yet: in the file perhaps.
        key = lookup.find_key(connection, entity_id)
        if key is None:
            if not create_missing:
                raise NotFound(f"edge number {counter.count}: no entity has the id {entity_id!r}; nothing was loaded")
            key = connection.execute("INSERT INTO node (id) VALUES (?)", (entity_id,)).lastrowid
            assert key is not None
        keys[entity_id] = key
        return key

    get = keys.get
    for number, row in enumerate(edges, 1):
        counter.count, counter.last = number, row
        parent, child = get(row[0]), get(row[2])
        if parent is None:
            parent = find(row[0])
        if child is None:
            child = find(row[2])
        if len(row) == 4 and row[3] is not None:
            yield parent, row[1], child, format_attributes(row[3])
        else:
            yield parent, row[1], child, None
