"""From limits to writes, without a kernel: files are a dictionary."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from kernelproof.impl.cgroups import stats, writes
from kernelproof.impl.cgroups.controllers import cpu
from kernelproof.impl.cgroups.errors import BelowUsageError, LimitError, NoControllerError
from kernelproof.impl.cgroups.limits import IoLimit, IoWeight, Limits, RdmaLimit
from kernelproof.impl.cgroups.planning import plan_v1, plan_v2, wanted_controllers
from kernelproof.impl.cgroups.writes import Reader, Write

V2 = {
    "memory.max": "max\n",
    "memory.high": "max\n",
    "memory.low": "0\n",
    "memory.min": "0\n",
    "memory.swap.max": "max\n",
    "memory.oom.group": "0\n",
    "memory.current": "4096\n",
    "cpu.max": "max 100000\n",
    "cpu.max.burst": "0\n",
    "cpu.weight": "100\n",
    "cpu.idle": "0\n",
    "cpuset.cpus": "\n",
    "cpuset.mems": "\n",
    "io.max": "",
    "io.weight": "default 100\n8:0 50\n",
    "pids.max": "max\n",
    "hugetlb.2MB.max": "max\n",
    "hugetlb.2MB.rsvd.max": "max\n",
    "rdma.max": "mlx4_0 hca_handle=2 hca_object=max\n",
    "misc.max": "res_a max\n",
}
V1 = {
    "memory": {
        "memory.limit_in_bytes": "9223372036854771712\n",
        "memory.memsw.limit_in_bytes": "9223372036854771712\n",
        "memory.soft_limit_in_bytes": "9223372036854771712\n",
        "memory.swappiness": "60\n",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n",
        "memory.usage_in_bytes": "4096\n",
    },
    "cpu": {"cpu.shares": "1024\n", "cpu.cfs_period_us": "100000\n", "cpu.cfs_quota_us": "-1\n"},
    "blkio": {"blkio.throttle.read_bps_device": "8:0 100\n", "blkio.weight": "500\n"},
    "pids": {"pids.max": "max\n"},
    "net_cls": {"net_cls.classid": "0\n"},
    "net_prio": {"net_prio.ifpriomap": "lo 0\neth0 0\n"},
}


def plan(limits: Limits, files: Mapping[str, str] = V2) -> list[tuple[str, str]]:
    return [(write.file, write.value) for write in plan_v2(limits, files.get)]


def plan_old(limits: Limits, files: Mapping[str, Mapping[str, str]] = V1) -> list[tuple[str, str, str]]:
    def reader_of(controller: str) -> Reader | None:
        return files[controller].get if controller in files else None

    return [(step.controller, step.write.file, step.write.value) for step in plan_v1(limits, reader_of)]


def test_nothing_asked_is_nothing_written() -> None:
    """Limits without members are no writes and need no controller."""
    assert wanted_controllers(Limits()) == ()
    assert plan(Limits(), {}) == []
    assert plan_old(Limits(), {}) == []


def test_lifted_limits_go_before_those_that_shrink() -> None:
    """Raising first, so that no write is refused for what a later one allows."""
    now = {**V2, "memory.max": "1048576\n", "memory.high": "max\n"}
    asked = Limits(memory_max_bytes=-1, memory_high_bytes=8192)
    assert plan(asked, now) == [("memory.max", "max"), ("memory.high", "8192")]
    shrinking = Limits(memory_max_bytes=8192, memory_high_bytes=4096)
    assert plan(shrinking, now) == [("memory.high", "4096"), ("memory.max", "8192")]


def test_a_limit_below_usage_is_not_written() -> None:
    """Version 2 would kill for it, so it is refused with the usage; unless asked not to look."""
    with pytest.raises(BelowUsageError, match="below the usage 4096"):
        plan(Limits(memory_max_bytes=4095))
    assert plan_v2(Limits(memory_max_bytes=4095), V2.get, check_usage=False) != []


def test_bandwidth_is_one_file() -> None:
    """Quota and period are written together, what is not asked stays; a burst shrinks before the quota."""
    assert plan(Limits(cpu_quota_microseconds=50_000)) == [("cpu.max", "50000 100000")]
    assert plan(Limits(cpu_period_microseconds=50_000)) == [("cpu.max", "max 50000")]
    now = {**V2, "cpu.max": "50000 100000\n", "cpu.max.burst": "40000\n"}
    asked = Limits(cpu_quota_microseconds=20_000, cpu_burst_microseconds=10_000)
    assert plan(asked, now) == [("cpu.max.burst", "10000"), ("cpu.max", "20000 100000")]
    assert plan(Limits(cpu_quota_microseconds=90_000, cpu_burst_microseconds=80_000), now)[0][0] == "cpu.max"


def test_an_idle_cgroup_has_no_weight() -> None:
    """A weight is refused while the cgroup is idle, and taken with the end of it."""
    idle = {**V2, "cpu.idle": "1\n", "cpu.weight": "0\n"}
    with pytest.raises(LimitError, match="idle"):
        plan(Limits(cpu_weight=10), idle)
    assert plan(Limits(cpu_weight=10, cpu_idle=False), idle) == [("cpu.idle", "0"), ("cpu.weight", "10")]


def test_devices() -> None:
    """What is not asked of a device is not written, and is what undoes the rest."""
    asked = Limits(io=(IoLimit(8, 0, read_bytes=100, write_operations=-1),), io_weight=200)
    assert plan(asked) == [("io.weight", "200"), ("io.max", "8:0 rbps=100 wiops=max")]
    assert plan_v2(asked, V2.get)[1].undo == "8:0 rbps=max wiops=max"
    assert plan(Limits(io_weights=(IoWeight(8, 0, 70),))) == [("io.weight", "8:0 70")]


def test_other_controllers() -> None:
    """Processes, huge pages with their reservations, RDMA, misc, CPU lists, raw keys."""
    asked = Limits(
        pids_max=0,
        hugetlb_bytes={"2MB": 4194304},
        rdma=(RdmaLimit("mlx4_0", handles=3),),
        misc={"res_a": 5},
        cpuset_cpus="0,1,2,4",
        unified={"cpu.weight": "33"},
    )
    assert plan(asked) == [
        ("cpuset.cpus", "0-2,4"),
        ("pids.max", "0"),
        ("hugetlb.2MB.rsvd.max", "4194304"),
        ("hugetlb.2MB.max", "4194304"),
        ("rdma.max", "mlx4_0 hca_handle=3"),
        ("misc.max", "res_a 5"),
        ("cpu.weight", "33"),
    ]


@pytest.mark.parametrize(
    "limits",
    [
        Limits(cpu_weight=0),
        Limits(cpu_weight=10_001),
        Limits(cpu_quota_microseconds=999),
        Limits(cpu_quota_microseconds=0),
        Limits(cpu_period_microseconds=999),
        Limits(cpu_quota_microseconds=1000, cpu_burst_microseconds=1001),
        Limits(cpu_quota_microseconds=1 << 44),
        Limits(cpu_quota_microseconds=(1 << 44) - 1, cpu_burst_microseconds=1),
        Limits(memory_max_bytes=-2),
        Limits(memory_max_bytes=1 << 63),
        Limits(pids_max=-2),
        Limits(pids_max=(1 << 22) + 1),
        Limits(io_weight=0),
        Limits(io=(IoLimit(8, 0),)),
        Limits(io=(IoLimit(8, 0, read_bytes=0),)),
        Limits(io=(IoLimit(8, 0, read_bytes=1), IoLimit(8, 0, read_bytes=2))),
        Limits(hugetlb_bytes={"2": 1}),
        Limits(hugetlb_bytes={"../2MB": 1}),
        Limits(rdma=(RdmaLimit("a b", handles=1),)),
        Limits(misc={"res_a": -2}),
        Limits(cpuset_cpus="0-"),
        Limits(unified={"../memory.max": "1"}),
        Limits(unified={"cgroup.procs": "1"}),
        Limits(memory_swappiness=10),
        Limits(net_class_id=1),
        Limits(cpu_rt_runtime_microseconds=1),
    ],
    ids=str,
)
def test_what_no_kernel_takes(limits: Limits) -> None:
    """Out of range, or of the other version: an error that names limit, value and range, before any write."""
    with pytest.raises(LimitError):
        plan(limits)


BURST_V2 = {"cpu.max": "20000 100000\n", "cpu.max.burst": "10000\n"}
BURST_V1 = {"cpu.cfs_quota_us": "20000\n", "cpu.cfs_period_us": "100000\n", "cpu.cfs_burst_us": "10000\n"}


@pytest.mark.parametrize(("planner", "files"), [(cpu.plan_v2, BURST_V2), (cpu.plan_v1, BURST_V1)], ids=["v2", "v1"])
def test_quota_and_burst_beside_what_is_set(planner: Callable[..., list[Write]], files: dict[str, str]) -> None:
    """A quota below the burst that is set, or a burst above the quota, is told with the other's file and value."""
    quota_file, burst_file = [name for name in files if "period" not in name]
    with pytest.raises(LimitError, match=rf"cpu_quota_microseconds 9999: at least the burst of 10000 in {burst_file}"):
        planner(Limits(cpu_quota_microseconds=9_999), files.get)
    with pytest.raises(LimitError, match=rf"cpu_burst_microseconds 20001: 0 to the quota of 20000 in {quota_file}"):
        planner(Limits(cpu_burst_microseconds=20_001), files.get)
    assert len(planner(Limits(cpu_quota_microseconds=9_999, cpu_burst_microseconds=9_999), files.get)) == 2
    assert len(planner(Limits(cpu_quota_microseconds=-1), files.get)) == 1
    assert len(planner(Limits(cpu_burst_microseconds=20_000), files.get)) == 1
    unlimited = files | {"cpu.max": "max 100000", "cpu.cfs_quota_us": "-1"}
    assert len(planner(Limits(cpu_burst_microseconds=30_000), unlimited.get)) == 1


