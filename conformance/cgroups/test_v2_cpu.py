"""Version 2, the cpu controller: weights, quotas and figures; acted on by impl.cgroups, seen in files and in time."""

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
    set_limits,
    start_inside,
    table,
)
from kernelproof.impl.cgroups import enabling
from kernelproof.impl.cgroups.controllers import cpu
from kernelproof.impl.cgroups.errors import LimitError
from kernelproof.impl.cgroups.limits import Limits
from kernelproof.impl.cgroups.planning import plan_v2

if TYPE_CHECKING:
    from kernelproof.conformance.cgroups.conftest import Make
    from kernelproof.conformance.seen import Seen
    from kernelproof.impl.cgroups.directory import Directory

FIFTH = Limits(cpu_quota_microseconds=20_000, cpu_period_microseconds=100_000)


def text(path: Path) -> str:
    return path.read_text().strip()


def refused(directory: Directory, limits: Limits) -> None:
    with pytest.raises(LimitError):
        plan_v2(limits, directory.read_or_none)


def share_of(directory: Directory, seconds: float) -> float:
    """The part of one CPU that a busy loop in a cgroup gets."""
    pid = start_inside(directory, burn_always)
    stat = Path(directory.path, "cpu.stat")
    before, begin = table(stat)["usage_usec"], time.monotonic()
    burn_for(seconds)
    used, passed = table(stat)["usage_usec"] - before, time.monotonic() - begin
    end_by_kill(pid)
    return used / (passed * 1_000_000)


@behaviour("cgroup-v2.cpu.weight-default", subject="impl")
def test_weight_of_a_new_cgroup(unified: Path, make: Make) -> None:
    """It is 100."""
    make("child", "cpu")
    assert text(unified / "child/cpu.weight") == "100"


@behaviour("cgroup-v2.cpu.weight-range", subject="impl")
def test_weights_there_are(unified: Path, make: Make, seen: Seen) -> None:
    """1 and 10000 are taken, 0 and 10001 refused, by the package too."""
    child = make("child", "cpu")
    for weight in (1, 10_000):
        set_limits(child, Limits(cpu_weight=weight))
        assert text(unified / "child/cpu.weight") == str(weight)
    answers = [seen.errno_of(child.write, "cpu.weight", weight) for weight in ("0", "10001")]
    assert seen(answers) == ["ERANGE", "ERANGE"]
    for number in (0, 10_001):
        refused(child, Limits(cpu_weight=number))
    assert text(unified / "child/cpu.weight") == "10000"


@behaviour("cgroup-v2.cpu.weight-shares-time", subject="impl")
def test_three_times_the_weight(unified: Path, make: Make) -> None:
    """Of one CPU the heavier of two busy cgroups gets about three times as much."""
    names = {"light": 100, "heavy": 300}
    pids = []
    for name, weight in names.items():
        directory = make(name, "cpu")
        set_limits(directory, Limits(cpu_weight=weight))
        pids.append(start_inside(directory, burn_always))
        os.sched_setaffinity(pids[-1], {1})
    os.sched_setaffinity(0, {0})
    before = {name: table(unified / name / "cpu.stat")["usage_usec"] for name in names}
    burn_for(1.0)
    used = {name: table(unified / name / "cpu.stat")["usage_usec"] - before[name] for name in names}
    for pid in pids:
        end_by_kill(pid)
    assert 2.0 <= used["heavy"] / used["light"] <= 4.5


@behaviour("cgroup-v2.cpu.weight-nice-default", subject="impl")
def test_niceness_of_a_new_cgroup(unified: Path, make: Make) -> None:
    """It is 0."""
    make("child", "cpu")
    assert text(unified / "child/cpu.weight.nice") == "0"


@behaviour("cgroup-v2.cpu.weight-nice", subject="impl")
def test_niceness_is_a_weight(unified: Path, make: Make) -> None:
    """-20 and 19 change what cpu.weight says, to more and to less."""
    child = make("child", "cpu")
    found = []
    for value in ("-20", "19"):
        child.write("cpu.weight.nice", value)
        assert text(unified / "child/cpu.weight.nice") == value
        found.append(int(text(unified / "child/cpu.weight")))
    assert found[0] > 100 > found[1]


@behaviour("cgroup-v2.cpu.weight-nice-range", subject="impl")
def test_nice_values_that_are_none(make: Make, seen: Seen) -> None:
    """20 and -21 are refused."""
    child = make("child", "cpu")
    answers = [seen.errno_of(child.write, "cpu.weight.nice", value) for value in ("20", "-21")]
    assert seen(answers) == ["ERANGE", "ERANGE"]


