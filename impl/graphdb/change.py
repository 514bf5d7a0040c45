"""Single changes, each within a transaction that the caller holds."""

from __future__ import annotations

import sqlite3
from enum import Enum
from typing import Final

from kernelproof.impl.graphdb import lookup
from kernelproof.impl.graphdb.errors import (
    Conflict,
    CycleError,
    NameTaken,
    NotFound,
    RootProtected,
    is_unique_violation,
)
from kernelproof.impl.graphdb.names import Names, format_path
from kernelproof.impl.graphdb.schema import ROOT_ID


class Unset(Enum):
    """The absence of an expectation, where None already means "no such name"."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET


def set_edge(
    connection: sqlite3.Connection,
    names: Names,
    entity_id: str,
    *,
    expect: str | Unset | None = UNSET,
    attributes: str | None = None,
    acyclic: bool = False,
) -> None:
    """Let a path lead to an entity, making the entity if it is new.

    Args:
        names: The path; all but its last name exist.
        entity_id: The entity.
        expect: The id that the path leads to now and that is to be replaced; None or unset: it leads nowhere yet.
        attributes: A JSON object for the edge.
        acyclic: Refuse an edge that would close a cycle.

    Raises:
        NotFound: The parent does not exist.
        NameTaken: The path leads somewhere already, and nothing was expected of it.
        Conflict: It leads elsewhere than expected.
        CycleError: The entity is its own parent, or the edge closes a cycle and `acyclic` is set.
        RootProtected: The path is the root.
    """
    if not names:
        raise RootProtected("the root has its name and its entity for ever")
    parent = lookup.resolve(connection, names[:-1])
    if expect is not UNSET:
        _check_expected(connection, names, parent, expect)
    child = _ensure_entity(connection, entity_id)
    if parent == child:
        raise CycleError("Cannot set self as child", (entity_id,))
    if acyclic and reaches(connection, child, parent):
        raise CycleError(f"{format_path(names)} -> {entity_id!r} would close a cycle", (entity_id,))
    if isinstance(expect, str):
        connection.execute(
            "UPDATE link SET child = ?, attributes = ? WHERE parent = ? AND name = ?",
            (child, attributes, parent, names[-1]),
        )
        return
    try:
        connection.execute(
            "INSERT INTO link (parent, name, child, attributes) VALUES (?, ?, ?, ?)",
            (parent, names[-1], child, attributes),
        )
    except sqlite3.IntegrityError as error:
        if is_unique_violation(error):
            raise NameTaken(f"{format_path(names)} is taken: a name is unique below its parent") from error
        raise


def _check_expected(connection: sqlite3.Connection, names: Names, parent: int, expect: str | None) -> None:
    query = "SELECT n.id FROM link AS l JOIN node AS n ON n.key = l.child WHERE l.parent = ? AND l.name = ?"
    row = connection.execute(query, (parent, names[-1])).fetchone()
    found = None if row is None else row[0]
    if found != expect:
        raise Conflict(format_path(names), expect, found)


def _ensure_entity(connection: sqlite3.Connection, entity_id: str) -> int:
    key = lookup.find_key(connection, entity_id)
    if key is not None:
        return key
    cursor = connection.execute("INSERT INTO node (id) VALUES (?)", (entity_id,))
    assert cursor.lastrowid is not None  # an INSERT of one row into a table with a rowid
    return cursor.lastrowid


def delete_edge(connection: sqlite3.Connection, names: Names) -> bool:
    """Delete one name; the entity and what lies below it stay.

    Returns:
        Whether there was such a name.

    Raises:
        NotFound: The parent does not exist.
        RootProtected: The path is the root.
    """
    if not names:
        raise RootProtected("Cannot delete root entity")
    parent = lookup.resolve(connection, names[:-1])
    cursor = connection.execute("DELETE FROM link WHERE parent = ? AND name = ?", (parent, names[-1]))
    return cursor.rowcount == 1


def purge(connection: sqlite3.Connection, entity_id: str) -> int:
    """Delete an entity with all edges to it and from it.

    Returns:
        The number of edges deleted; 0 if there is no such entity.

    Raises:
        RootProtected: The entity is the root.
    """
    if entity_id == ROOT_ID:
        raise RootProtected("the root cannot be purged")
    key = lookup.find_key(connection, entity_id)
    if key is None:
        return 0
    to_it = connection.execute("DELETE FROM link WHERE child = ?", (key,)).rowcount
    from_it = connection.execute("DELETE FROM link WHERE parent = ?", (key,)).rowcount
    connection.execute("DELETE FROM node WHERE key = ?", (key,))
    return to_it + from_it


def move(connection: sqlite3.Connection, source: Names, target: Names, *, replace: bool = False) -> None:
    """Give an edge another parent, another name, or both.

    Args:
        source: The path that exists.
        target: The path that it gets; its parent exists.
        replace: Whether an edge that bears the target's name is deleted first.

    Raises:
        NotFound: The source or the target's parent does not exist.
        NameTaken: The target exists and `replace` is not set.
        CycleError: The target lies at or below what the source leads to.
        RootProtected: One of them is the root.
    """
    if not source or not target:
        raise RootProtected("the root cannot be moved or replaced")
    old_parent, new_parent = (lookup.resolve(connection, names[:-1]) for names in (source, target))
    row = connection.execute(
        "SELECT child FROM link WHERE parent = ? AND name = ?", (old_parent, source[-1])
    ).fetchone()
    if row is None:
        raise NotFound(f"Cannot locate edge for {format_path(source)}")
    if (old_parent, source[-1]) == (new_parent, target[-1]):
        return
    if old_parent != new_parent and (row[0] == new_parent or reaches(connection, row[0], new_parent)):
        raise CycleError(f"{format_path(target)} lies below {format_path(source)}")
    if replace:
        connection.execute("DELETE FROM link WHERE parent = ? AND name = ?", (new_parent, target[-1]))
    try:
        connection.execute(
            "UPDATE link SET parent = ?, name = ? WHERE parent = ? AND name = ?",
            (new_parent, target[-1], old_parent, source[-1]),
        )
    except sqlite3.IntegrityError as error:
        if is_unique_violation(error):
            raise NameTaken(f"{format_path(target)} is taken: a name is unique below its parent") from error
        raise


def reaches(connection: sqlite3.Connection, start: int, end: int) -> bool:
    """Tell whether a walk from one key comes to another; each key is visited once, so it ends on any graph."""
    query = """WITH RECURSIVE below (key) AS (
            SELECT ? UNION SELECT l.child FROM link AS l JOIN below AS b ON l.parent = b.key)
        SELECT 1 FROM below WHERE key = ? LIMIT 1"""
    return connection.execute(query, (start, end)).fetchone() is not None