def test_real_time_that_no_kernel_takes() -> None:
    """No period at all, and more than the kernel can count; a negative runtime is none."""
    files = {"cpu.rt_period_us": "1000000\n", "cpu.rt_runtime_us": "0\n"}
    for asked in (Limits(cpu_rt_period_microseconds=0), Limits(cpu_rt_runtime_microseconds=1 << 44)):
        with pytest.raises(LimitError, match="cpu_rt_"):
            cpu.plan_v1(asked, files.get)
    assert len(cpu.plan_v1(Limits(cpu_rt_runtime_microseconds=-1), files.get)) == 1


def test_a_missing_controller_is_named() -> None:
    """A limit whose file is not there is an error with the file's name; what is not asked is not missed."""
    with pytest.raises(NoControllerError, match=r"memory\.max"):
        plan(Limits(memory_max_bytes=1), {})
    with pytest.raises(NoControllerError, match="hugetlb"):
        plan_old(Limits(hugetlb_bytes={"2MB": 1}))


def test_version_1_orders_memory_and_swap() -> None:
    """The sum is raised before its part and lowered after it; swap alone becomes the sum."""
    small = {
        **V1,
        "memory": {**V1["memory"], "memory.memsw.limit_in_bytes": "8192\n", "memory.limit_in_bytes": "8192\n"},
    }
    raising = plan_old(Limits(memory_max_bytes=16384, swap_max_bytes=16384), small)
    assert [entry[1:] for entry in raising] == [
        ("memory.memsw.limit_in_bytes", "32768"),
        ("memory.limit_in_bytes", "16384"),
    ]
    lowering = plan_old(Limits(memory_max_bytes=8192, swap_max_bytes=4096))
    assert [entry[1] for entry in lowering] == ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]
    assert lowering[1][2] == "12288"
    assert plan_old(Limits(memory_max_bytes=-1))[0] == ("memory", "memory.limit_in_bytes", "-1")


