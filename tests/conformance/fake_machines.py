"""Plays the machines' plugin: each machine item goes to a second pytest that believes it is inside a machine.

Loaded with `-p fake_machines` by the tests beside it, after being copied into their folder. The guest runs in the same
process; reports pass through JSON, as they would over the channel. Its kernel log is the file FAKE_KMSG, one record a
line, its taint flags the file FAKE_TAINTED. FAKE_LOST names an item whose machine is lost.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from _pytest.runner import runtestprotocol

from kernelproof.conformance import in_guest
from kernelproof.conformance.kernel_log import KernelLog, Record, parse_record
from kernelproof.vm import hookspecs

CLONE = "00112233445566778899aabbccddeeff"


def log(text: str) -> None:
    """Append records to the pretended kernel's log: for the tests that run in its machines."""
    with open(os.environ["FAKE_KMSG"], "a") as file:
        file.write(text)


class FakeLog(KernelLog):
    """The kernel's log in a file of lines."""

    def __init__(self) -> None:
        super().__init__(os.environ["FAKE_KMSG"], os.environ["FAKE_TAINTED"])

    def read_new(self) -> list[Record]:
        """Return the lines since the mark."""
        return [parse_record(line) for line in os.read(self._descriptor, 1 << 20).splitlines()]


class Guest:
    """Does what the guest's session does with one item."""

    def __init__(self, data: dict[str, object]) -> None:
        self.reports: list[str] = []
        self._data = data

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool:
        """Run the item and keep its reports."""
        item.config.hook.pytest_kernelproof_item(item=item, data=json.loads(json.dumps(self._data)))
        for report in runtestprotocol(item, log=False, nextitem=None):
            data = item.config.hook.pytest_report_to_serializable(config=item.config, report=report)
            self.reports.append(json.dumps(data))
        return True

    def pytest_addhooks(self, pluginmanager: pytest.PytestPluginManager) -> None:
        """Declare the guest's hook."""

        class Hooks:
            @pytest.hookspec
            def pytest_kernelproof_item(self, item: pytest.Item, data: object) -> None: ...

        pluginmanager.add_hookspecs(Hooks)

    def pytest_configure(self, config: pytest.Config) -> None:
        """Know the marker."""
        config.addinivalue_line("markers", "machine(profile, time): runs in a machine")


@contextmanager
def inside(profile: str) -> Iterator[None]:
    """Make this process look like a guest."""
    vars(in_guest)["KernelLog"] = FakeLog
    os.environ["KERNELPROOF_GUEST"] = json.dumps({"series": "6.12", "profile": profile})
    try:
        yield
    finally:
        vars(in_guest)["KernelLog"] = KernelLog
        del os.environ["KERNELPROOF_GUEST"]


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the host's hooks."""
    pluginmanager.add_hookspecs(hookspecs)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --kernel, and --fake-abroad: the kernel is not where statements on user land are tried."""
    parser.addoption("--kernel", default="6.12")
    parser.addoption("--fake-abroad", action="store_true")


def pytest_configure(config: pytest.Config) -> None:
    """Know the marker."""
    config.addinivalue_line("markers", "machine(profile, time): runs in a machine")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Tell what machines are made of."""
    if not hasattr(session.config, "workerinput"):
        kernel = session.config.getoption("--kernel")
        series = None if kernel.startswith("image-") else kernel
        facts = {
            "kernel": {
                "name": kernel,
                "series": series,
                "release": f"{kernel}.9-fake",
                "package": "linux-fake",
                "build": "1",
                "config_digest": "c" * 64,
            },
            "guest": {"root_digest": "a" * 64, "python": "3.13", "observers": {"pyroute2": "0.9"}},
            "machine": {"qemu": "10.0.13", "accelerator": "tcg", "time": "virtual", "cpus": 2},
        }
        session.config.hook.pytest_kernelproof_machine(config=session.config, facts=facts)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not for the kernel."""
    machine_items = [item for item in items if item.get_closest_marker("machine")]
    others = [item for item in items if not item.get_closest_marker("machine")]
    series, home = config.getoption("--kernel"), not config.getoption("--fake-abroad")
    config.hook.pytest_kernelproof_select(config=config, items=machine_items, series=series, home=home)
    items[:] = machine_items + others


def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """Run a machine item in the pretended guest and replay its reports."""
    marker = item.get_closest_marker("machine")
    if marker is None:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    lost = os.environ.get("FAKE_LOST") == item.name
    for report in [lost_report(item)] if lost else guest_reports(item, marker.kwargs["profile"]):
        properties = {
            "kernel": item.config.getoption("--kernel"),
            "profile": marker.kwargs["profile"],
            "clone": None if lost else CLONE,
            "wall_seconds": 0.25,
            "guest_seconds": None if lost else 0.001,
            "lost": {"kind": "panic", "text": "gone"} if lost else None,
            "log": "Kernel panic - not syncing: fake" if lost else "",
        }
        report.user_properties.append(("kernelproof", properties))
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def lost_report(item: pytest.Item) -> pytest.TestReport:
    """Return what stands for an item whose machine is gone."""
    return pytest.TestReport(item.nodeid, item.location, {}, "failed", "machine lost (panic)", "setup")


def guest_reports(item: pytest.Item, profile: str) -> list[pytest.TestReport]:
    """Run one item in the pretended guest."""
    data: dict[str, object] = {}
    series = item.config.getoption("--kernel")
    for part in item.config.hook.pytest_kernelproof_item_data(item=item, series=series):
        data.update(part or {})
    guest = Guest(data)
    with inside(profile):
        plugins = ["-p", "kernelproof.conformance.plugin", "-p", "no:cacheprovider"]
        arguments = ["--rootdir", str(item.config.rootpath), "-c", str(item.config.inipath or "/dev/null")]
        pytest.main([*plugins, *arguments, "-qq", str(item.config.rootpath / item.nodeid)], plugins=[guest])
    return [read_report(item, json.loads(report)) for report in guest.reports]


def read_report(item: pytest.Item, data: dict[str, object]) -> pytest.TestReport:
    """Build a report anew from JSON."""
    if isinstance(data["longrepr"], list):
        data["longrepr"] = tuple(data["longrepr"])  # place and reason of a skip
    report = item.config.hook.pytest_report_from_serializable(config=item.config, data=data)
    assert isinstance(report, pytest.TestReport)
    return report
