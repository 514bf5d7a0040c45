"""Version 1: cpu and cpuacct; acted on by impl.cgroups, seen in files and in time."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.cgroups.acting import (
    burn,
    burn_always,
    burn_for,
    end_by_kill,
    run_inside,
    set_limits_v1,
    start_inside,
    table,
)
from kernelproof.impl.cgroups.controllers import cpu
from kernelproof.impl.cgroups.errors import LimitError
from kernelproof.impl.cgroups.limits import Limits
from kernelproof.impl.cgroups.planning import plan_v1

if TYPE_CHECKING:
    from kernelproof.conformance.cgroups.conftest import MakeV1
    from kernelproof.conformance.seen import Seen
    from kernelproof.impl.cgroups.directory import Directory

QUOTA, PERIOD, BURST = "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.cfs_burst_us"
FIFTH = Limits(cpu_quota_microseconds=20_000, cpu_period_microseconds=100_000)


def text(directory: Directory, file: str) -> str:
    return Path(directory.path, file).read_text().strip()


def refused(directory: Directory, limits: Limits) -> None:
    with pytest.raises(LimitError):
        plan_v1(limits, lambda controller: directory.read_or_none)


def share_of(pid: int, seconds: float) -> float:
    """The part of one CPU that a process gets: the first number of /proc/PID/schedstat."""

    def spent() -> int:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])

    before, begin = spent(), time.monotonic()
    burn_for(seconds)
    return (spent() - before) / ((time.monotonic() - begin) * 1e9)


@behaviour("cgroup-v1.cpu.defaults", subject="impl")
def test_no_quota_at_first(make_v1: MakeV1) -> None:
    """The period is 100000, the quota -1."""
    group = make_v1("group", "cpu")
    assert [text(group, file) for file in (PERIOD, QUOTA)] == ["100000", "-1"]


@behaviour("cgroup-v1.cpu.burst-default", subject="impl")
def test_no_burst_at_first(make_v1: MakeV1) -> None:
    """It is 0."""
    assert text(make_v1("group", "cpu"), BURST) == "0"


@behaviour("cgroup-v1.cpu.minimum-1ms", subject="impl")
def test_smallest_quota_and_period(make_v1: MakeV1, seen: Seen) -> None:
    """A quota or a period of 999 microseconds is refused with EINVAL, one of 1000 is accepted."""
    group = make_v1("group", "cpu")
    answers = [seen.errno_of(group.write, file, "999") for file in (QUOTA, PERIOD)]
    assert seen(answers) == ["EINVAL", "EINVAL"]
    refused(group, Limits(cpu_quota_microseconds=999))
    refused(group, Limits(cpu_period_microseconds=999))
    assert [text(group, file) for file in (QUOTA, PERIOD)] == ["-1", "100000"]
    set_limits_v1(group, Limits(cpu_quota_microseconds=1000, cpu_period_microseconds=1000))
    assert [text(group, file) for file in (QUOTA, PERIOD)] == ["1000", "1000"]


@behaviour("cgroup-v1.cpu.maximum-period-1s", subject="impl")
def test_longest_period(make_v1: MakeV1, seen: Seen) -> None:
    """A second is accepted, a microsecond more is refused."""
    group = make_v1("group", "cpu")
    set_limits_v1(group, Limits(cpu_period_microseconds=1_000_000))
    assert seen.errno_of(group.write, PERIOD, "1000001") == "EINVAL"
    refused(group, Limits(cpu_period_microseconds=1_000_001))
    assert text(group, PERIOD) == "1000000"


@behaviour("cgroup-v1.cpu.negative-quota-removes", subject="impl")
def test_a_negative_quota(make_v1: MakeV1) -> None:
    """It lifts the limit, and -1 is read; the package writes -1 for that."""
    group = make_v1("group", "cpu")
    set_limits_v1(group, FIFTH)
    group.write(QUOTA, "-5")
    found = [text(group, QUOTA)]
    set_limits_v1(group, FIFTH)
    found.append(text(group, QUOTA))
    set_limits_v1(group, Limits(cpu_quota_microseconds=-1))
    assert [*found, text(group, QUOTA)] == ["-1", "20000", "-1"]


@behaviour("cgroup-v1.cpu.child-over-parent-refused", subject="impl")
def test_more_than_the_parent_has(make_v1: MakeV1, seen: Seen) -> None:
    """A larger share of the period is refused, as much is taken."""
    set_limits_v1(make_v1("parent", "cpu"), FIFTH)
    child = make_v1("parent/child", "cpu")
    assert seen.errno_of(child.write, QUOTA, "20001") == "EINVAL"
    set_limits_v1(child, Limits(cpu_quota_microseconds=20_000))
    assert text(child, QUOTA) == "20000"


@behaviour("cgroup-v1.cpu.parent-below-child-refused", subject="impl")
def test_less_than_a_child_has(make_v1: MakeV1, seen: Seen) -> None:
    """The parent's quota can't go below its child's share."""
    parent = make_v1("parent", "cpu")
    set_limits_v1(parent, FIFTH)
    set_limits_v1(make_v1("parent/child", "cpu"), Limits(cpu_quota_microseconds=20_000))
    assert seen.errno_of(parent.write, QUOTA, "19999") == "EINVAL"
    assert text(parent, QUOTA) == "20000"


