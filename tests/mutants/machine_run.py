"""Edits that no unit test noticed, tried on machine tests that may come to the broken function.

In each round every edit that is still open gets one test that no other edit has in this round, so that all of a round
run in one session of pytest.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

from answers import Answers, digest_of
from choosing import Graph
from edits import Edit
from machines import ROOT, collect, run
from mutant_plugin import EDITS

_MACHINE_TESTS = ("conformance", "impl/tests")
_ENOUGH = 3  # tests that ran the broken function and passed: then it survives
_OPTIONS = ("--mutants", EDITS, "--vm-timeout", "120")
_NO_SESSION = ("session", "collect", "hook")  # losses that say nothing about an item


class Attempts:
    """One edit, the tests that may notice it, and what is known so far."""

    def __init__(self, edit: Edit, items: Sequence[str]) -> None:
        self.edit = edit
        self.passed: list[str] = []
        self.killer: dict[str, Any] | None = None
        self._items = list(items)

    @property
    def is_open(self) -> bool:
        """Whether another test may tell more."""
        return self.killer is None and len(self.passed) < _ENOUGH and bool(self._items)

    def next_item(self, taken: Container[str]) -> str | None:
        """The nearest test that was not tried and that nobody else has in this round."""
        item = next((each for each in self._items if each not in taken), None)
        if item is not None:
            self._items.remove(item)
        return item

    def note(self, answer: dict[str, Any]) -> None:
        """Take what came of a test."""
        if is_killer(answer):
            self.killer = answer
        elif answer["outcome"] == "passed" and answer.get("guest", {}).get("reached"):
            self.passed.append(answer["nodeid"])

    def verdict(self) -> dict[str, Any]:
        """As the store keeps it."""
        if self.killer is not None:
            return {"outcome": "killed", "by": self.killer["nodeid"], "said": self.killer["said"]}
        return {"outcome": "survived" if self.passed else "not reached", "by": "", "passed": self.passed}


def is_killer(answer: Mapping[str, Any]) -> bool:
    """Whether a test noticed: it failed after the broken function ran, or its machine did not outlive it."""
    if (lost := answer.get("lost")) is not None:
        return lost not in _NO_SESSION
    return bool("failed" in answer["outcome"] and answer.get("guest", {}).get("reached"))


def try_machines(
    edits: Sequence[Edit], store: Answers, kernel: str, rounds: int, more: Sequence[str], tell: Callable[[str], None]
) -> None:
    """Try edits; what comes of each is added to the store as soon as it is known.

    Raises:
        RunFailed: pytest can't run machine tests.
    """
    if not edits:
        return
    tell(f"look for machine tests that may notice {len(edits)} edits")
    attempts = _plan(edits, kernel)
    for number in range(1, rounds + 1):
        tasks = _next_tasks(attempts)
        if not tasks:
            break
        tell(f"round {number}: {len(tasks)} edits, each on a machine test")
        sent = {item: attempt.edit._asdict() for item, attempt in tasks.items()}
        for answer in run(sent, kernel, (*_OPTIONS, *more)):
            attempt = tasks[answer["nodeid"]]
            attempt.note(answer)
            if attempt.killer is not None:
                _keep(store, attempt)
            tell(f"{attempt.verdict()['outcome']:11}  {attempt.edit.path}:{attempt.edit.line}  {answer['nodeid']}")
    for attempt in attempts:
        if attempt.killer is None:
            _keep(store, attempt)


def _next_tasks(attempts: Sequence[Attempts]) -> dict[str, Attempts]:
    tasks: dict[str, Attempts] = {}
    for attempt in attempts:
        item = attempt.next_item(tasks) if attempt.is_open else None
        if item is not None:
            tasks[item] = attempt
    return tasks


def _plan(edits: Sequence[Edit], kernel: str) -> list[Attempts]:
    graph = Graph(ROOT)
    first_items: dict[tuple[str, str], str] = {}
    for nodeid in collect(_MACHINE_TESTS, kernel):
        path, _, name = nodeid.partition("::")
        first_items.setdefault((path, name.partition("[")[0].replace("::", ".")), nodeid)
    return [
        Attempts(
            edit, [first_items[node] for node in graph.nearest_tests(edit.path, edit.function) if node in first_items]
        )
        for edit in edits
    ]


def _keep(store: Answers, attempt: Attempts) -> None:
    # Beside what the unit tests said: they are asked again when they change, machine tests when their file does.
    known = store.read().get(attempt.edit.name, {"name": attempt.edit.name, "digest": ""})
    source = digest_of([ROOT / attempt.edit.path])
    store.add(known | {"source": source, "where": "machine", "said": "", "passed": []} | attempt.verdict())
