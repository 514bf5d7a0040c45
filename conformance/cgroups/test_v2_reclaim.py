"""Version 2, the memory controller: what is taken back, from whom, and what is protected; acted on by impl.cgroups."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.cgroups.acting import (
    MIB,
    end_by_kill,
    hold,
    run_inside,
    set_limits,
    start_inside,
    table,
    wait_for_stop,
)
from kernelproof.impl.cgroups import enabling
from kernelproof.impl.cgroups.controllers import memory
from kernelproof.impl.cgroups.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelproof.conformance.cgroups.conftest import Make
    from kernelproof.conformance.seen import Seen
    from kernelproof.impl.cgroups.directory import Directory

CACHE = 8 * MIB


def read_blocks(device: Path, part: int) -> Callable[[], None]:
    """A function that reads one part of a device, which fills that much page cache."""

    def read() -> None:
        fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
        for offset in range(part * CACHE, (part + 1) * CACHE, MIB):
            os.pread(fd, MIB, offset)
        os.close(fd)

    return read


def cache_of(cgroup: Path) -> int:
    return table(cgroup / "memory.stat")["file"]


def press(directory: Directory) -> None:
    """Take 6 MiB back from a cgroup, by a limit."""
    usage = memory.usage_v2(directory.read_or_none)
    assert usage is not None
    set_limits(directory, Limits(memory_max_bytes=usage - 6 * MIB))


def holder(directory: Directory, size: int) -> int:
    pid = start_inside(directory, hold(size))
    wait_for_stop(pid)
    return pid


@behaviour("cgroup-v2.memory.reclaim-eagain", subject="impl")
def test_more_than_can_be_taken_back(make: Make, seen: Seen) -> None:
    """Without swap anonymous memory stays, and the write says that there was not enough."""
    directory = make("child", "memory")
    pid = holder(directory, 8 * MIB)
    answer = seen.errno_of(directory.write, "memory.reclaim", "64M")
    end_by_kill(pid)
    assert answer == "EAGAIN"


@behaviour("cgroup-v2.memory.reclaim-file", subject="impl")
def test_page_cache_is_taken_back(unified: Path, make: Make, loop_device: Path) -> None:
    """4M of clean page cache go."""
    directory = make("child", "memory")
    assert run_inside(directory, read_blocks(loop_device, 0)) == 0
    before = cache_of(unified / "child")
    directory.write("memory.reclaim", "4M")
    after = cache_of(unified / "child")
    assert before >= 7 * MIB
    assert before - after >= 3 * MIB


@behaviour("cgroup-v2.memory.reclaim-swappiness", subject="impl")
def test_a_key_of_reclaim(make: Make, seen: Seen) -> None:
    """swappiness=0 is taken, whether or not there is enough."""
    assert seen.errno_of(make("child", "memory").write, "memory.reclaim", "1M swappiness=0") != "EINVAL"


@behaviour("cgroup-v2.memory.reclaim-swappiness-max", subject="impl")
def test_the_most_swappiness(make: Make, seen: Seen) -> None:
    """swappiness=max is taken, whether or not there is enough."""
    assert seen.errno_of(make("child", "memory").write, "memory.reclaim", "1M swappiness=max") != "EINVAL"


@behaviour("cgroup-v2.memory.reclaim-swappiness-range", subject="impl")
def test_more_than_the_most_swappiness(make: Make, seen: Seen) -> None:
    """201 is refused."""
    assert seen.errno_of(make("child", "memory").write, "memory.reclaim", "1M swappiness=201") == "EINVAL"


@behaviour("cgroup-v2.memory.reclaim-unknown-key-einval", subject="impl")
def test_a_key_that_is_none(make: Make, seen: Seen) -> None:
    """foo=0 is refused."""
    assert seen.errno_of(make("child", "memory").write, "memory.reclaim", "1M foo=0") == "EINVAL"


@behaviour("cgroup-v2.memory.low-protects", subject="impl")
def test_protection_against_a_sibling(unified: Path, make: Make, loop_device: Path) -> None:
    """What is under memory.low stays, and what has none is taken."""
    parent = make("parent", "memory")
    enabling.enable(parent, ["memory"])
    set_limits(make("parent/one"), Limits(memory_low_bytes=2 * CACHE))
    for part, name in enumerate(("one", "two")):
        assert run_inside(make(f"parent/{name}"), read_blocks(loop_device, part)) == 0
    before = [cache_of(unified / "parent" / name) for name in ("one", "two")]
    press(parent)
    after = [cache_of(unified / "parent" / name) for name in ("one", "two")]
    assert before[0] - after[0] <= MIB // 2
    assert before[1] - after[1] >= 5 * MIB


@pytest.fixture
def two_families(make: Make) -> Callable[[Limits], Directory]:
    """Two parents of whom one protects nothing, each with a child that is protected."""

    def build(limits: Limits) -> Directory:
        whole = make("top", "memory")
        enabling.enable(whole, ["memory"])
        for name in ("none", "all"):
            parent = make(f"top/{name}")
            enabling.enable(parent, ["memory"])
            set_limits(make(f"top/{name}/child"), limits)
        set_limits(make("top/all"), limits)
        return whole

    return build


def lost(unified: Path, make: Make, whole: Directory, device: Path) -> list[int]:
    """How much page cache each of the two children loses when the whole is pressed."""
    children = [unified / f"top/{name}/child" for name in ("none", "all")]
    for part, name in enumerate(("none", "all")):
        assert run_inside(make(f"top/{name}/child"), read_blocks(device, part)) == 0
    before = [cache_of(child) for child in children]
    press(whole)
    return [one - two for one, two in zip(before, map(cache_of, children), strict=True)]


@behaviour("cgroup-v2.memory.min-effective-limited", subject="impl")
def test_no_more_than_the_parent_protects(
    unified: Path, make: Make, two_families: Callable[[Limits], Directory], loop_device: Path
) -> None:
    """memory.min of a child whose parent has none protects nothing; with the parent's it does."""
    whole = two_families(Limits(memory_min_bytes=2 * CACHE))
    unprotected, protected = lost(unified, make, whole, loop_device)
    assert unprotected >= 5 * MIB
    assert protected <= MIB // 2