@behaviour("cgroup-v1.cpu.children-sum-may-exceed", subject="impl")
def test_children_together(make_v1: MakeV1) -> None:
    """Each may have as much as the parent."""
    set_limits_v1(make_v1("parent", "cpu"), FIFTH)
    children = [make_v1(f"parent/{name}", "cpu") for name in ("one", "two")]
    for child in children:
        set_limits_v1(child, Limits(cpu_quota_microseconds=20_000))
    assert [text(child, QUOTA) for child in children] == ["20000", "20000"]


@behaviour("cgroup-v1.cpu.throttles", subject="impl")
def test_a_fifth_of_a_cpu(make_v1: MakeV1) -> None:
    """A busy loop with 20 ms of each 100 ms gets about that, and all of it before."""
    group = make_v1("group", "cpu")
    pid = start_inside(group, burn_always)
    free = share_of(pid, 0.2)
    set_limits_v1(group, FIFTH)
    bound = share_of(pid, 1.0)
    end_by_kill(pid)
    assert free > 0.8
    assert 0.15 <= bound <= 0.28


@behaviour("cgroup-v1.cpu.stat-fields", subject="impl")
def test_lines_of_cpu_stat(make_v1: MakeV1) -> None:
    """There are three at least."""
    group = make_v1("group", "cpu")
    assert {"nr_periods", "nr_throttled", "throttled_time"} <= set(table(Path(group.path, "cpu.stat")))


@behaviour("cgroup-v1.cpu.stat-burst-fields", subject="impl")
def test_lines_about_bursts(make_v1: MakeV1) -> None:
    """There are two."""
    group = make_v1("group", "cpu")
    assert {"nr_bursts", "burst_time"} <= set(table(Path(group.path, "cpu.stat")))


@behaviour("cgroup-v1.cpu.stat-throttled", subject="impl")
def test_throttling_is_counted(make_v1: MakeV1) -> None:
    """nr_throttled and throttled_time grow while a busy loop is held back; the package reads them."""
    group = make_v1("group", "cpu,cpuacct")
    set_limits_v1(group, FIFTH)
    before = table(Path(group.path, "cpu.stat"))
    pid = start_inside(group, burn_always)
    burn_for(0.5)
    end_by_kill(pid)
    after = table(Path(group.path, "cpu.stat"))
    assert [after[key] > before[key] for key in ("nr_throttled", "throttled_time")] == [True, True]
    found = cpu.read_v1(group.read_or_none)
    assert found is not None
    assert found.throttled_periods == after["nr_throttled"]
    assert found.throttled_microseconds == after["throttled_time"] // 1000


@behaviour("cgroup-v1.cpu.burst-over-quota-refused", subject="impl")
def test_more_burst_than_quota(make_v1: MakeV1, seen: Seen) -> None:
    """It is refused, by the package too."""
    group = make_v1("group", "cpu")
    set_limits_v1(group, FIFTH)
    assert seen.errno_of(group.write, BURST, "20001") == "EINVAL"
    refused(group, Limits(cpu_quota_microseconds=20_000, cpu_burst_microseconds=20_001))
    assert text(group, BURST) == "0"


@behaviour("cgroup-v1.cpu.shares-ratio", subject="impl")
def test_twice_the_shares(make_v1: MakeV1) -> None:
    """Of one CPU the group with twice as many shares gets about twice as much."""
    pids = []
    for name, shares in (("light", "1024"), ("heavy", "2048")):
        group = make_v1(name, "cpu")
        group.write("cpu.shares", shares)
        pids.append(start_inside(group, burn_always))
        os.sched_setaffinity(pids[-1], {1})
    os.sched_setaffinity(0, {0})
    before = [float(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in pids]
    burn_for(1.0)
    after = [float(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in pids]
    for pid in pids:
        end_by_kill(pid)
    light, heavy = (second - first for first, second in zip(before, after, strict=True))
    assert 1.5 <= heavy / light <= 2.7


@behaviour("cgroup-v1.cpuacct.usage", subject="impl")
def test_time_is_counted_upwards(make_v1: MakeV1) -> None:
    """200 ms of a task are 200,000,000 of its group and of the one above; the package reads them."""
    child, parent = make_v1("parent/child", "cpuacct"), make_v1("parent", "cpuacct")
    before = [int(text(group, "cpuacct.usage")) for group in (parent, child)]
    assert run_inside(child, lambda: burn(0.2)) == 0
    after = [int(text(group, "cpuacct.usage")) for group in (parent, child)]
    grown = [second - first for first, second in zip(before, after, strict=True)]
    assert all(190_000_000 <= number <= 300_000_000 for number in grown)
    found = cpu.read_v1(child.read_or_none)
    assert found is not None
    assert found.usage_microseconds == after[1] // 1000


@behaviour("cgroup-v1.cpuacct.stat", subject="impl")
def test_ticks_of_both_kinds(make_v1: MakeV1) -> None:
    """user and system, in ticks of a hundredth of a second."""
    group = make_v1("group", "cpuacct")
    assert run_inside(group, lambda: burn(0.2)) == 0
    found = table(Path(group.path, "cpuacct.stat"))
    assert set(found) == {"user", "system"}
    assert 0.15 <= sum(found.values()) / os.sysconf("SC_CLK_TCK") <= 0.4
    read = cpu.read_v1(group.read_or_none)
    assert read is not None
    assert read.user_microseconds == found["user"] * 1_000_000 // os.sysconf("SC_CLK_TCK")
