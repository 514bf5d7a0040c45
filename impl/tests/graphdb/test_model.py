"""Random operations against a dictionary, in one process and in two at once."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kernelproof.impl.graphdb import CycleError, GraphDatabase, GraphError, NameTaken, NotFound, RootProtected

ids = st.sampled_from(["1", "2", "3", "4", "5"])
names = st.sampled_from(["a", "b", "c", "\u00e4"])
paths = st.lists(names, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))

Entities = set[str]  # by a name of its own: the classes below have a method "set"


def put(graph: GraphDatabase, path: str, entity: str) -> None:
    """Set, and say nothing: the model has no entity objects to answer with."""
    graph.set(path, entity)


class Model:
    """The graph as dictionaries, in the plainest way."""

    def __init__(self) -> None:
        self.entities = {"0"}
        self.edges: dict[tuple[str, str], str] = {}

    def copy(self) -> Model:
        """An equal one that changes alone."""
        other = Model()
        other.entities, other.edges = set(self.entities), dict(self.edges)
        return other

    def get(self, path: str) -> str | None:
        """Follow the names."""
        found: str | None = "0"
        for name in path.split("/")[1:] if path != "/" else []:
            found = None if found is None else self.edges.get((found, name))
        return found

    def parent(self, path: str) -> tuple[str, str]:
        """The parent's id and the last name."""
        above, _, name = path.rpartition("/")
        found = self.get(above or "/")
        if found is None:
            raise NotFound(path)
        return found, name

    def set(self, path: str, entity: str) -> None:
        """As the graph."""
        edge = self.parent(path)
        if edge[0] == entity:
            raise CycleError(path)
        if edge in self.edges:
            raise NameTaken(path)
        self.entities.add(entity)
        self.edges[edge] = entity

    def delete(self, path: str) -> None:
        """As the graph."""
        edge = self.parent(path)
        if edge not in self.edges:
            raise NotFound(path)
        del self.edges[edge]

    def purge(self, entity: str) -> int:
        """As the graph."""
        if entity == "0":
            raise RootProtected(entity)
        gone = [edge for edge, child in self.edges.items() if entity in (edge[0], child)]
        for edge in gone:
            del self.edges[edge]
        self.entities.discard(entity)
        return len(gone)

    def below(self, entity: str) -> Entities:
        """The entities that one step or more leads to."""
        seen: Entities = Entities()
        todo = [entity]
        while todo:
            one = todo.pop()
            fresh = {child for (parent, _), child in self.edges.items() if parent == one} - seen
            seen |= fresh
            todo.extend(fresh)
        return seen

    def move(self, source: str, target: str, replace: bool) -> None:
        """As the graph."""
        old, new = self.parent(source), self.parent(target)
        if old not in self.edges:
            raise NotFound(source)
        child = self.edges[old]
        if old == new:
            return
        if old[0] != new[0] and (child == new[0] or new[0] in self.below(child)):
            raise CycleError(target)
        if new in self.edges and not replace:
            raise NameTaken(target)
        del self.edges[old]
        self.edges[new] = child


def contents(graph: GraphDatabase) -> tuple[set[str], dict[tuple[str, str], str]]:
    """What the file holds, read through the views of the old shape."""
    entities = graph.store.read(lambda c: {row[0] for row in c.execute("SELECT id FROM entity")})
    edges = graph.store.read(
        lambda c: {(row[0], row[1]): row[2] for row in c.execute("SELECT parent_id, name, entity_id FROM edge")}
    )
    del edges[None, "/"]
    return entities, edges


class GraphMachine(RuleBasedStateMachine):
    """Operations in any order, with transactions that are kept or undone."""

    @initialize()
    def begin(self) -> None:
        """A new file."""
        self.directory = tempfile.TemporaryDirectory(prefix="kernelproof-")
        self.graph = GraphDatabase.open(Path(self.directory.name) / "graph.db")
        self.model = Model()

    def teardown(self) -> None:
        """Close and remove the file."""
        if hasattr(self, "graph"):
            self.graph.close()
            self.directory.cleanup()

    def both(self, ours: Callable[[], object], theirs: Callable[[], object]) -> None:
        """Do it twice; results and kinds of errors are equal."""
        outcomes = []
        for call in (ours, theirs):
            try:
                outcomes.append(call())
            except GraphError as error:
                outcomes.append(type(error))
        assert outcomes[0] == outcomes[1]

    @rule(path=paths, entity=ids)
    def set(self, path: str, entity: str) -> None:
        """Set."""
        self.both(partial(put, self.graph, path, entity), lambda: self.model.set(path, entity))

    @rule(path=paths)
    def delete(self, path: str) -> None:
        """Delete."""
        self.both(lambda: self.graph.delete(path), lambda: self.model.delete(path))

    @rule(entity=st.one_of(ids, st.just("0")))
    def purge(self, entity: str) -> None:
        """Purge."""
        self.both(lambda: self.graph.purge(entity), lambda: self.model.purge(entity))

    @rule(source=paths, to=paths, replace=st.booleans())
    def move(self, source: str, to: str, replace: bool) -> None:
        """Move."""
        self.both(lambda: self.graph.move(source, to, replace=replace), lambda: self.model.move(source, to, replace))

    @rule(steps=st.lists(st.tuples(paths, ids), max_size=4), keep=st.booleans())
    def transaction(self, steps: list[tuple[str, str]], keep: bool) -> None:
        """Several sets, kept or undone together."""
        model = self.model.copy()
        try:
            with self.graph.transaction():
                for path, entity in steps:
                    self.both(partial(put, self.graph, path, entity), partial(model.set, path, entity))
                if not keep:
                    raise InterruptedError
        except InterruptedError:
            return
        self.model = model

    @rule()
    def reopen(self) -> None:
        """Close and open the file."""
        path = self.graph.path
        self.graph.close()
        assert path is not None
        self.graph = GraphDatabase.open(path, create=False)

    @rule(path=paths)
    def look(self, path: str) -> None:
        """Look a path up."""
        found = self.graph.get(path)
        assert (None if found is None else found.id()) == self.model.get(path)

    @rule(entity=ids)
    def count(self, entity: str) -> None:
        """Count references."""
        assert self.graph.refs(entity) == sum(child == entity for child in self.model.edges.values())

    @precondition(lambda self: hasattr(self, "graph"))
    @invariant()
    def equal(self) -> None:
        """The file holds what the model holds, and each entity that a walk meets is one that can be reached."""
        assert contents(self.graph) == (self.model.entities, self.model.edges)
        steps = list(self.graph.walk("/"))
        assert {step.entity_id for step in steps} == self.model.below("0") - {"0"}
        assert all(self.model.get(step.path) == step.entity_id for step in steps)


