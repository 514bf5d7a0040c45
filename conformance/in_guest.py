"""The plugin's half inside a machine: probes what an item needs, judges its outcome and the kernel's log.

The host sends with each item what its entry in the catalogue says: {"subject", "needs", "deviation"}; the catalogue
itself is never read here. The answer travels in the reports' user property "kernelproof-behaviour": {"outcome", "seen",
"reason", "log"}, where the outcome is one that pytest has no word for, or None; and "peers" where the test asked some.

How the five outcomes show in pytest's reports: pass and deviation passed, fail failed in the call, broken failed in the
setup, not applicable skipped in the setup.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

import pytest

from kernelproof.conformance.kernel_log import KernelLog, judge
from kernelproof.conformance.needs import MachineLacks, NotApplicable, Probes
from kernelproof.conformance.seen import attach, format_value, last_peers, last_seen

PROPERTY = "kernelproof-behaviour"
NOT_APPLICABLE_PREFIX = "not applicable: "

_IMPL = "kernelproof.impl."
_LATE = ("encodings.ascii", "encodings.idna", "kernelproof.impl._syscalls.foreign")

_JUDGED_SUBJECTS = ("impl", "stand-in")
_WITNESS_SECONDS = 60  # of the guest's clock
_LOG_LINES = 200  # the last ones are kept

_Reports = Generator[None, pytest.TestReport, pytest.TestReport]


class GuestSide:
    """The guest's plugin."""

    def __init__(self) -> None:
        guest = json.loads(os.environ["KERNELPROOF_GUEST"])
        # Under --vm-none this is no machine: it may lack capabilities, and what others do is in its kernel's log too.
        self._is_machine = guest.get("time") != "none"
        self._probes = Probes(profile=guest.get("profile", "plain"), is_machine=self._is_machine)
        self._log: KernelLog | None = None
        self._no_log = ""

    def pytest_collection_finish(self) -> None:
        """Import what is left, read the kernel's configuration and open its log before the snapshot: no clone has to.

        What is logged from here on is judged: by the first item of a machine, then by each next one.
        """
        _import_what_is_late()
        try:
            self._log = KernelLog() if self._is_machine else None
        except OSError as error:
            self._no_log = str(error)  # told by every item
        try:
            self._probes.read_config()
        except MachineLacks:
            return  # told by the first item that needs it

    def pytest_unconfigure(self) -> None:
        """Close the log."""
        if self._log is not None:
            self._log.close()

    @pytest.hookimpl(optionalhook=True)
    def pytest_kernelproof_item(self, item: pytest.Item, data: Mapping[str, Any]) -> None:
        """Keep what the host says about the item."""
        item.stash[_STATE] = _State(data)
        attach(item).wanted_peers = tuple(data.get("peers", ()))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Probe what the item needs."""
        state = item.stash.setdefault(_STATE, _State({}))
        state.log = self._log
        if self._log is None and self._is_machine:
            text = f"the kernel's log can't be judged: {self._no_log}; give the test CAP_SYSLOG"
            pytest.fail(text, pytrace=False)
        if item.get_closest_marker("behaviour") is None:
            return
        _refuse_marks(item)
        if not state.data:
            pytest.fail("the host sent nothing about this behaviour; is the plugin disabled there?", pytrace=False)
        try:
            self._probes.check(state.data["needs"])
        except NotApplicable as absent:
            state.not_applicable = str(absent)
            pytest.skip(f"{NOT_APPLICABLE_PREFIX}{absent}")
        except MachineLacks as lacking:
            pytest.fail(str(lacking), pytrace=False)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> _Reports:
        """Turn a phase's report into one of the five outcomes; see `_judge_item` for when."""
        state = item.stash.setdefault(_STATE, _State({}))
        style = item.config.option.tbstyle
        if call.excinfo is not None and state.expects(last_seen(item)):
            item.config.option.tbstyle = "native"  # shown if its witness disagrees alone; the long one takes 30 ms
        try:
            report = yield
        finally:
            item.config.option.tbstyle = style
        if item.get_closest_marker("behaviour") is not None:
            state.is_behaviour = True
            _judge_skip(report, state)
        if call.when == "teardown":
            _judge_item(item, state, report)
        elif report.when == "call":
            state.call_report = report
        return report


def _import_what_is_late() -> None:
    # What is imported at its first use would be in each clone: a third of what tests of mount and netlink ran.
    packages = [module for name, module in list(sys.modules.items()) if name.startswith(_IMPL) and name.count(".") == 2]
    for package in packages:
        for name in dir(package):
            with suppress(ImportError):  # told by the test that uses it
                getattr(package, name)
    for late in _LATE if packages else ():
        import_module(late)


class _State:
    # What is known about the item that runs.
    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = data
        self.is_behaviour = False
        self.not_applicable: str | None = None
        self.call_report: pytest.TestReport | None = None
        self.answer: dict[str, Any] = {"outcome": None, "seen": None, "reason": None, "log": None}
        self.log: KernelLog | None = None

    def expects(self, seen: object) -> bool:
        # 1 is neither true nor 1.0.
        deviation = self.data.get("deviation")
        return deviation is not None and json.dumps(seen) == json.dumps(deviation["seen"])

    def judge_log(self, item: pytest.Item) -> tuple[str, str]:
        # Returns the log and what is wrong in it.
        if self.log is None:
            return "", ""
        records = self.log.read_new()
        patterns = [pattern for mark in item.iter_markers("expect_log") for pattern in mark.args]
        verdict = judge(records, self.log.new_taints(), patterns)
        return "\n".join(str(record) for record in records[-_LOG_LINES:]), verdict.describe()