@behaviour("cgroup-v2.cpu.max-default", subject="impl")
def test_no_quota_at_first(unified: Path, make: Make) -> None:
    """cpu.max is max of 100000."""
    child = make("child", "cpu")
    assert text(unified / "child/cpu.max") == "max 100000"
    assert cpu.parse_quota(child.read("cpu.max")) == (-1, 100_000)


@behaviour("cgroup-v2.cpu.max-one-number", subject="impl")
def test_a_quota_alone(unified: Path, make: Make) -> None:
    """One number changes the quota and leaves the period."""
    child = make("child", "cpu")
    set_limits(child, Limits(cpu_quota_microseconds=10_000, cpu_period_microseconds=50_000))
    child.write("cpu.max", "20000")
    assert text(unified / "child/cpu.max") == "20000 50000"


@behaviour("cgroup-v2.cpu.max-throttles", subject="impl")
def test_a_fifth_of_a_cpu(make: Make) -> None:
    """A busy loop with 20 ms of each 100 ms gets about that, and without a quota all."""
    child = make("child", "cpu")
    free = share_of(child, 0.2)
    set_limits(child, FIFTH)
    bound = share_of(child, 1.0)
    assert free > 0.8
    assert 0.15 <= bound <= 0.28


@behaviour("cgroup-v2.cpu.stat-throttled", subject="impl")
def test_throttling_is_counted(unified: Path, make: Make) -> None:
    """nr_throttled and throttled_usec grow while a busy loop is held back."""
    child = make("child", "cpu")
    set_limits(child, FIFTH)
    before = table(unified / "child/cpu.stat")
    share_of(child, 0.5)
    after = table(unified / "child/cpu.stat")
    assert [after[key] > before[key] for key in ("nr_throttled", "throttled_usec")] == [True, True]
    found = cpu.read_v2(child.read_or_none)
    assert found is not None
    assert found.throttled_periods == after["nr_throttled"]


@behaviour("cgroup-v2.cpu.max-minimum-einval", subject="impl")
def test_quotas_and_periods_that_are_none(unified: Path, make: Make, seen: Seen) -> None:
    """Less than a millisecond of either, and more than a second of the period, are refused, by the package too."""
    child = make("child", "cpu")
    texts = ("999 100000", "1000 999", "1000 1000001")
    answers = [seen.errno_of(child.write, "cpu.max", value) for value in texts]
    assert seen(answers) == ["EINVAL"] * 3
    refused(child, Limits(cpu_quota_microseconds=999))
    for period in (999, 1_000_001):
        refused(child, Limits(cpu_period_microseconds=period))
    assert text(unified / "child/cpu.max") == "max 100000"
    set_limits(child, Limits(cpu_quota_microseconds=1000, cpu_period_microseconds=1_000_000))
    assert text(unified / "child/cpu.max") == "1000 1000000"


@behaviour("cgroup-v2.cpu.max-over-parent-allowed", subject="impl")
def test_more_than_the_parent_has(unified: Path, make: Make) -> None:
    """A child may be given more, and gets what the parent has."""
    parent = make("parent", "cpu")
    enabling.enable(parent, ["cpu"])
    child = make("parent/child")
    set_limits(parent, FIFTH)
    set_limits(child, Limits(cpu_quota_microseconds=80_000))
    assert text(unified / "parent/child/cpu.max") == "80000 100000"
    assert 0.15 <= share_of(child, 1.0) <= 0.28


@behaviour("cgroup-v2.cpu.max-burst", subject="impl")
def test_more_burst_than_quota(unified: Path, make: Make, seen: Seen) -> None:
    """It is refused, by the package too; as much as the quota is taken."""
    child = make("child", "cpu")
    set_limits(child, FIFTH)
    assert seen.errno_of(child.write, "cpu.max.burst", "20001") == "EINVAL"
    refused(child, Limits(cpu_quota_microseconds=20_000, cpu_burst_microseconds=20_001))
    set_limits(child, Limits(cpu_burst_microseconds=20_000))
    assert text(unified / "child/cpu.max.burst") == "20000"


@behaviour("cgroup-v2.cpu.max-burst-default", subject="impl")
def test_no_burst_at_first(unified: Path, make: Make) -> None:
    """cpu.max.burst is 0."""
    make("child", "cpu")
    assert text(unified / "child/cpu.max.burst") == "0"


