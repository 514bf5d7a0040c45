"""Tells people about machines: what is made, what they are, where pytest has a terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import pytest

from kernelproof.vm.errors import VmError
from kernelproof.vm.kernel_select import select_kernels
from kernelproof.vm.plugin import chosen_kernels
from kernelproof.vm.provision_progress import SilentProgress, open_progress
from kernelproof.vm.provision_types import Progress
from kernelproof.vm.selection import MachineKey
from kernelproof.vm.sessions import NO_MACHINE, MachineProvider, fact


def choose_kernels(config: pytest.Config, provider: MachineProvider) -> Sequence[str]:
    """The kernels that the user chose; tells which of `all` there are no more.

    Raises:
        UsageError: an unknown word, or nothing that can be had.
    """
    try:
        chosen = provider.select(chosen_kernels(config))
    except VmError as error:
        raise pytest.UsageError(str(error)) from error
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    for name, reason in provider.left_out:
        if reporter is not None:
            reporter.ensure_newline()
            reporter.write_line(f"kernelproof: kernel {name} is left out: {reason}")
    return chosen


def home_of(kernels: Sequence[str]) -> str | None:
    """Where what does not depend on the kernel is tried once: on the default kernel, or on the first that is chosen."""
    default = select_kernels("default")
    return next((series for series in kernels if series in default), next(iter(kernels), None))


def open_progress_of(config: pytest.Config) -> AbstractContextManager[Progress]:
    """What is told while something is made: nothing under -q, and of several workers the first alone."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    worker = getattr(config, "workerinput", {"workerid": "gw0"})
    if reporter is None or config.get_verbosity() < 0 or worker["workerid"] != "gw0":
        return nullcontext(SilentProgress())
    reporter.ensure_newline()
    return open_progress(sys.stderr)


def tell_machine(config: pytest.Config, facts: Mapping[str, object], key: MachineKey, seconds: float) -> None:
    """Tell plugins and the reader of what machines are made, and how long it took."""
    config.hook.pytest_kernelproof_machine(config=config, facts=facts)
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and config.get_verbosity() >= 0:
        reporter.ensure_newline()
        reporter.write_line(f"kernelproof: {describe_facts(facts, key)} (ready after {seconds:.1f} s)")


def tell_debugging(config: pytest.Config, nodeid: str) -> None:
    """Tell the reader to whom the terminal goes: what a debugged test writes is not escaped."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.ensure_newline()
        reporter.write_line(f"kernelproof: {nodeid} asks for the debugger: it runs anew, and has this terminal")


def describe_facts(facts: Mapping[str, object], key: MachineKey) -> str:
    """One line about a kind of machine, as for the header."""
    if fact(facts, "machine", "time") == NO_MACHINE:
        return f"{fact(facts, 'kernel', 'release')}, fresh namespaces, Python {fact(facts, 'guest', 'python')}"
    return (
        f"{fact(facts, 'kernel', 'release')}, profile {key.profile}, {fact(facts, 'machine', 'accelerator')}, "
        f"{fact(facts, 'machine', 'time')} time, {fact(facts, 'machine', 'cpus')} CPUs, "
        f"QEMU {fact(facts, 'machine', 'qemu')}, Python {fact(facts, 'guest', 'python')}"
    )
