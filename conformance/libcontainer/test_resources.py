"""Resources of a container on version 2 of cgroups: what stands in its cgroup's files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.libcontainer.acting import CGROUPS, REFUSED, cgroup_of, config

if TYPE_CHECKING:
    from kernelproof.conformance.libcontainer.acting import Box
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


@behaviour("oci.cgroups-path.absolute")
def test_cgroups_path_absolute(box: Box, seen: Seen) -> None:
    """An absolute cgroupsPath counts from the mount point of cgroups."""
    pid = box.begin(config("sleep", "1000", linux={"cgroupsPath": f"/made/box-of-{box.name}"}))
    found = cgroup_of(pid).relative_to(CGROUPS)
    box.delete(force=True)
    assert seen(str(found).startswith(f"made/box-of-{box.name}")) is True


@behaviour("oci.cgroups-path.relative")
def test_cgroups_path_relative(box: Box, seen: Seen) -> None:
    """The same relative cgroupsPath is the same place each time."""
    places = []
    for _ in range(2):
        box.create(config("true", linux={"cgroupsPath": f"box-of-{box.name}"}))
        places.append(cgroup_of(box.pid()))
        box.delete(force=True)
    assert seen(places[0] == places[1]) is True


@behaviour("oci.cgroups-path.made")
def test_cgroups_path_made(box: Box, seen: Seen) -> None:
    """The cgroup of cgroupsPath is made if it does not exist."""
    before = (CGROUPS / "made").exists()
    box.create(config("true", linux={"cgroupsPath": f"/made-for-{box.name}/box"}))
    after = (CGROUPS / f"made-for-{box.name}/box").is_dir()
    box.delete(force=True)
    assert seen((before, after)) == (False, True)


@behaviour("oci.cgroups-path.not-empty")
def test_cgroups_path_not_empty(box: Box, seen: Seen) -> None:
    """create in a cgroup where another container runs does not touch that container."""
    path = f"/box-of-{box.name}"
    pid = box.begin(config("sleep", "1000", linux={"cgroupsPath": path}))
    box.does(lambda: box.create(config("true", linux={"cgroupsPath": path}), "second"))
    box.delete("second", force=True)
    found = (box.status(), box.pid() == pid)
    box.delete(force=True)
    assert seen(found) == ("running", True)


@behaviour("oci.resources.memory-limit")
def test_resources_memory_limit(box: Box, seen: Seen) -> None:
    """memory.limit is the cgroup's memory.max."""
    assert seen(files_of(box, {"memory": {"limit": 67108864}}, "memory.max")) == ["67108864"]


@behaviour("oci.resources.memory-unlimited")
def test_resources_memory_unlimited(box: Box, seen: Seen) -> None:
    """A memory.limit of -1 is no limit."""
    assert seen(files_of(box, {"memory": {"limit": -1}}, "memory.max")) == ["max"]


@behaviour("oci.resources.memory-reservation")
def test_resources_memory_reservation(box: Box, seen: Seen) -> None:
    """memory.reservation is the cgroup's memory.low."""
    assert seen(files_of(box, {"memory": {"reservation": 33554432}}, "memory.low")) == ["33554432"]


@behaviour("oci.resources.memory-swap")
def test_resources_memory_swap(box: Box, seen: Seen) -> None:
    """memory.swap is the limit of memory and swap together: memory.swap.max is what is left above limit."""
    assert seen(files_of(box, {"memory": {"limit": 67108864, "swap": 100663296}}, "memory.max", "memory.swap.max")) == [
        "67108864",
        "33554432",
    ]


@behaviour("oci.resources.memory-swap-unlimited")
def test_resources_memory_swap_unlimited(box: Box, seen: Seen) -> None:
    """A memory.swap of -1 is no limit of swap."""
    assert seen(files_of(box, {"memory": {"limit": 67108864, "swap": -1}}, "memory.swap.max")) == ["max"]


@behaviour("oci.resources.memory-swap-below")
def test_resources_memory_swap_below(box: Box, seen: Seen) -> None:
    """A memory.swap that is less than memory.limit is refused by create."""
    assert (
        seen(box.answer(config("true", linux={"resources": {"memory": {"limit": 67108864, "swap": 33554432}}})))
        == REFUSED
    )


@behaviour("oci.resources.pids-limit")
def test_resources_pids_limit(box: Box, seen: Seen) -> None:
    """pids.limit is the cgroup's pids.max."""
    assert seen(files_of(box, {"pids": {"limit": 77}}, "pids.max")) == ["77"]


@behaviour("oci.resources.pids-unlimited")
def test_resources_pids_unlimited(box: Box, seen: Seen) -> None:
    """A pids.limit of -1 is no limit."""
    assert seen(files_of(box, {"pids": {"limit": -1}}, "pids.max")) == ["max"]


