"""Version 2, the memory controller: what its files take and tell; acted on by impl.cgroups."""

from __future__ import annotations

import os
import re
import resource
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.cgroups.acting import (
    MIB,
    end_by_kill,
    end_of,
    hold,
    run_inside,
    set_limits,
    start_inside,
    table,
    wait_for_stop,
)
from kernelproof.impl._syscalls.mount import mount, umount2
from kernelproof.impl.cgroups import enabling
from kernelproof.impl.cgroups.controllers import memory
from kernelproof.impl.cgroups.errors import BelowUsageError, LimitError
from kernelproof.impl.cgroups.limits import Limits
from kernelproof.impl.cgroups.planning import plan_v2

if TYPE_CHECKING:
    from kernelproof.conformance.cgroups.conftest import Make
    from kernelproof.conformance.seen import Seen
    from kernelproof.impl.cgroups.directory import Directory


def number(path: Path) -> int:
    return int(path.read_text())


@behaviour("cgroup-v2.memory.unaligned-rounds-up", subject="impl")
def test_limit_between_two_pages(unified: Path, make: Make, seen: Seen) -> None:
    """A memory.max of one byte more than a page reads back as two pages."""
    page = resource.getpagesize()
    set_limits(make("limited", "memory"), Limits(memory_max_bytes=page + 1))
    assert seen(number(unified / "limited/memory.max")) == 2 * page


@behaviour("cgroup-v2.memory.max-default", subject="impl")
def test_no_limit_and_no_protection_at_first(unified: Path, make: Make) -> None:
    """The hard and the soft limit are max, both protections 0."""
    make("child", "memory")
    files = ("memory.max", "memory.high", "memory.min", "memory.low")
    assert [(unified / "child" / file).read_text().strip() for file in files] == ["max", "max", "0", "0"]


@behaviour("cgroup-v2.memory.suffixes", subject="impl")
@pytest.mark.parametrize(("text", "power"), [("4096K", 22), ("4M", 22), ("1G", 30)], ids=["K", "M", "G"])
def test_numbers_with_a_suffix(unified: Path, make: Make, text: str, power: int) -> None:
    """K, M and G are powers of 1024."""
    make("child", "memory").write("memory.max", text)
    assert number(unified / "child/memory.max") == 1 << power


@behaviour("cgroup-v2.memory.bad-value-einval", subject="impl")
@pytest.mark.parametrize("text", ["-1", "much"])
def test_what_is_no_limit(unified: Path, make: Make, seen: Seen, text: str) -> None:
    """It is refused by the kernel, a negative number by the package too, and the limit stays."""
    child = make("child", "memory")
    child.write("memory.max", "4M")
    assert seen.errno_of(child.write, "memory.max", text) == "EINVAL"
    with pytest.raises(LimitError):
        plan_v2(Limits(memory_max_bytes=-2), child.read_or_none)
    assert number(unified / "child/memory.max") == 4 * MIB


@behaviour("cgroup-v2.memory.root-exempt", subject="impl")
def test_the_root_has_no_limit(unified: Path, top: Directory, make: Make) -> None:
    """It has neither memory.max nor memory.current; what is below has both."""
    make("child", "memory")
    files = ("memory.max", "memory.current")
    assert [(unified / name / file).exists() for name in (".", "child") for file in files] == [False] * 2 + [True] * 2
    assert memory.usage_v2(top.read_or_none) is None


@behaviour("cgroup-v2.memory.max-below-usage", subject="impl")
def test_a_limit_below_what_is_in_use(make: Make) -> None:
    """The write succeeds and kills; the package refuses it before, with the usage."""
    child = make("child", "memory")
    pid = start_inside(child, hold(16 * MIB))
    wait_for_stop(pid)
    with pytest.raises(BelowUsageError) as refused:
        plan_v2(Limits(memory_max_bytes=4 * MIB), child.read_or_none)
    assert refused.value.usage >= 16 * MIB
    set_limits(child, Limits(memory_max_bytes=4 * MIB))
    assert end_of(pid) == -9


@behaviour("cgroup-v2.memory.max-nonblock", subject="impl")
def test_a_limit_that_waits_for_nobody(unified: Path, make: Make) -> None:
    """Written through O_NONBLOCK it is set, and nothing is reclaimed and nobody killed."""
    child = make("child", "memory")
    pid = start_inside(child, hold(16 * MIB))
    wait_for_stop(pid)
    fd = child.open_file("memory.max", os.O_WRONLY | os.O_NONBLOCK)
    os.write(fd, b"4194304")
    os.close(fd)
    found = number(unified / "child/memory.max"), number(unified / "child/memory.current") > 15 * MIB
    alive = os.waitpid(pid, os.WNOHANG)
    end_by_kill(pid)
    assert found == (4 * MIB, True)
    assert alive == (0, 0)


@behaviour("cgroup-v2.memory.current-includes-children", subject="impl")
def test_a_parent_counts_its_children(unified: Path, make: Make) -> None:
    """Its usage is at least what the two use, but for what CPUs have in stock."""
    enabling.enable(make("parent", "memory"), ["memory"])
    pids = [start_inside(make(f"parent/{name}"), hold(8 * MIB)) for name in ("one", "two")]
    for pid in pids:
        wait_for_stop(pid)
    names = ("parent", "parent/one", "parent/two")
    whole, *parts = (number(unified / name / "memory.current") for name in names)
    for pid in pids:
        end_by_kill(pid)
    assert all(part >= 8 * MIB for part in parts)
    assert whole + MIB >= sum(parts)


