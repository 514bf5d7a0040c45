"""Resources of a container on version 2 of cgroups: what stands in its cgroup's files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour, behaviour_row
from kernelproof.conformance.libcontainer.box import REFUSED
from kernelproof.conformance.libcontainer.configs import config
from kernelproof.conformance.libcontainer.observing import CGROUPS

if TYPE_CHECKING:
    from kernelproof.conformance.libcontainer.box import Box
    from kernelproof.conformance.seen import Seen

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.peers("runc", "crun")]


def files_of(box: Box, resources: Mapping[str, object], *names: str) -> list[str]:
    """Files of the cgroup of a container with these resources."""
    path = f"/box-of-{box.name}"
    box.create(config("true", linux={"cgroupsPath": path, "resources": resources}))
    try:
        return [(CGROUPS / path[1:] / name).read_text().strip() for name in names]
    finally:
        box.delete(force=True)


def memory(**members: int) -> dict[str, object]:
    """Resources of memory."""
    return {"memory": members}


def cpu(**members: object) -> dict[str, object]:
    """Resources of CPUs."""
    return {"cpu": members}


HUGE_PAGES = {"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]}
OF_TWO = {"unified": {"memory.high": "50331648", "pids.max": "66"}}


@pytest.mark.parametrize(
    ("resources", "files"),
    [
        behaviour_row("oci.resources.memory-limit", memory(limit=67108864), {"memory.max": "67108864"}),
        behaviour_row("oci.resources.memory-unlimited", memory(limit=-1), {"memory.max": "max"}),
        behaviour_row("oci.resources.memory-reservation", memory(reservation=33554432), {"memory.low": "33554432"}),
        # The limit of memory and swap together: memory.swap.max is what is left above that of memory.
        behaviour_row(
            "oci.resources.memory-swap",
            memory(limit=67108864, swap=100663296),
            {"memory.max": "67108864", "memory.swap.max": "33554432"},
        ),
        behaviour_row(
            "oci.resources.memory-swap-unlimited", memory(limit=67108864, swap=-1), {"memory.swap.max": "max"}
        ),
        behaviour_row("oci.resources.pids-limit", {"pids": {"limit": 77}}, {"pids.max": "77"}),
        behaviour_row("oci.resources.pids-unlimited", {"pids": {"limit": -1}}, {"pids.max": "max"}),
        behaviour_row("oci.resources.cpu-quota", cpu(quota=50000, period=200000), {"cpu.max": "50000 200000"}),
        behaviour_row("oci.resources.cpu-quota-alone", cpu(quota=50000), {"cpu.max": "50000 100000"}),
        behaviour_row(
            "oci.resources.cpu-burst", cpu(quota=50000, period=100000, burst=20000), {"cpu.max.burst": "20000"}
        ),
        behaviour_row("oci.resources.cpu-idle", cpu(idle=1), {"cpu.idle": "1"}),
        behaviour_row("oci.resources.cpuset-cpus", cpu(cpus="1"), {"cpuset.cpus": "1"}),
        behaviour_row("oci.resources.cpuset-mems", cpu(mems="0"), {"cpuset.mems": "0"}),
        behaviour_row("oci.resources.hugepages", HUGE_PAGES, {"hugetlb.2MB.max": "4194304"}),
        behaviour_row("oci.resources.hugepages-reserved", HUGE_PAGES, {"hugetlb.2MB.rsvd.max": "4194304"}),
        behaviour_row("oci.resources.unified", OF_TWO, {"memory.high": "50331648", "pids.max": "66"}),
    ],
)
def test_resource(box: Box, seen: Seen, resources: Mapping[str, object], files: Mapping[str, str]) -> None:
    """Resources stand in the files of the container's cgroup."""
    assert seen(files_of(box, resources, *files)) == list(files.values())


@behaviour("oci.resources.cpu-shares-order")
def test_shares_are_in_order(box: Box, seen: Seen) -> None:
    """More cpu.shares are more weight: 2 give less than 1024, and these less than 262144."""
    weights = [int(files_of(box, cpu(shares=shares), "cpu.weight")[0]) for shares in (2, 1024, 262144)]
    assert seen((weights == sorted(weights), weights[0], weights[2])) == (True, 1, 10000)


@pytest.mark.parametrize(
    ("member", "word", "rate"),
    [
        behaviour_row("oci.resources.io-read-bytes", "throttleReadBpsDevice", "rbps", 1048576),
        behaviour_row("oci.resources.io-write-bytes", "throttleWriteBpsDevice", "wbps", 2097152),
        behaviour_row("oci.resources.io-reads", "throttleReadIOPSDevice", "riops", 100),
        behaviour_row("oci.resources.io-writes", "throttleWriteIOPSDevice", "wiops", 200),
    ],
)
def test_throttled_device(box: Box, seen: Seen, member: str, word: str, rate: int) -> None:
    """A member of blockIO that throttles a device is a word of the cgroup's io.max."""
    device = os.stat("/dev/loop0").st_rdev
    rule = {"major": os.major(device), "minor": os.minor(device), "rate": rate}
    found = files_of(box, {"blockIO": {member: [rule]}}, "io.max")[0]
    assert seen(f"{word}={rate}" in found.split()) is True


@pytest.mark.parametrize(
    "resources",
    [
        behaviour_row("oci.resources.memory-swap-below", memory(limit=67108864, swap=33554432)),
        behaviour_row("oci.resources.cpuset-absent", cpu(cpus="1000")),
        behaviour_row("oci.resources.unified-unknown", {"unified": {"memory.unheard": "1"}}),
        behaviour_row("oci.resources.unified-no-controller", {"unified": {"unheard.max": "1"}}),
        behaviour_row("oci.resources.unified-climbs", {"unified": {"../pids.max": "1"}}),
    ],
)
def test_resource_is_refused(box: Box, seen: Seen, resources: Mapping[str, object]) -> None:
    """Resources that the host does not have, that contradict each other or leave the cgroup are refused by create."""
    assert seen(box.answer(config("true", linux={"resources": resources}))) == REFUSED


@behaviour("oci.resources.cpuset-of-process")
def test_program_is_on_its_cpus(box: Box, seen: Seen) -> None:
    """The program may run on the CPUs of cpu.cpus alone."""
    said = box.said("grep", "^Cpus_allowed_list:", "/proc/self/status", linux={"resources": cpu(cpus="1")})
    assert seen(said) == "Cpus_allowed_list:\t1\n"


@behaviour("oci.resources.pids-effect")
def test_processes_are_limited(box: Box, seen: Seen) -> None:
    """A container can't have more processes than pids.limit."""
    text = "for n in 1 2 3 4 5 6 7 8; do sleep 5 & done 2> /dev/null; echo end"
    ended = box.run(config("sh", "-c", text, linux={"resources": {"pids": {"limit": 4}}}))
    assert seen("end" in ended.output) is False
