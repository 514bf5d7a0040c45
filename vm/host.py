"""Runs items in machines and replays what their guests report, so that pytest sees ordinary tests.

The host collects, selects and reports; fixtures and tests run in the guest. What makes the machines is given: see
`MachineProvider`; a worker borrows what its controller made: see `lending`.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pytest

from kernelproof.vm.broken import Loss, broken_reports
from kernelproof.vm.debugging import DebuggerWanted
from kernelproof.vm.errors import VmError
from kernelproof.vm.item_machines import AllRoom, ItemMachines
from kernelproof.vm.plugin import FACTS
from kernelproof.vm.replay import OWN_PROPERTY, ItemReader, rebuild_report, rebuild_warning
from kernelproof.vm.run_options import read_run_options
from kernelproof.vm.selection import (
    ASSIGNMENT,
    Assignment,
    MachineKey,
    assign_items,
    item_location,
    merge_items,
    seed_for,
    take_first_files,
)
from kernelproof.vm.sessions import MachineProvider, OpenSession, SessionPlan, open_session, plan_for
from kernelproof.vm.telling import choose_kernels, home_of, open_progress_of, tell_debugging, tell_machine
from kernelproof.vm.turns import Turn, Turns, first_properties
from kernelproof.vm.variation import Variation, draw_variation

if TYPE_CHECKING:
    from kernelproof.vm.lending import Borrower

_Reports = Sequence[Mapping[str, object]]


class Host:
    """The plugin's working part; registered when there is an item for it.

    Args:
        config: pytest's configuration.
        provider: What makes machines.
        borrower: In a worker, what lends them.
    """

    def __init__(self, config: pytest.Config, provider: MachineProvider, borrower: Borrower | None = None) -> None:
        self._config = config
        self._provider = provider
        self._borrower = borrower
        self._options = read_run_options(config)
        self._machines = ItemMachines(self._options.scope, borrower or AllRoom())
        self._turns = Turns(config, self._options, self._machines)
        self._sessions: dict[MachineKey, OpenSession | Loss] = {}
        self._plans: dict[MachineKey, SessionPlan] = {}
        self._left: Counter[MachineKey] = Counter()
        self._untold: dict[MachineKey, Mapping[str, object]] = {}

    # --- collection

    def take(self, items: list[pytest.Item]) -> None:
        """Assign machines to marked items, in place: chosen kernels, copies, what plugins leave out.

        Raises:
            UsageError: an unknown kernel, a wrong marker, an option that machines can't serve.
        """
        kernels = choose_kernels(self._config, self._provider)
        by_kernel = assign_items(items, kernels, self._options)
        home = home_of(kernels)
        for series, chosen in by_kernel.items():
            self._config.hook.pytest_kernelproof_select(
                config=self._config, items=chosen, series=series, home=series == home
            )
        items[:] = merge_items(items, by_kernel)
        if self._borrower is None and self._options.scope != "session":
            take_first_files(items)

    # --- running

    def run(self, item: pytest.Item, nextitem: pytest.Item | None) -> None:
        """Run one item in its machine and report it."""
        if ASSIGNMENT not in item.stash:  # a plugin marked it after the collection: too late for more than one kernel
            assign_items([item], choose_kernels(self._config, self._provider)[:1], self._options)
        key = item.stash[ASSIGNMENT].key
        if key not in self._sessions:
            self._sessions[key] = self._open(item.session.items, key)
        location = item_location(item)
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=location)
        stop = self._play(item, self._sessions[key], self._machines.following(item, nextitem))
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=location)
        self._tear_down_others(item, nextitem)
        self._count_down(key, nextitem)
        if stop is not None:
            raise stop

    def _open(self, items: Sequence[pytest.Item], key: MachineKey, *, debugs: bool = False) -> OpenSession | Loss:
        chosen = [each for each in items if ASSIGNMENT in each.stash and each.stash[ASSIGNMENT].key == key]
        began = time.monotonic()
        try:
            plan = plan_for(self._config, key, chosen, debugs=debugs or self._options.debugs)
            if not debugs:  # one more of a kind that others may have
                self._left[key], self._plans[key] = len(chosen), plan
            if self._borrower is not None:
                return self._borrower.open(plan, len(chosen))
            with open_progress_of(self._config) as progress:
                opened = open_session(self._provider, self._config, plan, progress)
        except (VmError, OSError) as error:
            return Loss.from_error("session", error)
        self._tell(opened.facts, key, time.monotonic() - began)
        self._record_warnings(opened.warnings)
        return opened

    def _tell(self, facts: Mapping[str, object], key: MachineKey, seconds: float) -> None:
        worker = getattr(self._config, "workeroutput", None)
        if worker is None:
            tell_machine(self._config, facts, key, seconds)
        else:
            # At the end, and with the first item too: a worker that is interrupted does not come to its end.
            worker.setdefault(FACTS, []).append(dict(facts))
            self._untold[key] = facts

    def _play(
        self, item: pytest.Item, opened: OpenSession | Loss, following: pytest.Item | None
    ) -> BaseException | None:
        """Run and report; returns what must stop the whole run, if the test asked for that."""
        wall, assignment = time.monotonic(), item.stash[ASSIGNMENT]
        variation = _variation_of(assignment, opened)
        seed = seed_for(assignment.origin.nodeid) if variation is None else variation.seed
        properties = first_properties(item, seed, self._untold.pop(assignment.key, None), variation)
        keywords = dict.fromkeys(item.keywords, 1)
        identity = {"nodeid": item.nodeid, "location": item_location(item), "keywords": keywords}
        reader = ItemReader(assignment.origin.nodeid, identity)
        if isinstance(opened, Loss):
            loss: Loss | None = opened
            self._sessions[assignment.key] = opened.again()
        else:
            turn = Turn(item, opened, reader, properties, variation, following, self._options.debugs)
            loss, reader = self._take_turn(turn, identity)
        properties["wall_seconds"] = round(time.monotonic() - wall, 6)
        reports: _Reports = reader.reports
        stop: BaseException | None = None
        if loss is None:
            end = reader.finish()
            properties |= {name: end[name] for name in ("clone", "guest_seconds")}
            stop = _stop_of(end)
            self._record_warnings(end["warnings"], item.nodeid)
        else:
            properties["lost"] = {"kind": loss.kind, "text": loss.text}
            reports = broken_reports(item, identity, loss, float(str(properties["wall_seconds"])))
        for data in reports:
            self._replay(item, data, properties)
        return stop

    def _take_turn(self, turn: Turn, identity: Mapping[str, object]) -> tuple[Loss | None, ItemReader]:
        try:
            return self._turns.take(turn), turn.reader
        except DebuggerWanted:
            pass
        # Once more, in a machine whose second port is the user's terminal.
        tell_debugging(self._config, turn.item.nodeid)
        assignment = turn.item.stash[ASSIGNMENT]
        key = assignment.key._replace(time="real")
        reader = ItemReader(assignment.origin.nodeid, identity)
        turn.item.stash[ASSIGNMENT] = assignment._replace(key=key)
        opened = self._open([turn.item], key, debugs=True)
        try:
            if isinstance(opened, Loss):
                return opened, reader
            debugged = Turn(turn.item, opened, reader, turn.properties, debugs=True)
            return self._turns.take(debugged), reader
        finally:
            turn.item.stash[ASSIGNMENT] = assignment
            if isinstance(opened, OpenSession):
                opened.machines.close()

    # --- reporting

    def _replay(self, item: pytest.Item, data: Mapping[str, object], properties: dict[str, object]) -> None:
        report = rebuild_report(self._config, data)
        report.user_properties.insert(0, (OWN_PROPERTY, properties))
        if report.failed and (variation := properties.get("variation")) is not None:
            report.sections.append(("kernelproof: repetition", describe_variation(variation)))
        if self._config.getoption("capture") == "no":
            _print_captured(report)
        item.ihook.pytest_runtest_logreport(report=report)

    def _record_warnings(self, recorded: object, nodeid: str = "") -> None:
        for warning in recorded if isinstance(recorded, list) else []:
            when = warning["when"]
            arguments = {"warning_message": rebuild_warning(warning), "when": when, "nodeid": nodeid, "location": None}
            self._config.hook.pytest_warning_recorded.call_historic(kwargs=arguments)

    def _tear_down_others(self, item: pytest.Item, nextitem: pytest.Item | None) -> None:
        # Items of this module that ran on the host may have left fixtures of a wider scope set up for a "next item"
        # that never sets up here; pytest insists that they are torn down before another module's item.
        state = item.session._setupstate
        if state.stack:
            call = pytest.CallInfo.from_call(lambda: state.teardown_exact(nextitem), when="teardown")
            if call.excinfo is not None:
                report = item.ihook.pytest_runtest_makereport(item=item, call=call)
                item.ihook.pytest_runtest_logreport(report=report)

    # --- the end

    def _count_down(self, key: MachineKey, nextitem: pytest.Item | None) -> None:
        self._left[key] -= 1
        is_last = self._left[key] <= 0
        if self._borrower is not None:
            if key in self._plans:
                self._borrower.done(self._plans[key])
            # The others may not be done; what is borrowed again costs nothing.
            assignment = None if nextitem is None else nextitem.stash.get(ASSIGNMENT, None)
            is_last = assignment is None or assignment.key != key
        opened = self._sessions[key]
        if is_last and isinstance(opened, OpenSession):
            self._machines.drop()
            opened.machines.close()
            del self._sessions[key]

    def close(self) -> None:
        """Give back every template."""
        self._machines.drop()
        for opened in self._sessions.values():
            if isinstance(opened, OpenSession):
                opened.machines.close()
        self._sessions.clear()

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """Give back every template; `pytest_unconfigure` sees to it when a session ends otherwise."""
        self.close()

    def pytest_unconfigure(self) -> None:
        """Give back every template."""
        self.close()
        if self._borrower is not None:
            self._borrower.close()


def _variation_of(assignment: Assignment, opened: OpenSession | Loss) -> Variation | None:
    if assignment.seed is None or isinstance(opened, Loss):
        return None
    return draw_variation(assignment.seed, opened.cpus)


def describe_variation(variation: object) -> str:
    """What differs in a repetition, and how it is made again."""
    words = ", ".join(f"{name} {value}" for name, value in variation.items()) if isinstance(variation, dict) else ""
    seed = variation["seed"] if isinstance(variation, dict) else ""
    return f"{words}; to run it again: --vm-vary {seed}"


def _stop_of(end: Mapping[str, object]) -> BaseException | None:
    if end["end"] != "exit":
        return None
    status = end["status"]
    return pytest.exit.Exception(str(end["text"]), status if isinstance(status, int) else None)


def _print_captured(report: pytest.TestReport) -> None:
    """With -s: what the guest captured in this phase goes to the terminal, and not into the report."""
    for name, text in report.sections:
        if name == f"Captured stdout {report.when}":
            sys.stdout.write(text)
        elif name == f"Captured stderr {report.when}":
            sys.stderr.write(text)
    report.sections = [
        entry for entry in report.sections if not entry[0].startswith(("Captured stdout", "Captured stderr"))
    ]