_STATE = pytest.StashKey[_State]()


def _judge_item(item: pytest.Item, state: _State, teardown: pytest.TestReport) -> None:
    # After the teardown: the log is whole then, and a witness finds the machine as the test found it. The guest's
    # session sends no report before the last one is made, so the call's can still be changed here.
    state.answer["seen"] = last_seen(item)
    if peers := last_peers(item):
        state.answer["peers"] = peers
    log, troubles = state.judge_log(item)
    report = state.call_report
    if report is None:
        _note_log(teardown, state, log, troubles)
    else:
        if state.data.get("deviation"):
            _judge_deviation(report, state)
        if troubles:
            _fail(report, state, troubles)
            state.answer["log"] = log
        _spare_peer(report, state)
    for judged in (report, teardown):
        if judged is not None and state.is_behaviour:
            judged.user_properties.append((PROPERTY, state.answer))
            if state.answer["outcome"] == "deviation":
                judged.user_properties.append(("deviation", state.answer["reason"]))


def _note_log(teardown: pytest.TestReport, state: _State, log: str, troubles: str) -> None:
    # Without a call the item is broken or not applicable; trouble in the log makes it broken.
    if troubles and state.not_applicable is not None:
        _break(teardown, troubles)
    elif troubles:
        teardown.sections.append(("kernel log", troubles))
    state.answer["log"] = log if troubles else None


def _refuse_marks(item: pytest.Item) -> None:
    for name in ("skip", "skipif", "xfail"):
        if item.get_closest_marker(name) is not None:
            pytest.fail(f"a behaviour must not bear the mark {name}: {_SKIP_REMEDY}", pytrace=False)


_SKIP_REMEDY = (
    "what a kernel lacks belongs into the catalogue's needs or kernels, what it does otherwise into its deviations"
)


def _judge_skip(report: pytest.TestReport, state: _State) -> None:
    if not report.skipped:
        return
    if report.when == "setup" and state.not_applicable is not None:
        state.answer.update(outcome="not_applicable", reason=state.not_applicable)
        report.user_properties.append((PROPERTY, state.answer))
    else:
        _break(report, f"a behaviour can't skip or xfail itself: {_SKIP_REMEDY}")


def _judge_deviation(report: pytest.TestReport, state: _State) -> None:
    deviation, seen = state.data["deviation"], state.answer["seen"]
    listed = deviation["seen"]
    if report.passed:
        text = f"the kernel does as documented, not {listed!r} as listed: remove the deviation, or narrow its kernels"
        _fail(report, state, text)
    elif not state.expects(seen):
        _fail(report, state, f"the deviation listed for this kernel is {listed!r}, the test saw {seen!r}")
    elif problem := _witness_problem(deviation):
        _fail(report, state, problem)
    else:
        report.outcome = "passed"
        report.longrepr = None
        state.answer.update(outcome="deviation", reason=f"{format_value(listed)}: {deviation['reason']}")


def _witness_problem(deviation: Mapping[str, Any]) -> str | None:
    name, expected = deviation["witness"], format_value(deviation["seen"])
    command = [sys.executable, "-I", "-S", "-"]
    try:
        done = subprocess.run(
            command, input=deviation["source"].encode(), capture_output=True, timeout=_WITNESS_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"the witness {name} did not end within {_WITNESS_SECONDS} s"
    said = done.stdout.decode("utf-8", "backslashreplace").strip()
    if done.returncode:
        return f"the witness {name} failed: {done.stderr.decode('utf-8', 'backslashreplace').strip()}"
    return None if said == expected else f"the witness {name} saw {said!r} where {expected!r} is listed"


def _fail(report: pytest.TestReport, state: _State, text: str) -> None:
    # Where there is a traceback it stays, and the text stands below it.
    state.answer.update(outcome=None, reason=text)
    if report.outcome == "failed":
        report.sections.append(("kernelproof", text))
    else:
        report.outcome = "failed"
        report.longrepr = text


def _break(report: pytest.TestReport, text: str) -> None:
    # pytest calls a failed setup an error, in its summary and in JUnit's.
    if hasattr(report, "wasxfail"):
        del report.wasxfail
    if report.when == "call":
        report.when = "setup"
    report.outcome = "failed"
    report.longrepr = text


def _spare_peer(report: pytest.TestReport, state: _State) -> None:
    # A peer's failure is shown beside the others and fails nothing.
    if report.failed and state.data.get("subject", "impl") not in _JUDGED_SUBJECTS:
        text = report.longreprtext
        crash = getattr(report.longrepr, "reprcrash", None)
        reason = state.answer["reason"] or getattr(crash, "message", None) or text
        state.answer.update(outcome="fail", reason=reason)
        report.sections.append(("the peer's failure", text))
        report.outcome = "passed"
        report.longrepr = None
