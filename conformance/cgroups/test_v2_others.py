"""Version 2: hugetlb, misc, rdma and dmem; acted on by impl.cgroups."""

from __future__ import annotations

import mmap
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from kernelproof import behaviour
from kernelproof.conformance.cgroups.acting import (
    MIB,
    end_by_kill,
    run_inside,
    set_limits,
    start_inside,
    table,
    wait_for_stop,
)
from kernelproof.impl.cgroups.controllers import hugetlb, misc, rdma
from kernelproof.impl.cgroups.limits import Limits, RdmaLimit

if TYPE_CHECKING:
    from kernelproof.conformance.cgroups.conftest import Make
    from kernelproof.conformance.seen import Seen
    from kernelproof.impl.cgroups.directory import Directory

HUGE = 2 * MIB
MAP_HUGETLB = 0x40000  # asm-generic/hugetlb_encode.h and mman-common.h


def touch_huge(pages: int) -> mmap.mmap:
    """Huge pages of its own, each written to."""
    memory = mmap.mmap(-1, pages * HUGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_HUGETLB)
    for page in range(pages):
        memory[page * HUGE] = 1
    return memory


def hold_huge() -> None:
    memory = touch_huge(2)
    signal.raise_signal(signal.SIGSTOP)
    signal.pause()
    memory.close()


@behaviour("cgroup-v2.hugetlb.max-default", subject="impl")
def test_no_limit_at_first(unified: Path, make: Make, seen: Seen) -> None:
    """hugetlb.2MB.max is max."""
    make("child", "hugetlb")
    assert seen((unified / "child/hugetlb.2MB.max").read_text().strip()) == "max"


@behaviour("cgroup-v2.hugetlb.max-rounds-down", subject="impl")
def test_a_limit_of_a_page_and_a_half(unified: Path, make: Make) -> None:
    """It is one page."""
    set_limits(make("child", "hugetlb"), Limits(hugetlb_bytes={"2MB": 3 * MIB}))
    assert (unified / "child/hugetlb.2MB.max").read_text() == f"{HUGE}\n"


@behaviour("cgroup-v2.hugetlb.over-limit-sigbus", subject="impl")
def test_one_page_too_many(make: Make) -> None:
    """The process that touches it ends by SIGBUS; one that keeps to the limit does not."""
    child = make("child", "hugetlb")
    child.write("hugetlb.2MB.max", str(HUGE))
    assert run_inside(child, lambda: touch_huge(1)) == 0
    assert run_inside(child, lambda: touch_huge(2)) == -signal.SIGBUS


@behaviour("cgroup-v2.hugetlb.events-max", subject="impl")
def test_refused_pages_are_counted(unified: Path, make: Make) -> None:
    """max of hugetlb.2MB.events grows; the package reads it."""
    child = make("child", "hugetlb")
    child.write("hugetlb.2MB.max", str(HUGE))
    before = table(unified / "child/hugetlb.2MB.events")["max"]
    run_inside(child, lambda: touch_huge(2))
    after = table(unified / "child/hugetlb.2MB.events")["max"]
    assert after > before
    (found,) = hugetlb.read_v2(child.read_or_none, ("2MB",))
    assert found.refused == after


@behaviour("cgroup-v2.hugetlb.current", subject="impl")
def test_pages_in_use(unified: Path, make: Make) -> None:
    """Two pages are 4 MiB; the package reads them."""
    child = make("child", "hugetlb")
    pid = start_inside(child, hold_huge)
    wait_for_stop(pid)
    found = (unified / "child/hugetlb.2MB.current").read_text()
    (read,) = hugetlb.read_v2(child.read_or_none, hugetlb.list_sizes(("hugetlb.2MB.current",)))
    end_by_kill(pid)
    assert found == f"{2 * HUGE}\n"
    assert read.usage_bytes == 2 * HUGE


def places(unified: Path, file: str) -> list[bool]:
    return [(unified / name / file).exists() for name in (".", "child")]


@behaviour("cgroup-v2.misc.capacity-root-only", subject="impl")
def test_capacity_is_the_root_s(unified: Path, make: Make) -> None:
    """misc.capacity is in the root and nowhere else."""
    make("child", "misc")
    assert places(unified, "misc.capacity") == [True, False]


@behaviour("cgroup-v2.misc.max-not-in-root", subject="impl")
def test_limits_are_not_the_root_s(unified: Path, make: Make) -> None:
    """misc.max is everywhere but in the root; the package reads what there is."""
    child = make("child", "misc")
    assert places(unified, "misc.max") == [False, True]
    assert misc.read(child.read_or_none) == ()


@behaviour("cgroup-v2.misc.unknown-resource-einval", subject="impl")
def test_a_resource_that_is_not(make: Make, seen: Seen) -> None:
    """It is refused."""
    child = make("child", "misc")
    assert seen.errno_of(set_limits, child, Limits(misc={"nosuch": 1})) == "EINVAL"


@behaviour("cgroup-v2.rdma.empty-without-device", subject="impl")
def test_no_device_no_line(unified: Path, make: Make) -> None:
    """Both files are there below the root, and empty."""
    child = make("child", "rdma")
    assert [places(unified, file) for file in ("rdma.max", "rdma.current")] == [[False, True]] * 2
    assert [(unified / "child" / file).read_text() for file in ("rdma.max", "rdma.current")] == ["", ""]
    assert rdma.read(child.read_or_none) == ()


@behaviour("cgroup-v2.rdma.unknown-device", subject="impl")
def test_a_device_that_is_not(make: Make, seen: Seen) -> None:
    """It is refused."""
    child: Directory = make("child", "rdma")
    limits = Limits(rdma=(RdmaLimit("nosuch0", handles=2),))
    assert seen.errno_of(set_limits, child, limits) == "ENODEV"


@behaviour("cgroup-v2.dmem.empty-without-device", subject="impl")
def test_no_region_no_line(unified: Path, make: Make) -> None:
    """The three files are there, and empty."""
    make("child", "dmem")
    assert [(unified / f"child/dmem.{name}").read_text() for name in ("max", "low", "min")] == ["", "", ""]


@behaviour("cgroup-v2.dmem.capacity-root-only", subject="impl")
def test_capacity_of_regions_is_the_root_s(unified: Path, make: Make) -> None:
    """dmem.capacity is in the root and nowhere else."""
    make("child", "dmem")
    assert places(unified, "dmem.capacity") == [True, False]
