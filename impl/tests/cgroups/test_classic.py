"""The names of 2014 without a kernel: text, JSON, statistics from folders that stand for cgroups."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kernelproof.impl.cgroups import classic, classic_stats, stats
from kernelproof.impl.cgroups.classic import Cgroup, NotFoundError
from kernelproof.impl.cgroups.controllers import hugetlb, io
from kernelproof.impl.cgroups.controllers.cpuset import CpusetStats
from kernelproof.impl.cgroups.controllers.rdma import RdmaStats
from kernelproof.impl.cgroups.directory import Directory
from kernelproof.impl.cgroups.errors import FormatError, LimitError
from kernelproof.impl.cgroups.layout import Hierarchy, Layout
from kernelproof.impl.cgroups.limits import Limits
from kernelproof.impl.cgroups.writes import Reader

INIT = """11:hugetlb:/
10:perf_event:/
9:blkio:/
8:freezer:/
7:devices:/
6:memory:/
5:cpuset:/
4:cpuacct,cpu:/
3:net_cls:/a:b
1:name=systemd:/init
"""

Folder = Callable[[dict[str, str]], Reader]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Files that stand for those of a cgroup."""

    def make(files: dict[str, str]) -> Reader:
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        fd = os.open(tmp_path, os.O_RDONLY)
        return Directory(fd, str(tmp_path), 1).read_or_none

    return make


def test_paths_of_a_process() -> None:
    """A line has several controllers, a name, and a path that may have colons; version 2 stands for all."""
    paths = {name: classic.parse_cgroup_file(name, INIT) for name in ("blkio", "cpu", "net_cls", "name=systemd")}
    assert paths == {"blkio": "/", "cpu": "/", "net_cls": "/a:b", "name=systemd": "/init"}
    assert classic.parse_cgroup_file("memory", "0::/user.slice\n") == "/user.slice"
    with pytest.raises(NotFoundError) as refused:
        classic.parse_cgroup_file("rdma", INIT)
    assert str(refused.value) == "mountpoint for rdma not found"
    assert classic.is_not_found(refused.value)
    assert not classic.is_not_found(LookupError())


def test_huge_pages_of_version_1(folder: Folder) -> None:
    """Each size that has a usage is told, with its peak, its failures and what is reserved of it."""
    read = folder(
        {
            "hugetlb.2MB.usage_in_bytes": "4194304\n",
            "hugetlb.2MB.max_usage_in_bytes": "8388608\n",
            "hugetlb.2MB.failcnt": "3\n",
            "hugetlb.2MB.rsvd.usage_in_bytes": "2097152\n",
        }
    )
    assert hugetlb.read_v1(read, ("2MB", "1GB")) == (hugetlb.HugetlbStats("2MB", 4 << 20, 8 << 20, 3, 2 << 20),)


def test_io_that_the_kernel_does_not_count(folder: Folder) -> None:
    """What a line of io.stat does not tell is 0: older kernels know nothing of discards."""
    read = folder({"io.stat": "8:0 rbytes=1 wbytes=2 rios=3 wios=4\n8:16 cost.usage=5\n"})
    assert io.read_v2(read) == (io.DeviceIo(8, 0, 1, 2, 3, 4, 0, 0),)


def test_where_a_subsystem_is() -> None:
    """Each has the mount point of its own hierarchy; of version 2 all have one."""
    old = Hierarchy(1, ("cpu", "cpuacct"), "", "/sys/fs/cgroup/cpu,cpuacct", "/", is_read_only=False)
    new = Hierarchy(2, ("memory",), "", "/sys/fs/cgroup/unified", "/", is_read_only=False)
    layout = Layout((new, old))
    assert classic.find_cgroup_mountpoint("cpuacct", layout) == old.mount_point
    assert classic.find_cgroup_mountpoint("memory", layout) == new.mount_point
    assert classic.get_cgroup_mounts(layout) == (new, old)
    with pytest.raises(NotFoundError):
        classic.find_cgroup_mountpoint("pids", layout)


def test_json_leaves_out_what_is_not_asked() -> None:
    """Keys of every generation are read, and those that nobody knows refused."""
    cgroup = Cgroup(name="web", parent="docker", memory=1 << 20, cpu_shares=512)
    assert cgroup.to_json() == {"name": "web", "parent": "docker", "memory": 1 << 20, "cpu_shares": 512}
    assert Cgroup.from_json(json.loads(json.dumps(cgroup.to_json()))) == cgroup
    assert Cgroup.from_json({"device_access": True}).allow_all_devices
    assert Cgroup.from_json({"unit_properties": [["Slice", "a.slice"]]}).slice == "a.slice"
    (rule,) = Cgroup.from_json({"allowed_devices": ["c 1:3 rwm"]}).allowed_devices
    assert rule.format() == "c 1:3 rwm"
    for wrong in ({"nosuch": 1}, {"unit_properties": [["Nice", "1"]]}):
        with pytest.raises(LimitError):
            Cgroup.from_json(wrong)


