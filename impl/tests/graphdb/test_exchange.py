"""Exports that other programs read, and the one that comes back."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from kernelproof.impl.graphdb import GraphDatabase, GraphError, NotFound

NASTY = ["a b", '"quoted"', "<&>", "back\\slash", "new\nline", "\u00e9\N{SNOWMAN}", "%s", "tab\t", "N\\N"]


@pytest.fixture
def filled(graph: GraphDatabase) -> GraphDatabase:
    """A graph with names that need escaping, attributes and a cycle."""
    for number, name in enumerate(NASTY):
        graph.set(f"/{name}", f"id {name}", attributes={"number": number})
    graph.set(f"/{NASTY[0]}/below", f"id {NASTY[1]}")
    graph.set(f"/{NASTY[1]}/above", f"id {NASTY[0]}")
    graph.set_attributes(f"id {NASTY[2]}", {"text": NASTY})
    return graph


def exported(graph: GraphDatabase, form: str, path: str = "/") -> str:
    """The text of an export."""
    file = io.StringIO()
    graph.export(file, form=form, path=path)
    return file.getvalue()


def test_json_comes_back(filled: GraphDatabase) -> None:
    """A JSON export, loaded into an empty graph, gives the same export."""
    text = exported(filled, "json")
    with GraphDatabase.in_memory() as other:
        assert other.load_json(text) == (len(NASTY), len(NASTY) + 2)
        assert exported(other, "json") == text
        assert other.attributes(f"id {NASTY[2]}") == {"text": NASTY}
    document = json.loads(text)
    assert (document["format"], document["version"], document["start"]) == ("kernelproof.graphdb", 1, "0")


def test_a_part_is_exported(filled: GraphDatabase) -> None:
    """An export of a path holds what lies at and below it, and nothing else."""
    document = json.loads(exported(filled, "json", f"/{NASTY[0]}"))
    assert {entity["id"] for entity in document["entities"]} == {f"id {NASTY[0]}", f"id {NASTY[1]}"}
    assert {edge["name"] for edge in document["edges"]} == {"below", "above"}
    with pytest.raises(NotFound):
        exported(filled, "json", "/none")
    with pytest.raises(ValueError, match="choose one of"):
        exported(filled, "yaml")


def test_every_problem_of_a_document_is_listed() -> None:
    """A wrong document is refused with all its problems by JSON path, and nothing is loaded."""
    document = {
        "format": "kernelproof.graphdb", "version": 1, "start": 0,
        "entities": [{"id": 1}, "x", {"id": "a", "attributes": []}],
        "edges": [{"parent": "0", "name": 5}, {"parent": "0", "name": "a", "entity": "b"}],
    }  # fmt: skip
    with GraphDatabase.in_memory() as graph:
        with pytest.raises(ValueError, match="expected") as caught:
            graph.load_json(json.dumps(document))
        for path in ("$.start:", "$.entities[0].id:", "$.entities[1]:", "$.entities[2].attributes:", "$.edges[0].name:",
                     "$.edges[0].entity:"):  # fmt: skip
            assert path in str(caught.value)
        for text in (
            "",
            "[]",
            "{}",
            '{"format": "kernelproof.graphdb", "version": 2}',
            '{"format": "kernelproof.graphdb", "version": 1}',
            "[" * 100_000,
        ):
            with pytest.raises(ValueError, match=r".+"):
                graph.load_json(text)
        assert list(graph.walk("/")) == []


def test_an_export_of_a_part_is_not_loaded(graph: GraphDatabase) -> None:
    """A part has no name from the root, so loading it is refused, and nothing is there that no path leads to."""
    graph.set("/web", "1")
    graph.set("/web/db", "2")
    text = exported(graph, "json", "/web")
    with GraphDatabase.in_memory() as other:
        with pytest.raises(ValueError, match=r"\$\.start: found '1', expected '0'"):
            other.load_json(text)
        assert other.check().ok


def test_graphml_is_read_by_an_xml_parser(filled: GraphDatabase) -> None:
    """GraphML is well-formed and holds every id, name and attribute; what XML cannot carry is refused."""
    root = ElementTree.fromstring(exported(filled, "graphml"))
    space = "{http://graphml.graphdrawing.org/xmlns}"
    nodes = {node.get("id") for node in root.iter(f"{space}node")}
    assert nodes == {"0", *(f"id {name}" for name in NASTY)}
    names = [data.text for edge in root.iter(f"{space}edge") for data in edge if data.get("key") == "name"]
    assert sorted(map(str, names)) == sorted([*NASTY, "below", "above"])
    filled.set("/bell\a", "bell")
    with pytest.raises(GraphError, match="XML"):
        exported(filled, "graphml")


def test_graphml_is_read_by_networkx(filled: GraphDatabase, tmp_path: Path) -> None:
    """NetworkX reads the GraphML, and makes the same graph from the database."""
    networkx = pytest.importorskip("networkx")
    file = tmp_path / "graph.graphml"
    file.write_text(exported(filled, "graphml"), encoding="utf-8")
    read = networkx.read_graphml(file, force_multigraph=True)
    made = filled.to_networkx()
    edges = sorted((a, b, data["name"]) for a, b, data in made.edges(data=True))
    assert sorted((a, b, data["name"]) for a, b, data in read.edges(data=True)) == edges
    assert made.nodes[f"id {NASTY[2]}"]["attributes"] == {"text": NASTY}
    assert networkx.has_path(made, "0", f"id {NASTY[1]}")


@pytest.mark.skipif(shutil.which("dot") is None, reason="graphviz is not installed")
def test_dot_is_read_by_graphviz(filled: GraphDatabase) -> None:
    """Graphviz reads the DOT export and finds every id."""
    done = subprocess.run(["dot", "-Tjson0"], input=exported(filled, "dot"), capture_output=True, text=True, check=True)
    assert {found["name"] for found in json.loads(done.stdout)["objects"]} >= {"0", "id a b"}


def test_dot_escapes(filled: GraphDatabase) -> None:
    """Quotes, backslashes and line ends cannot end a quoted word of DOT."""
    lines = exported(filled, "dot").splitlines()
    assert len(lines) == 2 + len(NASTY) + 1 + len(NASTY) + 2
    assert '  "0" -> "id \\"quoted\\"" [label="\\"quoted\\""];' in lines
    assert '  "0" -> "id back\\\\slash" [label="back\\\\slash"];' in lines
