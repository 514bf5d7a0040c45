"""Clones that are forked from a machine that stands still are machines like those that load a template."""

from __future__ import annotations

import logging
import os
import re
import signal
import time
from pathlib import Path

import pytest

from kernelproof.vm import snapshot
from kernelproof.vm.cache import default_cache_root
from kernelproof.vm.stem import Stem

KERNEL = "6.12"
CACHE = default_cache_root()  # before a pytester gives itself a home of its own
OPTIONS = ("-p", "no:cacheprovider", "--kernel", KERNEL)


@pytest.fixture(autouse=True)
def own_cache(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERNELPROOF_CACHE", str(CACHE))


@pytest.fixture
def from_the_first(monkeypatch: pytest.MonkeyPatch) -> list[Stem]:
    """Every clone is forked; returns the stems."""
    monkeypatch.setattr(snapshot, "FEW", 0)
    grow, grown = Stem.grow, list[Stem]()

    def remember(*arguments: object) -> Stem:
        grown.append(grow(*arguments))  # type: ignore[arg-type]
        return grown[-1]

    monkeypatch.setattr(Stem, "grow", remember)
    return grown


def test_same_machine(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test can see of the machine is the same, loaded or forked: nothing is left of the rehearsal."""
    pytester.makepyfile(
        test_it="""
        import os, pytest, subprocess, sys, threading
        from pathlib import Path
        pytestmark = pytest.mark.machine

        def run(*command): return subprocess.run(command, capture_output=True, text=True).stdout

        @pytest.mark.parametrize("turn", range(3))
        def test_it(turn, tmp_path):
            seen = {
                "processes": run("ps", "--ppid", "2", "-p", "2", "--deselect", "-o", "comm=,args="),
                "mounts": Path("/proc/self/mountinfo").read_text(),
                "links": run("ip", "-o", "link"),
                "modules": [line.split()[0] for line in Path("/proc/modules").read_text().splitlines()],
                "taint": Path("/proc/sys/kernel/tainted").read_text(),
                "namespaces": sorted(os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")),
                "all namespaces": run("lsns", "-n", "-o", "TYPE,COMMAND"),
                "cgroups": sorted(str(path) for path in Path("/sys/fs/cgroup").rglob("*") if path.is_dir()),
                "temporary": sorted(name for name in os.listdir("/tmp") if not name.startswith("pytest-of")),
                "descriptors": sorted(os.readlink(f"/proc/self/fd/{fd}").split("[")[0].split("/tmp")[0]
                                      for fd in os.listdir("/proc/self/fd")[:-1]),
                "threads": threading.active_count(),
                "modules of Python": sorted(sys.modules),
                "environment": dict(os.environ) | {"PYTEST_CURRENT_TEST": ""},
                "directory": os.getcwd(), "path": sys.path, "streams": [sys.stdin.name, sys.stdout.name],
                "log": [line.split("]", 1)[-1] for line in run("dmesg").splitlines()],
            }
            for name, value in seen.items():
                print(f"<{name}> {value!r}")
        """
    )
    texts = []
    for few in (100, 0):
        monkeypatch.setattr(snapshot, "FEW", few)
        result = pytester.runpytest(*OPTIONS, "-rP")
        result.assert_outcomes(passed=3)
        texts.append([re.findall(r"^<.*$", part, re.M) for part in result.stdout.str().split("_ test_it[")[1:]])
    loaded, forked = (text[0] for text in texts)
    assert len(loaded) == 17
    for one, other in zip(loaded, forked, strict=True):
        assert one == other
    assert forked == texts[1][2]


def test_each_is_its_own(pytester: pytest.Pytester, from_the_first: list[Stem]) -> None:
    """Clock, random numbers and seed are each machine's; none sees what another did."""
    pytester.makepyfile(
        test_it="""
        import os, pytest, random, time
        from pathlib import Path
        pytestmark = pytest.mark.machine
        STATE = []

        @pytest.mark.parametrize("turn", range(6))
        def test_it(turn):
            STATE.append(turn)
            assert STATE == [turn]
            mark = Path("/tmp/mark")
            assert not mark.exists()
            mark.write_text("here")
            Path("/proc/sys/kernel/hostname").write_text(f"turn-{turn}")
            with open("/dev/urandom", "rb") as device:
                print("drawn", os.urandom(8).hex(), device.read(8).hex(), random.random())
            print("time", time.time())
        """
    )
    began = time.time()
    result = pytester.runpytest(*OPTIONS, "-rP")
    ended = time.time()
    result.assert_outcomes(passed=6)
    text = result.stdout.str()
    drawn = [word for line in re.findall(r"^drawn (.*)$", text, re.M) for word in line.split()]
    assert len(set(drawn)) == len(drawn) == 18
    assert all(began <= float(when) <= ended + 1 for when in re.findall(r"^time (.*)$", text, re.M))
    assert len(from_the_first) == 1


def test_losses(pytester: pytest.Pytester, from_the_first: list[Stem]) -> None:
    """A hang, a panic, a power-off and a dead agent are told as of any machine; the next is not concerned."""
    pytester.makepyfile(
        test_it="""
        import os, pytest, subprocess
        from pathlib import Path
        pytestmark = pytest.mark.machine

        def test_hang(): os.read(os.pipe()[0], 1)

        def test_panic(): Path("/proc/sysrq-trigger").write_text("c")

        def test_off(): subprocess.run(["busybox", "poweroff", "-f"])

        def test_agent(): os.kill(os.getpid(), 9)

        def test_output(): print("x" * 10_000_000)

        def test_well(): pass
        """
    )
    result = pytester.runpytest(*OPTIONS, "--vm-timeout", "5")
    result.assert_outcomes(errors=4, passed=2)
    text = result.stdout.str()
    for words in ("in test_hang", "sysrq_handle_crash", "power-off", "wait status 9"):
        assert words in text, words
    assert len(from_the_first) == 1


def test_nothing_is_left(pytester: pytest.Pytester, from_the_first: list[Stem]) -> None:
    """At the end of a run its stem is killed and reaped."""
    pytester.makepyfile(
        "import pytest\n@pytest.mark.machine\n@pytest.mark.parametrize('n', range(3))\ndef test_it(n): pass"
    )
    pytester.runpytest(*OPTIONS).assert_outcomes(passed=3)
    assert from_the_first[0]._standing.closed
    assert not Path(f"/proc/{from_the_first[0]._standing._tracee.pid}").exists()


def test_stem_that_dies(
    pytester: pytest.Pytester, from_the_first: list[Stem], caplog: pytest.LogCaptureFixture
) -> None:
    """The clones after it load the template, and that is logged once."""
    pytester.makepyfile(
        "import pytest\n@pytest.mark.machine\n@pytest.mark.parametrize('n', range(5))\ndef test_it(n): pass"
    )

    class Killer:
        def pytest_runtest_logfinish(self, nodeid: str) -> None:
            if "[1]" in nodeid:
                os.kill(from_the_first[0]._standing._tracee.pid, signal.SIGKILL)

    with caplog.at_level(logging.INFO, logger=snapshot.__name__):
        pytester.runpytest(*OPTIONS, plugins=[Killer()]).assert_outcomes(passed=5)
    told = [record.getMessage() for record in caplog.records if "each clone loads" in record.getMessage()]
    assert len(told) == 1
    assert len(from_the_first) == 1


def test_rehearsal_that_hangs(pytester: pytest.Pytester, from_the_first: list[Stem]) -> None:
    """A child that waits for ever for what a thread of the session holds is ended, and the tests run."""
    pytester.makeconftest(
        "import os, threading, time\n"
        "lock = threading.Lock()\n"
        "lock.acquire()\n"
        "def pytest_collection_finish(session):\n"
        "    if 'KERNELPROOF_GUEST' in os.environ: os.register_at_fork(after_in_child=lock.acquire)\n"
    )
    pytester.makepyfile(
        "import os, pytest\n@pytest.mark.machine\n@pytest.mark.parametrize('n', range(2))\n"
        "def test_it(n): assert not [name for name in os.listdir('/tmp') if 'rehearsal' in name]"
    )
    pytester.runpytest(*OPTIONS).assert_outcomes(passed=2)
    assert len(from_the_first) == 1


def test_plugins_rehearse(pytester: pytest.Pytester, from_the_first: list[Stem]) -> None:
    """A project's hook runs once, in namespaces of the rehearsal's, before the machines; its error is dropped.

    The project is there, though it is below the folder for temporary files, which is the rehearsal's own.
    """
    pytester.makeconftest(
        "import os, subprocess, sys\n"
        "def pytest_kernelproof_rehearse(session):\n"
        "    with open('/run/rehearsed', 'a') as file: file.write(f'{len(session.items)} ')\n"
        "    with open('/tmp/rehearsed', 'w') as file: print(os.readlink('/proc/self/ns/net'), file=file)\n"
        "    imported = [sys.executable, '-c', 'import test_plugins_rehearse']\n"
        "    if subprocess.run(imported, env={'PYTHONPATH': os.path.dirname(__file__)}).returncode: return\n"
        "    with open('/run/rehearsed', 'a') as file: file.write('there ')\n"
        "    raise OSError('dropped')\n"
    )
    pytester.makepyfile(
        "import os, pytest\n@pytest.mark.machine\n@pytest.mark.parametrize('n', range(2))\n"
        "def test_it(n):\n"
        "    assert (open('/run/rehearsed').read(), os.path.exists('/tmp/rehearsed')) == ('2 there ', False)"
    )
    pytester.runpytest(*OPTIONS).assert_outcomes(passed=2)
    assert len(from_the_first) == 1
