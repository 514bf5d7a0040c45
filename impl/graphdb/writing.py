"""What can be done to a graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kernelproof.impl.graphdb import change
from kernelproof.impl.graphdb.change import UNSET, Unset
from kernelproof.impl.graphdb.errors import NotFound
from kernelproof.impl.graphdb.lookup import Entity
from kernelproof.impl.graphdb.names import check_id, check_name, format_path, parse_path
from kernelproof.impl.graphdb.reading import Reading
from kernelproof.impl.graphdb.schema import ROOT_ID
from kernelproof.impl.graphdb.store import Store

if TYPE_CHECKING:
    from kernelproof.impl.graphdb.batch import Operation, Outcome
    from kernelproof.impl.graphdb.bulk import EdgeRow, EntityRow, Loaded
    from kernelproof.impl.graphdb.integrity import Problem


class Writing(Reading):
    """The operations, over an open store.

    Args:
        store: The file.
        acyclic: Refuse edges that would close a cycle.
    """

    def __init__(self, store: Store, *, acyclic: bool = False) -> None:
        super().__init__(store)
        self._acyclic = acyclic

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

    def set_attributes(self, entity_id: str, attributes: Mapping[str, object] | None) -> None:
        """Replace the attributes of an entity; None takes them away.

        Raises:
            NotFound: There is no such entity.
            InvalidAttributes: They are no JSON object.
        """
        from kernelproof.impl.graphdb.attributes import write_entity  # json: 3 ms

        self._store.write(write_entity, entity_id, _attributes_text(attributes))

    def set_edge_attributes(self, path: str, attributes: Mapping[str, object] | None) -> None:
        """Replace the attributes of the edge at the end of a path; None takes them away.

        Raises:
            InvalidPath: The path is not in its strict spelling.
            NotFound: There is no such edge; the root has none.
            InvalidAttributes: They are no JSON object.
        """
        from kernelproof.impl.graphdb.attributes import write_edge  # json: 3 ms

        self._store.write(write_edge, parse_path(path), _attributes_text(attributes))

    # --- many at once ------------------------------------------------------------------------------------------------

    def batch(self, operations: Iterable[Operation]) -> tuple[Outcome, ...]:
        """Do operations in one transaction, each with its own result: a refused one leaves no trace, the rest is done.

        For all or nothing use `transaction()`.

        Raises:
            Busy: As for every write: nothing was changed.
        """
        from kernelproof.impl.graphdb import batch  # json: 3 ms

        return self._store.write(batch.run_each, tuple(operations), acyclic=self._acyclic, label=self._store.label)

    def load(
        self, edges: Iterable[EdgeRow], entities: Iterable[EntityRow] = (), *, create_missing: bool = True
    ) -> Loaded:
        """Add many entities and edges in one transaction, or none of them.

        Followers of the change feed are told to read the graph anew. Cycles are not looked for.

        Args:
            edges: Parent id, name, entity id, and perhaps a JSON object of attributes, each.
            entities: New entities: an id, or an id with a JSON object of attributes, each.
            create_missing: Whether an edge may name an entity that does not exist yet.

        Raises:
            NameTaken: An entity or the name of an edge exists already; the text says which row.
            InvalidPath: A row breaks a rule for ids, names or edges.
            NotFound: An edge names a missing entity, and `create_missing` is not set.
            Busy: As for every write.
        """
        from kernelproof.impl.graphdb import bulk  # json: 3 ms

        return self._store.write(bulk.load, edges, entities, create_missing=create_missing)

    def load_json(self, text: str) -> Loaded:
        """Add what a JSON export of a whole graph holds; the root of the text is the root here.

        Raises:
            ValueError: It is no such export, or that of a part; every problem is listed with its JSON path.
            NameTaken: An entity or the name of an edge exists already.
            Busy: As for every write.
        """
        from kernelproof.impl.graphdb import exchange  # json: 3 ms

        document = exchange.parse_json(text)
        if document.start != ROOT_ID:
            raise ValueError(
                f"$.start: found {document.start!r}, expected {ROOT_ID!r}: the export of a part has no name from the "
                "root, so all of it would be out of reach; export from /"
            )
        return self.load(
            ((edge.parent_id, edge.name, edge.entity_id, edge.attributes or None) for edge in document.edges),
            [(found.entity_id, found.attributes or None) for found in document.entities if found.entity_id != ROOT_ID],
        )

    def repair(self, problems: Iterable[Problem]) -> int:
        """Mend problems that `check` found, each as its remedy says; return how many were mended.

        Raises:
            ValueError: A problem has no remedy; nothing was done.
            Busy: As for every write.
        """
        from kernelproof.impl.graphdb import integrity  # json: 3 ms

        return self._store.write(integrity.repair, tuple(problems))


def _attributes_text(attributes: Mapping[str, object] | None) -> str | None:
    # json costs 3 ms at import, and most names have no attributes.
    if attributes is None:
        return None
    from kernelproof.impl.graphdb.attributes import format_attributes  # json: 3 ms

    return format_attributes(attributes)
