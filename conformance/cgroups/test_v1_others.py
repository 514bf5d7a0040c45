"""Version 1: blkio, net_cls, net_prio, hugetlb and rdma; acted on by impl.cgroups."""

from __future__ import annotations

import errno
import mmap
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from kernelproof import behaviour
from kernelproof.conformance.cgroups.acting import MIB, run_inside, set_limits_v1
from kernelproof.impl.cgroups.controllers import hugetlb, io, rdma
from kernelproof.impl.cgroups.limits import IoLimit, Limits

if TYPE_CHECKING:
    from kernelproof.conformance.cgroups.conftest import MakeV1
    from kernelproof.conformance.seen import Seen
    from kernelproof.impl.cgroups.directory import Directory

DISC = Path("/dev/disc/scratch")
HUGE = 2 * MIB
MAP_HUGETLB = 0x40000  # asm-generic/mman-common.h


def text(directory: Directory, file: str) -> str:
    return Path(directory.path, file).read_text().strip()


def numbers() -> tuple[int, int]:
    device = os.stat(DISC).st_rdev
    return os.major(device), os.minor(device)


def limit(**rates: int) -> Limits:
    return Limits(io=(IoLimit(*numbers(), **rates),))


def read_disc(size: int, step: int = MIB) -> None:
    """Read that much past the page cache."""
    fd = os.open(DISC, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    with mmap.mmap(-1, step) as block:
        for offset in range(0, size, step):
            assert os.preadv(fd, [block], offset) == step
    os.close(fd)


def seconds_to_read(directory: Directory, size: int, step: int = MIB) -> float:
    begin = time.monotonic()
    assert run_inside(directory, lambda: read_disc(size, step)) == 0
    return time.monotonic() - begin


def touch_huge(pages: int) -> mmap.mmap:
    """Huge pages of its own, each written to."""
    memory = mmap.mmap(-1, pages * HUGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_HUGETLB)
    for page in range(pages):
        memory[page * HUGE] = 1
    return memory


@behaviour("cgroup-v1.blkio.throttle-set-read", subject="impl")
def test_a_rate_comes_back(make_v1: MakeV1) -> None:
    """As the line that was written; lifted, it is gone."""
    group = make_v1("group", "blkio")
    set_limits_v1(group, limit(read_bytes=MIB))
    major, minor = numbers()
    assert text(group, "blkio.throttle.read_bps_device") == f"{major}:{minor} {MIB}"
    set_limits_v1(group, limit(read_bytes=-1))
    assert text(group, "blkio.throttle.read_bps_device") == ""


@behaviour("cgroup-v1.blkio.throttle-limits", subject="impl")
def test_a_megabyte_a_second(make_v1: MakeV1) -> None:
    """Four of them take three seconds at the least; the quickest of five times four without the limit next to none."""
    group = make_v1("group", "blkio")
    free = min(seconds_to_read(group, 4 * MIB) for _ in range(5))
    set_limits_v1(group, limit(read_bytes=MIB))
    assert free < 0.5
    assert seconds_to_read(group, 4 * MIB) >= 2.9


@behaviour("cgroup-v1.blkio.throttle-both", subject="impl")
def test_two_rates(make_v1: MakeV1) -> None:
    """Few large reads are bound by bytes, many small ones by operations."""
    group = make_v1("group", "blkio")
    set_limits_v1(group, limit(read_bytes=MIB, read_operations=16))
    large = seconds_to_read(group, 3 * MIB, MIB)
    small = seconds_to_read(group, 48 * 4096, 4096)
    assert large >= 1.9
    assert small >= 1.9


@behaviour("cgroup-v1.blkio.reset-stats", subject="impl")
def test_figures_are_forgotten(make_v1: MakeV1, seen: Seen) -> None:
    """A number that is written makes them 0; the package reads them before."""
    group = make_v1("group", "blkio")
    set_limits_v1(group, limit(read_bytes=1 << 30))  # without a rule some kernels count nothing
    seconds_to_read(group, MIB)
    (before,) = (entry for entry in io.read_v1(group.read_or_none) or () if entry[:2] == numbers())
    group.write("blkio.reset_stats", "1")
    lines = text(group, "blkio.throttle.io_service_bytes").splitlines()
    assert before.read_bytes == MIB
    assert seen(sum(int(line.split()[-1]) for line in lines if " Read " in line)) == 0


@behaviour("cgroup-v1.net-cls.default-zero", subject="impl")
def test_no_class_at_first(make_v1: MakeV1) -> None:
    """It is 0."""
    assert text(make_v1("group", "net_cls"), "net_cls.classid") == "0"


@behaviour("cgroup-v1.net-cls.hex-in-decimal-out", subject="impl")
def test_a_class_in_two_ways(make_v1: MakeV1) -> None:
    """Written as 0x100001 it reads 1048577, which is what the package writes."""
    group = make_v1("group", "net_cls")
    group.write("net_cls.classid", "0x100001")
    first = text(group, "net_cls.classid")
    group.write("net_cls.classid", "0")
    set_limits_v1(group, Limits(net_class_id=0x100001))
    assert (first, text(group, "net_cls.classid")) == ("1048577", "1048577")


@behaviour("cgroup-v1.net-prio.map", subject="impl")
def test_a_line_an_interface(make_v1: MakeV1) -> None:
    """Each has its priority."""
    found = dict(line.split() for line in text(make_v1("group", "net_prio"), "net_prio.ifpriomap").splitlines())
    assert set(found) == {path.name for path in Path("/sys/class/net").iterdir() if (path / "ifindex").exists()}
    assert set(found.values()) == {"0"}


@behaviour("cgroup-v1.net-prio.set", subject="impl")
def test_another_priority(make_v1: MakeV1) -> None:
    """5 of lo is 5 of lo."""
    group = make_v1("group", "net_prio")
    set_limits_v1(group, Limits(net_priorities={"lo": 5}))
    assert "lo 5" in text(group, "net_prio.ifpriomap").splitlines()


@behaviour("cgroup-v1.net-prio.inherits", subject="impl")
def test_a_child_begins_as_its_parent(make_v1: MakeV1) -> None:
    """It has the same map."""
    set_limits_v1(make_v1("parent", "net_prio"), Limits(net_priorities={"lo": 5}))
    assert "lo 5" in text(make_v1("parent/child", "net_prio"), "net_prio.ifpriomap").splitlines()


@behaviour("cgroup-v1.net-prio.prioidx-readonly", subject="impl")
def test_the_index_is_to_be_read(make_v1: MakeV1, seen: Seen) -> None:
    """net_prio.prioidx can't be written."""
    group = make_v1("group", "net_prio")
    before = text(group, "net_prio.prioidx")
    assert seen.errno_of(group.write, "net_prio.prioidx", "7") != "no error"
    assert text(group, "net_prio.prioidx") == before


@behaviour("cgroup-v1.hugetlb.limit-sigbus", subject="impl")
def test_one_page_too_many(make_v1: MakeV1) -> None:
    """The task that touches it ends by SIGBUS; one that keeps to the limit does not."""
    group = make_v1("group", "hugetlb")
    group.write("hugetlb.2MB.limit_in_bytes", str(HUGE))
    assert run_inside(group, lambda: touch_huge(1)) == 0
    assert run_inside(group, lambda: touch_huge(2)) == -signal.SIGBUS


@behaviour("cgroup-v1.hugetlb.failcnt", subject="impl")
def test_refused_pages_are_counted(make_v1: MakeV1) -> None:
    """hugetlb.2MB.failcnt grows; the package reads it."""
    group = make_v1("group", "hugetlb")
    group.write("hugetlb.2MB.limit_in_bytes", str(HUGE))
    before = int(text(group, "hugetlb.2MB.failcnt"))
    run_inside(group, lambda: touch_huge(2))
    after = int(text(group, "hugetlb.2MB.failcnt"))
    (found,) = hugetlb.read_v1(group.read_or_none, ("2MB",))
    assert after > before
    assert found.refused == after


@behaviour("cgroup-v1.hugetlb.rsvd-limit-mmap", subject="impl")
def test_a_reservation_too_many(make_v1: MakeV1) -> None:
    """mmap(2) is refused, and nobody gets a signal; the package limits reservations where it can."""
    group = make_v1("group", "hugetlb")
    set_limits_v1(group, Limits(hugetlb_bytes={"2MB": HUGE}))
    assert text(group, "hugetlb.2MB.rsvd.limit_in_bytes") == str(HUGE)

    def attempt() -> None:
        touch_huge(1).close()
        try:
            touch_huge(2)
        except OSError as error:
            os._exit(error.errno or 0)

    assert run_inside(group, attempt) == errno.ENOMEM


@behaviour("cgroup-v1.rdma.files-empty", subject="impl")
def test_no_device_no_line(make_v1: MakeV1) -> None:
    """rdma.max is there below the root, and empty; the package reads no device."""
    group = make_v1("group", "rdma")
    assert text(group, "rdma.max") == ""
    assert rdma.read(group.read_or_none) == ()
