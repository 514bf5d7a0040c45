"""Version 2, the memory controller: who is killed when there is no more, and how it is told."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.cgroups.acting import (
    MIB,
    end_of,
    run_inside,
    set_limits,
    start_inside,
    table,
    touch,
    wait_for_change,
)
from kernelproof.impl.cgroups import enabling
from kernelproof.impl.cgroups.events import CgroupEvents
from kernelproof.impl.cgroups.limits import Limits
from kernelproof.impl.cgroups.oom import read_oom

if TYPE_CHECKING:
    from kernelproof.conformance.cgroups.conftest import Make
    from kernelproof.conformance.conftest import Bystander
    from kernelproof.conformance.seen import Seen
    from kernelproof.impl.cgroups.directory import Directory

LIMIT = Limits(memory_max_bytes=16 * MIB)


def eat() -> None:
    touch(48 * MIB)


def small(make: Make, name: str = "small") -> Directory:
    directory = make(name, "memory")
    set_limits(directory, LIMIT)
    return directory


def is_alive(pid: int) -> bool:
    return os.waitpid(pid, os.WNOHANG) == (0, 0)


@pytest.fixture
def group(make: Make) -> tuple[Directory, Directory, Directory]:
    """A cgroup with a limit that is killed as a whole, and two below it."""
    directory = make("group", "memory")
    enabling.enable(directory, ["memory"])
    set_limits(directory, Limits(memory_max_bytes=16 * MIB, memory_oom_group=True))
    return directory, make("group/one"), make("group/two")


@behaviour("cgroup-v2.memory.max-oom-kills", subject="impl")
def test_too_much_memory_kills(make: Make) -> None:
    """Who touches more than memory.max ends by SIGKILL; who touches less does not."""
    directory = small(make)
    assert run_inside(directory, lambda: touch(MIB)) == 0
    assert run_inside(directory, eat) == -signal.SIGKILL


@behaviour("cgroup-v2.memory.oom-counts", subject="impl")
def test_each_kill_is_counted(unified: Path, make: Make) -> None:
    """oom_kill grows by one for one process."""
    directory = small(make)
    for count in (1, 2):
        assert run_inside(directory, eat) == -signal.SIGKILL
        assert table(unified / "small/memory.events")["oom_kill"] == count
    assert read_oom((directory,)).kills == 2


@behaviour("cgroup-v2.memory.oom-event", subject="impl")
def test_running_out_is_counted(unified: Path, make: Make) -> None:
    """oom grows by at least one."""
    run_inside(small(make), eat)
    assert table(unified / "small/memory.events")["oom"] >= 1


@behaviour("cgroup-v2.memory.oom-stays-inside", subject="impl")
def test_nobody_outside_is_killed(make: Make, bystander: Bystander) -> None:
    """Processes of the root and of a sibling live on."""
    outside, beside = bystander(), bystander()
    make("sibling", "memory").write("cgroup.procs", str(beside))
    assert run_inside(small(make), eat) == -signal.SIGKILL
    assert [is_alive(pid) for pid in (outside, beside)] == [True, True]


@behaviour("cgroup-v2.memory.oom-group-kills-all", subject="impl")
def test_a_group_ends_together(group: tuple[Directory, Directory, Directory]) -> None:
    """With memory.oom.group the process that only waits, in a cgroup beside, is killed too."""
    _, one, two = group
    waits = start_inside(one, signal.pause)
    assert run_inside(two, eat) == -signal.SIGKILL
    assert end_of(waits) == -signal.SIGKILL


@behaviour("cgroup-v2.memory.oom-group-exempt", subject="impl")
def test_who_is_never_killed(group: tuple[Directory, Directory, Directory], bystander: Bystander) -> None:
    """A process with oom_score_adj -1000 survives the end of its group."""
    _, one, two = group
    pid = bystander()
    Path(f"/proc/{pid}/oom_score_adj").write_text("-1000")
    one.write("cgroup.procs", str(pid))
    waits = start_inside(one, signal.pause)
    assert run_inside(two, eat) == -signal.SIGKILL
    assert end_of(waits) == -signal.SIGKILL
    assert is_alive(pid)


@behaviour("cgroup-v2.memory.oom-group-event", subject="impl")
def test_the_end_of_a_group_is_counted(unified: Path, group: tuple[Directory, Directory, Directory]) -> None:
    """oom_group_kill grows by one; the package reports it."""
    directory, _, two = group
    run_inside(two, eat)
    assert table(unified / "group/memory.events")["oom_group_kill"] == 1
    assert read_oom((directory,)).oom_group_kills == 1


@behaviour("cgroup-v2.memory.oom-group-bad-value", subject="impl")
def test_a_group_of_two(unified: Path, make: Make, seen: Seen) -> None:
    """memory.oom.group takes 0 and 1, and no 2."""
    directory = make("child", "memory")
    for value in (True, False):
        set_limits(directory, Limits(memory_oom_group=value))
        assert (unified / "child/memory.oom.group").read_text() == f"{int(value)}\n"
    assert seen.errno_of(directory.write, "memory.oom.group", "2") == "EINVAL"


@behaviour("cgroup-v2.memory.events-hierarchical", subject="impl")
def test_the_parent_counts_along(unified: Path, make: Make) -> None:
    """A kill in a child is in memory.events of the parent, and not in its memory.events.local."""
    parent = make("parent", "memory")
    enabling.enable(parent, ["memory"])
    child = small(make, "parent/child")
    run_inside(child, eat)
    files = ("memory.events", "memory.events.local")
    assert [table(unified / "parent" / file)["oom_kill"] for file in files] == [1, 0]
    report = read_oom((child, parent))
    assert (report.kills, report.local_kills, report.limit_cgroup) == (1, 1, child.path)
    assert read_oom((parent,)).local_kills == 0


@behaviour("cgroup-v2.memory.events-notify", subject="impl")
def test_a_kill_wakes_who_waits(unified: Path, make: Make) -> None:
    """A change of memory.events wakes poll(2); the package's events name it."""
    directory = small(make)
    with CgroupEvents.open(directory, ("memory.events",)) as events:
        answer = wait_for_change(unified / "small/memory.events", lambda: run_inside(directory, eat))
        told = {event.name for event in events.watch(0)}
    assert answer & select.POLLPRI
    assert {"oom_kill", "oom"} <= told


@behaviour("cgroup-v2.memory.high-no-oom", subject="impl")
def test_a_soft_limit_kills_nobody(unified: Path, make: Make) -> None:
    """Above memory.high a process is slowed down, that is counted, and it ends by itself."""
    directory = make("slow", "memory")
    set_limits(directory, Limits(memory_high_bytes=8 * MIB))
    assert run_inside(directory, lambda: touch(10 * MIB)) == 0
    found = table(unified / "slow/memory.events")
    assert found["high"] > 0
    assert found["oom_kill"] == 0
