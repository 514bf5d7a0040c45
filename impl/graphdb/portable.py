"""The functions of 2014 under their names, for code that is moved over line by line.

Semantics are the documented ones of Docker's package, with its known faults mended:

- walks end on cycles: an entity is not entered again below itself; there is a bound on the number of rows;
- look-ups drop empty parts of a path as they did, but `foo` is `/foo` and the empty path is nothing, where both once
  meant the root; `.` and `..` are refused;
- an edge cannot have an empty name, the root cannot be purged;
- `exists`, `get` and `list` answer "no" for what is not there; trouble with the file is raised, not taken for a "no";
- `purge` also removes the edges below the entity and counts them, as the last version of 2015 did.
"""

from __future__ import annotations

import builtins
import os
import sqlite3
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Self

from kernelproof.impl.graphdb import change, schema
from kernelproof.impl.graphdb.database import GraphDatabase
from kernelproof.impl.graphdb.errors import (
    GraphError,
    InvalidPath,
    NameTaken,
    NotFound,
    RootProtected,
    is_unique_violation,
    translate,
)
from kernelproof.impl.graphdb.lookup import Edge, Entity
from kernelproof.impl.graphdb.names import Names, check_id, format_path, parse_path_2014, path_depth
from kernelproof.impl.graphdb.traverse import DEFAULT_MAX_ROWS, Walk, plan_walk

__all__ = ["Database", "Entities", "WalkMeta", "is_non_unique_name_error", "new_database", "new_sqlite_conn"]

WalkFunc = Callable[[str, Entity], object]


class WalkMeta(NamedTuple):
    """One entity met below a path: its parent, itself, where, and by which edge."""

    parent: Entity
    entity: Entity
    full_path: str
    edge: Edge


class Entities(dict[str, Entity]):
    """Entities by full path."""

    def paths(self) -> builtins.list[str]:
        """List the paths, the deepest first; within a depth from the last name to the first, where 2014 had none."""
        return sorted(self, key=lambda path: (path_depth(path), path), reverse=True)


