"""Several operations in one transaction, each with its own result."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

from kernelproof.impl.graphdb import change
from kernelproof.impl.graphdb.change import UNSET, Unset
from kernelproof.impl.graphdb.errors import GraphError, NotFound, translate
from kernelproof.impl.graphdb.names import check_id, format_path, parse_path


class Set(NamedTuple):
    """Let a path lead to an entity; as `GraphDatabase.set`."""

    path: str
    entity_id: str
    expect: str | Unset | None = UNSET


class Delete(NamedTuple):
    """Delete one name; as `GraphDatabase.delete`."""

    path: str


class Purge(NamedTuple):
    """Delete an entity with its edges; as `GraphDatabase.purge`."""

    entity_id: str


class Move(NamedTuple):
    """Move an edge; as `GraphDatabase.move`."""

    source: str
    target: str
    replace: bool = False


Operation = Set | Delete | Purge | Move


class Outcome(NamedTuple):
    """What became of one operation: its result (the number of edges for `Purge`, else None), or its error."""

    operation: Operation
    result: int | None
    error: GraphError | ValueError | None


def run(connection: sqlite3.Connection, operation: Operation, *, acyclic: bool) -> int | None:
    """Do one operation within the caller's transaction.

    Raises:
        GraphError, ValueError: As the method of that name.
    """
    if isinstance(operation, Set):
        change.set_edge(
            connection,
            parse_path(operation.path),
            check_id(operation.entity_id),
            expect=operation.expect,
            acyclic=acyclic,
        )
        return None
    if isinstance(operation, Delete):
        names = parse_path(operation.path)
        if not change.delete_edge(connection, names):
            raise NotFound(f"Cannot locate edge for {format_path(names)}")
        return None
    if isinstance(operation, Purge):
        return change.purge(connection, check_id(operation.entity_id))
    change.move(connection, parse_path(operation.source), parse_path(operation.target), replace=operation.replace)
    return None


def run_each(
    connection: sqlite3.Connection, operations: Iterable[Operation], *, acyclic: bool, label: str
) -> tuple[Outcome, ...]:
    """Do operations one after the other within the caller's transaction; a refused one leaves no trace."""
    return tuple(_run_one(connection, operation, acyclic=acyclic, label=label) for operation in operations)


def _run_one(connection: sqlite3.Connection, operation: Operation, *, acyclic: bool, label: str) -> Outcome:
    connection.execute("SAVEPOINT item")
    error: GraphError | ValueError | None = None
    result = None
    try:
        result = run(connection, operation, acyclic=acyclic)
    except (GraphError, ValueError) as refused:
        error = refused
    except sqlite3.IntegrityError as refused:
        error = translate(refused, label)
    if error is not None:
        connection.execute("ROLLBACK TO item")
    connection.execute("RELEASE item")
    return Outcome(operation, result, error)
