"""Resources of a container on version 2 of cgroups: what stands in its cgroup's files."""

from __future__ import annotations

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