@behaviour("cgroup-v2.cpu.idle-weight-zero", subject="impl")
def test_the_weight_of_an_idle_cgroup(unified: Path, make: Make, seen: Seen) -> None:
    """It is 0."""
    set_limits(make("child", "cpu"), Limits(cpu_idle=True))
    assert seen(int(text(unified / "child/cpu.weight"))) == 0


@behaviour("cgroup-v2.cpu.idle-write-weight-refused", subject="impl")
def test_an_idle_cgroup_takes_no_weight(unified: Path, make: Make, seen: Seen) -> None:
    """The write is refused, and by the package before it."""
    child = make("child", "cpu")
    set_limits(child, Limits(cpu_idle=True))
    before = text(unified / "child/cpu.weight")
    assert seen.errno_of(child.write, "cpu.weight", "200") == "EINVAL"
    refused(child, Limits(cpu_weight=200))
    assert text(unified / "child/cpu.weight") == before


@behaviour("cgroup-v2.cpu.stat-always", subject="impl")
def test_time_is_counted_without_the_controller(unified: Path, make: Make) -> None:
    """Three lines are there, and the package reads them."""
    child = make("child")
    assert {"usage_usec", "user_usec", "system_usec"} <= set(table(unified / "child/cpu.stat"))
    found = cpu.read_v2(child.read_or_none)
    assert found is not None
    assert found.periods is None


@behaviour("cgroup-v2.cpu.stat-controller-keys", subject="impl")
def test_lines_of_the_controller(unified: Path, make: Make, top: Directory) -> None:
    """Those about throttling come with it."""
    make("child")
    keys = {"nr_periods", "nr_throttled", "throttled_usec"}
    before = keys & set(table(unified / "child/cpu.stat"))
    enabling.enable(top, ["cpu"])
    assert before == set()
    assert keys <= set(table(unified / "child/cpu.stat"))


@behaviour("cgroup-v2.cpu.stat-counts", subject="impl")
def test_time_is_counted_upwards(unified: Path, make: Make) -> None:
    """200 ms of a process are 200 ms more of its cgroup and of the one above."""
    child = make("parent/child")
    names = ("parent", "parent/child")
    before = [table(unified / name / "cpu.stat")["usage_usec"] for name in names]
    assert run_inside(child, lambda: burn(0.2)) == 0
    after = [table(unified / name / "cpu.stat")["usage_usec"] for name in names]
    grown = [second - first for first, second in zip(before, after, strict=True)]
    assert all(190_000 <= number <= 300_000 for number in grown)


@behaviour("cgroup-v2.cpu.stat-local-always", subject="impl")
def test_what_is_local_is_always_there(unified: Path, make: Make, top: Directory) -> None:
    """cpu.stat.local is empty without the controller, and not with it."""
    make("child")
    before = (unified / "child/cpu.stat.local").read_text()
    enabling.enable(top, ["cpu"])
    assert before == ""
    assert (unified / "child/cpu.stat.local").read_text() != ""


@behaviour("cgroup-v2.cpu.throttled-not-inherited", subject="impl")
def test_who_is_held_back_by_a_parent(unified: Path, make: Make) -> None:
    """The child's own periods stay 0, while its time held back grows."""
    parent = make("parent", "cpu")
    enabling.enable(parent, ["cpu"])
    set_limits(parent, FIFTH)
    share_of(make("parent/child"), 0.5)
    assert table(unified / "parent/child/cpu.stat")["nr_throttled"] == 0
    assert table(unified / "parent/child/cpu.stat.local")["throttled_usec"] > 0


@behaviour("cgroup-v2.cpu.uclamp-default", subject="impl")
def test_clamps_of_a_new_cgroup(unified: Path, make: Make) -> None:
    """None: max, and 0.00."""
    make("child", "cpu")
    assert [text(unified / f"child/cpu.uclamp.{end}") for end in ("max", "min")] == ["max", "0.00"]


@behaviour("cgroup-v2.cpu.uclamp-range", subject="impl")
def test_more_than_a_hundred_per_cent(unified: Path, make: Make, seen: Seen) -> None:
    """100.01 is refused."""
    child = make("child", "cpu")
    assert seen.errno_of(child.write, "cpu.uclamp.max", "100.01") == "ERANGE"
    assert text(unified / "child/cpu.uclamp.max") == "max"
