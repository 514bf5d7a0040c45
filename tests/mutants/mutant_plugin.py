"""pytest plugin for both sides of a machine: empties what a test calls, and tells the host which functions these were.

On the host it sends each item what is to be done to it and writes what came of it, one JSON object a line.
Loaded by `run.py` with `-p mutant_plugin`; what it may need of the project is on the import path of host and guest.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import pytest
from applying import MARK, NotLoaded, break_function
from functions_of import functions_of
from hollowing import Hollow, load_all

PROPERTY = "mutant"
HOLLOW, EDITS = "hollow", "edits"
HOLLOW_FIXTURES = "hollow, fixtures too"  # a task
TASKS, ANSWERS = "KERNELPROOF_MUTANT_TASKS", "KERNELPROOF_MUTANT_ANSWERS"
_GUEST = "KERNELPROOF_GUEST"
_MOST_CALLED = 200  # names that an item tells
_TEXT = 400  # characters of what a failure says


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--mutants`."""
    text = "hollow: what tests call does nothing; edits: each test has one function that is broken"
    parser.addoption("--mutants", choices=(HOLLOW, EDITS), default=HOLLOW, help=text)


def pytest_configure(config: pytest.Config) -> None:
    """Register this side's half."""
    side = _Guest(config) if os.environ.get(_GUEST) else _Host(config)
    config.pluginmanager.register(side, "mutants-side")


class _Host:
    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        tasks = os.environ.get(TASKS)
        self._tasks: dict[str, Any] | None = None if tasks is None else json.loads(Path(tasks).read_text("utf-8"))
        self._answers = os.environ.get(ANSWERS)
        self._worst: dict[str, dict[str, Any]] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the items that there is a task for."""
        if self._tasks is not None:
            chosen = [item for item in items if item.nodeid in self._tasks]
            items[:] = chosen

    @pytest.hookimpl(optionalhook=True)
    def pytest_kernelproof_item_data(self, item: pytest.Item) -> Mapping[str, object]:
        """Send what is to be done."""
        return {"mutant": HOLLOW if self._tasks is None else self._tasks[item.nodeid]}

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write an item's outcome when its last report is there."""
        if self._answers is None or hasattr(self._config, "workerinput"):
            return
        answer = self._worst.setdefault(report.nodeid, {"nodeid": report.nodeid, "outcome": "none", "said": ""})
        _note_properties(answer, report)
        if report.when == "call" or report.outcome != "passed":
            outcome = report.outcome if report.when == "call" else f"{report.when} {report.outcome}"
            if answer["outcome"] in ("none", "passed"):
                answer |= {"outcome": outcome, "said": _say(report)}
        if report.when == "teardown":
            with open(self._answers, "a", encoding="utf-8") as file:
                file.write(json.dumps(self._worst.pop(report.nodeid)) + "\n")


def _note_properties(answer: dict[str, Any], report: pytest.TestReport) -> None:
    facts: Any
    for name, facts in report.user_properties:
        if name == PROPERTY:
            answer["guest"] = facts
        elif name == "kernelproof":
            answer["seconds"] = {key: facts.get(key) for key in ("wall_seconds", "guest_seconds")}
            if facts.get("lost") is not None:
                answer["lost"] = facts["lost"]["kind"]


def _say(report: pytest.TestReport) -> str:
    if report.outcome == "passed":
        return ""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = str(getattr(crash, "message", None) or report.longreprtext)
    return text[:_TEXT]


class _Guest:
    def __init__(self, config: pytest.Config) -> None:
        self._root = config.rootpath
        self._hollow = Hollow(str(config.rootpath)) if config.getoption("mutants") == HOLLOW else None
        self._trouble = ""

    def pytest_collection_finish(self) -> None:
        """Exchange code before the snapshot, so that no clone has to."""
        if self._hollow is not None:
            load_all()
            self._hollow.prepare(functions_of)

    @pytest.hookimpl(optionalhook=True)
    def pytest_kernelproof_item(self, data: Mapping[str, Any]) -> None:
        """Do what the host wants: an edit holds for fixtures too."""
        task = data.get("mutant")
        if self._hollow is not None:
            self._hollow.called.clear()
            self._hollow.active = task == HOLLOW_FIXTURES
        if isinstance(task, dict):
            try:
                break_function(self._root, task)
            except NotLoaded as error:
                self._trouble = str(error)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_call(self) -> Generator[None, None, None]:
        """Let the test alone call what does nothing: its fixtures were set up in earnest."""
        if self._hollow is None:
            return (yield)
        self._hollow.prepare(functions_of)
        self._hollow.active = True
        try:
            return (yield)
        finally:
            self._hollow.active = False

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
        """Say what was called, or whether the broken function ran."""
        report = yield
        marker = item.get_closest_marker("behaviour")
        called = [] if self._hollow is None else sorted(self._hollow.called)[:_MOST_CALLED]
        answer = {"called": called, "reached": bool(MARK[0]), "trouble": self._trouble}
        answer["subject"] = None if marker is None else marker.kwargs.get("subject", "impl")
        report.user_properties.append((PROPERTY, answer))
        return report
