"""One pytest session inside the machine: it collects, waits to be snapshotted, and runs the items that the host names.

pytest itself does all of it. The snapshot is taken inside its run loop: a clone wakes up with everything imported and
collected, in the middle of `Port.receive`. The host's command line decides; autoload of plugins is off.
Not a pytest plugin for anything but this: nothing here works outside an agent.
"""

from __future__ import annotations

import faulthandler
import gc
import inspect
import os
import random
import sys
import time
import traceback
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from importlib import import_module
from typing import TYPE_CHECKING, cast

import pytest
from _pytest.config import default_plugins
from _pytest.runner import runtestprotocol

from kernelproof.vm.guest.attendance import attend
from kernelproof.vm.guest.bytecode import Recorder
from kernelproof.vm.guest.clipping import OUTPUT_LIMIT, clip_file, clip_report, clip_text, identify, is_long
from kernelproof.vm.guest.debugging import DebugTerminal
from kernelproof.vm.guest.frames import FrameError
from kernelproof.vm.guest.hookspecs import GuestHooks
from kernelproof.vm.guest.measuring import Measuring
from kernelproof.vm.guest.output import STREAMS, kept_output, open_terminal, read_output
from kernelproof.vm.guest.port import FORKED, Port
from kernelproof.vm.guest.resident import make_resident
from kernelproof.vm.guest.session_request import parse_request, plan_arguments
from kernelproof.vm.guest.snapshot_fixtures import set_up_for_snapshot
from kernelproof.vm.guest.stacks import StackSignal
from kernelproof.vm.guest.varying import vary

if TYPE_CHECKING:
    import warnings

# The base template imports this module, so that no session pays for loading pytest's own plugins: half of its start.
for _plugin in default_plugins:
    import_module(f"_pytest.{_plugin}")
import_module("getpass")  # by pytest where a test first asks for a folder

MARKER = "machine(profile='plain', time='virtual'): run this test in a machine of its own"
KERNEL_INI = "kernelproof_kernel"

WARNINGS_LIMIT = 100  # warnings that one item, or the collection, may report

_REHEARSAL = "kernelproof.vm.guest.rehearsal"  # by name: it imports this module

_KNOWN = ("keywords", "location")  # the host takes its own
_TIMES = ("duration", "start", "stop")  # sent as integers: a fraction is a twentieth of what a short test runs
_PHASES = 3  # reports of an item without subtests: setup, call, teardown

_monotonic, _getpid = time.monotonic_ns, os.getpid  # a test may replace the modules'


def serve_session(port: Port, message: Mapping[str, object]) -> None:
    """Run pytest for the host until the host is gone, or until pytest gives up by itself.

    Sends `collected` and waits for items; where pytest ends without that, sends `session-over` with its exit status,
    output and the reports of what could not be collected.

    Args:
        port: The channel to the host.
        message: A `session` message.

    Raises:
        KeyError: the message lacks a field.
        OSError: the directory can't be made or entered.
    """
    request = parse_request(message)
    os.environ.update(request.environment)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS"):
        os.environ.pop(name, None)
    os.makedirs(request.directory, exist_ok=True)  # where the host's pytest was started, maybe outside the project
    os.chdir(request.directory)
    sys.path[:0] = request.first
    with kept_output() as (output, console):
        terminal = open_terminal(output) if request.debugs else None
        session = GuestSession(port, request.options, console, terminal)
        session.measuring = None if request.coverage is None else Measuring(request.coverage)
        status = _run_pytest(plan_arguments(request), session)
        if terminal is not None:
            terminal.drain()
        text = read_output(output)
    if not session.host_gone:
        port.send(
            {
                "kind": "session-over",
                "exit": status,
                "output": clip_text(text, OUTPUT_LIMIT),
                "reports": session.failed[:WARNINGS_LIMIT],
            }
        )


def _run_pytest(arguments: list[str], session: GuestSession) -> int:
    gc.disable()  # nothing that is collected here is garbage; the run loop has it again
    try:
        return int(pytest.main(arguments, plugins=[session]))
    except ImportError as error:  # of a plugin, from releases of pytest that do not report it themselves
        traceback.print_exception(error)
        return int(pytest.ExitCode.USAGE_ERROR)
    finally:
        gc.enable()


