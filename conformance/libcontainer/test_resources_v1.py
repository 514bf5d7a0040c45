"""Resources of a container on version 1 of cgroups: what stands in its cgroup's files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pytest

from kernelproof.conformance.libcontainer.acting import CGROUPS, config, host_shell

if TYPE_CHECKING:
    from kernelproof.conformance.libcontainer.acting import Box

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
