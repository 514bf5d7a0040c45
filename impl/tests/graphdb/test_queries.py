"""Questions about the whole graph, compared with answers found another way."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from kernelproof.impl.graphdb import CycleError, GraphDatabase, InvalidPath, LimitExceeded, NotFound, queries


def random_graph(graph: GraphDatabase, seed: int, nodes: int = 30, edges: int = 60) -> dict[str, dict[str, str]]:
    """Fill a graph at random; return entity -> name -> entity."""
    draw = random.Random(seed)
    below: dict[str, dict[str, str]] = {"0": {}, **{f"n{i}": {} for i in range(nodes)}}
    ids = list(below)
    for number in range(edges):
        parent, child = draw.choice(ids), draw.choice(ids)
        if parent != child:
            below[parent][f"e{number}"] = child
    graph.load([(parent, name, child) for parent, names in below.items() for name, child in names.items()], ids[1:])
    return below


def reach(below: dict[str, dict[str, str]], start: str) -> set[str]:
    """What can be reached by one step or more."""
    seen: set[str] = set()
    todo = list(below[start].values())
    while todo:
        one = todo.pop()
        if one not in seen:
            seen.add(one)
            todo.extend(below[one].values())
    return seen


@pytest.mark.parametrize("seed", range(5))
def test_reachability_and_ancestors(graph: GraphDatabase, seed: int) -> None:
    """What a path reaches, and what reaches an entity, is what stepping along the edges finds."""
    below = random_graph(graph, seed)
    assert graph.reachable("/") == reach(below, "0")
    for child in graph.children("/"):
        assert graph.reachable(f"/{child.name}") == reach(below, child.entity_id)
        for other in ("0", "n3", "n7"):
            assert graph.is_reachable(f"/{child.name}", other) == (other in reach(below, child.entity_id))
    for entity in ("0", "n1", "n2"):
        assert graph.ancestors(entity) == {one for one in below if entity in reach(below, one)}
    for missing in (lambda: graph.ancestors("none"), lambda: graph.is_reachable("/", "none")):
        with pytest.raises(NotFound):
            missing()


@pytest.mark.parametrize("seed", range(5))
def test_shortest_paths(graph: GraphDatabase, seed: int) -> None:
    """The shortest path to an entity is one, and no walk of fewer steps leads there."""
    below = random_graph(graph, seed)
    depth = {"0": 0}
    level = ["0"]
    while level:
        nearer = {child for one in level for child in below[one].values()} - set(depth)
        depth.update(dict.fromkeys(nearer, max(depth.values()) + 1))
        level = sorted(nearer)
    for entity in below:
        path = graph.shortest_path("/", entity)
        if entity not in depth:
            assert path is None
            continue
        assert path is not None
        assert (0 if path == "/" else path.count("/")) == depth[entity]
        found = graph.get(path)
        assert found is not None
        assert found.id() == entity


@pytest.mark.rule("G+4")
@pytest.mark.parametrize("seed", range(3))
def test_names_are_all_the_acyclic_paths(graph: GraphDatabase, seed: int) -> None:
    """The names of each entity are the acyclic paths that a walk finds, the shortest first, then by name."""
    random_graph(graph, seed, nodes=10, edges=22)
    paths: dict[str, list[str]] = {}
    for step in graph.walk("/", mode="acyclic", max_rows=10**6):
        paths.setdefault(step.entity_id, []).append(step.path)
    for entity, expected in paths.items():
        expected.sort(key=lambda path: (path.count("/"), path.split("/")))
        assert list(graph.names_of(entity)) == expected
        assert list(graph.names_of(entity, limit=2)) == expected[:2]


@pytest.mark.rule("G+4")
def test_names_are_bounded(graph: GraphDatabase) -> None:
    """The root has one name, an unnamed entity none, and too many raise."""
    ids = [f"n{i}" for i in range(8)]
    graph.load([("0", one, one) for one in ids] + [(a, b, b) for a in ids for b in ids if a != b], ["alone"])
    assert graph.names_of("0") == ("/",)
    assert graph.names_of("alone") == ()
    assert graph.names_of("n3", limit=3) == ("/n3", "/n0/n3", "/n1/n3")
    with pytest.raises(LimitExceeded):
        graph.names_of("n3", max_rows=1000)
    with pytest.raises(NotFound):
        graph.names_of("none")


@pytest.mark.parametrize("seed", range(5))
def test_topological_order(graph: GraphDatabase, seed: int) -> None:
    """In the order each entity comes after its parents; where there is a cycle it is named, edge by edge."""
    draw = random.Random(seed)
    ids = [f"n{i}" for i in range(20)]
    edges = [("0", one, one) for one in ids]
    edges += [(ids[a], f"{a}-{b}", ids[b]) for a in range(20) for b in range(a + 1, 20) if draw.random() < 0.2]
    draw.shuffle(edges)
    graph.load(edges)
    order = graph.topological_order()
    place = {entity: number for number, entity in enumerate(order)}
    assert sorted(order) == sorted(["0", *ids])
    assert all(place[parent] < place[child] for parent, _, child in edges)
    graph.load([("n15", "back", "n2"), ("n2", "forth", "n15")])
    with pytest.raises(CycleError) as caught:
        graph.topological_order()
    linked = {(parent, child) for parent, _, child in [*edges, ("n15", "", "n2"), ("n2", "", "n15")]}
    assert all(pair in linked or pair[::-1] in linked for pair in pairwise(caught.value.cycle))
    assert caught.value.cycle[0] == caught.value.cycle[-1]


def test_glob(graph: GraphDatabase) -> None:
    """Patterns match within a part, ** over parts, literal beginnings use the index, and cycles do not matter."""
    for path, entity_id in (
        ("/web", "1"), ("/web2", "2"), ("/db", "3"), ("/web/db", "3"), ("/web2/db", "4"), ("/web/db/log", "5"),
        ("/web/db/up", "1"), ("/wEb", "6"), ("/w[x]", "7"),
    ):  # fmt: skip
        graph.set(path, entity_id)

    def found(pattern: str) -> list[str]:
        return [path for path, _ in graph.glob(pattern)]

    assert found("/web*") == ["/web", "/web2"]
    assert found("/web*/db") == ["/web/db", "/web2/db"]
    assert found("/*/d?") == ["/web/db", "/web2/db"]
    assert found("/w[eE]b") == ["/wEb", "/web"]
    assert found("/w[[]x]") == ["/w[x]"]
    assert found("/**/log") == ["/db/log"]
    assert found("/web/**") == ["/web", "/web/db", "/web/db/log"]
    assert found("/none/*") == []
    assert graph.glob("/") == (("/", "0"),)
    for wrong in ("web*", "/a//b", "/../x"):
        with pytest.raises(InvalidPath):
            graph.glob(wrong)
    with pytest.raises(LimitExceeded):
        graph.glob("/*", max_rows=4)
    assert len(graph.glob("/*", max_rows=5)) == 5


def test_a_pattern_with_a_beginning_reads_a_range(graph: GraphDatabase) -> None:
    """SQLite looks only at names that begin as the pattern does."""
    asked: list[str] = []
    graph.set("/a", "1")
    graph.store.read(lambda connection: connection.set_trace_callback(asked.append))
    graph.store.read(lambda connection: queries.match_children(connection, 0, "web*"))
    plan = graph.store.read(lambda connection: connection.execute(f"EXPLAIN QUERY PLAN {asked[-1]}").fetchall())
    assert any("name>? AND name<?" in row[3] for row in plan), plan
