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
from functions_of import functions_of
from hollowing import Hollow

PROPERTY = "mutant"
TASKS, ANSWERS = "KERNELPROOF_MUTANT_TASKS", "KERNELPROOF_MUTANT_ANSWERS"
_GUEST = "KERNELPROOF_GUEST"


def pytest_configure(config: pytest.Config) -> None:
    """Register this side's half."""
    side = _Guest(str(config.rootpath)) if os.environ.get(_GUEST) else _Host(config)
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
        return {"mutant": "hollow" if self._tasks is None else self._tasks[item.nodeid]}

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write an item's outcome when its last report is there."""
        if self._answers is None or hasattr(self._config, "workerinput"):
            return
        answer = self._worst.setdefault(report.nodeid, {"nodeid": report.nodeid, "outcome": "none", "said": ""})
        for name, value in report.user_properties:
            if name == PROPERTY:
                answer["guest"] = value
        if report.when == "call" or report.outcome != "passed":
            outcome = report.outcome if report.when == "call" else f"{report.when} {report.outcome}"
            if answer["outcome"] in ("none", "passed"):
                answer |= {"outcome": outcome, "said": _say(report)}
        if report.when == "teardown":
            with open(self._answers, "a", encoding="utf-8") as file:
                file.write(json.dumps(self._worst.pop(report.nodeid)) + "\n")


def _say(report: pytest.TestReport) -> str:
    if report.outcome == "passed":
        return ""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = str(getattr(crash, "message", None) or report.longreprtext)
    return text[:400]


class _Guest:
    def __init__(self, root: str) -> None:
        self._hollow = Hollow(root)
        self._task: Any = None

    def pytest_collection_finish(self) -> None:
        """Exchange code before the snapshot, so that no clone has to."""
        self._hollow.prepare(functions_of)

    @pytest.hookimpl(optionalhook=True)
    def pytest_kernelproof_item(self, item: pytest.Item, data: Mapping[str, Any]) -> None:
        """Keep what the host wants."""
        self._task = data.get("mutant")

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_call(self) -> Generator[None, None, None]:
        """Let the test alone call what does nothing: its fixtures were set up in earnest."""
        self._hollow.prepare(functions_of)
        self._hollow.active = self._task == "hollow"
        try:
            return (yield)
        finally:
            self._hollow.active = False

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
        """Say what was called."""
        report = yield
        if call.when == "call":
            report.user_properties.append((PROPERTY, {"called": sorted(self._hollow.called)[:200]}))
        return report