@behaviour("oci.resources.cpu-quota")
def test_resources_cpu_quota(box: Box, seen: Seen) -> None:
    """cpu.quota and cpu.period are the cgroup's cpu.max."""
    assert seen(files_of(box, {"cpu": {"quota": 50000, "period": 200000}}, "cpu.max")) == ["50000 200000"]


@behaviour("oci.resources.cpu-quota-alone")
def test_resources_cpu_quota_alone(box: Box, seen: Seen) -> None:
    """cpu.quota without cpu.period counts for the period that the kernel has."""
    assert seen(files_of(box, {"cpu": {"quota": 50000}}, "cpu.max")) == ["50000 100000"]


@behaviour("oci.resources.cpu-burst")
def test_resources_cpu_burst(box: Box, seen: Seen) -> None:
    """cpu.burst is the cgroup's cpu.max.burst."""
    assert seen(files_of(box, {"cpu": {"quota": 50000, "period": 100000, "burst": 20000}}, "cpu.max.burst")) == [
        "20000"
    ]


@behaviour("oci.resources.cpu-idle")
def test_resources_cpu_idle(box: Box, seen: Seen) -> None:
    """cpu.idle of 1 makes the cgroup idle."""
    assert seen(files_of(box, {"cpu": {"idle": 1}}, "cpu.idle")) == ["1"]


@behaviour("oci.resources.cpu-shares-order")
def test_resources_cpu_shares_order(box: Box, seen: Seen) -> None:
    """More cpu.shares are more weight: 2 give less than 1024, and these less than 262144."""
    weights = [int(files_of(box, {"cpu": {"shares": shares}}, "cpu.weight")[0]) for shares in (2, 1024, 262144)]
    assert seen((weights == sorted(weights), weights[0], weights[2])) == (True, 1, 10000)


@behaviour("oci.resources.cpuset-cpus")
def test_resources_cpuset_cpus(box: Box, seen: Seen) -> None:
    """cpu.cpus is the cgroup's cpuset.cpus."""
    assert seen(files_of(box, {"cpu": {"cpus": "1"}}, "cpuset.cpus")) == ["1"]


@behaviour("oci.resources.cpuset-mems")
def test_resources_cpuset_mems(box: Box, seen: Seen) -> None:
    """cpu.mems is the cgroup's cpuset.mems."""
    assert seen(files_of(box, {"cpu": {"mems": "0"}}, "cpuset.mems")) == ["0"]


@behaviour("oci.resources.cpuset-of-process")
def test_resources_cpuset_of_process(box: Box, seen: Seen) -> None:
    """The program may run on the CPUs of cpu.cpus alone."""
    linux = {"resources": {"cpu": {"cpus": "1"}}}
    assert seen(box.said("grep", "^Cpus_allowed_list:", "/proc/self/status", linux=linux)) == "Cpus_allowed_list:\t1\n"


@behaviour("oci.resources.cpuset-absent")
def test_resources_cpuset_absent(box: Box, seen: Seen) -> None:
    """CPUs that the host does not have are refused by create."""
    assert seen(box.answer(config("true", linux={"resources": {"cpu": {"cpus": "1000"}}}))) == REFUSED


