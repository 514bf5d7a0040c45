"""Goals of docs/rules/cgroups.md on a real kernel: triggers, kills told after the end, thawing, limits that hold."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kernelproof.impl.cgroups import BelowUsageError, Cgroup, Limits
from kernelproof.impl.cgroups.effective import effective_limit
from kernelproof.impl.cgroups.oom import OomWatch, read_oom
from kernelproof.impl.cgroups.pressure import PressureTrigger

pytestmark = pytest.mark.machine

_EAT = "import sys\nsys.stdin.read()\nblob = []\nwhile True: blob.append(bytearray(1 << 20))\n"


@pytest.fixture
def top(hierarchy: Callable[..., Path]) -> Path:
    """The mounted root of version 2."""
    return hierarchy("v2")


@pytest.fixture
def eater() -> Callable[[Cgroup], int]:
    """Let a process eat memory in a cgroup until it is killed."""

    def eat(cgroup: Cgroup) -> int:
        with subprocess.Popen([sys.executable, "-c", _EAT], stdin=subprocess.PIPE) as process:
            cgroup.add(process.pid)
            assert process.stdin is not None
            process.stdin.close()
            return process.wait(timeout=60)

    return eat


@pytest.mark.rule("C+1")
def test_triggers_in_every_way(top: Path) -> None:
    """A stalled cgroup wakes who waits, who iterates, and an event loop; each has a deadline."""
    with Cgroup.create("box", controllers=["memory"]) as box:
        box.set(Limits(memory_high_bytes=8 << 20))

        def arm() -> PressureTrigger:
            return PressureTrigger.open(box.directory, "memory", stall_microseconds=50_000, window_microseconds=500_000)

        async def first(trigger: PressureTrigger) -> int:
            return next(iter([event.since_microseconds async for event in trigger.events_async(5.0)]))

        with arm() as quiet:
            assert quiet.wait(0.01) is None
            assert list(quiet.events(0.01)) == []
        with subprocess.Popen([sys.executable, "-c", _EAT], stdin=subprocess.PIPE) as process:
            box.add(process.pid)
            assert process.stdin is not None
            with arm() as waited, arm() as iterated, arm() as looped:
                process.stdin.close()
                found = waited.wait(30)
                assert found is not None
                assert found.since_microseconds > 0
                assert next(iterated.events(30)).total_microseconds > 0
                assert asyncio.run(first(looped)) > 0
            process.kill()


@pytest.mark.rule("C+2")
def test_kills_are_told_after_the_end(top: Path, eater: Callable[[Cgroup], int]) -> None:
    """Own kills, those below, the limit and the last counters, in one record; a later namesake begins at 0."""
    with Cgroup.create("pod/box", controllers=["memory"]) as box, Cgroup.open("pod") as pod:
        pod.set(Limits(memory_max_bytes=32 << 20))
        with box.chain() as chain, OomWatch.open(chain) as watch, OomWatch.open(chain[1:]) as above:
            assert watch.wait(0.0) is None
            assert eater(box) == -signal.SIGKILL
            told = watch.wait(10)
            assert told is not None
            assert (told.kills, told.local_kills, told.kills_below) == (1, 1, 0)
            assert (told.limit_cgroup, told.limit_bytes, told.is_gone) == (str(top / "pod"), 32 << 20, False)
            box.remove()
            last = watch.wait(10)
            assert last == told._replace(is_gone=True)
            assert (above.report().kills, above.report().kills_below) == (1, 1)
        with Cgroup.create("pod/box", controllers=["memory"]) as again, again.chain() as chain:
            with OomWatch.open(chain) as watch:
                assert watch.report().kills == 0
            again.remove()
        pod.remove()


@pytest.mark.rule("C+2")
def test_a_limit_that_was_hit_before_is_not_blamed(top: Path, eater: Callable[[Cgroup], int]) -> None:
    """The parent's limit killed elsewhere; nobody died here, then its own limit kills, then the parent's."""
    with Cgroup.create("pod/other", controllers=["memory"]) as other, Cgroup.create("pod/box") as box:
        with Cgroup.open("pod") as pod:
            pod.set(Limits(memory_max_bytes=32 << 20))
        assert eater(other) == -signal.SIGKILL
        with box.chain() as chain, OomWatch.open(chain) as watch:
            assert read_oom(chain).limit_cgroup is watch.report().limit_cgroup is None
            box.set(Limits(memory_max_bytes=16 << 20))
            assert eater(box) == -signal.SIGKILL
            told = watch.wait(10)
            assert told is not None
            assert (told.kills, told.limit_cgroup, told.limit_bytes) == (1, str(top / "pod/box"), 16 << 20)
            box.set(Limits(memory_max_bytes=-1))
            assert eater(box) == -signal.SIGKILL
            told = watch.wait(10)
            assert told is not None
            assert (told.kills, told.limit_cgroup, told.limit_bytes) == (2, str(top / "pod"), 32 << 20)
        with Cgroup.open("pod") as pod:
            pod.remove()


_HOLD = """
import signal
input()
blob = bytearray(8 << 20)
blob[::4096] = b"x" * 2048
print(flush=True)
signal.pause()
"""
_FREEZER = """
import os, sys
from kernelproof.impl.cgroups import Cgroup
with Cgroup.open("box") as box, box.frozen(survives=True):
    print("frozen", flush=True)
    os.kill(os.getpid(), 9)
"""


@pytest.mark.rule("C+6")
def test_a_killed_freezer_leaves_nothing_frozen(top: Path) -> None:
    """The process that froze is killed in its block, and the cgroup is thawed; after an ordinary end as well."""
    with (
        Cgroup.create("box") as box,
        subprocess.Popen(["sleep", "1000"]) as sleeper,
    ):
        box.add(sleeper.pid)
        done = subprocess.run(
            [sys.executable, "-c", _FREEZER],
            capture_output=True,
            check=False,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        assert (done.returncode, done.stdout) == (-signal.SIGKILL, b"frozen\n")
        assert becomes(top / "box/cgroup.events", "frozen 0")
        assert (top / "box/cgroup.freeze").read_text() == "0\n"
        with box.frozen(survives=True):
            assert "frozen 1" in (top / "box/cgroup.events").read_text()
        assert "frozen 0" in (top / "box/cgroup.events").read_text()
        with pytest.raises(ZeroDivisionError), box.frozen():
            divmod(1, 0)
        assert (top / "box/cgroup.freeze").read_text() == "0\n"
        sleeper.kill()


def becomes(path: Path, words: str) -> bool:
    """Wait for a line of cgroup.events by its own event."""
    deadline = time.monotonic() + 30
    with path.open() as file:
        poll = select.poll()
        poll.register(file, select.POLLPRI)
        while words not in file.read():
            if time.monotonic() > deadline:
                return False
            poll.poll((deadline - time.monotonic()) * 1000)
            file.seek(0)
    return True


@pytest.mark.rule("C+7")
def test_the_limit_of_an_ancestor_holds(top: Path) -> None:
    """The kernel keeps the smallest, and that is what is told."""
    with Cgroup.create("pod/box", controllers=["memory", "pids", "cpu"]) as box, Cgroup.open("pod") as pod:
        pod.set(Limits(pids_max=5, memory_max_bytes=32 << 20))
        box.set(Limits(pids_max=9, cpu_quota_microseconds=50_000))
        with box.chain() as chain:
            found = {kind: effective_limit(chain, kind) for kind in ("pids", "memory", "cpu", "memory_high")}
    assert {kind: tuple(limit) for kind, limit in found.items()} == {
        "pids": (5, str(top / "pod")),
        "memory": (32 << 20, str(top / "pod")),
        "cpu": (0.5, str(top / "pod/box")),
        "memory_high": (-1, None),
    }


def test_a_program_is_born_inside(top: Path) -> None:
    """spawn starts it in the cgroup; a program that is not leaves no process."""
    with Cgroup.create("box") as box:
        born = box.spawn(["/bin/sh", "-c", "cat /proc/self/cgroup > /tmp/where; exit 3"])
        _, status = os.waitpid(born.pid, 0)
        os.close(born.pidfd)
        assert os.waitstatus_to_exitcode(status) == 3
        assert "0::/box" in Path("/tmp/where").read_text()
        with pytest.raises(FileNotFoundError) as refused:
            box.spawn(["/nonexistent/program"])
        assert refused.value.filename == "/nonexistent/program"
        assert box.processes() == ()
        with pytest.raises(ValueError, match="argv is empty"):
            box.spawn([])


@pytest.mark.rule("C6")
def test_memory_shrinks_without_a_kill(top: Path) -> None:
    """Page cache goes and the limit holds; what can't go is not killed for, and memory.high is what it was."""
    with Cgroup.create("box", controllers=["memory"]) as box:
        box.set(Limits(memory_high_bytes=512 << 20))
        with subprocess.Popen([sys.executable, "-c", _HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            box.add(process.pid)
            process.stdin.write(b"\n")
            process.stdin.flush()
            process.stdout.readline()
            changes = box.shrink_memory(256 << 20)
            assert changes.memory_max_bytes == 256 << 20
            with pytest.raises(BelowUsageError) as refused:
                box.shrink_memory(4 << 20, 0.05)
            assert refused.value.usage > 8 << 20
            assert process.poll() is None
            process.kill()
        assert [(top / "box" / name).read_text() for name in ("memory.max", "memory.high")] == [
            f"{256 << 20}\n",
            f"{512 << 20}\n",
        ]


@pytest.mark.rule("C16")
def test_a_bound_process_is_freed(top: Path) -> None:
    """Bound to one CPU, it keeps to that in a cpuset of two, until it is widened."""
    with Cgroup.create("box", controllers=["cpuset"]) as box, subprocess.Popen(["sleep", "1000"]) as process:
        box.set(Limits(cpuset_cpus="0-1"))
        box.add(process.pid)  # before Linux 6.2 this alone frees it
        os.sched_setaffinity(process.pid, {0})
        assert os.sched_getaffinity(process.pid) == {0}
        assert box.widen_affinity(process.pid) == {0, 1}
        assert os.sched_getaffinity(process.pid) == {0, 1}
        box.set(Limits(cpuset_cpus="0"))
        assert box.widen_affinity(process.pid) == {0}
        box.set(Limits(cpuset_cpus="0-1"))
        assert os.sched_getaffinity(process.pid) == {0, 1}
        process.kill()
