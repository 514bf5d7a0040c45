"""Inner runs of pytest whose machines are local processes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kernelproof.vm.tests.plugin.local_machines import LocalPlugin

Run = Callable[..., pytest.RunResult]


@pytest.fixture
def local(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> LocalPlugin:
    """What the inner run's machines are made by.

    Without the plugin that judges the kernel's log after each item: here the log is the host's, and root's. (Set after
    pytester has cleared it.)
    """
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:kernelproof-conformance")
    return LocalPlugin()


@pytest.fixture
def run(pytester: pytest.Pytester, local: LocalPlugin) -> Run:
    """Run pytest in this process with local machines, on kernel 6.12 unless told otherwise."""
    pytester.makepyprojecttoml("[tool.pytest.ini_options]\naddopts = '-p no:cacheprovider'\n")

    def run_pytest(*arguments: str, kernel: str = "6.12", **options: bool) -> pytest.RunResult:
        return pytester.runpytest("--kernel", kernel, *arguments, plugins=[local], **options)

    return run_pytest
