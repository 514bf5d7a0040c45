"""A graph, or the part below a path, as text for other programs, and back.

JSON is complete and comes back by `load_json`; GraphML and DOT are for programs that draw or analyse; NetworkX gets a
`MultiDiGraph` with the name as the edge's key. Writers stream: they never hold the whole graph.

Not a backup: see `GraphDatabase.backup` for that.

Sources: GraphML primer, sections 2 and 2.4 (attributes); Graphviz, the DOT language; XML 1.0, section 2.2 (characters).
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import IO, Any, Final, NamedTuple

from kernelproof.impl.graphdb import lookup
from kernelproof.impl.graphdb.attributes import Attributes, parse_attributes
from kernelproof.impl.graphdb.errors import GraphError
from kernelproof.impl.graphdb.names import Names
from kernelproof.impl.graphdb.queries import BELOW
from kernelproof.impl.graphdb.schema import ROOT_ID

JSON_FORMAT: Final = "kernelproof.graphdb"
JSON_VERSION: Final = 1

_NOT_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class EntityRecord(NamedTuple):
    """An entity as it is exported."""

    entity_id: str
    attributes: Attributes


class EdgeRecord(NamedTuple):
    """An edge as it is exported."""

    parent_id: str
    name: str
    entity_id: str
    attributes: Attributes


def read_entities(connection: sqlite3.Connection, names: Names) -> Iterator[EntityRecord]:
    """Yield the entities at and below a path, by key.

    Raises:
        NotFound: There is no such path.
    """
    key = lookup.resolve(connection, names)
    query = f"{BELOW} SELECT n.id, n.attributes FROM below JOIN node AS n USING (key) ORDER BY n.key"
    for entity_id, text in connection.execute(query, (key,)):
        yield EntityRecord(entity_id, parse_attributes(text))


def read_edges(connection: sqlite3.Connection, names: Names) -> Iterator[EdgeRecord]:
    """Yield the edges below a path, by key of the parent and name.

    Raises:
        NotFound: There is no such path.
    """
    key = lookup.resolve(connection, names)
    query = f"""{BELOW} SELECT p.id, l.name, c.id, l.attributes FROM link AS l
        JOIN node AS p ON p.key = l.parent JOIN node AS c ON c.key = l.child
        WHERE l.parent IN (SELECT key FROM below) ORDER BY l.parent, l.name"""
    for parent_id, name, entity_id, text in connection.execute(query, (key,)):
        yield EdgeRecord(parent_id, name, entity_id, parse_attributes(text))


def write_json(connection: sqlite3.Connection, names: Names, file: IO[str]) -> None:
    """Write JSON: one line for each entity and edge, the whole one object."""
    start = _start_id(connection, names)
    head = {"format": JSON_FORMAT, "version": JSON_VERSION, "start": start}
    file.write(json.dumps(head, ensure_ascii=False)[:-1] + ', "entities": [')
    separator = "\n"
    for entity in read_entities(connection, names):
        record: dict[str, object] = {"id": entity.entity_id}
        if entity.attributes:
            record["attributes"] = entity.attributes
        file.write(separator + json.dumps(record, ensure_ascii=False))
        separator = ",\n"
    file.write('\n], "edges": [')
    separator = "\n"
    for edge in read_edges(connection, names):
        record = {"parent": edge.parent_id, "name": edge.name, "entity": edge.entity_id}
        if edge.attributes:
            record["attributes"] = edge.attributes
        file.write(separator + json.dumps(record, ensure_ascii=False))
        separator = ",\n"
    file.write("\n]}\n")


class Document(NamedTuple):
    """A JSON export, read and checked."""

    start: str
    entities: tuple[EntityRecord, ...]
    edges: tuple[EdgeRecord, ...]


def parse_json(text: str) -> Document:
    """Read a JSON export.

    Raises:
        ValueError: It is no JSON or not of this format; every problem is listed with its JSON path.
    """
    try:
        document = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"$: nested too deeply: {error}") from None
    problems: list[str] = []
    if not isinstance(document, dict) or document.get("format") != JSON_FORMAT:
        raise ValueError(f'$.format: expected "{JSON_FORMAT}": this is no export of a graph')
    if document.get("version") != JSON_VERSION:
        raise ValueError(f"$.version: found {document.get('version')!r}, this program reads {JSON_VERSION}")
    entities = [
        EntityRecord(fields["id"], fields["attributes"]) for fields in _objects(document, "entities", ("id",), problems)
    ]
    edges = [
        EdgeRecord(fields["parent"], fields["name"], fields["entity"], fields["attributes"])
        for fields in _objects(document, "edges", ("parent", "name", "entity"), problems)
    ]
    start = document.get("start")
    if not isinstance(start, str):
        problems.append("$.start: expected text")
    if problems:
        raise ValueError("; ".join(problems))
    return Document(str(start), tuple(entities), tuple(edges))


def _objects(
    document: dict[str, object], key: str, required: tuple[str, ...], problems: list[str]
) -> Iterator[dict[str, Any]]:
    items = document.get(key)
    if not isinstance(items, list):
        problems.append(f"$.{key}: expected a list")
        return
    for number, item in enumerate(items):
        where = f"$.{key}[{number}]"
        if not isinstance(item, dict):
            problems.append(f"{where}: expected an object")
            continue
        wrong = [field for field in required if not isinstance(item.get(field), str)]
        problems.extend(f"{where}.{field}: expected text" for field in wrong)
        attributes = item.get("attributes", {})
        if not isinstance(attributes, dict):
            problems.append(f"{where}.attributes: expected an object")
        elif not wrong:
            yield {**item, "attributes": attributes}


def write_graphml(connection: sqlite3.Connection, names: Names, file: IO[str]) -> None:
    """Write GraphML: ids as node ids, names and attributes (as JSON text) as data.

    Raises:
        GraphError: A name or an id holds a control character, which XML 1.0 cannot carry.
    """
    file.write('<?xml version="1.0" encoding="UTF-8"?>\n<graphml xmlns="http://graphml.graphdrawing.org/xmlns">\n')
    for key, target in (("name", "edge"), ("attributes", "node"), ("edge_attributes", "edge")):
        file.write(f'<key id="{key}" for="{target}" attr.name="{key.removeprefix("edge_")}" attr.type="string"/>\n')
    file.write('<graph id="G" edgedefault="directed">\n')
    for entity in read_entities(connection, names):
        data = _xml_data("attributes", entity.attributes)
        file.write(f'<node id="{_xml(entity.entity_id)}">{data}</node>\n')
    for edge in read_edges(connection, names):
        data = f'<data key="name">{_xml(edge.name)}</data>' + _xml_data("edge_attributes", edge.attributes)
        file.write(f'<edge source="{_xml(edge.parent_id)}" target="{_xml(edge.entity_id)}">{data}</edge>\n')
    file.write("</graph>\n</graphml>\n")


def _xml_data(key: str, attributes: Attributes) -> str:
    if not attributes:
        return ""
    return f'<data key="{key}">{_xml(json.dumps(attributes, ensure_ascii=False, sort_keys=True))}</data>'


def _xml(text: str) -> str:
    wrong = _NOT_XML.search(text)
    if wrong is not None:
        raise GraphError(f"{text!r} holds {wrong.group()!r}, which XML 1.0 cannot carry: export as JSON")
    for plain, escaped in (
        ("&", "&amp;"),
        ("<", "&lt;"),
        (">", "&gt;"),
        ('"', "&quot;"),
        ("\n", "&#10;"),
        ("\r", "&#13;"),
        ("\t", "&#9;"),
    ):
        text = text.replace(plain, escaped)
    return text


def write_dot(connection: sqlite3.Connection, names: Names, file: IO[str]) -> None:
    """Write DOT, with names as labels of the edges."""
    file.write("digraph graphdb {\n")
    for entity in read_entities(connection, names):
        label = "/" if entity.entity_id == ROOT_ID else entity.entity_id
        file.write(f"  {_dot(entity.entity_id)} [label={_dot(label)}];\n")
    for edge in read_edges(connection, names):
        file.write(f"  {_dot(edge.parent_id)} -> {_dot(edge.entity_id)} [label={_dot(edge.name)}];\n")
    file.write("}\n")


def _dot(text: str) -> str:
    # Graphviz reads escapes in labels (\N, \l): a backslash is doubled.
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


WRITERS: Final[dict[str, Callable[[sqlite3.Connection, Names, IO[str]], None]]] = {
    "json": write_json,
    "graphml": write_graphml,
    "dot": write_dot,
}


def _start_id(connection: sqlite3.Connection, names: Names) -> str:
    query = "SELECT id FROM node WHERE key = ?"
    (entity_id,) = connection.execute(query, (lookup.resolve(connection, names),)).fetchone()
    return str(entity_id)


def to_networkx(connection: sqlite3.Connection, names: Names) -> Any:
    """Make a NetworkX graph: entities as nodes with their attributes, edges keyed by name.

    Raises:
        NotFound: There is no such path.
        ModuleNotFoundError: NetworkX is not installed.
    """
    networkx = import_module("networkx")  # optional, and 100 ms at import
    graph = networkx.MultiDiGraph()
    for entity in read_entities(connection, names):
        graph.add_node(entity.entity_id, **{"attributes": entity.attributes})
    for edge in read_edges(connection, names):
        graph.add_edge(edge.parent_id, edge.entity_id, key=edge.name, name=edge.name, attributes=edge.attributes)
    return graph