TestGraph = GraphMachine.TestCase
TestGraph.settings = settings(
    max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def test_refusals_are_of_one_kind() -> None:
    """The model itself refuses what the graph refuses: a spot check by hand."""
    model = Model()
    model.set("/a", "1")
    model.set("/a/b", "2")
    with pytest.raises(CycleError):
        model.move("/a", "/a/b/c", False)
    assert model.purge("1") == 2


WORKER = """
import json, random, sys
from kernelproof.impl.graphdb import GraphDatabase, GraphError
draw = random.Random(int(sys.argv[2]))
own = sys.argv[2]
with GraphDatabase.open(sys.argv[1], timeout_seconds=120) as graph:
    graph.set(f"/{own}", f"top{own}")
    for number in range(int(sys.argv[3])):
        parent = draw.choice([f"/{own}", "/shared", f"/{own}/x{draw.randrange(5)}"])
        path = f"{parent}/x{draw.randrange(5)}"
        entity = f"{own}.{draw.randrange(20)}"
        try:
            action = draw.choice(["set", "set", "delete", "purge"])
            if action == "set":
                graph.set(path, entity)
            elif action == "delete":
                graph.delete(path)
            else:
                graph.purge(entity)
        except GraphError:
            pass
        if number % 10 == 0:
            for step in graph.walk("/", snapshot=True):
                pass
"""


def test_two_processes_at_once(file: Path) -> None:
    """Two processes change one file at random: the feed, replayed, gives the file's contents, and the check is ok."""
    with GraphDatabase.open(file) as graph:
        graph.set("/shared", "shared")
        workers = [subprocess.Popen([sys.executable, "-c", WORKER, str(file), str(seed), "150"]) for seed in (1, 2)]
        assert [worker.wait(300) for worker in workers] == [0, 0]
        entities, edges = {"0"}, {}
        for change in graph.changes():
            if change.kind == "entity-added":
                entities.add(change.entity_id)
            elif change.kind == "entity-removed":
                entities.discard(change.entity_id)
            elif change.kind == "edge-added":
                edges[change.parent_id, change.name] = change.entity_id
            else:
                del edges[change.parent_id, change.name]
        assert contents(graph) == (entities, edges)
        assert {problem.kind for problem in graph.check().problems} <= {"unnamed", "unreachable"}
        assert len(edges) > 5


READER = """
import select, sys
from kernelproof.impl.graphdb import GraphDatabase
looks = 0
with GraphDatabase.open(sys.argv[1], read_only=True, timeout_seconds=120) as graph:
    while not select.select([sys.stdin], [], [], 0)[0] or not looks:
        names = [child.name for child in graph.children("/", page=10**6)]
        assert len(names) % 2 == 0, names
        looks += 1
print("ok")
"""


@pytest.mark.parametrize("journal", ["rollback", "wal"])
def test_readers_beside_a_writer(file: Path, journal: str) -> None:
    """Readers in other processes always see whole transactions of the writer, and hold none of them up for long."""
    draw = random.Random(1)
    with GraphDatabase.open(file, journal=journal, timeout_seconds=120) as graph:
        readers = [
            subprocess.Popen(
                [sys.executable, "-c", READER, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for _ in range(2)
        ]
        for number in range(60):
            with graph.transaction():
                graph.set(f"/{number}", "x")
                graph.set(f"/{number}'", "x")
            if draw.random() < 0.5:
                with graph.transaction():
                    graph.delete(f"/{number}")
                    graph.delete(f"/{number}'")
        assert [reader.communicate()[0] for reader in readers] == ["ok\n", "ok\n"]
