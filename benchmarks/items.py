"""The measured items of workloads/, run by pytest in this process, a machine each, round by round."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import cast
from unittest import mock

import pytest
from measure import ROOT, Sample

from kernelproof.vm.process import Child, Spawner
from kernelproof.vm.replay import ItemReader
from kernelproof.vm.standing import read_clock

WORKLOADS = ROOT / "benchmarks" / "workloads"


class Recorder:
    """A pytest plugin: puts items in rounds and records what each machine took.

    Args:
        names: The test functions of workloads/ to run.
        rounds: How often.
        after_item: Called with each item's function name when its machine is gone, for what runs in between.
    """

    def __init__(
        self, names: Sequence[str], rounds: int, after_item: Callable[[str], None] = lambda name: None
    ) -> None:
        self.samples: dict[str, list[Sample]] = {name: [] for name in names}
        self.until_report: dict[str, list[Sample]] = {name: [] for name in names}
        self._first: Sample | None = None
        self.facts: Mapping[str, object] = {}
        self._rounds = rounds
        self._after_item = after_item

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the wanted items, the first round's first."""
        wanted = [item for item in items if _name(item) in self.samples and _turn(item) < self._rounds]
        items[:] = sorted(wanted, key=_turn)

    def pytest_kernelproof_machine(self, facts: Mapping[str, object]) -> None:
        """Keep what the machines are."""
        self.facts = facts

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record an item that passed; its machine was killed and reaped before its reports came here."""
        if report.when != "call":
            return
        name = report.location[2].partition("[")[0]
        if report.passed:
            took = cast("Mapping[str, float]", dict(report.user_properties)["kernelproof"])
            self.samples[name].append(Sample(took["cpu_seconds"], took["wall_seconds"]))
            if self._first is not None:
                self.until_report[name].append(self._first)
        self._after_item(name)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within the block, note what each machine has taken when its first report is there.

        All reports of an item are sent when its teardown is over, so this leaves out their rest and the machine's end.
        """
        adopt, feed = Spawner._adopt, ItemReader.feed
        machine: tuple[int, float, float] | None = None

        def adopt_noted(spawner: Spawner, pid: int, began: float, seconds: float = 0.0) -> Child:
            nonlocal machine
            machine, self._first = (pid, began, seconds), None
            return adopt(spawner, pid, began, seconds)

        def feed_noted(reader: ItemReader, answer: Mapping[str, object]) -> None:
            if self._first is None and machine is not None and answer["kind"] == "report":
                self._first = Sample(machine[2] + read_clock(machine[0]), time.monotonic() - machine[1])
            feed(reader, answer)

        with mock.patch.object(Spawner, "_adopt", adopt_noted), mock.patch.object(ItemReader, "feed", feed_noted):
            yield


def _name(item: pytest.Item) -> str:
    return item.name.partition("[")[0]


def _turn(item: pytest.Item) -> int:
    return int(item.callspec.params["turn"])  # type: ignore[attr-defined]


def run_items(recorder: Recorder, kernel: str) -> None:
    """Run the recorder's items.

    Raises:
        SystemExit: not all passed; pytest said why.
    """
    arguments = [str(WORKLOADS), "--kernel", kernel, "-p", "no:cacheprovider", "--no-header", "-q"]
    # A benchmark may have imported what pytest would rewrite.
    arguments += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    with recorder.watching():
        status = pytest.main(arguments, plugins=[recorder])
    if status != pytest.ExitCode.OK:
        raise SystemExit(f"the measured items did not all pass: pytest ended with {status}")
