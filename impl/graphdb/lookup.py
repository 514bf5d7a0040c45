"""Single look-ups: each is one statement, so that each sees one state of the graph."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from kernelproof.impl.graphdb.errors import NotFound
from kernelproof.impl.graphdb.names import Names, format_path
from kernelproof.impl.graphdb.schema import ROOT_ID, ROOT_KEY

JOIN_DEPTH = 60
"""SQLite joins at most 64 tables in a statement; deeper paths are taken in stretches of this length."""


class Entity:
    """A thing that names lead to, known by its id; two with one id are equal.

    `id()` is a method, as it was in 2014.
    """

    __slots__ = ("_id",)

    def __init__(self, entity_id: str) -> None:
        self._id = entity_id

    def id(self) -> str:
        """Return the id."""
        return self._id

    def __repr__(self) -> str:
        return f"Entity({self._id!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Entity) and other._id == self._id

    def __hash__(self) -> int:
        return hash(self._id)


class Edge(NamedTuple):
    """An edge: below `parent_id`, `name` leads to `entity_id`."""

    entity_id: str
    name: str
    parent_id: str


Edges = tuple[Edge, ...]


@lru_cache(maxsize=JOIN_DEPTH)
def _resolve_query(depth: int) -> str:
    joins = "".join(
        f" JOIN link AS l{level} ON l{level}.parent = l{level - 1}.child AND l{level}.name = ?"
        for level in range(1, depth)
    )
    last = f"l{depth - 1}.child"
    return (
        f"SELECT n.key, n.id FROM link AS l0{joins} JOIN node AS n ON n.key = {last} "
        "WHERE l0.name = ? AND l0.parent = ?"
    )


def find(connection: sqlite3.Connection, names: Names) -> tuple[int, str] | None:
    """Follow names from the root; return the key and the id of the entity, None if a name is missing."""
    if not names:
        return ROOT_KEY, ROOT_ID
    key, found = ROOT_KEY, None
    for start in range(0, len(names), JOIN_DEPTH):
        first, *rest = names[start : start + JOIN_DEPTH]
        found = connection.execute(_resolve_query(len(rest) + 1), (*rest, first, key)).fetchone()
        if found is None:
            return None
        key = found[0]
    return found


def resolve(connection: sqlite3.Connection, names: Names) -> int:
    """Follow names from the root to a key.

    Raises:
        NotFound: A name along the path is missing.
    """
    found = find(connection, names)
    if found is None:
        raise NotFound(f"Cannot find child for {format_path(names)}")
    return found[0]


def find_key(connection: sqlite3.Connection, entity_id: str) -> int | None:
    """Return the key of an entity, None if there is none of that id."""
    row = connection.execute("SELECT key FROM node WHERE id = ?", (entity_id,)).fetchone()
    return None if row is None else row[0]


def require_key(connection: sqlite3.Connection, entity_id: str) -> int:
    """Return the key of an entity.

    Raises:
        NotFound: There is none of that id.
    """
    key = find_key(connection, entity_id)
    if key is None:
        raise NotFound(f"no entity has the id {entity_id!r}")
    return key


def count_refs(connection: sqlite3.Connection, entity_id: str) -> int:
    """Count the edges to an entity; 0 if it is unknown, and 1 for the root, which is named `/`."""
    if entity_id == ROOT_ID:
        return 1 + _count(connection, entity_id)
    return _count(connection, entity_id)


def _count(connection: sqlite3.Connection, entity_id: str) -> int:
    query = "SELECT count(*) FROM link WHERE child = (SELECT key FROM node WHERE id = ?)"
    (count,) = connection.execute(query, (entity_id,)).fetchone()
    return int(count)


def edges_to(connection: sqlite3.Connection, entity_id: str) -> tuple[Edge, ...]:
    """List the edges that lead to an entity, by parent id and name."""
    query = """SELECT p.id, l.name FROM link AS l JOIN node AS p ON p.key = l.parent
        WHERE l.child = (SELECT key FROM node WHERE id = ?) ORDER BY p.id, l.name"""
    return tuple(Edge(entity_id, name, parent) for parent, name in connection.execute(query, (entity_id,)))


class Child(NamedTuple):
    """A child of an entity: the edge's name and the entity's id."""

    name: str
    entity_id: str


def read_children(
    connection: sqlite3.Connection, parent: int, after: str, prefix: str, limit: int
) -> tuple[Child, ...]:
    """Read one page of the children of a key in order of name.

    Args:
        parent: The key.
        after: The last name of the page before; empty at first.
        prefix: Only names that begin so.
        limit: The size of the page.
    """
    start = max(after, prefix)
    comparison = ">=" if start == prefix and after < prefix else ">"
    query = f"""SELECT l.name, n.id FROM link AS l JOIN node AS n ON n.key = l.child
        WHERE l.parent = ? AND l.name {comparison} ? ORDER BY l.name LIMIT ?"""
    rows = connection.execute(query, (parent, start, limit))
    return tuple(_while_prefix(rows, prefix))


def _while_prefix(rows: Iterator[tuple[str, str]], prefix: str) -> Iterator[Child]:
    for name, entity_id in rows:
        if not name.startswith(prefix):
            break
        yield Child(name, entity_id)
