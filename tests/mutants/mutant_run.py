"""Edits of `impl`, each tried against the tests that run its function, the cheapest first, until one notices."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from answers import Answers, digest_of
from choosing import Graph
from edits import Edit
from machines import ROOT
from unit_tests import UnitTests, open_unit_tests

PACKAGES = ("_syscalls", "cgroups", "graphdb", "libcontainer", "listenbuffer", "mount", "netlink", "term", "user")
_SECONDS = 60.0  # for an edit, besides ten times what its tests take: other programs run on this host too
_ITEMS = 200  # tests that are tried on one edit
_BASELINE_SECONDS = 30.0  # that these take at most
_GUESSES, _GUESS_SECONDS = 25, 3.0  # tests that may run a function where nothing is traced; each is so quick

Reached = dict[str, dict[str, Any]]


def try_unit_tests(
    package: str, edits: Sequence[Edit], store: Answers, folder: Path, tell: Callable[[str], None]
) -> None:
    """Try edits of one package on its unit tests; what comes of each is added to the store.

    Raises:
        RunFailed: the tests can't be collected.
    """
    known = store.read()
    tests = sorted((ROOT / "impl" / "tests" / package).rglob("*.py"))
    digest = digest_of(tests)
    wanted = [edit for edit in edits if needs_unit_tests(known.get(edit.name), edit, digest)]
    if not wanted:
        return
    tell(f"{package}: collect and trace unit tests, then try {len(wanted)} edits on them")
    with open_unit_tests([f"impl/tests/{package}"]) as session:
        reached = _reach(session, package, folder)
        graph = Graph(ROOT)
        for count, edit in enumerate(wanted, 1):
            items = [*covering(edit, reached), *_guessed(edit, reached, graph)]
            baseline = sum(reached[item]["seconds"] for item in items)
            answer = {"outcome": "not reached", "by": ""}
            if items:
                answer = session.attempt(edit, items, _SECONDS + 10 * baseline)
            store.add(
                {"name": edit.name, "digest": digest, "source": digest_of([ROOT / edit.path]), "where": "unit"} | answer
            )
            tell(f"{package} {count}/{len(wanted)}  {answer['outcome']:11}  {edit.path}:{edit.line}")


def needs_unit_tests(answer: Mapping[str, Any] | None, edit: Edit, digest: str) -> bool:
    """Whether nothing is known, or what is known was before the file or (of one that survived) its tests changed."""
    if answer is None or answer["source"] != digest_of([ROOT / edit.path]):
        return True
    return answer["outcome"] != "killed" and bool(answer["digest"] != digest)


def covering(edit: Edit, reached: Reached) -> list[str]:
    """The tests that run an edit's function: those that run little else first, then the quick ones."""
    place = f"{edit.path}::{edit.function}"
    found = [item for item, what in reached.items() if place in what["places"]]
    found.sort(key=lambda item: (reached[item]["seconds"] > 1, len(reached[item]["places"]), item))
    chosen: list[str] = []
    seconds = 0.0
    for item in found[:_ITEMS]:
        seconds += reached[item]["seconds"]
        if seconds > _BASELINE_SECONDS and chosen:
            break
        chosen.append(item)
    return chosen


def _guessed(edit: Edit, reached: Reached, graph: Graph) -> list[str]:
    # Tests that start a Python of their own show nothing of what runs there: those near by the names they mention.
    place = f"{edit.path}::{edit.function}"
    near = {(node.path, node.name): rank for rank, node in enumerate(graph.nearest_tests(edit.path, edit.function))}
    ranked = sorted(
        (near[node], item)
        for item, what in reached.items()
        if place not in what["places"] and (node := _node_of(item)) in near and what["seconds"] < _GUESS_SECONDS
    )
    return [item for _, item in ranked[:_GUESSES]]


def _node_of(item: str) -> tuple[str, str]:
    path, _, name = item.partition("::")
    return path, name.partition("[")[0].replace("::", ".")


def _reach(session: UnitTests, package: str, folder: Path) -> Reached:
    # Traced again are the tests of files that changed. Which functions the others run may have changed with impl:
    # then a test more or less is tried on an edit.
    path = folder / f"reach-{package}.json"
    try:
        kept = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        kept = {"files": {}, "reached": {}}
    files = {name: digest_of([ROOT / name]) for name in sorted({item.partition("::")[0] for item in session.items})}
    unchanged = {name for name, digest in files.items() if kept.get("files", {}).get(name) == digest}
    reached = {item: what for item, what in kept["reached"].items() if item.partition("::")[0] in unchanged}
    reached |= session.trace([item for item in session.items if item.partition("::")[0] not in unchanged])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"files": files, "reached": reached}), "utf-8")
    there = set(session.items)
    return {item: what for item, what in reached.items() if item in there}