def test_each_rate_has_its_file() -> None:
    """A rate that is given alone is written to its own file, whichever stand before it; what was there is put back."""
    files = {"blkio": {"blkio.throttle.write_iops_device": "8:0 9\n8:16 5\n", "blkio.throttle.write_bps_device": ""}}
    asked = Limits(io=(IoLimit(8, 16, write_operations=7, write_bytes=100),))
    found = [step.write for step in plan_v1(asked, lambda controller: files[controller].get)]
    assert {(write.file, write.value, write.undo) for write in found} == {
        ("blkio.throttle.write_iops_device", "8:16 7", "8:16 5"),
        ("blkio.throttle.write_bps_device", "8:16 100", "8:16 0"),
    }


def test_version_1_in_its_own_words() -> None:
    """Weights are shares, rates are lines, and each write knows its controller."""
    asked = Limits(
        cpu_weight=100,
        cpu_quota_microseconds=50_000,
        io=(IoLimit(8, 0, read_bytes=-1),),
        pids_max=-1,
        net_class_id=0x100001,
        net_priorities={"eth0": 5},
        memory_swappiness=0,
        memory_disable_oom_kill=True,
    )
    assert plan_old(asked) == [
        ("memory", "memory.swappiness", "0"),
        ("memory", "memory.oom_control", "1"),
        ("cpu", "cpu.shares", "1024"),
        ("cpu", "cpu.cfs_quota_us", "50000"),
        ("blkio", "blkio.throttle.read_bps_device", "8:0 0"),
        ("pids", "pids.max", "max"),
        ("net_cls", "net_cls.classid", "1048577"),
        ("net_prio", "net_prio.ifpriomap", "eth0 5"),
    ]
    with pytest.raises(LimitError, match="version 1"):
        plan_old(Limits(memory_high_bytes=1))
    with pytest.raises(LimitError, match="version 1"):
        plan_old(Limits(unified={"cpu.weight": "1"}))


