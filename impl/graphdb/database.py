"""The graph: names for things, in one SQLite file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from kernelproof.impl.graphdb import change, lookup
from kernelproof.impl.graphdb.change import UNSET, Unset
from kernelproof.impl.graphdb.errors import NotFound
from kernelproof.impl.graphdb.journal import Journal
from kernelproof.impl.graphdb.lookup import Child, Edge, Entity
from kernelproof.impl.graphdb.names import Names, check_id, check_name, format_path, parse_path
from kernelproof.impl.graphdb.schema import CHANGE_LIMIT, ROOT_ID
from kernelproof.impl.graphdb.store import Store, memory_store, open_store
from kernelproof.impl.graphdb.traverse import DEFAULT_MAX_ROWS, Cursor, Step, Walker, plan_walk


class GraphDatabase:
    """A rooted graph of named edges in one file.

    Threads may share it, each gets a connection of its own; other processes may open the same file. Every method is
    one transaction, or one step of the `transaction()` that the thread is in.
    """

    def __init__(self, store: Store, *, acyclic: bool = False) -> None:
        self._store = store
        self._acyclic = acyclic

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        journal: str = "auto",
        create: bool = True,
        read_only: bool = False,
        timeout_seconds: float = 5.0,
        upgrade: bool = True,
        acyclic: bool = False,
        change_limit: int = CHANGE_LIMIT,
    ) -> Self:
        """Open a graph file, making it if it does not exist.

        Args:
            path: The file; relative to the working directory, symbolic links are followed.
            journal: `auto` takes WAL where the SQLite library is free of its race and the file system is local, else
                the rollback journal; `wal` and `rollback` insist.
            create: Whether to make a missing file.
            read_only: Refuse writes; the file and its directory need not be writable.
            timeout_seconds: How long an operation waits for locks, in seconds.
            upgrade: Whether to upgrade a file of 2014, keeping a copy beside it.
            acyclic: Refuse edges that would close a cycle.
            change_limit: How many rows the change log of a new file keeps.

        Raises:
            FileNotFoundError: The file (with `create=False`) or its directory does not exist.
            IsADirectoryError: The path is a directory.
            PermissionError: The file or its directory refuses what was asked (EACCES).
            NotAGraph: The file is empty, foreign, or of a newer version; it is not written to.
            Damaged: SQLite found the file corrupt.
            Busy: Another program holds the file in another journal mode, or upgrades it.
            Forked: This process was forked off within a transaction on that file.
            ValueError: `journal` is unknown, or `wal` on a network file system.
        """
        store = open_store(
            path,
            journal=journal,
            create=create,
            read_only=read_only,
            timeout_seconds=timeout_seconds,
            upgrade=upgrade,
            change_limit=change_limit,
        )
        return cls(store, acyclic=acyclic)

    @classmethod
    def in_memory(
        cls, *, timeout_seconds: float = 5.0, acyclic: bool = False, change_limit: int = CHANGE_LIMIT
    ) -> Self:
        """Make a graph in memory, shared by the threads of this process and gone when closed."""
        return cls(memory_store(timeout_seconds=timeout_seconds, change_limit=change_limit), acyclic=acyclic)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections of all threads; closing twice is once.

        Raises:
            Busy: Another thread is within an operation; nothing was closed.
        """
        self._store.close()

    @property
    def path(self) -> Path | None:
        """The file, None in memory."""
        return self._store.path

    @property
    def journal(self) -> Journal:
        """The journal mode, with the reason for the choice."""
        return self._store.journal

    @property
    def store(self) -> Store:
        """The file behind the graph, for the modules of this package."""
        return self._store

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Do all of a block's operations, or none; other threads and processes see them at once, at its end.

        Within another one it is a savepoint: an exception that is caught outside of it undoes its part only.

        Raises:
            Busy: The lock could not be had, or readers kept the commit waiting, for the timeout: nothing was changed.
            ReadOnly: The database refuses writes.
        """
        with self._store.transaction():
            yield

    # --- one name ----------------------------------------------------------------------------------------------------

    def set(
        self,
        path: str,
        entity_id: str,
        *,
        expect: str | Unset | None = UNSET,
        attributes: Mapping[str, object] | None = None,
    ) -> Entity:
        """Let a path lead to an entity, making the entity if it is new.

        Reserving a name is this one call: of several callers at once exactly one gets it.

        Args:
            path: The path; its parent exists.
            entity_id: The entity's id.
            expect: The id that the path leads to now and that is to be replaced (compare-and-set); None: it leads
                nowhere yet; left out: the same, but the error is `NameTaken`.
            attributes: A JSON object for the edge.

        Raises:
            InvalidPath: The path is not in its strict spelling.
            NotFound: The parent does not exist.
            NameTaken: The name is taken, by the same entity perhaps.
            Conflict: The path leads elsewhere than expected.
            CycleError: The entity is its own parent, or would close a cycle in a database opened with `acyclic`.
            RootProtected: The path is `/`.
        """
        names = parse_path(path)
        text = _attributes_text(attributes)
        self._store.write(
            change.set_edge, names, check_id(entity_id), expect=expect, attributes=text, acyclic=self._acyclic
        )
        return Entity(entity_id)

    def get(self, path: str) -> Entity | None:
        """Return the entity that a path leads to, None if it leads nowhere.

        Raises:
            InvalidPath: The path is not in its strict spelling.
        """
        found = self.find(parse_path(path))
        return None if found is None else Entity(found)

    def find(self, names: Names) -> str | None:
        """Return the id of the entity at the end of checked names, None if one is missing."""
        read = self._store.read if len(names) <= lookup.JOIN_DEPTH else self._store.read_consistent
        found = read(lookup.find, names)
        return None if found is None else found[1]

    def exists(self, path: str) -> bool:
        """Tell whether a path leads to an entity.

        Raises:
            InvalidPath: The path is not in its strict spelling.
        """
        return self.get(path) is not None

    def root_entity(self) -> Entity:
        """Return the entity of `/`, without a look-up."""
        return Entity(ROOT_ID)

    def delete(self, path: str) -> None:
        """Delete one name; the entity and what lies below it stay, under their other names or none.

        Raises:
            InvalidPath: The path is not in its strict spelling.
            NotFound: There is no such path.
            RootProtected: The path is `/`.
        """
        names = parse_path(path)
        if not self._store.write(change.delete_edge, names):
            raise NotFound(f"Cannot locate edge for {format_path(names)}")

    def purge(self, entity_id: str) -> int:
        """Delete an entity with all edges to it and from it, in one transaction.

        Returns:
            The number of edges deleted; 0 if there is no such entity.

        Raises:
            RootProtected: The entity is the root.
        """
        return self._store.write(change.purge, check_id(entity_id))

    def rename(self, path: str, name: str) -> None:
        """Give the edge at the end of a path another name below the same parent.

        Raises:
            InvalidPath: The path or the name cannot be one.
            NotFound: There is no such path.
            NameTaken: The parent has an edge of that name.
            RootProtected: The path is `/`.
        """
        names = parse_path(path)
        self._store.write(change.move, names, (*names[:-1], check_name(name)))

    def move(self, source: str, target: str, *, replace: bool = False) -> None:
        """Move an edge below another parent, under another name, or both.

        Raises:
            InvalidPath: A path is not in its strict spelling.
            NotFound: The source or the target's parent does not exist.
            NameTaken: The target exists and `replace` is not set.
            CycleError: The target lies below the source.
            RootProtected: One of them is `/`.
        """
        self._store.write(change.move, parse_path(source), parse_path(target), replace=replace)

    # --- around one entity -------------------------------------------------------------------------------------------

    def children(self, path: str, *, prefix: str = "", page: int = 1000) -> Iterator[Child]:
        """Iterate over the children of a path in order of name, without loading them all.

        Args:
            path: The parent's path.
            prefix: Only names that begin so; found by the index.
            page: How many are read at a time; between pages others may write.

        Raises:
            InvalidPath: The path is not in its strict spelling.
            NotFound: There is no such path.
        """
        names = parse_path(path)
        key = self._store.read(lookup.resolve, names)
        after = ""
        while True:
            found = self._store.read(lookup.read_children, key, after, prefix, page)
            yield from found
            if len(found) < page:
                return
            after = found[-1].name

    def refs(self, entity_id: str) -> int:
        """Count the names of an entity; 0 if it is unknown, 1 for the root."""
        return self._store.read(lookup.count_refs, entity_id)

    def edges_to(self, entity_id: str) -> tuple[Edge, ...]:
        """List the edges that lead to an entity, by parent id and name."""
        return self._store.read(lookup.edges_to, entity_id)

    # --- below a path ------------------------------------------------------------------------------------------------

    def walk(
        self,
        path: str = "/",
        *,
        mode: str = "entities",
        max_depth: int | None = None,
        max_rows: int | None = DEFAULT_MAX_ROWS,
        deadline_seconds: float | None = None,
        snapshot: bool = False,
        resume: Cursor | None = None,
    ) -> Iterator[Step]:
        """Walk what lies below a path, breadth-first, in order of name at each level.

        Args:
            path: Where to begin; it is not handed out itself.
            mode: `entities`, `acyclic`, `trail` or `walk`; see `kernelproof.impl.graphdb.traverse`.
            max_depth: How many levels, None for all.
            max_rows: How many steps at most; None, only with `entities`, for no limit.
            deadline_seconds: How long it may take, from the first step on, in seconds.
            snapshot: Take the whole walk from one state of the graph before the first step, so that later changes do
                not matter.
            resume: The cursor of an earlier walk: its steps are not handed out again.

        Raises:
            InvalidPath: The path is not in its strict spelling.
            ValueError: The mode, a bound or the cursor does not fit.
            NotFound: There is no such path.
            LimitExceeded: There are more than `max_rows` steps; those handed out before are right.
            DeadlineExceeded: The deadline passed; its cursor tells where.
            Stale: The graph changed between two steps; its cursor tells where.
        """
        return self.walker(
            path,
            mode=mode,
            max_depth=max_depth,
            max_rows=max_rows,
            deadline_seconds=deadline_seconds,
            snapshot=snapshot,
            resume=resume,
        ).steps()

    def walker(
        self,
        path: str = "/",
        *,
        mode: str = "entities",
        max_depth: int | None = None,
        max_rows: int | None = DEFAULT_MAX_ROWS,
        deadline_seconds: float | None = None,
        snapshot: bool = False,
        resume: Cursor | None = None,
    ) -> Walker:
        """Make a walk whose `cursor()` can be taken at any step; arguments and errors as for `walk`."""
        plan = plan_walk(
            parse_path(path),
            mode=mode,
            max_depth=max_depth,
            max_rows=max_rows,
            deadline_seconds=deadline_seconds,
            snapshot=snapshot,
            resume=resume,
        )
        return Walker(self._store, plan)


def _attributes_text(attributes: Mapping[str, object] | None) -> str | None:
    # json costs 3 ms at import, and most names have no attributes.
    if attributes is None:
        return None
    from kernelproof.impl.graphdb.attributes import format_attributes

    return format_attributes(attributes)