@behaviour("oci.resources.hugepages")
def test_resources_hugepages(box: Box, seen: Seen) -> None:
    """hugepageLimits is the cgroup's limit of pages of that size."""
    assert seen(files_of(box, {"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]}, "hugetlb.2MB.max")) == [
        "4194304"
    ]


@behaviour("oci.resources.hugepages-reserved")
def test_resources_hugepages_reserved(box: Box, seen: Seen) -> None:
    """hugepageLimits limits reservations where the kernel has that."""
    assert seen(files_of(box, {"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]}, "hugetlb.2MB.rsvd.max")) == [
        "4194304"
    ]


@behaviour("oci.resources.io-read-bytes")
def test_resources_io_read_bytes(box: Box, seen: Seen) -> None:
    """throttleReadBpsDevice is rbps of the cgroup's io.max."""
    device = os.stat("/dev/loop0").st_rdev
    rule = {"major": os.major(device), "minor": os.minor(device), "rate": 1048576}
    found = files_of(box, {"blockIO": {"throttleReadBpsDevice": [rule]}}, "io.max")[0]
    assert seen("rbps=1048576" in found.split()) is True


@behaviour("oci.resources.io-write-bytes")
def test_resources_io_write_bytes(box: Box, seen: Seen) -> None:
    """throttleWriteBpsDevice is wbps of the cgroup's io.max."""
    device = os.stat("/dev/loop0").st_rdev
    rule = {"major": os.major(device), "minor": os.minor(device), "rate": 2097152}
    found = files_of(box, {"blockIO": {"throttleWriteBpsDevice": [rule]}}, "io.max")[0]
    assert seen("wbps=2097152" in found.split()) is True


@behaviour("oci.resources.io-reads")
def test_resources_io_reads(box: Box, seen: Seen) -> None:
    """throttleReadIOPSDevice is riops of the cgroup's io.max."""
    device = os.stat("/dev/loop0").st_rdev
    rule = {"major": os.major(device), "minor": os.minor(device), "rate": 100}
    found = files_of(box, {"blockIO": {"throttleReadIOPSDevice": [rule]}}, "io.max")[0]
    assert seen("riops=100" in found.split()) is True


@behaviour("oci.resources.io-writes")
def test_resources_io_writes(box: Box, seen: Seen) -> None:
    """throttleWriteIOPSDevice is wiops of the cgroup's io.max."""
    device = os.stat("/dev/loop0").st_rdev
    rule = {"major": os.major(device), "minor": os.minor(device), "rate": 200}
    found = files_of(box, {"blockIO": {"throttleWriteIOPSDevice": [rule]}}, "io.max")[0]
    assert seen("wiops=200" in found.split()) is True


@behaviour("oci.resources.unified")
def test_resources_unified(box: Box, seen: Seen) -> None:
    """A key of unified is a file of the cgroup, its value what is written."""
    assert seen(
        files_of(box, {"unified": {"memory.high": "50331648", "pids.max": "66"}}, "memory.high", "pids.max")
    ) == ["50331648", "66"]


@behaviour("oci.resources.unified-unknown")
def test_resources_unified_unknown(box: Box, seen: Seen) -> None:
    """A key of unified that is no file of the cgroup is refused by create."""
    assert seen(box.answer(config("true", linux={"resources": {"unified": {"memory.unheard": "1"}}}))) == REFUSED


@behaviour("oci.resources.unified-no-controller")
def test_resources_unified_no_controller(box: Box, seen: Seen) -> None:
    """A key of unified of a controller that does not exist is refused by create."""
    assert seen(box.answer(config("true", linux={"resources": {"unified": {"unheard.max": "1"}}}))) == REFUSED


@behaviour("oci.resources.unified-climbs")
def test_resources_unified_climbs(box: Box, seen: Seen) -> None:
    """A key of unified that is a path out of the cgroup is refused by create."""
    assert seen(box.answer(config("true", linux={"resources": {"unified": {"../pids.max": "1"}}}))) == REFUSED


@behaviour("oci.resources.pids-effect")
def test_resources_pids_effect(box: Box, seen: Seen) -> None:
    """A container can't have more processes than pids.limit."""
    text = "for n in 1 2 3 4 5 6 7 8; do sleep 5 & done 2> /dev/null; echo end"
    ended = box.run(config("sh", "-c", text, linux={"resources": {"pids": {"limit": 4}}}))
    assert seen("end" in ended.output) is False


@behaviour("oci.update.memory")
def test_update_memory(box: Box, seen: Seen) -> None:
    """update changes the limit of a running container."""
    path = f"/box-of-{box.name}"
    box.begin(config("sleep", "1000", linux={"cgroupsPath": path, "resources": {"memory": {"limit": 67108864}}}))
    (box.bundle / "resources.json").write_text(json.dumps({"memory": {"limit": 100663296}}))
    box.command("update", "--resources", str(box.bundle / "resources.json"), "box")
    found = (CGROUPS / path[1:] / "memory.max").read_text()
    box.delete(force=True)
    assert seen(found) == "100663296\n"


@behaviour("oci.update.keeps-others")
def test_update_keeps_others(box: Box, seen: Seen) -> None:
    """update leaves limits alone that it does not name."""
    path = f"/box-of-{box.name}"
    box.begin(
        config(
            "sleep",
            "1000",
            linux={"cgroupsPath": path, "resources": {"pids": {"limit": 77}, "memory": {"limit": 67108864}}},
        )
    )
    (box.bundle / "resources.json").write_text(json.dumps({"memory": {"limit": 100663296}}))
    box.command("update", "--resources", str(box.bundle / "resources.json"), "box")
    found = (CGROUPS / path[1:] / "pids.max").read_text()
    box.delete(force=True)
    assert seen(found) == "77\n"


@behaviour("oci.update.unknown")
def test_update_unknown(box: Box, seen: Seen) -> None:
    """update of a container that does not exist is an error."""
    assert seen(box.does(lambda: box.command("update", "--pids-limit", "10", "nobody"))) == REFUSED


@behaviour("oci.update.pids-option")
def test_update_pids_option(box: Box, seen: Seen) -> None:
    """update --pids-limit changes that limit."""
    path = f"/box-of-{box.name}"
    box.begin(config("sleep", "1000", linux={"cgroupsPath": path}))
    box.command("update", "--pids-limit", "55", "box")
    found = (CGROUPS / path[1:] / "pids.max").read_text()
    box.delete(force=True)
    assert seen(found) == "55\n"
