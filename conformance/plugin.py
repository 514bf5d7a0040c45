"""pytest plugin: ties tests to documented statements, each from a catalogue beside them.

A test says which statement it proves:

    @behaviour("bridge.limit.name-length")
    def test_name_length(): ...

and a test of a table says it by each row (`behaviour_row`).

The statement itself, its source and what it needs are data: `behaviours/*.toml` in the folder above the tests, or
where the ini option `behaviours_path` says. The plugin loads next to nothing until a run has such a test: a pytest
that has none pays for the lines of this module only.

It runs on both sides. On the host it holds the catalogue's rules, chooses, and writes results (`suite`, `run_results`);
inside a machine, where KERNELPROOF_GUEST is set, it probes needs and judges (`in_guest`).
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from _pytest.mark import ParameterSet

    from kernelproof.conformance.seen import Seen

GUEST_VARIABLE = "KERNELPROOF_GUEST"


def behaviour(id: str, /, *, subject: str = "impl") -> pytest.MarkDecorator:
    """Tie a test to the statement `id` of the catalogue.

    The test becomes a machine test; its machine's profile follows from the statement's `needs` unless the test bears
    a `machine` marker of its own.

    Args:
        id: The statement's id: topic.part.short-name.
        subject: Who acts: "impl" (the project's own packages), "stand-in" (something else until they can), or a
            peer's name such as "runc", whose outcome is shown beside the others and fails nothing.
    """
    return pytest.mark.behaviour(id, subject=subject)


def behaviour_row(id: str, /, *values: object, subject: str = "impl") -> ParameterSet:
    """Make a row of a table of statements: what `pytest.mark.parametrize` gives the test, tied to a statement.

    For statements where the act and the observation are the same, and only the values differ:

        @pytest.mark.parametrize(
            ("option", "flag"),
            [
                behaviour_row("mount.option.ro", "ro", MS_RDONLY),
                behaviour_row("mount.option.nosuid", "nosuid", MS_NOSUID),
            ],
        )
        def test_option(option: str, flag: int): ...

    Rows stand in the decorator, each with its whole id: by it a reader, and the report, find a statement's test.

    Args:
        id: The statement's id; its last word is the row's in pytest's node ids.
        values: The row's values.
        subject: As in `behaviour`.
    """
    return pytest.param(*values, id=id.rpartition(".")[2], marks=behaviour(id, subject=subject))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --results-dir, --behaviours, --no-peers and the ini option behaviours_path."""
    group = parser.getgroup("kernelproof")
    group.addoption(
        "--results-dir",
        metavar="DIR",
        help="where results/<kernel>.json goes (default: results below the root directory)",
    )
    group.addoption(
        "--behaviours",
        choices=("all", "quick"),
        default="all",
        help="quick: one statement in each topic (an id's first two words), on the profiles plain and disk only",
    )
    group.addoption(
        "--no-peers",
        action="store_true",
        help="ask the project's own runtime alone, not the peers that would do the same work in the same machine",
    )
    parser.addini(
        "behaviours_path",
        "folders of behaviours/*.toml; every test below their parents must bear @behaviour",
        type="paths",
        default=[],
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers and this side's half."""
    config.addinivalue_line(
        "markers", "behaviour(id, *, subject='impl'): the documented statement this test proves; runs in a machine"
    )
    config.addinivalue_line(
        "markers", "peers(*names): who does a behaviour's work in the same machine too; see Seen.beside"
    )
    config.addinivalue_line(
        "markers", "expect_log(*patterns): what the test must provoke in the kernel log; its absence is a failure"
    )
    if os.environ.get(GUEST_VARIABLE):
        in_guest = import_module("kernelproof.conformance.in_guest")
        config.pluginmanager.register(in_guest.GuestSide(), "kernelproof-conformance-guest")
    else:
        config.pluginmanager.register(_HostSide(config), "kernelproof-conformance-host")


@pytest.fixture
def seen(request: pytest.FixtureRequest) -> Seen:
    """Record what the kernel answered, before it is asserted: `assert seen(value) == …`, `seen.errno_of(call, …)`."""
    recorder: Seen = import_module("kernelproof.conformance.seen").attach(request.node)
    return recorder


class _HostSide:
    # Waits for the first sign of a behaviour, then loads the rest.
    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        parents = [folder.parent for folder in self._config.getini("behaviours_path")]
        if any(_may_be_behaviour(item, parents) for item in items):
            suite = import_module("kernelproof.conformance.suite").Suite(self._config)
            self._config.pluginmanager.register(suite, "kernelproof-conformance-suite")
            suite.bind(items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_kernelproof_machine(self, config: pytest.Config, facts: dict[str, Any]) -> None:
        self._results().note_machine(facts)

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if _is_controller(self._config) and any(name == "kernelproof-behaviour" for name, _ in report.user_properties):
            self._results().note_report(report)

    def _results(self) -> Any:
        name = "kernelproof-conformance-results"
        results = self._config.pluginmanager.get_plugin(name)
        if results is None:
            results = import_module("kernelproof.conformance.run_results").RunResults(self._config)
            self._config.pluginmanager.register(results, name)
        return results


def _may_be_behaviour(item: pytest.Item, parents: list[Path]) -> bool:
    marked = item.get_closest_marker("behaviour") is not None
    return marked or any(item.path.is_relative_to(parent) for parent in parents)


def _is_controller(config: pytest.Config) -> bool:
    return not hasattr(config, "workerinput")
