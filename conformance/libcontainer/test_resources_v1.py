"""Resources of a container on version 1 of cgroups: what stands in its cgroup's files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.libcontainer.acting import CGROUPS, config, host_shell

if TYPE_CHECKING:
    from kernelproof.conformance.libcontainer.acting import Box
    from kernelproof.conformance.seen import Seen

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.peers("runc", "crun")]

CONTROLLERS = ("memory", "cpu,cpuacct", "cpuset", "pids", "devices", "freezer", "blkio", "hugetlb", "net_cls,net_prio")


@pytest.fixture
def cgroups() -> None:
    """Every hierarchy of version 1 that the kernel has, where runtimes look for them."""
    host_shell(f"mount -t tmpfs none {CGROUPS}")
    for names in CONTROLLERS:
        place = CGROUPS / names
        host_shell(f"mkdir {place}; mount -t cgroup -o {names} none {place} || rmdir {place}")
        for name in names.split(",") if "," in names and place.exists() else ():
            (CGROUPS / name).symlink_to(names)


def files_of(box: Box, controller: str, resources: Mapping[str, object], *names: str) -> list[str]:
    """Files of a cgroup of a container with these resources."""
    path = f"/box-of-{box.name}"
    box.create(config("true", linux={"cgroupsPath": path, "resources": resources}))
    try:
        return [(CGROUPS / controller / path[1:] / name).read_text().strip() for name in names]
    finally:
        box.delete(force=True)


@behaviour("oci.resources-v1.memory-limit")
def test_resources_v1_memory_limit(box: Box, seen: Seen) -> None:
    """memory.limit is memory.limit_in_bytes of version 1."""
    assert seen(files_of(box, "memory", {"memory": {"limit": 67108864}}, "memory.limit_in_bytes")) == ["67108864"]


@behaviour("oci.resources-v1.memory-swap")
def test_resources_v1_memory_swap(box: Box, seen: Seen) -> None:
    """memory.swap is memory.memsw.limit_in_bytes of version 1."""
    assert seen(
        files_of(
            box,
            "memory",
            {"memory": {"limit": 67108864, "swap": 100663296}},
            "memory.limit_in_bytes",
            "memory.memsw.limit_in_bytes",
        )
    ) == ["67108864", "100663296"]


@behaviour("oci.resources-v1.memory-reservation")
def test_resources_v1_memory_reservation(box: Box, seen: Seen) -> None:
    """memory.reservation is memory.soft_limit_in_bytes of version 1."""
    assert seen(files_of(box, "memory", {"memory": {"reservation": 33554432}}, "memory.soft_limit_in_bytes")) == [
        "33554432"
    ]


@behaviour("oci.resources-v1.memory-swappiness")
def test_resources_v1_memory_swappiness(box: Box, seen: Seen) -> None:
    """memory.swappiness is that file of version 1."""
    assert seen(files_of(box, "memory", {"memory": {"swappiness": 33}}, "memory.swappiness")) == ["33"]


@behaviour("oci.resources-v1.cpu-shares")
def test_resources_v1_cpu_shares(box: Box, seen: Seen) -> None:
    """cpu.shares is that file of version 1."""
    assert seen(files_of(box, "cpu", {"cpu": {"shares": 512}}, "cpu.shares")) == ["512"]


@behaviour("oci.resources-v1.cpu-quota")
def test_resources_v1_cpu_quota(box: Box, seen: Seen) -> None:
    """cpu.quota and cpu.period are cpu.cfs_quota_us and cpu.cfs_period_us of version 1."""
    assert seen(
        files_of(box, "cpu", {"cpu": {"quota": 50000, "period": 200000}}, "cpu.cfs_quota_us", "cpu.cfs_period_us")
    ) == ["50000", "200000"]


@behaviour("oci.resources-v1.cpuset")
def test_resources_v1_cpuset(box: Box, seen: Seen) -> None:
    """cpu.cpus and cpu.mems are files of cpuset of version 1."""
    assert seen(files_of(box, "cpuset", {"cpu": {"cpus": "1", "mems": "0"}}, "cpuset.cpus", "cpuset.mems")) == [
        "1",
        "0",
    ]


@behaviour("oci.resources-v1.pids-limit")
def test_resources_v1_pids_limit(box: Box, seen: Seen) -> None:
    """pids.limit is pids.max of version 1."""
    assert seen(files_of(box, "pids", {"pids": {"limit": 77}}, "pids.max")) == ["77"]


@behaviour("oci.resources-v1.hugepages")
def test_resources_v1_hugepages(box: Box, seen: Seen) -> None:
    """hugepageLimits is the limit of pages of that size of version 1."""
    assert seen(
        files_of(
            box, "hugetlb", {"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]}, "hugetlb.2MB.limit_in_bytes"
        )
    ) == ["4194304"]


@behaviour("oci.resources-v1.class-id")
def test_resources_v1_class_id(box: Box, seen: Seen) -> None:
    """network.classID is net_cls.classid of version 1."""
    assert seen(files_of(box, "net_cls", {"network": {"classID": 1048577}}, "net_cls.classid")) == ["1048577"]


@behaviour("oci.resources-v1.priorities")
def test_resources_v1_priorities(box: Box, seen: Seen) -> None:
    """network.priorities are in net_prio.ifpriomap of version 1."""
    resources = {"network": {"priorities": [{"name": "lo", "priority": 7}]}}
    assert seen("lo 7" in files_of(box, "net_prio", resources, "net_prio.ifpriomap")[0].splitlines()) is True


@behaviour("oci.resources-v1.devices")
def test_resources_v1_devices(box: Box, seen: Seen) -> None:
    """A rule that denies everything keeps the container from opening a device on version 1 too."""
    linux = {
        "devices": [{"type": "b", "path": "/dev/loop", "major": 7, "minor": 0, "fileMode": 0o666}],
        "resources": {"devices": [{"allow": False, "access": "rwm"}]},
    }
    said = box.script("head -c 1 /dev/loop > /dev/null 2> /tmp/said && echo opened; cat /tmp/said", linux=linux)
    assert seen(said[0].rpartition(": ")[2]) == "Operation not permitted"


@behaviour("oci.resources-v1.frozen")
def test_resources_v1_frozen(box: Box, seen: Seen) -> None:
    """The processes of a paused container are frozen on version 1 too."""
    path = f"/box-of-{box.name}"
    box.begin(config("sleep", "1000", linux={"cgroupsPath": path}))
    box.pause()
    found = ((CGROUPS / "freezer" / path[1:] / "freezer.state").read_text(), box.status())
    box.delete(force=True)
    assert seen(found) == ("FROZEN\n", "paused")


@behaviour("oci.resources-v1.removed")
def test_resources_v1_removed(box: Box, seen: Seen) -> None:
    """delete removes the cgroups of all hierarchies of version 1 that create made."""
    path = f"box-of-{box.name}"
    box.create(config("true", linux={"cgroupsPath": "/" + path}))
    before = sum((place / path).is_dir() for place in CGROUPS.iterdir())
    box.delete(force=True)
    assert seen((before > 1, sum((place / path).exists() for place in CGROUPS.iterdir()))) == (True, 0)
