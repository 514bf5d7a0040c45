"""Whatever of a run is killed, and whenever: nothing of it is left, and what goes on comes to its end.

The moment and the victim come from a seed that the test prints; KERNELPROOF_SEED repeats one.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from kernelproof.vm.cache import default_cache_root
from kernelproof.vm.template import Template

KERNEL = "6.12"
TESTS = 12
LATEST_SECONDS = 6.0  # an idle host has just run them all by then, a busy one is in the middle
END_SECONDS = 600.0
PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None)

SUITE = f"""
import pytest, time
pytestmark = pytest.mark.machine

@pytest.mark.parametrize("turn", range({TESTS}))
def test_it(turn):
    time.sleep(0.1)
    assert turn >= 0
"""


@pytest.fixture
def cache(tmp_path: Path, template: Template) -> Path:
    """A cache of the test's own with what the shared one has: its locks and half-built entries are the runs' alone."""
    template.clone().close()  # so that the shared one has the template, and no run boots
    shared, own = default_cache_root() / "v1", tmp_path / "cache"
    (own / "v1/template").mkdir(parents=True)
    for kind in shared.iterdir():
        if kind.name not in ("template", "bytecode", "session"):
            (own / "v1" / kind.name).symlink_to(kind)
    for entry in shared.glob("template/" + "[0-9a-f]" * 64):
        copy = own / "v1/template" / entry.name
        copy.mkdir()
        for file in entry.iterdir():
            (copy / file.name).hardlink_to(file)
    return own


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    folder = tmp_path / "suite"
    folder.mkdir()
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_it.py").write_text(SUITE)
    return folder


@contextmanager
def reaping() -> Iterator[None]:
    """Whoever loses its parent becomes a child of this process."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        _libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def list_children(pid: int) -> list[int]:
    """All processes below one, at this moment."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        parent = waiting.pop()
        with suppress(FileNotFoundError, ProcessLookupError):
            for task in os.listdir(f"/proc/{parent}/task"):
                children = Path(f"/proc/{parent}/task/{task}/children").read_text().split()
                waiting += map(int, children)
                found += map(int, children)
    return found


def command_of(pid: int) -> bytes:
    """The command line of a process, empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def find_victims(run: int, victim: str) -> list[int]:
    """The processes of a run that are of the kind."""
    if victim == "controller":
        return [run]
    word = b"qemu-system" if victim == "qemu" else b"sys.stdin.readline"  # execnet's way to start a worker
    return [pid for pid in list_children(run) if word in command_of(pid)]


def kill_one(run: subprocess.Popen[bytes], victim: str, chance: random.Random) -> str:
    """Kill a process of that kind at some moment; says what was killed and when."""
    began = time.monotonic()
    moment = began + chance.uniform(0.0, LATEST_SECONDS)
    ended = os.pidfd_open(run.pid)
    try:
        while not select.select([ended], [], [], max(0.0, moment - time.monotonic()))[0]:
            if pids := find_victims(run.pid, victim):
                pid = chance.choice(pids)
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    return f"{victim} {pid} after {time.monotonic() - began:.3f} s"
            moment = time.monotonic() + 0.02  # there is none just now
    finally:
        os.close(ended)
    return f"nothing: the run had ended before {victim}'s moment came"


def list_left(deadline: float) -> list[bytes]:
    """The commands of our children that have not ended by the deadline; the others are reaped."""
    while pids := [int(word) for word in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]:
        ended = os.pidfd_open(pids[0])
        try:
            if not select.select([ended], [], [], max(0.0, deadline - time.monotonic()))[0]:
                return [command_of(pid) for pid in pids]
        finally:
            os.close(ended)
        os.waitpid(pids[0], 0)
    return []


def list_held(cache: Path) -> list[str]:
    """The locks of a cache that somebody holds."""
    held = []
    for path in cache.glob("v1/template/.*"):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.append(path.name)
        finally:
            os.close(descriptor)
    return held


def count_outcomes(output: str) -> int:
    """How many tests pytest's line of sums tells of."""
    last = [line for line in output.splitlines() if re.fullmatch(r"=+ .* in [0-9.]+s .*=+", line)][-1]
    return sum(int(number) for number in re.findall(r"(\d+) (?:passed|failed|error)", last))


def check_nothing_left(temporary: Path, cache: Path) -> None:
    """No process, so no memory file and no socket either; no file, no lock."""
    assert list_left(time.monotonic() + 60) == []
    assert list(temporary.iterdir()) == []
    assert list_held(cache) == []
    assert [name for name in os.listdir("/dev/shm") if "kernelproof" in name] == []


@pytest.mark.long
@pytest.mark.parametrize("victim", ["controller", "worker", "qemu"])
def test_kill_at_any_moment(
    victim: str, cache: Path, suite: Path, tmp_path: Path, full_number: Callable[[int], int]
) -> None:
    """A run of two workers of which one process is killed ends, by itself unless that was its controller."""
    first = os.environ.get("KERNELPROOF_SEED") or str(random.SystemRandom().getrandbits(32))
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environment = {**os.environ, "KERNELPROOF_CACHE": str(cache), "TMPDIR": str(temporary)}
    command = [sys.executable, "-m", "pytest", "-n", "2", "--kernel", KERNEL, "-p", "no:cacheprovider", "--rootdir=."]
    command.append(f"--basetemp={tmp_path / 'base'}")  # pytest's own, which it keeps
    turn, kills, wanted = 0, 0, full_number(34)
    while kills < wanted:
        assert turn < 10 * wanted, f"{kills} kills in {turn} runs"
        seed = first if turn == 0 else f"{first}-{turn}"
        turn += 1
        if (chance := random.Random(seed)).random() < 0.5:  # else it begins with the session that was kept
            shutil.rmtree(cache / "v1/session", ignore_errors=True)
        with reaping(), (tmp_path / "output").open("w+b") as output:
            run = subprocess.Popen(command, cwd=suite, env=environment, stdout=output, stderr=output)
            try:
                print(f"seed {seed}: {(killed := kill_one(run, victim, chance))}", flush=True)
                status = run.wait(END_SECONDS)
            finally:
                run.kill()  # one that did not end must not disturb the next
                run.wait()
            check_nothing_left(temporary, cache)
        kills += not killed.startswith("nothing")
        said = (tmp_path / "output").read_text("utf-8", "replace")
        assert "Exception in thread" not in said, said
        if victim == "controller" and not killed.startswith("nothing"):
            assert status == -signal.SIGKILL
        elif victim == "worker" and ("gateway_bootstrap.py" in said or "in setup_nodes" in said):
            # It was killed before it had begun, or before it was told what to do: xdist has no run then.
            assert status == pytest.ExitCode.INTERNAL_ERROR, said
        else:
            assert status in (0, 1), said
            assert count_outcomes(said) >= TESTS, said
