"""Bulk loads: all or nothing, with the row that was refused."""

from __future__ import annotations

import pytest

from kernelproof.impl.graphdb import GraphDatabase, GraphError, InvalidPath, NameTaken, NotFound


def test_a_load_is_the_graph(graph: GraphDatabase) -> None:
    """Entities, edges and attributes of a load are there, beside what was there, and the checks agree."""
    graph.set("/old", "old")
    loaded = graph.load(
        [("old", "a", "1"), ("1", "b", "2", {"x": 1}), ("0", "c", "2", None)], ["1", ("3", {"y": 2}), ("4", None)]
    )
    assert loaded == (4, 3)
    assert [step.path for step in graph.walk("/")] == ["/c", "/old", "/old/a"]
    assert graph.edge_attributes("/old/a/b") == {"x": 1}
    assert graph.attributes("3") == {"y": 2}
    assert {problem.kind for problem in graph.check().problems} == {"unnamed"}
    assert graph.refs("2") == 2
    graph.set("/new", "new")
    assert [change.name for change in graph.changes(graph.sequence - 1)] == ["new"]


@pytest.mark.parametrize(
    ("edges", "entities", "kind", "text"),
    [
        ([("0", "a", "1"), ("0", "a", "2")], [], NameTaken, "edge number 2 ('0', 'a', '2')"),
        ([("0", "a", "1"), ("0", "x/y", "2")], [], InvalidPath, "edge number 2 ('0', 'x/y', '2')"),
        ([("0", "a", "1"), ("1", "a", "1")], [], InvalidPath, "edge number 2"),
        ([("0", "a", "1"), ("0", "", "2")], [], InvalidPath, "edge number 2"),
        ([], ["1", "2", "1"], NameTaken, "entity number 3 '1'"),
        ([], ["old"], NameTaken, "entity number 1 'old'"),
        ([], ["0"], NameTaken, "entity number 1 '0'"),
        ([], [""], InvalidPath, "entity number 1 ''"),
        (
            [("0", "a", "1"), ("0", "\udcff", "2")],
            [],
            InvalidPath,
            "edge number 2 ('0', '\\udcff', '2') cannot be written",
        ),
        ([("0", "a", "\udcff")], [], InvalidPath, "edge number 1"),
        ([], ["1", "\udcff"], InvalidPath, "entity number 2 '\\udcff' cannot be written as UTF-8"),
    ],
)
def test_a_refused_row_undoes_the_load(
    graph: GraphDatabase, edges: list[tuple[str, str, str]], entities: list[str], kind: type[GraphError], text: str
) -> None:
    """A row that breaks a rule is named, and the graph, its log and its triggers are as before."""
    graph.set("/old", "old")
    before = graph.sequence
    with pytest.raises(kind) as caught:
        graph.load(edges, entities)
    assert text in str(caught.value)
    assert [step.path for step in graph.walk("/")] == ["/old"]
    assert graph.sequence == before
    graph.set("/new", "new")
    assert graph.sequence == before + 2
    assert graph.check().ok


def test_missing_entities(graph: GraphDatabase) -> None:
    """Told not to make entities, a load refuses an edge that names a missing one."""
    with pytest.raises(NotFound, match="edge number 2"):
        graph.load([("0", "a", "1"), ("1", "b", "9")], ["1"], create_missing=False)
    assert graph.load([("0", "a", "1")], ["1"], create_missing=False) == (1, 1)


def test_a_load_within_a_transaction(graph: GraphDatabase) -> None:
    """A load is one step of a transaction and is undone with it."""

    def work() -> None:
        with graph.transaction():
            graph.set("/a", "1")
            graph.load([("1", "b", "2")])
            raise OSError("undo")

    with pytest.raises(OSError, match="undo"):
        work()
    assert list(graph.walk("/")) == []
    graph.set("/a", "1")
    assert graph.sequence == 2