@pytest.mark.parametrize(
    ("memory", "memory_swap", "swap"),
    [(64, 0, 64), (64, -1, None), (64, 96, 32), (0, 96, None), (0, 0, None)],
    ids=["default", "alone", "sum", "only-swap", "nothing"],
)
def test_memory_and_swap(memory: int, memory_swap: int, swap: int | None) -> None:
    """memory_swap is the sum, 0 is twice the memory, -1 leaves swap alone; without memory it is nothing."""
    limits = Cgroup(memory=memory, memory_swap=memory_swap).limits()
    assert (limits.memory_max_bytes, limits.swap_max_bytes) == (memory or None, swap)


def test_other_limits() -> None:
    """Nothing asked is nothing, shares are a weight; a sum below its part is refused."""
    assert Cgroup().limits() == Limits()
    asked = Cgroup(cpu_shares=1024, cpu_quota=1000, cpu_period=2000, cpuset_cpus="0", memory_reservation=5).limits()
    assert asked == Limits(
        cpu_weight=100,
        cpu_quota_microseconds=1000,
        cpu_period_microseconds=2000,
        cpuset_cpus="0",
        memory_low_bytes=5,
    )
    with pytest.raises(LimitError):
        Cgroup(memory=64, memory_swap=32).limits()
    assert len(Cgroup().devices()) == 14
    assert [rule.type for rule in Cgroup(allow_all_devices=True).devices()] == ["a"]


BLKIO = {
    "blkio.sectors_recursive": "8:0 1024",
    "blkio.io_service_bytes_recursive": (
        "8:0 Read 100\n8:0 Write 400\n8:0 Sync 200\n8:0 Async 300\n8:0 Total 500\nTotal 500"
    ),
    "blkio.io_serviced_recursive": "8:0 Read 10\n8:0 Write 40\n8:0 Sync 20\n8:0 Async 30\n8:0 Total 50\nTotal 50",
    "blkio.io_queued_recursive": "8:0 Read 1\n8:0 Write 4\n8:0 Sync 2\n8:0 Async 3\n8:0 Total 5\nTotal 5",
}


def test_blkio(folder: Folder) -> None:
    """One entry of sectors, five of each other kind, with device, operation and value."""
    found = classic_stats.blkio_stats(folder(BLKIO))
    assert found["sectors_recursive"] == [{"major": 8, "minor": 0, "op": "", "value": 1024}]
    assert [entry["value"] for entry in found["io_service_bytes_recursive"]] == [100, 400, 200, 300, 500]
    assert [entry["value"] for entry in found["io_serviced_recusrive"]] == [10, 40, 20, 30, 50]
    assert [entry["op"] for entry in found["io_queue_recursive"]] == ["Read", "Write", "Sync", "Async", "Total"]


def test_blkio_of_the_throttle_files(folder: Folder) -> None:
    """Where the first files are empty or not there, those of the throttle say it."""
    files = {"blkio.io_service_bytes_recursive": "", "blkio.throttle.io_service_bytes": "8:0 Read 7\nTotal 7\n"}
    found = classic_stats.blkio_stats(folder(files))
    assert [entry["value"] for entry in found["io_service_bytes_recursive"]] == [7]
    assert found["sectors_recursive"] == []


@pytest.mark.parametrize("line", ["8:0 Read 100 100", "8:0 Read Write", "8:0 100"], ids=["four", "no-number", "two"])
def test_lines_that_are_none(line: str) -> None:
    """They are refused."""
    with pytest.raises(FormatError):
        classic_stats.parse_blkio(line, "blkio.io_serviced_recursive")


def test_numbers() -> None:
    """Spaces are tolerated, a number below 0 is 0, the largest of 64 bits is taken; text is refused."""
    texts = ("2048", "2048\n", "-12345", "-9999999999999999999999", "18446744073709551615")
    assert [classic_stats.parse_number(text) for text in texts] == [2048, 2048, 0, 0, 18446744073709551615]
    with pytest.raises(FormatError):
        classic_stats.parse_number("not-a-float")


