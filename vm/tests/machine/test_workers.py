"""Runs with workers: templates are made once, by the process that controls them; results do not depend on workers."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from kernelproof.vm.cache import default_cache_root
from kernelproof.vm.tests.interruptible import PYTEST
from kernelproof.vm.tests.machine.test_pytest_runs import PR_SET_CHILD_SUBREAPER, list_orphans

pytest.importorskip("xdist")
CACHE = default_cache_root()  # before a pytester gives itself a home of its own
_libc = ctypes.CDLL(None)

CATALOGUE = "".join(
    f'[[behaviour]]\nid = "a.b.{name}"\nstatement = "So."\nsource = "a document, a section"\n{more}\n'
    for name, more in (("one", ""), ("two", ""), ("real", ""), ("never", 'needs = ["CONFIG_NEVER"]'))
)
TESTS = """
import os, pytest
from kernelproof import behaviour

@behaviour("a.b.real")
@pytest.mark.machine(time="real")
def test_real(): pass
@behaviour("a.b.one")
@pytest.mark.parametrize("number", range(3))
def test_one(number, seen): assert seen(number) < 5
@behaviour("a.b.two")
def test_two(): assert "kernel" == "user land"
@behaviour("a.b.never")
def test_never(): assert False
"""

# A worker that boots or builds fails at once.
WORKER = """
from kernelproof.vm import base, snapshot

def pytest_configure(config):
    if hasattr(config, "workerinput"):
        def refuse(*arguments, **keywords):
            raise AssertionError("a worker makes a template")
        base.provide_base = snapshot.Snapshot.derive = refuse
        from kernelproof.vm import template
        template.provide_base = refuse
"""

# The controller says when it has all reports of a test: PASSED is printed while the last one is still to come.
FINISHED = """
def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Finished(config.pluginmanager))

class Finished:
    def __init__(self, plugins):
        self.plugins = plugins

    def pytest_runtest_logfinish(self, nodeid):
        self.plugins.getplugin("terminalreporter").write_line(f"finished: {nodeid}")
"""


@pytest.fixture(autouse=True)
def _project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERNELPROOF_CACHE", str(CACHE))
    pytester.makeini("[pytest]\naddopts = --import-mode=importlib -p no:cacheprovider\n")
    pytester.makeconftest(WORKER)
    folder = pytester.mkdir("behaviours")
    (folder / "demo.toml").write_text(CATALOGUE)
    pytester.makepyfile(test_demo=TESTS)


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """pytest in a process of its own: execnet leaves its pipes to the garbage collector."""
    return pytester.runpytest_subprocess("--kernel", "6.12", *arguments)


def read_results(path: Path) -> dict[str, Any]:
    """A results file without what differs from run to run: the machines' marks and times."""
    data: dict[str, Any] = json.loads(path.read_text())
    for row in data["results"]:
        assert len(row["clone"]) == 32
        for name in ("clone", "wall_seconds", "guest_seconds"):
            del row[name]
    return data


@pytest.mark.long
def test_same_results(pytester: pytest.Pytester, pytestconfig: pytest.Config) -> None:
    """Without workers, with two and with one: the same rows, the same facts, the same outcomes; each template once."""
    found = []
    for workers in ("0", "2", "1") if pytestconfig.getoption("--long") else ("0", "2"):
        result = run(pytester, "-n", workers, "--dist", "worksteal", "-v")
        result.assert_outcomes(passed=4, failed=1, skipped=1)
        told = result.stdout.str() + result.stderr.str()
        assert told.count("push the project and collect its tests") == 2
        assert told.count("(ready after") == 2
        found.append(read_results(pytester.path / "results/6.12.json"))
    assert all(each == found[0] for each in found[1:])
    assert found[0]["kernel"]["release"].startswith("6.12.")
    assert found[0]["machine"]["time"] == "virtual"


def test_session_that_can_not_be_made(pytester: pytest.Pytester) -> None:
    """What hinders the controller is told by each test that needed it, and made once."""
    with (pytester.path / "conftest.py").open("a") as file:
        file.write("\nimport os\nif 'KERNELPROOF_GUEST' in os.environ:\n    import absent_in_guest\n")
    result = run(pytester, "-n", "2", "-k", "one or two")
    result.assert_outcomes(errors=4)
    result.stdout.fnmatch_lines(["*conftest.py can't be imported in the guest*", "*absent_in_guest*"])
    assert (result.stdout.str() + result.stderr.str()).count("push the project and collect its tests") == 1


def test_worker_that_is_killed(pytester: pytest.Pytester) -> None:
    """A worker that dies takes its item with it; the one in its place borrows the same template."""
    pytester.makepyfile(
        test_killed="""
        import os, pytest

        @pytest.mark.machine
        @pytest.mark.parametrize("number", range(6))
        def test_machine(number): pass
        def test_host(): os.kill(os.getpid(), 9)
        """
    )
    result = run(pytester, "-n", "2", "test_killed.py", "-v")
    result.assert_outcomes(passed=6, failed=1)
    result.stdout.fnmatch_lines(["*replacing crashed worker*"])
    assert (result.stdout.str() + result.stderr.str()).count("push the project and collect its tests") == 1


def test_interrupt(pytester: pytest.Pytester) -> None:
    """After Ctrl-C the results of what ran are there with all facts, and no process is left."""
    with (pytester.path / "conftest.py").open("a") as file:
        file.write(FINISHED)
    pytester.makepyfile(
        test_demo=TESTS.replace(
            '@behaviour("a.b.two")\n',
            '@behaviour("a.b.two")\n@pytest.mark.machine(time="real")\n',
        ).replace('assert "kernel" == "user land"', "import time; time.sleep(600)")
    )
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # whoever loses its parent becomes our child
    try:
        command = (*PYTEST, "-v", "--kernel", "6.12", "-n", "2", "-k", "one or two")
        with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
            assert process.stdout is not None
            seen = b""
            while seen.count(b"finished: ") < 3 or b"test_two" not in seen:
                read = os.read(process.stdout.fileno(), 65536)
                assert read, seen
                seen += read
            os.killpg(process.pid, signal.SIGINT)
            assert process.wait(timeout=120) == 2
        assert list_orphans(deadline=time.monotonic() + 60) == []
    finally:
        _libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    (path,) = (pytester.path / "results/selected").iterdir()
    data = read_results(path)
    assert [row["outcome"] for row in data["results"]] == ["pass", "pass", "pass"]
    assert None not in (data["kernel"]["release"], data["machine"]["qemu"], data["guest"]["python"])
