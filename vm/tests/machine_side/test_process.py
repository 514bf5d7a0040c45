"""Children are forked by one lasting thread, killed with their owner, and reaped with what they used."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.process import GUARD, Child, Spawner

SLEEP = ("/bin/sleep", "1000")


def spawn(spawner: Spawner, *command: str) -> Child:
    with open(os.devnull, "wb") as nothing:
        return spawner.spawn(command or SLEEP, descriptors=(), errors=nothing.fileno(), environment={"A": "b"})


def has_ended(child: Child, seconds: float) -> bool:
    return bool(select.select([child.pidfd], [], [], seconds)[0])


def test_child_outlives_the_thread_that_asked() -> None:
    """A child that a passing thread asked for lives on when that thread has ended."""
    spawner, children = Spawner(), []
    thread = threading.Thread(target=lambda: children.append(spawn(spawner)))
    thread.start()
    thread.join()
    assert not has_ended(children[0], 0.3)
    children[0].close()


def test_child_outlives_the_name_of_its_spawner() -> None:
    """A child keeps the thread that forked it: dropping the spawner does not kill it."""
    spawner = Spawner()
    child = spawn(spawner)
    del spawner
    assert not has_ended(child, 0.3)
    child.close()


def test_forgotten_child() -> None:
    """A child that is forgotten is killed and reaped, and the thread ends with the last of them."""
    before = set(threading.enumerate())
    child = spawn(Spawner())
    pid = child.pid
    assert Path(f"/proc/{pid}").exists()
    del child
    assert not Path(f"/proc/{pid}").exists()
    for thread in set(threading.enumerate()) - before:
        thread.join(60)
        assert not thread.is_alive()


def test_death_signal() -> None:
    """A child is killed by the kernel when its starter's thread ends: it is asked for before the program runs."""
    code = "import ctypes; n = ctypes.c_int(); ctypes.CDLL(None).prctl(2, ctypes.byref(n)); raise SystemExit(n.value)"
    child = spawn(Spawner(), sys.executable, "-c", code)
    assert has_ended(child, 30)
    assert os.waitstatus_to_exitcode(child.close().status) == signal.SIGKILL


def test_usage() -> None:
    """What a child used is told once it is reaped, and again the same."""
    child = spawn(Spawner(), sys.executable, "-c", "sum(range(3_000_000))")
    assert has_ended(child, 60)
    usage = child.close()
    assert usage.cpu_seconds > 0.01
    assert usage.wall_seconds >= usage.cpu_seconds / 2
    assert usage.peak_bytes > 1_000_000
    assert usage.status == 0
    assert child.close() is usage


def test_environment_and_session(tmp_path: Path) -> None:
    """A child has the environment it is given and nothing of ours, and a session of its own."""
    command = ("/bin/cat", "/proc/self/environ")  # it tells itself: seen from here, a program that starts has none yet
    with (tmp_path / "said").open("wb") as said:
        child = Spawner().spawn(command, descriptors=(), errors=said.fileno(), environment={"A": "b"})
    assert os.getsid(child.pid) == child.pid
    assert has_ended(child, 30)
    child.close()
    assert (tmp_path / "said").read_bytes() == b"A=b\0"


def test_no_setpriv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without setpriv(1) nothing is started, and the package to install is named."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProvisionError, match="install util-linux"):
        spawn(Spawner(), "/absent/program")  # (what can be linked does without)


def test_program_that_is_not_there() -> None:
    """A program that can't be run ends the child with status 127; nothing is raised in the spawning thread."""
    child = spawn(Spawner(), "/absent/program")
    assert has_ended(child, 30)
    assert os.waitstatus_to_exitcode(child.close().status) in (1, 127)


def test_child_of_another_is_not_started() -> None:
    """What finds, when it has asked for the signal, that its parent is not who started it, does not become QEMU."""
    for parent, output in ((os.getpid(), "started\n"), (4194305, "")):  # no process has that number
        command = ["/bin/sh", "-c", GUARD, str(parent), "echo", "started"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.stdout, done.stderr) == (output, "")
        assert (done.returncode == 0) == bool(output)