@behaviour("cgroup-v2.memory.low-default-effective", subject="impl")
def test_no_more_than_the_parent_asks_for(
    unified: Path, make: Make, two_families: Callable[[Limits], Directory], loop_device: Path
) -> None:
    """memory.low of a child whose parent has none protects nothing; with the parent's it does."""
    whole = two_families(Limits(memory_low_bytes=2 * CACHE))
    unprotected, protected = lost(unified, make, whole, loop_device)
    assert unprotected >= 5 * MIB
    assert protected <= MIB // 2


@behaviour("cgroup-v2.memory.swap-max-zero", subject="impl")
def test_no_swap_for_one(unified: Path, make: Make) -> None:
    """Above memory.high memory goes to swap, and not where memory.swap.max is 0."""
    found = {}
    for name, limit in (("free", -1), ("bound", 0)):
        directory = make(name, "memory")
        set_limits(directory, Limits(memory_high_bytes=8 * MIB, swap_max_bytes=limit))
        pid = holder(directory, 10 * MIB)
        found[name] = int((unified / name / "memory.swap.current").read_text())
        end_by_kill(pid)
    assert found["free"] > 0
    assert found["bound"] == 0


@behaviour("cgroup-v2.memory.swap-events", subject="impl")
def test_refused_swap_is_counted(unified: Path, make: Make) -> None:
    """When the limit of swap is reached, max and fail grow."""
    directory = make("bound", "memory")
    set_limits(directory, Limits(memory_high_bytes=8 * MIB, swap_max_bytes=MIB + 5 * 4096))
    before = table(unified / "bound/memory.swap.events")
    pid = holder(directory, 14 * MIB)
    after = table(unified / "bound/memory.swap.events")
    end_by_kill(pid)
    assert [after[key] > before[key] for key in ("max", "fail")] == [True, True]
