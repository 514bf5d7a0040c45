"""Version 1: the memory controller; acted on by impl.cgroups, seen in files and processes."""

from __future__ import annotations

import os
import select
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.cgroups.acting import (
    DEADLINE_SECONDS,
    MIB,
    PAGE,
    end_by_kill,
    end_of,
    hold,
    run_inside,
    set_limits_v1,
    start_inside,
    table,
    touch,
    wait_for_stop,
)
from kernelproof.impl.cgroups.controllers import memory
from kernelproof.impl.cgroups.errors import BelowUsageError
from kernelproof.impl.cgroups.events import watch_memory_v1
from kernelproof.impl.cgroups.limits import Limits
from kernelproof.impl.cgroups.planning import plan_v1

if TYPE_CHECKING:
    from kernelproof.conformance.cgroups.conftest import MakeV1
    from kernelproof.conformance.seen import Seen
    from kernelproof.impl.cgroups.directory import Directory

LIMIT, SOFT_LIMIT, USAGE = "memory.limit_in_bytes", "memory.soft_limit_in_bytes", "memory.usage_in_bytes"
UNLIMITED = str((1 << 63) // PAGE * PAGE - PAGE)


def text(directory: Directory, file: str) -> str:
    return Path(directory.path, file).read_text().strip()


def eat() -> None:
    touch(48 * MIB)


def small(make_v1: MakeV1, name: str = "small") -> Directory:
    group = make_v1(name, "memory")
    set_limits_v1(group, Limits(memory_max_bytes=16 * MIB))
    return group


def holder(directory: Directory, size: int) -> int:
    pid = start_inside(directory, hold(size))
    wait_for_stop(pid)
    return pid


def rings(event: int) -> bool:
    """Whether an eventfd counts within the deadline; it is read then."""
    poll = select.poll()
    poll.register(event, select.POLLIN)
    if not poll.poll(DEADLINE_SECONDS * 1000):
        return False
    return os.eventfd_read(event) > 0


@behaviour("cgroup-v1.memory.limit-suffix", subject="impl")
@pytest.mark.parametrize("number", ["4096k", "4M", "4m"])
def test_numbers_with_a_suffix(make_v1: MakeV1, number: str) -> None:
    """k, m and g, small or not, are powers of 1024."""
    group = make_v1("group", "memory")
    group.write(LIMIT, number)
    assert text(group, LIMIT) == "4194304"


@behaviour("cgroup-v1.memory.limit-rounds-up", subject="impl")
def test_a_limit_of_one_byte(make_v1: MakeV1, seen: Seen) -> None:
    """It is a page."""
    group = make_v1("group", "memory")
    set_limits_v1(group, Limits(memory_max_bytes=1))
    assert seen(int(text(group, LIMIT))) == PAGE


@behaviour("cgroup-v1.memory.limit-minus-one", subject="impl")
def test_a_limit_is_lifted(make_v1: MakeV1) -> None:
    """-1 does it; the package reads what is there then as no limit."""
    group = small(make_v1)
    set_limits_v1(group, Limits(memory_max_bytes=-1))
    assert text(group, LIMIT) == UNLIMITED
    found = memory.read_v1(group.read_or_none)
    assert found is not None
    assert found.limit_bytes == -1


@behaviour("cgroup-v1.memory.root-limit-refused", subject="impl")
def test_the_root_has_no_limit(make_v1: MakeV1, seen: Seen) -> None:
    """Setting one is refused."""
    root = make_v1("", "memory")
    assert seen.errno_of(set_limits_v1, root, Limits(memory_max_bytes=1 << 30)) == "EINVAL"
    assert text(root, LIMIT) == UNLIMITED


@behaviour("cgroup-v1.memory.oom-kills", subject="impl")
def test_too_much_memory_kills(make_v1: MakeV1) -> None:
    """Who touches more than the limit ends by SIGKILL; who touches less does not."""
    group = small(make_v1)
    assert run_inside(group, lambda: touch(MIB)) == 0
    assert run_inside(group, eat) == -signal.SIGKILL


@behaviour("cgroup-v1.memory.oom-kill-counted", subject="impl")
def test_each_kill_is_counted(make_v1: MakeV1) -> None:
    """oom_kill of memory.oom_control grows by one; the package reads it."""
    group = small(make_v1)
    run_inside(group, eat)
    assert table(Path(group.path, "memory.oom_control"))["oom_kill"] == 1
    found = memory.read_v1(group.read_or_none)
    assert found is not None
    assert found.oom_kills == 1


@behaviour("cgroup-v1.memory.failcnt", subject="impl")
def test_hits_are_counted(make_v1: MakeV1) -> None:
    """memory.failcnt grows."""
    group = small(make_v1)
    before = text(group, "memory.failcnt")
    run_inside(group, eat)
    assert before == "0"
    assert int(text(group, "memory.failcnt")) > 0


@behaviour("cgroup-v1.memory.failcnt-reset", subject="impl")
def test_hits_are_forgotten(make_v1: MakeV1) -> None:
    """0 that is written is 0 that is read."""
    group = small(make_v1)
    run_inside(group, eat)
    before = int(text(group, "memory.failcnt"))
    group.write("memory.failcnt", "0")
    assert before > 0
    assert text(group, "memory.failcnt") == "0"


@behaviour("cgroup-v1.memory.max-usage", subject="impl")
def test_the_highest_usage_is_kept(make_v1: MakeV1) -> None:
    """It is there when the memory is free; the package reads it."""
    group = make_v1("group", "memory")
    end_by_kill(holder(group, 16 * MIB))
    assert int(text(group, USAGE)) < 8 * MIB
    assert int(text(group, "memory.max_usage_in_bytes")) >= 16 * MIB
    found = memory.read_v1(group.read_or_none)
    assert found is not None
    assert found.peak_bytes == int(text(group, "memory.max_usage_in_bytes"))


@behaviour("cgroup-v1.memory.use-hierarchy", subject="impl")
def test_a_tree_is_a_tree(make_v1: MakeV1, seen: Seen) -> None:
    """That can't be switched off."""
    assert seen.errno_of(make_v1("group", "memory").write, "memory.use_hierarchy", "0") == "EINVAL"


@behaviour("cgroup-v1.memory.use-hierarchy-one", subject="impl")
def test_a_tree_can_be_asked_for(make_v1: MakeV1) -> None:
    """1 is taken."""
    group = make_v1("group", "memory")
    group.write("memory.use_hierarchy", "1")
    assert text(group, "memory.use_hierarchy") == "1"


@behaviour("cgroup-v1.memory.soft-limit-ignored", subject="impl")
def test_a_soft_limit_is_none(make_v1: MakeV1, seen: Seen) -> None:
    """What is written is not read."""
    group = make_v1("group", "memory")
    set_limits_v1(group, Limits(memory_low_bytes=MIB))
    assert seen(text(group, SOFT_LIMIT)) == UNLIMITED


@behaviour("cgroup-v1.memory.kmem-limit-no-effect", subject="impl")
def test_a_limit_of_the_kernel_s_is_none(make_v1: MakeV1, seen: Seen) -> None:
    """The write succeeds, and nothing is limited."""
    group = make_v1("group", "memory")
    assert seen.errno_of(group.write, "memory.kmem.limit_in_bytes", str(PAGE)) == "no error"
    assert run_inside(group, lambda: [os.pipe() for _ in range(50)]) == 0
    assert seen(text(group, "memory.kmem.limit_in_bytes")) == UNLIMITED


@behaviour("cgroup-v1.memory.move-charge", subject="impl")
def test_charges_may_move(make_v1: MakeV1, seen: Seen) -> None:
    """A positive number is taken."""
    group = make_v1("group", "memory")
    assert seen.errno_of(group.write, "memory.move_charge_at_immigrate", "1") == "no error"
    assert text(group, "memory.move_charge_at_immigrate") == "1"


@behaviour("cgroup-v1.memory.oom-control-fields", subject="impl")
def test_lines_of_oom_control(make_v1: MakeV1) -> None:
    """There are three."""
    group = make_v1("group", "memory")
    found = table(Path(group.path, "memory.oom_control"))
    assert found == {"oom_kill_disable": 0, "under_oom": 0, "oom_kill": 0}


@behaviour("cgroup-v1.memory.oom-disable-hangs", subject="impl")
def test_who_waits_for_memory(make_v1: MakeV1) -> None:
    """Over the limit it sleeps, under_oom is 1, and it goes on when the limit is raised."""
    group = small(make_v1)
    set_limits_v1(group, Limits(memory_disable_oom_kill=True))
    event = watch_memory_v1(group, "memory.oom_control")
    pid = start_inside(group, eat)
    assert rings(event)
    os.close(event)
    under = table(Path(group.path, "memory.oom_control"))["under_oom"]
    waits = os.waitpid(pid, os.WNOHANG)
    set_limits_v1(group, Limits(memory_max_bytes=256 * MIB))
    assert (under, waits) == (1, (0, 0))
    assert end_of(pid) == 0


@behaviour("cgroup-v1.memory.oom-eventfd", subject="impl")
def test_running_out_rings(make_v1: MakeV1) -> None:
    """An eventfd on memory.oom_control counts."""
    group = small(make_v1)
    event = watch_memory_v1(group, "memory.oom_control")
    run_inside(group, eat)
    rang = rings(event)
    os.close(event)
    assert rang


@behaviour("cgroup-v1.memory.threshold-eventfd", subject="impl")
def test_a_threshold_rings(make_v1: MakeV1) -> None:
    """Upwards and downwards."""
    group = make_v1("group", "memory")
    event = watch_memory_v1(group, USAGE, str(16 * MIB))
    pid = holder(group, 24 * MIB)
    up = rings(event)
    end_by_kill(pid)
    begin = time.monotonic()
    down = rings(event)
    os.close(event)
    assert (up, down) == (True, True)
    assert time.monotonic() - begin < DEADLINE_SECONDS


@behaviour("cgroup-v1.memory.event-control-bad", subject="impl")
@pytest.mark.parametrize("words", ["x y", "", "{closed} {closed}"], ids=["letters", "empty", "closed"])
def test_what_is_no_event(make_v1: MakeV1, seen: Seen, words: str) -> None:
    """It is refused."""
    group = make_v1("group", "memory")
    closed = os.eventfd(0)
    os.close(closed)
    assert seen.errno_of(group.write, "cgroup.event_control", words.format(closed=closed) or "\n") in (
        "EINVAL",
        "EBADF",
    )


@behaviour("cgroup-v1.memory.memsw-order", subject="impl")
def test_a_sum_below_its_part(make_v1: MakeV1, seen: Seen) -> None:
    """It is refused in both ways; the package writes in the order that is taken."""
    group = make_v1("group", "memory")
    both = "memory.memsw.limit_in_bytes"
    for memory_bytes, swap_bytes in ((16 * MIB, 8 * MIB), (64 * MIB, 0), (8 * MIB, 0)):
        set_limits_v1(group, Limits(memory_max_bytes=memory_bytes, swap_max_bytes=swap_bytes))
        assert [int(text(group, file)) for file in (LIMIT, both)] == [memory_bytes, memory_bytes + swap_bytes]
    answers = [seen.errno_of(group.write, both, str(4 * MIB)), seen.errno_of(group.write, LIMIT, str(16 * MIB))]
    assert seen(answers) == ["EINVAL", "EINVAL"]


@behaviour("cgroup-v1.memory.limit-below-usage", subject="impl")
def test_a_limit_below_what_is_in_use(make_v1: MakeV1, seen: Seen) -> None:
    """It is refused, by the package before; the limit stays, and the process lives."""
    group = make_v1("group", "memory")
    set_limits_v1(group, Limits(memory_max_bytes=64 * MIB))
    pid = holder(group, 16 * MIB)
    answer = seen.errno_of(group.write, LIMIT, str(4 * MIB))
    with pytest.raises(BelowUsageError):
        plan_v1(Limits(memory_max_bytes=4 * MIB), lambda controller: group.read_or_none)
    found, alive = text(group, LIMIT), os.waitpid(pid, os.WNOHANG)
    end_by_kill(pid)
    assert answer == "EBUSY"
    assert (found, alive) == (str(64 * MIB), (0, 0))


@behaviour("cgroup-v1.memory.force-empty", subject="impl")
def test_page_cache_is_taken_back(make_v1: MakeV1, loop_device: Path) -> None:
    """Without tasks a cgroup gives it all."""
    group = make_v1("group", "memory")

    def read() -> None:
        fd = os.open(loop_device, os.O_RDONLY | os.O_CLOEXEC)
        for offset in range(0, 8 * MIB, MIB):
            os.pread(fd, MIB, offset)
        os.close(fd)

    assert run_inside(group, read) == 0
    before = table(Path(group.path, "memory.stat"))["cache"]
    group.write("memory.force_empty", "0")
    after = table(Path(group.path, "memory.stat"))["cache"]
    assert before >= 7 * MIB
    assert after <= MIB


@behaviour("cgroup-v1.memory.stat-hierarchical-limit", subject="impl")
def test_the_smallest_limit_above(make_v1: MakeV1) -> None:
    """It is what memory.stat says."""
    small(make_v1, "parent").write("memory.use_hierarchy", "1")  # not from the beginning before Linux 5.11
    child = make_v1("parent/child", "memory")
    found = []
    for limit in (64 * MIB, 8 * MIB):
        set_limits_v1(child, Limits(memory_max_bytes=limit))
        found.append(table(Path(child.path, "memory.stat"))["hierarchical_memory_limit"])
    assert found == [16 * MIB, 8 * MIB]


@behaviour("cgroup-v1.memory.stat-total", subject="impl")
def test_totals_have_the_children(make_v1: MakeV1) -> None:
    """total_rss of the parent has what its child uses, rss has not."""
    parent = make_v1("parent", "memory")
    parent.write("memory.use_hierarchy", "1")  # not from the beginning before Linux 5.11
    child = make_v1("parent/child", "memory")
    pid = holder(child, 16 * MIB)
    found = table(Path(parent.path, "memory.stat"))
    end_by_kill(pid)
    assert found["total_rss"] >= 15 * MIB
    assert found["rss"] < MIB


@behaviour("cgroup-v1.memory.charge-stays", subject="impl")
def test_memory_does_not_move(make_v1: MakeV1) -> None:
    """What a task touched stays charged where it was when the task moves."""
    one, two = make_v1("one", "memory"), make_v1("two", "memory")
    pid = holder(one, 16 * MIB)
    two.write("cgroup.procs", str(pid))
    found = [int(text(group, USAGE)) for group in (one, two)]
    end_by_kill(pid)
    assert found[0] >= 15 * MIB
    assert found[1] < 8 * MIB