class Recorded:
    """Files that take all writes but one."""

    def __init__(self, refused: str) -> None:
        self.refused = refused
        self.written: list[tuple[str, str]] = []

    def read(self, file: str) -> str:
        raise FileNotFoundError(file)

    def write(self, file: str, value: str) -> None:
        if file == self.refused:
            raise PermissionError(13, "Permission denied", file)
        self.written.append((file, value))


@pytest.mark.rule("C+3")
def test_a_refused_write_undoes_those_before() -> None:
    """The first error is the one that is raised, with file, value and limit; the old texts are written back."""
    files = Recorded("c")
    planned = [Write("a", "1", "first", "0"), Write("b", "2", "second"), Write("a", "5", "first", "1")]
    planned.append(Write("c", "3", "third", "0"))
    with pytest.raises(PermissionError) as refusal:
        writes.apply(files, planned)
    assert files.written == [("a", "1"), ("b", "2"), ("a", "5"), ("a", "1"), ("a", "0")]
    assert refusal.value.__notes__[0] == "writing '3' to c for third"
    assert any("b stays as written" in note for note in refusal.value.__notes__)


def test_figures_of_version_2() -> None:
    """What is there is read, what is not is None."""
    files = {
        "cpu.stat": "usage_usec 10\nuser_usec 6\nsystem_usec 4\nnr_periods 2\nnr_throttled 1\nthrottled_usec 3\n",
        "memory.stat": "anon 4096\nfile 0\n",
        "memory.current": "8192\n",
        "memory.max": "max\n",
        "memory.events": "low 0\nhigh 0\nmax 5\noom 2\noom_kill 1\n",
        "memory.events.local": "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\n",
        "io.stat": "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n8:16\n",
        "pids.current": "3\n",
        "cpu.pressure": "some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n",
    }
    found = stats.read_v2(files.get)
    assert found.cpu is not None
    assert (found.cpu.usage_microseconds, found.cpu.throttled_microseconds, found.cpu.bursts) == (10, 3, None)
    assert found.memory is not None
    assert (found.memory.usage_bytes, found.memory.limit_bytes, found.memory.peak_bytes) == (8192, -1, None)
    assert (found.memory.oom_kills, found.memory.local_oom_kills) == (1, 0)
    assert found.io == ((8, 0, 1, 2, 3, 4, 5, 6),)
    assert found.pids == (3, None, None, None)
    assert found.misc is None
    assert found.pressure["cpu"].full is None


def test_figures_of_version_1() -> None:
    """Nanoseconds and ticks become microseconds, the sum with swap becomes swap, empty files are passed over."""
    files = {
        "cpuacct": {
            "cpuacct.usage": "10000\n",
            "cpuacct.stat": "user 1\nsystem 2\n",
            "cpuacct.usage_percpu": "4000 6000\n",
        },
        "cpu": {"cpu.stat": "nr_periods 2000\nnr_throttled 200\nthrottled_time 42424242424\n"},
        "memory": {
            "memory.stat": "cache 512\n",
            "memory.usage_in_bytes": "2048\n",
            "memory.memsw.usage_in_bytes": "3048\n",
            "memory.limit_in_bytes": "9223372036854771712\n",
        },
        "blkio": {
            "blkio.io_service_bytes_recursive": "",
            "blkio.io_serviced_recursive": "",
            "blkio.throttle.io_service_bytes": "8:0 Read 100\n8:0 Write 400\n8:0 Total 500\nTotal 500\n",
            "blkio.throttle.io_serviced": "8:0 Read 10\n8:0 Write 40\n",
        },
    }
    found = stats.read_v1(lambda controller: files[controller].get if controller in files else None)
    assert found.cpu is not None
    assert (found.cpu.usage_microseconds, found.cpu.user_microseconds) == (10, 10_000)
    assert (found.cpu.throttled_microseconds, found.cpu.per_cpu_microseconds) == (42424242, (4, 6))
    assert found.memory is not None
    assert (found.memory.limit_bytes, found.memory.swap_usage_bytes) == (-1, 1000)
    assert found.io == ((8, 0, 100, 400, 10, 40, 0, 0),)
    assert found.pids is None
