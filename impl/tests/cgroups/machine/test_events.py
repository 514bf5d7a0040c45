"""Events, pressure, delegation, on a real kernel."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kernelproof.impl.cgroups import Cgroup, LimitError, Limits, read_layout
from kernelproof.impl.cgroups.delegation import delegate, explain_migration, read_delegated_files, report_withheld
from kernelproof.impl.cgroups.events import CgroupEvents, Event, watch_memory_v1
from kernelproof.impl.cgroups.oom import read_oom
from kernelproof.impl.cgroups.pressure import PressureTrigger

pytestmark = pytest.mark.machine

_EATER = "blob = []\nwhile True: blob.append(bytearray(1 << 20))\n"


@pytest.fixture
def unified(hierarchy: Callable[..., Path]) -> Path:
    return hierarchy("v2")


def eat(cgroup: Cgroup) -> int:
    with subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.stdin.read()\n{_EATER}"], stdin=subprocess.PIPE
    ) as eater:
        cgroup.add(eater.pid)
        assert eater.stdin is not None
        eater.stdin.close()
        return eater.wait(timeout=60)


@pytest.mark.expect_log("Memory cgroup out of memory")
def test_a_kill_is_told_with_whose_limit_it_was(unified: Path) -> None:
    """The parent's limit kills in the child: the event comes, and names the parent's limit."""
    layout = read_layout()
    with Cgroup.create("pod/box", layout, controllers=["memory"]) as box, Cgroup.open("pod", layout) as pod:
        pod.set(Limits(memory_max_bytes=32 << 20))
        with CgroupEvents.open(box.directory) as events:
            assert eat(box) == -9
            seen = []
            for event in events.watch(timeout_seconds=10):
                seen.append(event)
                if event.name == "populated" and event.value == 0:
                    break
            assert Event("memory.events", "oom_kill", 1, 1) in seen
            box.remove()
            assert list(events.watch(timeout_seconds=10))[-1].name == "removed"
            assert events.counters()["memory.events"]["oom_kill"] == 1
        with Cgroup.create("pod/box", layout, controllers=["memory"]) as again:
            assert eat(again) == -9
            report = read_oom((again.directory, pod.directory))
            assert (report.kills, report.local_kills) == (1, 1)
            assert report.limit_cgroup == str(unified / "pod")
            assert report.limit_bytes == 32 << 20
            again.remove()
        pod.remove()


def test_emptied_in_an_event_loop(unified: Path) -> None:
    """The end of the last process is an event of asyncio."""
    with Cgroup.create("box", read_layout()) as box, CgroupEvents.open(box.directory) as events:
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
            box.add(process.pid)

            async def wait() -> list[tuple[str, int]]:
                seen = []
                assert process.stdin is not None
                process.stdin.close()
                async for event in events.watch_async():
                    seen.append((event.name, event.value))
                    if event == Event("cgroup.events", "populated", 0, -1) or event.value == 0:
                        break
                return seen

            assert asyncio.run(wait())[-1] == ("populated", 0)
        box.remove()


def test_refused_forks_are_told(unified: Path) -> None:
    """A fork over pids.max is an event of pids.events."""
    with Cgroup.create("box", read_layout(), controllers=["pids"]) as box, CgroupEvents.open(box.directory) as events:
        box.set(Limits(pids_max=1))
        program = "import os, sys\nsys.stdin.read()\ntry:\n os.fork()\nexcept BlockingIOError:\n sys.exit(7)\n"
        with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as process:
            box.add(process.pid)
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(timeout=60) == 7
        names = {(event.file, event.name) for event in events.watch(timeout_seconds=1)}
        assert ("pids.events", "max") in names
        box.remove()


def test_triggers_out_of_range_are_refused(unified: Path) -> None:
    """Kind, share, window and stall are checked; one that is in range is armed and fires at nothing."""
    with Cgroup.create("box", read_layout()) as box:
        wrong = [("disk", "some", 1, 10**6), ("memory", "most", 1, 10**6), ("memory", "some", 1, 499_999)]
        wrong += [("memory", "some", 0, 10**6), ("memory", "some", 10**6 + 1, 10**6)]
        for kind, share, stall, window in wrong:
            with pytest.raises(LimitError):
                PressureTrigger.open(box.directory, kind, share, stall_microseconds=stall, window_microseconds=window)
        if not Path("/proc/pressure").exists():
            pytest.skip("not applicable: this kernel was booted without psi")
        with PressureTrigger.open(box.directory, "memory", stall_microseconds=500_000) as trigger:
            assert trigger.wait(timeout_seconds=0.1) is None
        box.remove()


@pytest.mark.rule("C+5")
def test_exactly_what_is_listed_is_delegated(unified: Path) -> None:
    """The directory and the listed files change their owner, limits do not; a missing controller is explained."""
    layout = read_layout()
    with Cgroup.create("home", layout, controllers=["pids"]) as home, Cgroup.open("/", layout) as root:
        given = delegate(home.directory, 1000, 1001)
        assert set(given) <= set(read_delegated_files())
        assert "cgroup.procs" in given
        owners = {name: os.stat(unified / "home" / name).st_uid for name in home.directory.files()}
        assert {name for name, uid in owners.items() if uid == 1000} == set(given)
        assert os.stat(unified / "home").st_uid == 1000
        assert owners["pids.max"] == 0
        withheld = {entry.controller: entry for entry in report_withheld((home.directory, root.directory))}
        assert "pids" not in withheld
        assert withheld["memory"].by == str(unified)
        with Cgroup.create("home/work/deep", layout, controllers=["pids"]), Cgroup.open("home/work", layout) as work:
            assert "gives pids" in str(explain_migration(root.directory, work.directory, root.directory))
            assert explain_migration(root.directory, home.directory, root.directory) is not None
            work.remove()
        home.remove()


def test_version_1_tells_a_threshold_by_eventfd(hierarchy: Callable[..., Path]) -> None:
    """An eventfd of memory.usage_in_bytes is readable when usage passes the threshold."""
    hierarchy("v1", "memory")
    with Cgroup.create("box", read_layout()) as box:
        event = watch_memory_v1(box.directory, "memory.usage_in_bytes", str(8 << 20))
        try:
            program = "import sys; sys.stdin.read(); blob = bytearray(32 << 20); blob[::4096] = b'x' * (8 << 10)"
            with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as process:
                box.add(process.pid)
                process.communicate(timeout=60)
            assert os.eventfd_read(event) >= 1
        finally:
            os.close(event)
        box.remove()
