"""Runs items in machines and replays what their guests report, so that pytest sees ordinary tests.

The host collects, selects and reports; fixtures and tests run in the guest. What makes the machines is given: see
`MachineProvider`.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import pytest

from kernelproof.vm.broken import Loss, broken_reports, shorten_log
from kernelproof.vm.errors import ChannelError, GuestError, MachineLost, VmError
from kernelproof.vm.plugin import FACTS, chosen_kernels
from kernelproof.vm.provision_progress import SilentProgress, open_progress
from kernelproof.vm.provision_types import Progress
from kernelproof.vm.replay import OWN_PROPERTY, ItemReader, rebuild_report, rebuild_warning
from kernelproof.vm.selection import ASSIGNMENT, MachineKey, assign_items, item_location, merge_items, seed_for
from kernelproof.vm.sessions import ItemMachine, MachineProvider, OpenSession, fact, open_session

_NOT_YET = ("usepdb", "trace")  # options that need a terminal in the machine

_Reports = Sequence[Mapping[str, object]]


class Host:
    """The plugin's working part; registered when there is an item for it.

    Args:
        config: pytest's configuration.
        provider: What makes machines.
    """

    def __init__(self, config: pytest.Config, provider: MachineProvider) -> None:
        self._config = config
        self._provider = provider
        self._sessions: dict[MachineKey, OpenSession | Loss] = {}
        self._left: Counter[MachineKey] = Counter()
        self._untold: dict[MachineKey, Mapping[str, object]] = {}

    # --- collection

    def take(self, items: list[pytest.Item]) -> None:
        """Assign machines to marked items, in place: chosen kernels, copies, what plugins leave out.

        Raises:
            UsageError: an unknown kernel, a wrong marker, an option that machines can't serve.
        """
        for name in _NOT_YET:
            if self._config.getoption(name, False):
                raise pytest.UsageError("a machine has no terminal: run its tests without --pdb and --trace")
        by_kernel = assign_items(items, self._select())
        for series, chosen in by_kernel.items():
            self._config.hook.pytest_kernelproof_select(config=self._config, items=chosen, series=series)
        items[:] = merge_items(items, by_kernel)

    def _select(self) -> Sequence[str]:
        try:
            return self._provider.select(chosen_kernels(self._config))
        except VmError as error:
            raise pytest.UsageError(str(error)) from error

    # --- running

    def run(self, item: pytest.Item, nextitem: pytest.Item | None) -> None:
        """Run one item in a machine of its own and report it."""
        if ASSIGNMENT not in item.stash:  # a plugin marked it after the collection: too late for more than one kernel
            assign_items([item], self._select()[:1])
        key = item.stash[ASSIGNMENT].key
        if key not in self._sessions:
            self._sessions[key] = self._open(item, key)
        location = item_location(item)
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=location)
        stop = self._play(item, self._sessions[key])
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=location)
        self._tear_down_others(item, nextitem)
        self._count_down(key)
        if stop is not None:
            raise stop

    def _open(self, item: pytest.Item, key: MachineKey) -> OpenSession | Loss:
        items = [
            other for other in item.session.items if ASSIGNMENT in other.stash and other.stash[ASSIGNMENT].key == key
        ]
        self._left[key] = len(items)
        began = time.monotonic()
        try:
            with self._progress() as progress:
                opened = open_session(self._provider, self._config, key, items, progress)
        except (VmError, OSError) as error:
            return Loss.from_error("session", error)
        self._tell(opened.facts, key, time.monotonic() - began)
        self._record_warnings(opened.warnings)
        return opened

    def _progress(self) -> AbstractContextManager[Progress]:
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        worker = getattr(self._config, "workerinput", {"workerid": "gw0"})
        if (
            reporter is None or self._config.get_verbosity() < 0 or worker["workerid"] != "gw0"
        ):  # one worker's is enough
            return nullcontext(SilentProgress())
        reporter.ensure_newline()
        return open_progress(sys.stderr)

    def _tell(self, facts: Mapping[str, object], key: MachineKey, seconds: float) -> None:
        worker = getattr(self._config, "workeroutput", None)
        if worker is not None:
            # At the end, and with the first item too: a worker that is interrupted does not come to its end.
            worker.setdefault(FACTS, []).append(dict(facts))
            self._untold[key] = facts
            return
        self._config.hook.pytest_kernelproof_machine(config=self._config, facts=facts)
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None and self._config.get_verbosity() >= 0:
            reporter.ensure_newline()
            reporter.write_line(f"kernelproof: {describe_facts(facts, key)} (ready after {seconds:.1f} s)")

    def _play(self, item: pytest.Item, opened: OpenSession | Loss) -> BaseException | None:
        """Run and report; returns what must stop the whole run, if the test asked for that."""
        wall, properties = time.monotonic(), self._first_properties(item)
        identity = {
            "nodeid": item.nodeid,
            "location": item_location(item),
            "keywords": dict.fromkeys(item.keywords, 1),
        }
        reader = ItemReader(item.stash[ASSIGNMENT].origin.nodeid, identity)
        loss = opened if isinstance(opened, Loss) else self._converse(item, opened, reader, properties)
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
            if isinstance(opened, Loss):
                self._sessions[item.stash[ASSIGNMENT].key] = loss.again()
        for data in reports:
            self._replay(item, data, properties)
        return stop

    def _first_properties(self, item: pytest.Item) -> dict[str, object]:
        assignment = item.stash[ASSIGNMENT]
        facts = self._untold.pop(assignment.key, None)
        return {
            **({} if facts is None else {"facts": dict(facts)}),
            "node": assignment.origin.nodeid,
            "kernel": assignment.key.series,
            "profile": assignment.key.profile,
            "time": assignment.key.time,
            "seed": seed_for(assignment.origin.nodeid),
            "clone": None,
            "guest_seconds": None,
            "wall_seconds": None,
            "cpu_seconds": None,
            "lost": None,
            "log": "",
        }

    def _converse(
        self, item: pytest.Item, opened: OpenSession, reader: ItemReader, properties: dict[str, object]
    ) -> Loss | None:
        assignment = item.stash[ASSIGNMENT]
        if (missing := opened.explain_missing(assignment.origin.nodeid)) is not None:
            return missing
        machine: ItemMachine | None = None
        try:
            machine = opened.machines.clone()
            timeout = self._config.getoption("vm_timeout")
            for message in machine.stream(self._item_message(item, opened, properties), timeout=timeout):
                reader.feed(message)
            end = reader.finish()
            return Loss("hook", str(end["text"])) if end["end"] == "error" else None
        except MachineLost as error:
            return Loss.from_error(error.kind, error)
        except ChannelError as error:
            return Loss.from_error("protocol", error)
        except GuestError as error:
            return Loss.from_error("agent", error)
        finally:
            if machine is not None:
                properties["log"] = shorten_log(machine.log())
                properties["cpu_seconds"] = round(machine.close().cpu_seconds, 6)

    def _item_message(
        self, item: pytest.Item, opened: OpenSession, properties: Mapping[str, object]
    ) -> dict[str, object]:
        assignment = item.stash[ASSIGNMENT]
        series = assignment.key.series
        data: dict[str, object] = {}
        for part in self._config.hook.pytest_kernelproof_item_data(item=item, series=series):
            data.update(part)
        message = {"kind": "item", "nodeid": assignment.origin.nodeid, "seed": properties["seed"], "data": data}
        if not opened.is_virtual:  # in virtual time a watchdog in the guest barks as soon as the guest idles
            message["deadline_seconds"] = self._config.getoption("vm_timeout")
        return message

    # --- reporting

    def _replay(self, item: pytest.Item, data: Mapping[str, object], properties: dict[str, object]) -> None:
        report = rebuild_report(self._config, data)
        report.user_properties.insert(0, (OWN_PROPERTY, properties))
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

    def _count_down(self, key: MachineKey) -> None:
        self._left[key] -= 1
        opened = self._sessions[key]
        if self._left[key] <= 0 and isinstance(opened, OpenSession):
            opened.machines.close()
            del self._sessions[key]

    def close(self) -> None:
        """Give back every template."""
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


def describe_facts(facts: Mapping[str, object], key: MachineKey) -> str:
    """One line about a kind of machine, as for the header."""
    return (
        f"{fact(facts, 'kernel', 'release')}, profile {key.profile}, {fact(facts, 'machine', 'accelerator')}, "
        f"{fact(facts, 'machine', 'time')} time, {fact(facts, 'machine', 'cpus')} CPUs, "
        f"QEMU {fact(facts, 'machine', 'qemu')}, Python {fact(facts, 'guest', 'python')}"
    )


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
