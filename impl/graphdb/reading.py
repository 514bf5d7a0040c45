"""What can be asked of a graph."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import IO, TYPE_CHECKING, Any

from kernelproof.impl.graphdb import feed, lookup
from kernelproof.impl.graphdb.feed import Change
from kernelproof.impl.graphdb.lookup import Child, Edge, Entity
from kernelproof.impl.graphdb.names import Names, parse_path
from kernelproof.impl.graphdb.schema import ROOT_ID
from kernelproof.impl.graphdb.store import Store
from kernelproof.impl.graphdb.traverse import DEFAULT_MAX_ROWS, Cursor, Walk, plan_walk, read_sequence

if TYPE_CHECKING:
    from kernelproof.impl.graphdb.integrity import Report


class Reading:
    """The questions, over an open store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def store(self) -> Store:
        """The file behind the graph, for the modules of this package."""
        return self._store

    # --- one name ----------------------------------------------------------------------------------------------------

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

    def attributes(self, entity_id: str) -> dict[str, object]:
        """Return the attributes of an entity; none are an empty object.

        Raises:
            NotFound: There is no such entity.
        """
        from kernelproof.impl.graphdb import attributes  # json: 3 ms

        return self._store.read(attributes.read_entity, entity_id)

    def edge_attributes(self, path: str) -> dict[str, object]:
        """Return the attributes of the edge at the end of a path; none are an empty object.

        Raises:
            InvalidPath: The path is not in its strict spelling.
            NotFound: There is no such edge; the root has none.
        """
        from kernelproof.impl.graphdb import attributes  # json: 3 ms

        return self._store.read_consistent(attributes.read_edge, parse_path(path))

    def ancestors(self, entity_id: str) -> frozenset[str]:
        """Return the ids of all entities from which one can be reached; itself only if it lies on a cycle.

        Raises:
            NotFound: There is no such entity.
        """
        from kernelproof.impl.graphdb import queries  # json: 3 ms

        return self._store.read_consistent(queries.ancestors, entity_id)

    def names_of(
        self, entity_id: str, *, limit: int | None = None, max_rows: int = DEFAULT_MAX_ROWS
    ) -> tuple[str, ...]:
        """Return the full paths of an entity on which no entity repeats, the shortest first, then by name.

        Args:
            entity_id: The entity.
            limit: How many are wanted, None for all.
            max_rows: How many beginnings of paths may be followed.

        Raises:
            NotFound: There is no such entity.
            LimitExceeded: Finding them would follow more than `max_rows` beginnings.
        """
        from kernelproof.impl.graphdb import queries  # json: 3 ms

        return self._store.read_consistent(
            lambda connection: tuple(islice(queries.names_of(connection, entity_id, max_rows=max_rows), limit))
        )

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
    ) -> Walk:
        """Walk what lies below a path, breadth-first, in order of name at each level.

        The walk is an iterator of steps; its `cursor()` tells at any step where it stands.

        Args:
            path: Where to begin; it is not handed out itself.
            mode: `entities`, `shortest`, `acyclic`, `trail` or `walk`; see `kernelproof.impl.graphdb.traverse`.
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
        plan = plan_walk(
            parse_path(path),
            mode=mode,
            max_depth=max_depth,
            max_rows=max_rows,
            deadline_seconds=deadline_seconds,
            snapshot=snapshot,
            resume=resume,
        )
        return Walk(self._store, plan)

    def glob(self, pattern: str, *, max_rows: int = DEFAULT_MAX_ROWS) -> tuple[tuple[str, str], ...]:
        """Return path and id of what a pattern matches, in order of path.

        Args:
            pattern: A path in which `*`, `?` and `[...]` stand for parts of a name, and a part `**` for any number of
                names; below `**` each entity is found on one path.
            max_rows: How many paths may match the pattern, or a beginning of it.

        Raises:
            InvalidPath: The pattern does not begin with a slash, or holds an empty part, `.` or `..`.
            LimitExceeded: More than `max_rows` match.
        """
        from kernelproof.impl.graphdb import queries  # json: 3 ms

        parts = queries.parse_pattern(pattern)
        return self._store.read_consistent(lambda connection: tuple(queries.glob(connection, parts, max_rows=max_rows)))

    def reachable(self, path: str = "/") -> frozenset[str]:
        """Return the ids of all entities below a path; that of the path itself only if it lies on a cycle.

        Raises:
            InvalidPath: The path is not in its strict spelling.
            NotFound: There is no such path.
        """
        from kernelproof.impl.graphdb import queries  # json: 3 ms

        return self._store.read_consistent(queries.reachable, parse_path(path))

    def is_reachable(self, path: str, entity_id: str) -> bool:
        """Tell whether an entity lies below a path.

        Raises:
            InvalidPath: The path is not in its strict spelling.
            NotFound: There is no such path or no such entity.
        """
        from kernelproof.impl.graphdb import queries  # json: 3 ms

        return self._store.read_consistent(queries.is_reachable, parse_path(path), entity_id)

    def shortest_path(self, path: str, entity_id: str) -> str | None:
        """Return the shortest path from one path down to an entity, the first by name among equals; None if none leads
        there.

        Raises:
            InvalidPath: The path is not in its strict spelling.
            NotFound: There is no such path.
            Stale: The graph changed meanwhile.
        """
        found = self._store.read(lookup.find, names := parse_path(path))
        if found is not None and found[1] == entity_id:
            return path
        steps = Walk(self._store, plan_walk(names))
        return next((step.path for step in steps if step.entity_id == entity_id), None)

    def topological_order(self, path: str = "/") -> tuple[str, ...]:
        """Return the ids of the entities at and below a path, each after all its parents among them.

        Raises:
            InvalidPath: The path is not in its strict spelling.
            NotFound: There is no such path.
            CycleError: There is no such order; its `cycle` tells why.
        """
        from kernelproof.impl.graphdb import queries  # json: 3 ms

        return self._store.read_consistent(queries.topological_order, parse_path(path))

    # --- the whole ---------------------------------------------------------------------------------------------------

    def export(self, file: IO[str], *, form: str = "json", path: str = "/") -> None:
        """Write the part at and below a path as text, from one state of the graph.

        While it is written, in rollback mode, writers wait.

        Args:
            file: A text file open for writing.
            form: `json`, `graphml` or `dot`.
            path: The part.

        Raises:
            ValueError: The form is unknown.
            NotFound: There is no such path.
            GraphError: A name holds what the form cannot carry.
            OSError: The file refuses.
        """
        from kernelproof.impl.graphdb import exchange  # json: 3 ms

        if form not in exchange.WRITERS:
            raise ValueError(f"form={form!r}: choose one of {', '.join(exchange.WRITERS)}")
        self._store.read_consistent(exchange.WRITERS[form], parse_path(path), file)

    def to_networkx(self, path: str = "/") -> Any:
        """Make a NetworkX graph of the part at and below a path: edges are keyed by name.

        Raises:
            NotFound: There is no such path.
            ModuleNotFoundError: NetworkX is not installed.
        """
        from kernelproof.impl.graphdb import exchange  # json: 3 ms

        return self._store.read_consistent(exchange.to_networkx, parse_path(path))

    def check(self) -> Report:
        """Look for problems in the file and in the graph; nothing is changed.

        Raises:
            Damaged: The file is too damaged to be read.
        """
        from kernelproof.impl.graphdb import integrity  # json: 3 ms

        return self._store.read_consistent(integrity.check)

    @property
    def sequence(self) -> int:
        """The number of the last change, 0 if there was none."""
        return self._store.read(read_sequence)

    def changes(self, since: int = 0) -> Iterator[Change]:
        """Iterate over the changes after a number, up to the present, in order.

        Args:
            since: The number of the last change that the caller knows.

        Raises:
            Resync: Some of them are no longer in the log, or were not logged one by one (a bulk load, an upgrade), or
                the number is ahead of the log: read the graph anew and go on from the error's `newest`. Earlier changes
                may come before it.
        """
        return feed.changes(self._store, since)

    def wait_until_changed(
        self, since: int, timeout_seconds: float, *, wake: int | None = None, poll_seconds: float = 0.05
    ) -> int:
        """Wait until there is a change after a number; return the number of the last one, `since` if time ran out.

        Args:
            since: The number of the last change that the caller knows.
            timeout_seconds: How long to wait at most, in seconds.
            wake: A descriptor that becomes readable when the file may have changed, such as one of inotify on its
                directory; it is read empty, and stays the caller's.
            poll_seconds: Without `wake`, how often to look for changes by other processes, in seconds.

        Raises:
            Closed: The database is closed.
        """
        return feed.wait_until_changed(self._store, since, timeout_seconds, wake=wake, poll_seconds=poll_seconds)