CPU = {
    "cpuacct.usage": "5000\n",
    "cpuacct.usage_percpu": "2000 3000\n",
    "cpuacct.stat": "user 1\nsystem 2\n",
    "cpu.stat": "\t\tnr_periods 2000\n\t\tnr_throttled 200\n\t\tthrottled_time 18446744073709551615\n",
}
MEMORY = {
    "memory.stat": "cache 512\nrss -5\n",
    "memory.usage_in_bytes": "2048\n",
    "memory.max_usage_in_bytes": "4096\n",
    "memory.failcnt": "100\n",
}


def test_cpu_and_memory(folder: Folder) -> None:
    """Tabs in front are tolerated, times are nanoseconds, what is below 0 is 0."""
    read = folder(CPU | MEMORY)
    found = stats.read_v1(lambda controller: read, only=("cpu", "memory"))
    cpu = classic_stats.cpu_stats(found)
    assert cpu["throlling_data"]["periods"] == 2000
    assert cpu["throlling_data"]["throttled_periods"] == 200
    assert cpu["throlling_data"]["throttled_time"] == 18446744073709551000
    assert cpu["cpu_usage"]["percpu_usage"] == [2000, 3000]
    assert classic_stats.memory_stats(found) == {
        "usage": 2048, "max_usage": 4096, "stats": {"cache": 512, "rss": 0}, "failcnt": 100,
    }  # fmt: skip


def test_limit_without_swap_accounting(folder: Folder) -> None:
    """A kernel that does not count swap has no limit of it beside that of memory."""
    read = folder(MEMORY | {"memory.limit_in_bytes": "4096\n"})
    found = stats.read_v1(lambda controller: read, only=("memory",)).memory
    assert found is not None
    assert (found.limit_bytes, found.swap_limit_bytes) == (4096, None)


def test_what_a_cpuset_really_has(folder: Folder) -> None:
    """Beside CPUs and memory nodes that were written stand those that processes get."""
    files = {"cpus": "0-3\n", "mems": "0-1\n", "effective_cpus": "0-1\n", "effective_mems": "1\n"}
    read = folder({f"cpuset.{name}": text for name, text in files.items()})
    found = stats.read_v1(lambda controller: read, only=("cpuset",)).cpuset
    assert found == CpusetStats((0, 1, 2, 3), (0, 1), (0, 1), (1,), None)


def test_what_was_asked_for_is_read(folder: Folder) -> None:
    """Of two controllers that have files only the one is read that was asked for."""
    read = folder({"rdma.current": "mlx4_0 hca_handle=2 hca_object=2000\n", "pids.current": "3\n"})
    assert stats.read_v2(read, only=("rdma",)).rdma == (RdmaStats("mlx4_0", 2, 2000),)
    assert stats.read_v2(read, only=("pids",)).rdma is None


@pytest.mark.parametrize(
    "files",
    [
        {"memory.stat": "cache x"},
        {"memory.usage_in_bytes": "x"},
        {"memory.max_usage_in_bytes": "x"},
        {"cpu.stat": "a b c"},
    ],
    ids=["memory", "usage", "most", "cpu"],
)
def test_bad_contents(folder: Folder, files: dict[str, str]) -> None:
    """They are errors, and files that are not there are none."""
    read = folder(CPU | MEMORY | files)
    with pytest.raises(FormatError):
        stats.read_v1(lambda controller: read, only=("cpu", "memory"))


def test_nothing_is_there(folder: Folder) -> None:
    """A cgroup without files has empty statistics."""
    read = folder({})
    found = stats.read_v1(lambda controller: read)
    assert classic_stats.memory_stats(found) == {}
    assert classic_stats.cpu_stats(found)["throlling_data"] == {}
    assert set(classic_stats.blkio_stats(read)) == set(classic_stats.blkio_of(found))
    assert classic_stats.freezer_stats(read) == {}


def test_processes_of_a_directory(tmp_path: Path) -> None:
    """One a line; what is no number is refused."""
    (tmp_path / "cgroup.procs").write_text("3\n5\n")
    assert classic.read_procs_file(tmp_path) == [3, 5]
    (tmp_path / "cgroup.procs").write_text("three\n")
    with pytest.raises(FormatError):
        classic.read_procs_file(tmp_path)


def test_without_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not the init nothing is asked of a bus; states and names are checked first."""
    monkeypatch.setattr(os.path, "isdir", lambda path: False)
    assert not classic.use_systemd()
    with pytest.raises(LimitError, match="cgroup name"):
        classic.apply_files(Cgroup(), 1)
