"""Inner runs of pytest whose items run on a real kernel: what pytest's users know holds, and what is lost is told."""

from __future__ import annotations

import ctypes
import os
import re
import select
import signal
import subprocess
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kernelproof.vm.cache import default_cache_root
from kernelproof.vm.tests.interruptible import PYTEST

KERNEL = "6.12"
PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None)
CACHE = default_cache_root()  # before a pytester gives itself a home of its own


@pytest.fixture(autouse=True)
def _cache(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERNELPROOF_CACHE", str(CACHE))


def run_in_machines(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """Run pytest on the test files that the pytester has made."""
    return pytester.runpytest("-p", "no:cacheprovider", "--kernel", KERNEL, *arguments)


def test_pytest_as_usual(pytester: pytest.Pytester) -> None:
    """Outcomes, parameters, fixtures of every scope, output, tracebacks, durations and JUnit are pytest's own."""
    pytester.makeconftest(
        """
        import pytest
        made = []
        @pytest.fixture(scope="session")
        def wide(): made.append("session"); yield; made.append("gone")
        @pytest.fixture(scope="module")
        def middle(wide): made.append("module")
        """
    )
    pytester.makepyfile(
        test_usual="""
        import os, sys, time
        import pytest
        pytestmark = pytest.mark.machine

        def test_release(): assert os.uname().release.startswith("6.12.")
        def test_fail():
            print("to stdout"); os.write(2, b"raw \\xff bytes\\n")
            assert {"left": 1} == {"left": 2}
        def test_skip(): pytest.skip("not here")
        @pytest.mark.skipif(os.getpid() == 1, reason="never")
        @pytest.mark.parametrize("value", [1, 2], ids=["one", "two"])
        def test_value(value, middle, tmp_path):
            from conftest import made
            assert value and made == ["session", "module"] and tmp_path.is_dir()
        @pytest.mark.xfail(reason="known")
        def test_xfail(): assert 0
        @pytest.fixture
        def bad(): raise OSError("no luck")
        def test_error(bad): pass
        def test_sleep(): time.sleep(5)
        def test_first(): open("/etc/marker", "w").close()
        def test_second(): assert not os.path.exists("/etc/marker")
        @pytest.mark.parametrize("where", ["guest" if "KERNELPROOF_GUEST" in os.environ else "host"])
        def test_vanished(where): pass
        """
    )
    result = run_in_machines(pytester, "-rs", "--durations=1", "--junitxml=out.xml")
    result.assert_outcomes(passed=6, failed=1, skipped=1, xfailed=1, errors=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*vanished: the host collected it, the guest did not", "*remedy*"])
    result.stdout.fnmatch_lines(
        ["*{'left': 1} != {'left': 2}", "test_usual.py:8: AssertionError", "to stdout", "raw * bytes"]
    )
    result.stdout.fnmatch_lines(["5.0*s call *test_sleep", "SKIPPED [[]1] test_usual.py:9: not here"])
    suite = ElementTree.parse(pytester.path / "out.xml").getroot().find("testsuite")
    assert suite is not None
    assert {name: suite.attrib[name] for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "11",
        "failures": "1",
        "errors": "2",
        "skipped": "2",
    }


def test_lost_machines(pytester: pytest.Pytester) -> None:
    """A panic, a hang, a power-off and a dead agent break their item, with the kernel log; the run goes on."""
    pytester.makepyfile(
        test_lost="""
        import os, pathlib, pytest, subprocess
        pytestmark = pytest.mark.machine

        def test_panic(): pathlib.Path("/proc/sysrq-trigger").write_text("c")
        def test_loop():
            while True: pass
        def test_read(): os.read(os.pipe()[0], 1)
        def test_power(): subprocess.run(["busybox", "poweroff", "-f"])
        def test_exit(): os._exit(7)
        def test_killed(): pathlib.Path("/proc/sysrq-trigger").write_text("i")
        def test_after(): pass
        """
    )
    result = run_in_machines(pytester, "--vm-timeout", "5")
    result.assert_outcomes(passed=1, errors=6)
    lost = re.findall(r"^ERROR test_lost.py::(\w+) - machine lost \(([\w-]+)\)", result.stdout.str(), re.MULTILINE)
    assert lost == [
        ("test_panic", "panic"),
        ("test_loop", "hang"),
        ("test_read", "hang"),
        ("test_power", "power-off"),
        ("test_exit", "agent"),
        ("test_killed", "agent"),
    ]
    result.stdout.fnmatch_lines(["*Kernel log*", "*Kernel panic - not syncing: sysrq triggered crash*"])
    result.stdout.fnmatch_lines(["*ERROR at setup of test_read*", "*pipe_read*"])


def test_much_output(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 100 MB of output, not all of it text, the beginning and the end arrive; pytest may be started elsewhere."""
    monkeypatch.chdir(pytester.mkdir("empty"))
    pytester.makepyfile(
        test_much="""
        import os, pytest, sys

        @pytest.mark.machine
        def test_much():
            for _ in range(100):
                os.write(1, b"x\\xff" * 500_000)
            sys.stdout.write("the end\\n")
            assert False
        """
    )
    result = run_in_machines(pytester, "--rootdir", "..", "..")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*kernelproof cut * here*", "*the end"])


@pytest.mark.parametrize("cause", ["conftest", "plugin"])
def test_session_that_does_not_start(
    cause: str, pytester: pytest.Pytester, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A conftest or a plugin that only the host can import is named with its remedy."""
    pytester.makepyfile(test_one="import pytest\n@pytest.mark.machine\ndef test_one(): pass")
    if cause == "conftest":
        pytester.makeconftest("import os\nif 'KERNELPROOF_GUEST' in os.environ:\n    import only_on_host")
        says, arguments = "conftest.py can't be imported in the guest", []
    else:
        folder = tmp_path_factory.mktemp("elsewhere")
        # Outside the project: on the host's import path, and not pushed.
        folder.joinpath("only_on_host.py").touch()
        pytester.syspathinsert(folder)
        says, arguments = "the guest lacks the pytest plugin only_on_host", ["-p", "only_on_host"]
    result = run_in_machines(pytester, *arguments)
    result.assert_outcomes(errors=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([f"*{says}*", "*remedy: add * to guest-requirements*"])


def test_unknown_kernel(pytester: pytest.Pytester) -> None:
    """An unknown kernel is a usage error that lists what there is."""
    pytester.makepyfile("import pytest\n@pytest.mark.machine\ndef test_one(): pass")
    result = pytester.runpytest("--kernel", "9.99")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*9.99*", "*6.12*"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["SIGINT", "SIGKILL"])
def test_nothing_is_left(number: signal.Signals, pytester: pytest.Pytester) -> None:
    """Ctrl-C in the middle of a test ends the run with status 2, a kill at once; no process outlives either."""
    pytester.makepyfile(
        test_long="import pytest, time\n@pytest.mark.machine(time='real')\ndef test_long(): time.sleep(600)"
    )
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # whoever loses its parent becomes our child
    try:
        command = (*PYTEST, "-v", "--kernel", KERNEL)
        with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as run:
            assert run.stdout is not None
            seen = b""
            while b"test_long.py::test_long" not in seen:  # printed without a newline when the item begins
                read = os.read(run.stdout.fileno(), 65536)
                assert read, seen
                seen += read
            os.killpg(run.pid, number)
            assert run.wait(timeout=120) == (2 if number == signal.SIGINT else -number)
        assert list_orphans(deadline=time.monotonic() + 60) == []
    finally:
        _libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def list_orphans(deadline: float) -> list[int]:
    """Our children that have not ended by the deadline; the others are reaped."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    while pids := [int(word) for word in children.read_text().split()]:
        with open_pidfd(pids[0]) as pidfd:
            if not select.select([pidfd], [], [], max(deadline - time.monotonic(), 0))[0]:
                return pids
        os.waitpid(pids[0], 0)
    return []


@contextmanager
def open_pidfd(pid: int) -> Iterator[int]:
    """pidfd_open(2)."""
    pidfd = os.pidfd_open(pid)
    try:
        yield pidfd
    finally:
        os.close(pidfd)
