"""pytest plugin: runs marked items in machines of their own.

This module is loaded into every pytest of an environment that has kernelproof, so it only names options and hooks.
What makes machines is imported when there is an item for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kernelproof.vm import hookspecs

if TYPE_CHECKING:
    from kernelproof.vm.host import Host

pytest_plugins = ("kernelproof.vm.guest.fixtures",)  # listed here; they work in a machine

HOST = "kernelproof-host"  # under this name the host is registered; a plugin that brings its own machines may be first
FACTS = "kernelproof_facts"  # in what an xdist worker hands to its controller
NO_KERNEL = "runs in a machine, and no kernel is chosen: --kernel 6.12 or kernelproof_kernel in the ini file"


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare our hooks."""
    pluginmanager.add_hookspecs(hookspecs)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--kernel`, `--vm-timeout` and the ini name `kernelproof_kernel`."""
    group = parser.getgroup("kernelproof", "tests in machines of their own")
    text = "run items marked 'machine' on these kernels: 6.12, 5.10,newest, all; a comma between several"
    group.addoption("--kernel", metavar="KERNELS", help=text)
    text = "wall seconds after which an item's machine is given up, with all stacks in its report (default: 60)"
    group.addoption("--vm-timeout", metavar="SECONDS", type=float, default=60.0, help=text)
    parser.addini("kernelproof_kernel", "kernels to run on where --kernel is not given", default="")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker; check the timeout.

    Raises:
        UsageError: `--vm-timeout` is not a time.
    """
    text = "machine(profile='plain', time='virtual'): run this test in a machine of its own"
    config.addinivalue_line("markers", text)
    if not 0 < config.getoption("vm_timeout") < 1e6:
        raise pytest.UsageError(f"--vm-timeout {config.getoption('vm_timeout')}: more than 0 seconds, please")


def chosen_kernels(config: pytest.Config) -> str:
    """What the option or the ini file says, or an empty text."""
    option = config.getoption("kernel")
    return str(config.getini("kernelproof_kernel") if option is None else option).strip()


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say which kernels are chosen; accelerator and time follow when the first machine is made."""
    kernels = chosen_kernels(config)
    return f"kernelproof: kernel {kernels}" if kernels else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give every marked item its kind of machine."""
    if chosen_kernels(config) and any(item.get_closest_marker("machine") for item in items):
        _host(config).take(items)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run marked items in machines, never here."""
    if item.get_closest_marker("machine") is None:
        return None
    if chosen_kernels(item.config):
        _host(item.config).run(item, nextitem)
    else:
        _skip(item)
    return True


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """Hand on what an xdist worker learned of its machines: only the controller owns the terminal."""
    config = getattr(node, "config", None)
    output = getattr(node, "workeroutput", None)
    if config is not None and output is not None:
        for facts in output.get(FACTS, []):
            config.hook.pytest_kernelproof_machine(config=config, facts=facts)


def _host(config: pytest.Config) -> Host:
    host: Host | None = config.pluginmanager.get_plugin(HOST)
    if host is None:
        # Imported here, not above: a pytest that asks for no machine must not pay for what makes them.
        from kernelproof.vm.host import Host
        from kernelproof.vm.provider import QemuProvider

        host = Host(config, QemuProvider())
        config.pluginmanager.register(host, HOST)
    return host


def _skip(item: pytest.Item) -> None:
    path, line, _ = item.location
    report = pytest.TestReport(
        nodeid=item.nodeid,
        location=item.location,
        keywords=dict.fromkeys(item.keywords, 1),
        outcome="skipped",
        longrepr=(path, (line or 0) + 1, f"Skipped: {NO_KERNEL}"),
        when="setup",
    )
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
