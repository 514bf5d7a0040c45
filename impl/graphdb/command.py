"""The graph at the command line: `python -m kernelproof.impl.graphdb DB VERB …`.

Exit status: 0 done, 1 the answer is "no" or `check` found problems, 2 the command is wrong, 3 the graph or the file
refused. With `--json` each answer is JSON on standard output; errors are text on standard error always.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Final, NamedTuple

from kernelproof.impl.graphdb import migrate
from kernelproof.impl.graphdb.database import GraphDatabase
from kernelproof.impl.graphdb.errors import GraphError, NotFound
from kernelproof.impl.graphdb.exchange import WRITERS
from kernelproof.impl.graphdb.journal import plan_journal
from kernelproof.impl.graphdb.opening import Options
from kernelproof.impl.graphdb.traverse import MODES

Answer = tuple[int, object]
"""The exit status and the answer: a list of lines or of records, a record, or None for nothing to say."""


class Verb(NamedTuple):
    """One verb: what it does, its arguments for argparse, its function, and whether the file is only read."""

    help: str
    arguments: tuple[tuple[tuple[str, ...], Mapping[str, object]], ...]
    function: Callable[[GraphDatabase, argparse.Namespace], Answer]
    reads_only: bool


def _ls(graph: GraphDatabase, given: argparse.Namespace) -> Answer:
    if given.glob:
        return 0, [{"path": path, "id": entity_id} for path, entity_id in graph.glob(given.path)]
    children = graph.children(given.path, prefix=given.prefix)
    return 0, [{"name": child.name, "id": child.entity_id} for child in children]


def _tree(graph: GraphDatabase, given: argparse.Namespace) -> Answer:
    steps = graph.walk(given.path, mode=given.mode, max_depth=given.depth, max_rows=given.max_rows, snapshot=True)
    records = [{"path": step.path, "id": step.entity_id, "depth": step.depth} for step in steps]
    if given.json:
        return 0, records
    _print_tree(given.path, [(step["path"], step["id"]) for step in records], sys.stdout)  # type: ignore[misc]
    return 0, None


def _print_tree(start: str, rows: Sequence[tuple[str, str]], file: IO[str]) -> None:
    from rich.console import Console  # 60 ms, for this verb only
    from rich.text import Text  # as above
    from rich.tree import Tree  # as above

    root = Tree(Text(printable(start)))
    branches = {"" if start == "/" else start: root}
    for path, entity_id in rows:
        parent, _, name = path.rpartition("/")
        label = Text.assemble((printable(name), "bold"), "  ", (printable(entity_id), "dim"))
        branches[path] = branches[parent].add(label)
    Console(file=file, highlight=False, soft_wrap=True).print(root)


def _set(graph: GraphDatabase, given: argparse.Namespace) -> Answer:
    if given.expect is None:
        graph.set(given.path, given.id)
    else:
        graph.set(given.path, given.id, expect=given.expect or None)
    return 0, None


def _get(graph: GraphDatabase, given: argparse.Namespace) -> Answer:
    entity = graph.get(given.path)
    if entity is None:
        return 1, None
    if not given.json:
        return 0, entity.id()
    return 0, {"path": given.path, "id": entity.id(), "attributes": graph.attributes(entity.id())}


def _rm(graph: GraphDatabase, given: argparse.Namespace) -> Answer:
    if not given.purge:
        graph.delete(given.path)
        return 0, None
    entity = graph.get(given.path)
    if entity is None:
        raise NotFound(f"Cannot find child for {given.path}")
    return 0, {"edges": graph.purge(entity.id())}


def _mv(graph: GraphDatabase, given: argparse.Namespace) -> Answer:
    graph.move(given.source, given.target, replace=given.replace)
    return 0, None


def _refs(graph: GraphDatabase, given: argparse.Namespace) -> Answer:
    edges = graph.edges_to(given.id)
    return 0, [{"parent": edge.parent_id, "name": edge.name} for edge in edges]


def _path(graph: GraphDatabase, given: argparse.Namespace) -> Answer:
    if given.start is None:
        return 0, list(graph.names_of(given.id, limit=given.limit))
    found = graph.shortest_path(given.start, given.id)
    return (1, None) if found is None else (0, found)


def _check(graph: GraphDatabase, given: argparse.Namespace) -> Answer:
    report = graph.check()
    records = [problem._asdict() for problem in report.problems]
    if given.repair:
        return 0, {"repaired": graph.repair(problem for problem in report.problems if problem.remedy)}
    return (0 if report.ok else 1), records


def _changes(graph: GraphDatabase, given: argparse.Namespace) -> Answer:
    return 0, [change._asdict() for change in graph.changes(given.since)]


def _export(graph: GraphDatabase, given: argparse.Namespace) -> Answer:
    if given.output is None:
        graph.export(sys.stdout, form=given.form, path=given.path)
    else:
        with open(given.output, "x", encoding="utf-8") as file:
            graph.export(file, form=given.form, path=given.path)
    return 0, None


def _import(graph: GraphDatabase, given: argparse.Namespace) -> Answer:
    text = sys.stdin.read() if given.file == "-" else Path(given.file).read_text(encoding="utf-8")
    return 0, graph.load_json(text)._asdict()


def _backup(graph: GraphDatabase, given: argparse.Namespace) -> Answer:
    graph.backup(given.target)
    return 0, None


_PATH: Final = (("path",), {"nargs": "?", "default": "/"})
_VERBS: Final[dict[str, Verb]] = {
    "ls": Verb(
        "list the children of a path",
        (
            _PATH,
            (("--prefix",), {"default": "", "help": "only names that begin so"}),
            (("--glob",), {"action": "store_true", "help": "PATH is a pattern: *, ?, [...] and **"}),
        ),
        _ls,
        True,
    ),
    "tree": Verb(
        "draw what lies below a path",
        (
            _PATH,
            (("--depth",), {"type": int}),
            (("--mode",), {"choices": MODES, "default": "acyclic"}),
            (("--max-rows",), {"type": int, "default": 10_000}),
        ),
        _tree,
        True,
    ),
    "set": Verb(
        "let a path lead to an entity",
        ((("path",), {}), (("id",), {}), (("--expect",), {"help": "the id that it leads to now, empty for none"})),
        _set,
        False,
    ),
    "get": Verb("print the id that a path leads to", ((("path",), {}),), _get, True),
    "rm": Verb(
        "delete a name, or with --purge the entity",
        ((("path",), {}), (("--purge",), {"action": "store_true"})),
        _rm,
        False,
    ),
    "mv": Verb(
        "move or rename an edge",
        ((("source",), {}), (("target",), {}), (("--replace",), {"action": "store_true"})),
        _mv,
        False,
    ),
    "refs": Verb("list the edges to an entity", ((("id",), {}),), _refs, True),
    "path": Verb(
        "print the paths of an entity, the shortest first",
        (
            (("id",), {}),
            (("--from",), {"dest": "start", "help": "only the shortest one below this path"}),
            (("--limit",), {"type": int}),
        ),
        _path,
        True,
    ),
    "check": Verb("look for problems", ((("--repair",), {"action": "store_true"}),), _check, False),
    "changes": Verb("print the changes after a number", ((("--since",), {"type": int, "default": 0}),), _changes, True),
    "export": Verb(
        "write the graph as text",
        (_PATH, (("--form",), {"choices": tuple(WRITERS), "default": "json"}), (("--output",), {})),
        _export,
        True,
    ),
    "import": Verb(
        "add what a JSON export holds", ((("file",), {"help": "a file, - for standard input"}),), _import, False
    ),
    "backup": Verb("copy the file while it is in use", ((("target",), {}),), _backup, True),
}


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m kernelproof.impl.graphdb", description="Names for things in one file."
    )
    parser.add_argument("db", help="the graph file; `set` and `import` make it")
    parser.add_argument("--timeout", type=float, default=5.0, help="seconds to wait for locks (default 5)")
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, verb in _VERBS.items():
        sub = verbs.add_parser(name, help=verb.help, description=verb.help)
        for flags, options in verb.arguments:
            sub.add_argument(*flags, **options)  # type: ignore[arg-type]
        sub.add_argument("--json", action="store_true", help="answer in JSON")
    sub = verbs.add_parser("downgrade", help="take the file back to the layout of 2014; a copy is kept")
    sub.add_argument("--json", action="store_true", help="answer in JSON")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    given = make_parser().parse_args(arguments)
    try:
        status, answer = _run(given)
        _print(answer, as_json=given.json)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), sys.stdout.fileno())
        return 3
    except (GraphError, OSError, ValueError) as error:
        print(f"graphdb: {printable(str(error))}", file=sys.stderr)
        return 3
    return status


def _run(given: argparse.Namespace) -> Answer:
    if given.verb == "downgrade":
        path = os.path.realpath(given.db)
        with GraphDatabase.open(path, create=False, read_only=True):  # refuses what is no graph
            pass
        report = migrate.downgrade(Options(path, False, given.timeout, plan_journal("rollback", (0, 0, 0), None)))
        return 0, {"copy": report.copy, "entities": report.entities, "edges": report.edges}
    verb = _VERBS[given.verb]
    with GraphDatabase.open(
        given.db, create=given.verb in ("set", "import"), read_only=verb.reads_only, timeout_seconds=given.timeout
    ) as graph:
        return verb.function(graph, given)


def _print(answer: object, *, as_json: bool) -> None:
    if answer is None:
        return
    if as_json:
        print(json.dumps(answer, ensure_ascii=False))
    elif isinstance(answer, list):
        for item in answer:
            print(_line(item))
    else:
        print(_line(answer))


def _line(item: object) -> str:
    if isinstance(item, dict):
        return "\t".join(printable(str(value)) for value in item.values())
    return printable(str(item))


def printable(text: str) -> str:
    """Escape what would steer a terminal or break a line."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )
