"""A small project with a catalogue, and a run of it with pretended machines."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from kernelproof.conformance.report import files

# What is loaded before a run in this process stays loaded after it: several times faster.
for _name in ("in_guest", "needs", "run_results", "seen", "suite"):
    import_module(f"kernelproof.conformance.{_name}")

HERE = Path(__file__).parent
PLUGINS = ("-p", "kernelproof.conformance.plugin", "-p", "fake_machines")
ENTRY = '[[behaviour]]\nid = "{id}"\nstatement = "It is so."\nsource = "a document, a section"\n{more}\n'


class Project:
    """A project in a temporary folder: conformance/behaviours/demo.toml and conformance/test_demo.py."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.path = pytester.path
        self.kmsg = self.path / "kmsg"
        self._pytester = pytester
        (self.path / "conformance/behaviours").mkdir(parents=True)
        (self.path / "fake_machines.py").write_text((HERE / "fake_machines.py").read_text())
        (self.path / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
        pytester.syspathinsert()

    def entry(self, id: str, more: str = "") -> None:
        """Add a statement to the catalogue."""
        self.toml(ENTRY.format(id=id, more=more))

    def toml(self, text: str, name: str = "demo.toml") -> None:
        """Add text to a catalogue file."""
        with (self.path / "conformance/behaviours" / name).open("a") as file:
            file.write(text)

    def tests(self, text: str, name: str = "conformance/test_demo.py") -> None:
        """Write a file of tests."""
        head = "import os, pytest\nfrom kernelproof import behaviour\n"
        (self.path / name).write_text(head + text)

    def run(self, *arguments: str) -> pytest.RunResult:
        """Run pytest with the pretended machines in this process."""
        return self._pytester.runpytest_inprocess(*PLUGINS, *arguments)

    def run_without_machines(self, *arguments: str) -> pytest.RunResult:
        """Run pytest with the conformance plugin alone."""
        return self._pytester.runpytest_inprocess(*PLUGINS[:2], *arguments)

    def run_apart(self, *arguments: str) -> pytest.RunResult:
        """Run pytest with the pretended machines in a process of its own."""
        return self._pytester.runpytest_subprocess(*PLUGINS, *arguments)

    def results(self, name: str = "6.12.json") -> dict[str, Any]:
        """Return a results file."""
        data: dict[str, Any] = json.loads((self.path / "results" / name).read_text())
        return data

    def row(self, name: str = "6.12.json") -> dict[str, Any]:
        """Return the only row of a results file."""
        (row,) = self.results(name)["results"]
        assert isinstance(row, dict)
        return row


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project without statements and tests; its machines' kernel log is empty and the kernel not tainted."""
    project = Project(pytester)
    project.kmsg.write_text("6,1,1000,-;a line from before the test\n")
    (project.path / "tainted").write_text("0\n")
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # the run inside is no worker, whoever runs this
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("FAKE_KMSG", str(project.kmsg))
    monkeypatch.setenv("FAKE_TAINTED", str(project.path / "tainted"))
    return project


@pytest.fixture(scope="session")
def check() -> Callable[[dict[str, Any]], None]:
    """Whether data are a results file, by the published schema."""
    import jsonschema  # a guest, which reads this file too, has none

    schema = json.loads(Path(files.__file__).with_name("results.schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)

    def look(data: dict[str, Any]) -> None:
        assert [error.message for error in validator.iter_errors(data)] == []

    return look