@behaviour("cgroup-v2.memory.stat-keys", subject="impl")
def test_lines_of_memory_stat(unified: Path, make: Make) -> None:
    """They are found by name, by the package as well."""
    child = make("child", "memory")
    wanted = {"anon", "file", "kernel_stack", "shmem", "pgfault", "slab"}
    assert wanted <= set(table(unified / "child/memory.stat"))
    found = memory.read_v2(child.read_or_none)
    assert found is not None
    assert wanted <= set(found.details)


@behaviour("cgroup-v2.memory.events-keys", subject="impl")
def test_lines_of_memory_events(unified: Path, make: Make) -> None:
    """The six are there, others may be too, and the package passes over those."""
    child = make("child", "memory")
    wanted = {"low", "high", "max", "oom", "oom_kill", "oom_group_kill"}
    assert wanted <= set(table(unified / "child/memory.events"))
    found = memory.read_v2(child.read_or_none)
    assert found is not None
    assert (found.limit_hits, found.oom, found.oom_kills) == (0, 0, 0)


@behaviour("cgroup-v2.memory.stat-anon", subject="impl")
def test_anonymous_memory_is_counted(unified: Path, make: Make) -> None:
    """16 MiB that are touched are 16 MiB more of anon."""
    child = make("child", "memory")
    small = start_inside(child, hold(0x1000))
    wait_for_stop(small)
    before = table(unified / "child/memory.stat")["anon"]
    pid = start_inside(child, hold(16 * MIB))
    wait_for_stop(pid)
    after = table(unified / "child/memory.stat")["anon"]
    for one in (small, pid):
        end_by_kill(one)
    assert 15 * MIB <= after - before <= 24 * MIB


@behaviour("cgroup-v2.memory.stat-file-tmpfs", subject="impl")
def test_files_in_memory_are_counted(unified: Path, make: Make, tmp_path: Path) -> None:
    """16 MiB in a tmpfs are 16 MiB more of file and of shmem."""
    child = make("child", "memory")
    files = tmp_path / "files"
    files.mkdir()
    mount("tmpfs", files, "tmpfs")
    before = table(unified / "child/memory.stat")

    def fill() -> None:
        with (files / "file").open("wb") as file:
            for _ in range(16):
                file.write(bytes(MIB))

    assert run_inside(child, fill) == 0
    after = table(unified / "child/memory.stat")
    umount2(files)
    assert [15 * MIB <= after[key] - before[key] <= 18 * MIB for key in ("file", "shmem")] == [True, True]


@behaviour("cgroup-v2.memory.stays-with-first-user", subject="impl")
def test_memory_does_not_move(unified: Path, make: Make) -> None:
    """What a process touched stays charged where it was when the process moves."""
    one, two = make("one", "memory"), make("two")
    pid = start_inside(one, hold(16 * MIB))
    wait_for_stop(pid)
    two.write("cgroup.procs", str(pid))
    found = [number(unified / name / "memory.current") for name in ("one", "two")]
    end_by_kill(pid)
    assert found[0] >= 15 * MIB
    assert found[1] < 8 * MIB


@behaviour("cgroup-v2.memory.peak", subject="impl")
def test_the_highest_usage_is_kept(unified: Path, make: Make) -> None:
    """memory.peak says what was in use when the process has ended."""
    child = make("child", "memory")
    pid = start_inside(child, hold(16 * MIB))
    wait_for_stop(pid)
    end_by_kill(pid)
    assert number(unified / "child/memory.current") < 8 * MIB
    assert number(unified / "child/memory.peak") >= 16 * MIB
    found = memory.read_v2(child.read_or_none)
    assert found is not None
    assert found.peak_bytes == number(unified / "child/memory.peak")


@behaviour("cgroup-v2.memory.peak-reset-per-fd", subject="impl")
def test_a_peak_of_ones_own(make: Make) -> None:
    """What is written to one descriptor resets that one, and no other."""
    child = make("child", "memory")
    pid = start_inside(child, hold(16 * MIB))
    wait_for_stop(pid)
    end_by_kill(pid)
    own, other = (child.open_file("memory.peak", os.O_RDWR) for _ in range(2))
    os.write(own, b"reset\n")
    found = [int(os.pread(fd, 64, 0)) for fd in (own, other)]
    for fd in (own, other):
        os.close(fd)
    assert found[0] < 8 * MIB
    assert found[1] >= 16 * MIB


@behaviour("cgroup-v2.memory.numa-stat-format", subject="impl")
def test_lines_of_numa_stat(unified: Path, make: Make) -> None:
    """Each is a type and a number of bytes for each node."""
    make("child", "memory")
    lines = (unified / "child/memory.numa_stat").read_text().splitlines()
    assert lines
    assert [line for line in lines if not re.fullmatch(r"\w+( N\d+=\d+)+", line)] == []
    assert {line.split()[1].split("=")[0] for line in lines} == {"N0"}


@behaviour("cgroup-v2.memory.zswap-writeback-default", subject="impl")
def test_zswap_writes_back(unified: Path, make: Make) -> None:
    """memory.zswap.writeback is 1 in a new cgroup."""
    make("child", "memory")
    assert (unified / "child/memory.zswap.writeback").read_text() == "1\n"
