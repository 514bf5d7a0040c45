"""The command on a real hierarchy, run as people run it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kernelproof.impl._syscalls.inotify import Event, inotify_add_watch, inotify_init1
from kernelproof.impl.cgroups import Cgroup

pytestmark = pytest.mark.machine

Run = Callable[..., subprocess.CompletedProcess[str]]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


@pytest.fixture
def top(hierarchy: Callable[..., Path]) -> Path:
    """The mounted root of version 2."""
    return hierarchy("v2")


@pytest.fixture
def run() -> Run:
    """Run the command."""

    def run_one(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "kernelproof.impl.cgroups", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT)

    return run_one


@pytest.fixture
def sleeper(top: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process in /web/worker."""
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as process:
        with Cgroup.create("web/worker") as cgroup:
            cgroup.add(process.pid)
        yield process
        process.kill()


def said(done: subprocess.CompletedProcess[str]) -> Any:
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_a_life_at_a_prompt(top: Path, sleeper: subprocess.Popen[bytes], run: Run) -> None:
    """Seen in the tree, limited, measured, frozen and thawed, killed and removed."""
    (web,) = (child for child in said(run("tree", "--json"))["children"] if child["name"] == "web")
    assert web["children"][0]["processes"] == 1
    assert "worker  (1 processes)" in run("tree", "/web").stdout
    (limit,) = said(run("set", "/web/worker", "memory_max_bytes=4097", "--force", "--dry-run", "--json"))
    assert limit["value"] == "4097"
    applied = said(run("set", "/web/worker", "pids_max=9", "memory_high_bytes=67108865", "--json"))
    assert [(one["file"], one["effective"], one["why"]) for one in applied] == [
        ("memory.high", "67108864", "cut to whole pages of 4096 bytes"),
        ("pids.max", "9", ""),
    ]
    assert (top / "web/worker/pids.max").read_text() == "9\n"
    assert said(run("stat", "/web/worker", "--only", "pids", "--json"))["pids"]["current"] == 1
    assert "pids.limit" in run("stat", "/web/worker").stdout
    run("freeze", "/web/worker")
    assert "frozen 1" in (top / "web/worker/cgroup.events").read_text()
    said(run("freeze", "/web/worker", "--thaw", "--json"))
    assert "frozen 0" in (top / "web/worker/cgroup.events").read_text()
    (use,) = (
        use for use in said(run("top", "--count", "1", "--interval", "0.1", "--json")) if use["name"] == "/web/worker"
    )
    assert use["processes"] == 1
    assert run("top", "--count", "1", "--interval", "0.1").stdout.startswith("CGROUP")
    assert run("kill", "/web", "--remove").returncode == 0
    assert sleeper.wait(timeout=10) == -signal.SIGKILL
    assert not (top / "web").exists()


def test_errors_are_told(top: Path, sleeper: subprocess.Popen[bytes], run: Run) -> None:
    """No such cgroup, a limit below usage, processes inside: status 1, what helps, and no traceback."""
    for words in (("stat", "/nosuch"), ("set", "/web/worker", "memory_max_bytes=4096"), ("set", "/", "pids_max=1")):
        done = run(*words)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("python -m kernelproof.impl.cgroups: ")
        assert "Traceback" not in done.stderr
    assert (top / "web/worker/memory.max").read_text() == "max\n"


def test_events_until_interrupted(top: Path, sleeper: subprocess.Popen[bytes]) -> None:
    """Events come as they happen; Ctrl-C ends quietly, by the signal itself."""
    command = [sys.executable, "-m", "kernelproof.impl.cgroups", "events", "/web/worker", "--json"]
    watch = inotify_init1()
    inotify_add_watch(watch, top / "web/worker/cgroup.events", Event.ACCESS)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        os.read(watch, 4096)  # it has read the file: what changes now is an event
        os.close(watch)
        (top / "web/worker/cgroup.freeze").write_text("1")
        assert json.loads(process.stdout.readline())["name"] == "frozen"
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == ""
        assert process.wait() == -signal.SIGINT
    (top / "web/worker/cgroup.freeze").write_text("0")