class Database:
    """The database of 2014 over a `GraphDatabase`, which `graph` gives."""

    def __init__(self, graph: GraphDatabase, *, max_rows: int = DEFAULT_MAX_ROWS) -> None:
        self.graph = graph
        self._max_rows = max_rows

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the database; closing twice is once.

        Raises:
            Busy: Another thread is within an operation; nothing was closed.
        """
        self.graph.close()

    def root_entity(self) -> Entity:
        """Return the entity of `/`, without a look-up."""
        return self.graph.root_entity()

    def set(self, full_path: str, entity_id: str) -> Entity:
        """Let a path lead to an entity, making the entity if it is new.

        Raises:
            NotFound: The parent does not exist.
            NameTaken: The parent has an edge of that name (`is_non_unique_name_error` says True).
            CycleError: The entity is its own parent.
            InvalidPath: The path ends in a slash, or holds `.` or `..`.
            RootProtected: The path is `/`.
        """
        names = _edge_names(full_path)
        self.graph.store.write(change.set_edge, names, check_id(entity_id))
        return Entity(entity_id)

    def exists(self, name: str) -> bool:
        """Tell whether a path leads to an entity; False for what cannot be a path."""
        return self.get(name) is not None

    def get(self, name: str) -> Entity | None:
        """Return the entity that a path leads to, None if it leads nowhere or cannot be a path."""
        try:
            names = parse_path_2014(name)
        except InvalidPath:
            return None
        found = self.graph.find(names)
        return None if found is None else Entity(found)

    def list(self, name: str, depth: int) -> Entities:
        """Map full paths below a path to entities; the path itself is left out, a missing one gives nothing.

        Args:
            name: The path.
            depth: 0 for the children, n for n levels more, -1 for all.

        Raises:
            LimitExceeded: There are more paths than this database was told to list.
        """
        try:
            return Entities({meta.full_path: meta.entity for meta in self.children(name, depth)})
        except (InvalidPath, NotFound):
            return Entities()

    def walk(self, name: str, walk_func: WalkFunc, depth: int) -> None:
        """Call a function for each entity below a path, in the order of `children`.

        The entities are collected first, so the function may use and change the database. What it raises ends the
        walk.

        Raises:
            NotFound: There is no such path.
            LimitExceeded: There are more paths than this database was told to list.
        """
        for meta in self.children(name, depth):
            walk_func(meta.full_path, meta.entity)

    def children(self, name: str, depth: int) -> builtins.list[WalkMeta]:
        """List what lies below a path, each child before its own children, in order of name.

        An entity is not entered again below itself, so the list ends on cycles.

        Raises:
            NotFound: There is no such path.
            InvalidPath: The path is empty, or holds `.` or `..`.
            LimitExceeded: There are more paths than this database was told to list.
        """
        plan = plan_walk(
            parse_path_2014(name),
            mode="acyclic",
            max_depth=None if depth < 0 else depth + 1,
            max_rows=self._max_rows,
            snapshot=True,
        )
        steps = sorted(Walk(self.graph.store, plan), key=lambda step: step.path.split("/"))
        start = format_path(plan.names)
        found = self.graph.find(plan.names)
        if found is None:
            raise NotFound(f"Cannot find child for {name}")
        # Each path's parent comes before it, so its entity is known.
        entities = {start: Entity(found)}
        metas = []
        for step in steps:
            above, _, last = step.path.rpartition("/")
            parent, entity = entities[above or "/"], Entity(step.entity_id)
            entities[step.path] = entity
            metas.append(WalkMeta(parent, entity, step.path, Edge(entity.id(), last, parent.id())))
        return metas

    def parents(self, name: str) -> builtins.list[str]:
        """List the ids of the parents of the entity at a path, once for each edge.

        Raises:
            NotFound: There is no such path.
            InvalidPath: The path is empty, or holds `.` or `..`.
        """
        names = parse_path_2014(name)
        found = self.graph.find(names)
        if found is None:
            raise NotFound(f"Cannot find child for {name}")
        return [edge.parent_id for edge in self.graph.edges_to(found)]

    def refs(self, entity_id: str) -> int:
        """Count the edges to an entity; 0 if it is unknown, 1 for the root."""
        return self.graph.refs(entity_id)

    def ref_paths(self, entity_id: str) -> tuple[Edge, ...]:
        """List the edges to an entity: name and parent id, not full paths; none for the root."""
        return self.graph.edges_to(entity_id)

    refs_paths = ref_paths

    def delete(self, name: str) -> None:
        """Delete one name; it is no error if the parent has none such. The entity and what lies below it stay.

        Raises:
            RootProtected: The path is `/`.
            NotFound: The parent does not exist.
            InvalidPath: The path ends in a slash, or holds `.` or `..`.
        """
        self.graph.store.write(change.delete_edge, _edge_names(name))

    def purge(self, entity_id: str) -> int:
        """Delete an entity with all edges to it and from it; return their number, 0 for an unknown one.

        Raises:
            RootProtected: The entity is the root.
        """
        return self.graph.purge(entity_id)

    def rename(self, current_name: str, new_name: str) -> None:
        """Rename an edge below its parent; to its own name is no change.

        Raises:
            ValueError: The two paths have different parents.
            NotFound: There is no such edge.
            NameTaken: The parent has an edge of the new name.
            InvalidPath: A path ends in a slash, or holds `.` or `..`.
            RootProtected: A path is `/`.
        """
        old, new = _edge_names(current_name), _edge_names(new_name)
        if old[:-1] != new[:-1]:
            parents = (format_path(old[:-1]), format_path(new[:-1]))
            raise ValueError(f"Cannot rename when root paths do not match {parents[0]} != {parents[1]}")
        self.graph.store.write(change.move, old, new)


def _edge_names(path: str) -> Names:
    # A path that names an edge: its last part is the name, so a trailing slash would be an empty one.
    names = parse_path_2014(path)
    if not names:
        raise RootProtected("Cannot delete root entity, nor set or rename it")
    if path.endswith("/"):
        raise InvalidPath(f"{path!r} ends in a slash: the name of the edge would be empty")
    return names


def new_sqlite_conn(root: str | os.PathLike[str]) -> Database:
    """Open a graph file, making it if it does not exist and upgrading one of 2014; `:memory:` is one in memory.

    Raises:
        OSError, GraphError: As for `GraphDatabase.open`.
    """
    if os.fspath(root) == ":memory:":
        return Database(GraphDatabase.in_memory())
    return Database(GraphDatabase.open(root))


def new_database(conn: sqlite3.Connection | None, init: bool = False) -> Database:
    """Make a database from the connection of the caller, who keeps it; ours are opened beside it, by file name.

    Args:
        conn: A connection to a file.
        init: Whether the file must be new: the graph is made in it through the connection, and an initialised one is
            refused, as in 2014.

    Raises:
        ValueError: The connection is None, or to a database in memory or without a name.
        NameTaken: `init` is set and the file is a graph already.
        NotAGraph: The file holds something else.
        OSError, GraphError: As for `GraphDatabase.open`.
    """
    if conn is None:
        raise ValueError("Database connection cannot be nil")
    file = next((row[2] for row in conn.execute("PRAGMA database_list") if row[1] == "main"), "")
    if not file:
        raise ValueError("the connection is to a database in memory: use new_sqlite_conn(':memory:')")
    if init:
        _initialise(conn, file)
    return Database(GraphDatabase.open(file, create=False))


def _initialise(connection: sqlite3.Connection, file: str) -> None:
    # By the caller's own connection: a file put in the place of its own would be another one than it has open.
    began = not connection.in_transaction  # else it always is: commit() and rollback() are for such a one only
    try:
        if began:
            connection.execute("BEGIN IMMEDIATE")
        try:
            _create(connection, file)
        except BaseException:
            connection.execute("ROLLBACK") if began else connection.rollback()
            raise
        connection.execute("COMMIT") if began else connection.commit()
    except GraphError:
        raise
    except sqlite3.Error as error:
        raise translate(error, file) from None


def _create(connection: sqlite3.Connection, file: str) -> None:
    found = schema.read_found(connection)
    if found.kind in ("ours", "2014"):
        raise NameTaken(f"{file} is initialised already: UNIQUE constraint failed: entity.id")
    if found.kind != "empty":
        schema.check_found(found, file)
    schema.create(connection)


def is_non_unique_name_error(error: BaseException | None) -> bool:
    """Tell whether a `set` or `rename` failed because the name is taken; by kind and code, not by text."""
    return isinstance(error, NameTaken) or (error is not None and is_unique_violation(error) and ".name" in str(error))