class GuestSession:
    """The plugin that makes pytest wait in its run loop.

    Args:
        port: The channel to the host.
        options: Values for `config.option`.
        console: Descriptor of the machine's console: what must be seen even when nothing else works.
        terminal: What a debugger reads and writes, where there is one.
    """

    def __init__(
        self, port: Port, options: Mapping[str, object], console: int, terminal: DebugTerminal | None = None
    ) -> None:
        self.host_gone = False
        self.failed: list[object] = []
        self.measuring: Measuring | None = None
        self._port = port
        self._options = options
        self._console = console
        self._terminal = terminal
        self._pid = 0
        self._next: pytest.Item | None = None
        self._clone = ""
        self._holds = False
        self._bytecode = Recorder()
        self._items: dict[str, pytest.Item] = {}
        self._reports: list[pytest.TestReport] = []
        self._warnings: list[dict[str, object]] = []

    def pytest_addhooks(self, pluginmanager: pytest.PytestPluginManager) -> None:
        """Declare the guest's hooks."""
        pluginmanager.add_hookspecs(GuestHooks)

    def pytest_addoption(self, parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
        """Know the host plugin's ini name, and take over the host's options before any argument is read."""
        parser.addini(KERNEL_INI, "read by the host", default="")
        config = pluginmanager.get_plugin("pytestconfig")
        if config is not None:
            vars(config.option).update(self._options)

    def pytest_configure(self, config: pytest.Config) -> None:
        """Know the host plugin's marker."""
        config.addinivalue_line("markers", MARKER)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep what could not be collected."""
        if report.failed:
            text = clip_text(report.longreprtext, OUTPUT_LIMIT // WARNINGS_LIMIT)
            self.failed.append({"nodeid": report.nodeid, "text": text})

    def pytest_warning_recorded(self, warning_message: warnings.WarningMessage, when: str, nodeid: str) -> None:
        """Keep a warning for the host's summary."""
        if len(self._warnings) < WARNINGS_LIMIT:
            self._warnings.append(describe_warning(warning_message, when, nodeid))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep a report that something logs while an item runs: a subtest's."""
        self._reports.append(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Say what was collected, then serve the host. The template's snapshot is taken in here."""
        self._items = {item.nodeid: item for item in session.items}
        self._rehearse = partial(session.config.hook.pytest_kernelproof_rehearse, session=session)
        set_up = set_up_for_snapshot(session)
        _locate(session.items)
        _import_for_failures()
        _find_modules()
        faulthandler.enable(self._console)
        self._stacks = StackSignal(self._port.fileno(), self._console)
        # Else a clone whose counters happen to be full walks through every object, and copies every page of them.
        gc.collect()
        gc.freeze()
        gc.enable()
        make_resident()
        self._port.stay_awake()
        self._port.send(
            {
                "kind": "collected",
                "nodeids": list(self._items),
                "compiled": self._bytecode.stop(),
                "set_up": set_up,
                "reports": self.failed[:WARNINGS_LIMIT],
                "warnings": self._take_warnings(),
            }
        )
        try:
            while True:
                self._answer(self._port.receive())
        except EOFError:
            self.host_gone = True
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool:
        """Run an item inside all wrappers of pytest's protocol, and tear down what no item after it here needs."""
        self._reports += runtestprotocol(item, log=False, nextitem=self._next)
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_exception_interact(self, node: pytest.Item) -> None:
        """Wait while the host keeps this machine; say that a debugger comes, whose output someone must read."""
        if self._holds:
            self._hold()
        if node.config.getoption("usepdb"):
            self.pytest_enter_pdb()

    def _hold(self) -> None:
        self._port.send({"kind": "failed"})
        while (message := self._port.receive())["kind"] != "go-on":
            self._attend(message)

    def _attend(self, message: Mapping[str, object]) -> None:
        # Someone looks around in a copy of this machine that was kept.
        try:
            attend(self._port, message)
        except OSError as error:
            self._refuse(type(error).__name__, str(error))

    def pytest_enter_pdb(self) -> None:
        """Let the host's terminal be the debugger's; without a terminal the host runs the item where there is one."""
        self._port.send({"kind": "debugger"})
        if self._terminal is None:
            while True:
                self._port.receive()  # nothing that follows can be right: the host drops this machine

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_call(self) -> Generator[None, None, None]:
        """Shorten what the test wrote before pytest reads it, unless the test put another file in its place."""
        captured = [identify(descriptor) for descriptor in STREAMS]
        try:
            return (yield)
        finally:
            for descriptor, before in zip(STREAMS, captured, strict=True):
                if before is not None and before == identify(descriptor):
                    clip_file(descriptor)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_makereport(self, call: pytest.CallInfo[None]) -> None:
        """End a child that the test forked and let run on into pytest: the fixtures are its parent's to tear down."""
        if _getpid() == self._pid:
            return
        text = "kernelproof: a forked child returned into pytest"
        if call.excinfo is not None:
            text += "".join(["\n", *traceback.format_exception(call.excinfo.value)])
        os.write(self._console, f"{text}\n".encode("utf-8", "backslashreplace"))
        os._exit(FORKED)

    def _answer(self, message: Mapping[str, object]) -> None:
        kind = message.get("kind")
        item = self._items.get(str(message.get("nodeid")))
        if kind == "ping":
            self._port.send({"kind": "pong"})
        elif kind == "rehearse":
            import_module(_REHEARSAL).rehearse_apart(self._port.wake, self._rehearse)
            make_resident()
            self._port.stay_awake()
            self._port.send({"kind": "rehearsed"})
        elif kind == "bytecode":
            self._bytecode.send(self._port)
        elif kind != "item":
            self._refuse("ProtocolError", f"a session answers items, not {kind!r}")
        elif item is None:
            self._refuse("LookupError", f"not collected here: {message.get('nodeid')!r}")
        else:
            self._run(item, message)

    def _refuse(self, name: str, text: str) -> None:
        self._port.send({"kind": "error", "type": name, "text": text})

    def _run(self, item: pytest.Item, message: Mapping[str, object]) -> None:
        began, self._pid = _monotonic(), _getpid()
        self._clone = self._clone or os.urandom(16).hex()
        self._next = self._items.get(str(message.get("next")))
        self._holds = bool(message.get("hold"))
        if isinstance(variation := message.get("vary"), dict):
            vary(variation)
        if self._terminal is not None and isinstance(terminal := message.get("terminal"), dict):
            self._terminal.begin(terminal)
        random.seed(cast("int", message["seed"]))
        deadline = cast("float | None", message.get("deadline_seconds"))
        if deadline is None:
            self._stacks.arm()
        else:
            faulthandler.dump_traceback_later(max(deadline - 1.0, deadline * 0.8), file=self._console)
        end = self._protocol(item, cast("dict[str, object]", message.get("data") or {}))
        if deadline is None:
            self._stacks.disarm()
        else:
            faulthandler.cancel_dump_traceback_later()
        self._end_debugging()
        done = {"kind": "item-done", "clone": self._clone, "guest_ns": _monotonic() - began}
        if self.measuring is not None:
            done["coverage"] = self.measuring.read()
        self._port.send({**done, **end, "warnings": self._take_warnings()})

    def _protocol(self, item: pytest.Item, data: Mapping[str, object]) -> dict[str, object]:
        hook = item.config.hook
        try:
            hook.pytest_kernelproof_item(item=item, data=data)
            hook.pytest_runtest_protocol(item=item, nextitem=None)
            self._send_reports(item)
        except pytest.exit.Exception as stop:
            return {"end": "exit", "text": str(stop.msg), "status": stop.returncode}
        except KeyboardInterrupt:
            return {"end": "exit", "text": "KeyboardInterrupt was raised in the machine"}
        except Exception as error:  # noqa: BLE001 - whatever a foreign hook raised is the item's result, not the agent's end
            text = "".join(traceback.format_exception(error))
            return {"end": "error", "text": clip_text(text, OUTPUT_LIMIT)}
        return {"end": "done", "text": ""}

    def _send_reports(self, item: pytest.Item) -> None:
        self._end_debugging()
        reports, self._reports = self._reports, []
        if len(reports) > _PHASES:
            for report in reports:  # what pytest's terminal does with it fails a test whose subtests failed
                item.config.hook.pytest_report_teststatus(report=report, config=item.config)
        for report in reports:
            self._send_report(item, report)

    def _end_debugging(self) -> None:
        if self._terminal is not None:
            self._terminal.end()

    def _send_report(self, item: pytest.Item, report: pytest.TestReport) -> None:
        data = item.config.hook.pytest_report_to_serializable(config=item.config, report=report)
        for known in _KNOWN:
            data.pop(known, None)
        for name in _TIMES:
            data[f"{name}_ns"] = int(data.pop(name) * 1e9)
        message = {"kind": "report", "phase": report.when, "data": data}
        try:
            if is_long(report.sections):
                raise FrameError("too much output")
            self._port.send(message)
        except FrameError:
            self._port.send({**message, "data": clip_report(data, str(report.longrepr))})

    def _take_warnings(self) -> Sequence[dict[str, object]]:
        taken, self._warnings = self._warnings, []
        return taken


def _locate(items: Iterable[pytest.Item]) -> None:
    # pytest works out an item's place when it reports it, and keeps it: a tenth of what a short test runs.
    for item in items:
        with suppress(Exception):  # of a foreign kind of item: its own machine tells
            _ = item.location


def describe_warning(warning: warnings.WarningMessage, when: str, nodeid: str) -> dict[str, object]:
    """A warning as plain data: its class by name only, the host never imports it."""
    return {
        "when": when,
        "nodeid": nodeid,
        "category": warning.category.__name__,
        "text": clip_text(str(warning.message), OUTPUT_LIMIT // WARNINGS_LIMIT),
        "filename": warning.filename,
        "lineno": warning.lineno,
    }


def _find_modules() -> None:
    """Let inspect look up the files of all modules, which it keeps: else each failing test does, in 10 ms."""
    nowhere = "<no file of any module>"
    with suppress(Exception):  # of a foreign module that makes its attributes when they are asked for
        inspect.getmodule(compile("", nowhere, "exec"), nowhere)


@cache
def _import_for_failures() -> None:
    """Let pytest import before the snapshot what it imports at the first failing test; once, in the rehearsal."""
    try:
        pytest.fail("made up, to be formatted once")
    except pytest.fail.Exception:
        str(pytest.ExceptionInfo.from_current().getrepr(style="long", showlocals=True))
