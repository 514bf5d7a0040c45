"""Attributes of entities and edges: JSON objects, kept as their shortest text with sorted keys."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping

from kernelproof.impl.graphdb import lookup
from kernelproof.impl.graphdb.errors import InvalidAttributes, NotFound
from kernelproof.impl.graphdb.names import Names, format_path

Attributes = dict[str, object]


def format_attributes(attributes: Mapping[str, object]) -> str:
    """Write a JSON object in its shortest form.

    Raises:
        InvalidAttributes: It is no mapping with text as keys, or holds what JSON cannot carry (NaN, bytes, a cycle,
            half of a surrogate pair).
    """
    if not all(isinstance(key, str) for key in attributes):
        raise InvalidAttributes("attributes are an object with text as keys")
    try:
        text = json.dumps(dict(attributes), ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True)
        text.encode()
        return text
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidAttributes(f"attributes are no JSON: {error}") from None


def parse_attributes(text: str | None) -> Attributes:
    """Read a stored object; None is the empty one.

    Raises:
        InvalidAttributes: The text is no JSON object.
    """
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidAttributes(f"no JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidAttributes(f"no JSON object but {type(value).__name__}")
    return value


def read_entity(connection: sqlite3.Connection, entity_id: str) -> Attributes:
    """Read the attributes of an entity.

    Raises:
        NotFound: There is none of that id.
    """
    row = connection.execute("SELECT attributes FROM node WHERE id = ?", (entity_id,)).fetchone()
    if row is None:
        raise NotFound(f"no entity has the id {entity_id!r}")
    return parse_attributes(row[0])


def write_entity(connection: sqlite3.Connection, entity_id: str, text: str | None) -> None:
    """Replace the attributes of an entity.

    Raises:
        NotFound: There is none of that id.
    """
    if connection.execute("UPDATE node SET attributes = ? WHERE id = ?", (text, entity_id)).rowcount != 1:
        raise NotFound(f"no entity has the id {entity_id!r}")


def read_edge(connection: sqlite3.Connection, names: Names) -> Attributes:
    """Read the attributes of the edge at the end of a path.

    Raises:
        NotFound: There is no such edge; the root has none.
    """
    row = None
    if names:
        parent = lookup.resolve(connection, names[:-1])
        row = connection.execute(
            "SELECT attributes FROM link WHERE parent = ? AND name = ?", (parent, names[-1])
        ).fetchone()
    if row is None:
        raise NotFound(f"Cannot locate edge for {format_path(names)}")
    return parse_attributes(row[0])


def write_edge(connection: sqlite3.Connection, names: Names, text: str | None) -> None:
    """Replace the attributes of the edge at the end of a path.

    Raises:
        NotFound: There is no such edge; the root has none.
    """
    changed = 0
    if names:
        parent = lookup.resolve(connection, names[:-1])
        changed = connection.execute(
            "UPDATE link SET attributes = ? WHERE parent = ? AND name = ?", (text, parent, names[-1])
        ).rowcount
    if changed != 1:
        raise NotFound(f"Cannot locate edge for {format_path(names)}")
