"""Resources of a container on version 1 of cgroups: what stands in its cgroup's files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour, behaviour_row
from kernelproof.conformance.libcontainer.configs import config
from kernelproof.conformance.libcontainer.hosting import host_shell
from kernelproof.conformance.libcontainer.observing import CGROUPS, reason_of

if TYPE_CHECKING:
    from kernelproof.conformance.libcontainer.box import Box
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


def files_of(box: Box, resources: Mapping[str, object], *names: str) -> list[str]:
    """Files, as CONTROLLER/NAME, of the cgroups of a container with these resources."""
    path = f"/box-of-{box.name}"
    box.create(config("true", linux={"cgroupsPath": path, "resources": resources}))
    try:
        return [(CGROUPS / name.replace("/", f"{path}/")).read_text().strip() for name in names]
    finally:
        box.delete(force=True)


SWAP = {"memory": {"limit": 67108864, "swap": 100663296}}
HUGE_PAGES = {"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]}


@pytest.mark.parametrize(
    ("resources", "files"),
    [
        behaviour_row(
            "oci.resources-v1.memory-limit",
            {"memory": {"limit": 67108864}},
            {"memory/memory.limit_in_bytes": "67108864"},
        ),
        behaviour_row(
            "oci.resources-v1.memory-swap",
            SWAP,
            {"memory/memory.limit_in_bytes": "67108864", "memory/memory.memsw.limit_in_bytes": "100663296"},
        ),
        behaviour_row(
            "oci.resources-v1.memory-reservation",
            {"memory": {"reservation": 33554432}},
            {"memory/memory.soft_limit_in_bytes": "33554432"},
        ),
        behaviour_row(
            "oci.resources-v1.memory-swappiness", {"memory": {"swappiness": 33}}, {"memory/memory.swappiness": "33"}
        ),
        behaviour_row("oci.resources-v1.cpu-shares", {"cpu": {"shares": 512}}, {"cpu/cpu.shares": "512"}),
        behaviour_row(
            "oci.resources-v1.cpu-quota",
            {"cpu": {"quota": 50000, "period": 200000}},
            {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "200000"},
        ),
        behaviour_row(
            "oci.resources-v1.cpuset",
            {"cpu": {"cpus": "1", "mems": "0"}},
            {"cpuset/cpuset.cpus": "1", "cpuset/cpuset.mems": "0"},
        ),
        behaviour_row("oci.resources-v1.pids-limit", {"pids": {"limit": 77}}, {"pids/pids.max": "77"}),
        behaviour_row("oci.resources-v1.hugepages", HUGE_PAGES, {"hugetlb/hugetlb.2MB.limit_in_bytes": "4194304"}),
        behaviour_row(
            "oci.resources-v1.class-id", {"network": {"classID": 1048577}}, {"net_cls/net_cls.classid": "1048577"}
        ),
    ],
)
def test_resource(box: Box, seen: Seen, resources: Mapping[str, object], files: Mapping[str, str]) -> None:
    """Resources stand in the files of the container's cgroups, in the hierarchies of their controllers."""
    assert seen(files_of(box, resources, *files)) == list(files.values())


@behaviour("oci.resources-v1.priorities")
def test_priorities(box: Box, seen: Seen) -> None:
    """network.priorities are in net_prio.ifpriomap of version 1."""
    resources = {"network": {"priorities": [{"name": "lo", "priority": 7}]}}
    assert seen("lo 7" in files_of(box, resources, "net_prio/net_prio.ifpriomap")[0].splitlines()) is True


@behaviour("oci.resources-v1.devices")
def test_devices(box: Box, seen: Seen) -> None:
    """A rule that denies everything keeps the container from opening a device on version 1 too."""
    linux = {
        "devices": [{"type": "b", "path": "/dev/loop", "major": 7, "minor": 0, "fileMode": 0o666}],
        "resources": {"devices": [{"allow": False, "access": "rwm"}]},
    }
    said = box.script("head -c 1 /dev/loop > /dev/null 2> /tmp/said && echo opened; cat /tmp/said", linux=linux)
    assert seen(reason_of(said[0])) == "Operation not permitted"


@behaviour("oci.resources-v1.frozen")
def test_frozen(box: Box, seen: Seen) -> None:
    """The processes of a paused container are frozen on version 1 too."""
    path = f"/box-of-{box.name}"
    box.begin(config("sleep", "1000", linux={"cgroupsPath": path}))
    box.pause()
    found = ((CGROUPS / "freezer" / path[1:] / "freezer.state").read_text(), box.status())
    box.delete(force=True)
    assert seen(found) == ("FROZEN\n", "paused")


@behaviour("oci.resources-v1.removed")
def test_removed(box: Box, seen: Seen) -> None:
    """delete removes the cgroups of all hierarchies of version 1 that create made."""
    path = f"box-of-{box.name}"
    box.create(config("true", linux={"cgroupsPath": "/" + path}))
    before = sum((place / path).is_dir() for place in CGROUPS.iterdir())
    box.delete(force=True)
    assert seen((before > 1, sum((place / path).exists() for place in CGROUPS.iterdir()))) == (True, 0)
