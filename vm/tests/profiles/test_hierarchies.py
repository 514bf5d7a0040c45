"""The fixture `hierarchy`, in machines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kernelproof.vm.guest.hierarchies import NoSuchHierarchy, mount_hierarchy

pytestmark = pytest.mark.machine

Hierarchy = Callable[..., Path]


def test_no_hierarchy() -> None:
    """A machine begins without a cgroup hierarchy."""
    assert "cgroup" not in Path("/proc/self/mounts").read_text()


def test_v2(hierarchy: Hierarchy) -> None:
    """Version 2 offers the controllers that were asked for."""
    place = hierarchy("v2", "memory", "pids")
    assert {"memory", "pids"} <= set((place / "cgroup.controllers").read_text().split())


@pytest.mark.parametrize(
    ("controllers", "file"), [(("pids",), "pids.current"), (("cpu", "cpuacct"), "cpu.shares"), (("name=own",), "tasks")]
)
def test_v1(hierarchy: Hierarchy, controllers: tuple[str, ...], file: str) -> None:
    """Version 1 has the controllers that were asked for, or a name and none."""
    group = hierarchy("v1", *controllers) / "group"
    group.mkdir()
    assert (group / file).exists()


def test_both(hierarchy: Hierarchy) -> None:
    """Version 2 and a version 1 hierarchy lie side by side: the controller is gone from version 2."""
    first = hierarchy("v1", "pids")
    second = hierarchy("v2")
    assert first != second
    assert "pids" not in (second / "cgroup.controllers").read_text().split()


@pytest.mark.parametrize("asked", [("v1", "nonesuch"), ("v2", "nonesuch")])
def test_absent(tmp_path: Path, asked: tuple[str, str]) -> None:
    """A controller that the kernel lacks is told by name, and nothing stays mounted."""
    with pytest.raises(NoSuchHierarchy, match="nonesuch"):
        mount_hierarchy(asked[0], asked[1:], tmp_path / "place")
    assert "cgroup" not in Path("/proc/self/mounts").read_text()


@pytest.mark.parametrize("asked", [("v1", ()), ("v3", ("memory",))])
def test_nonsense(tmp_path: Path, asked: tuple[str, tuple[str, ...]]) -> None:
    """Another version, or version 1 without controllers, is a mistake of the test."""
    with pytest.raises(ValueError, match="v1 or v2"):
        mount_hierarchy(*asked, tmp_path / "place")
