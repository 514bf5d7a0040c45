"""Which hierarchies are in sight, from tables that stand for those of a process."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernelproof.impl.cgroups.layout import Layout, plan_layout, read_layout
from kernelproof.impl.mount import MountTable

ROOT = "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n"


def layout_of(text: str) -> Layout:
    """What a table of mounts of version 1 shows."""
    return read_layout(MountTable.parse(ROOT + text))


@pytest.mark.parametrize(
    ("options", "super_options", "is_read_only"),
    [("rw", "rw", False), ("ro", "rw", True), ("rw", "ro", True), ("ro", "ro", True)],
    ids=["neither", "mount", "filesystem", "both"],
)
def test_read_only_by_mount_or_filesystem(options: str, super_options: str, is_read_only: bool) -> None:
    """A hierarchy can't be written to if its mount, or its filesystem, is read-only."""
    (found,) = layout_of(f"30 20 0:30 / /cg/pids {options} - cgroup cgroup {super_options},pids\n").hierarchies
    assert (found.version, found.controllers, found.is_read_only) == (1, ("pids",), is_read_only)


def test_what_is_hidden_is_left_out() -> None:
    """Of two mounts at one place the upper one is seen, and none of what lies below another filesystem."""
    text = (
        "30 20 0:30 / /cg rw - cgroup cgroup rw,pids\n"
        "31 30 0:31 / /cg rw - cgroup cgroup rw,name=x\n"
        "32 20 0:32 / /other rw - tmpfs tmpfs rw\n"
        "33 32 0:33 / /other/freezer rw - cgroup cgroup rw,freezer\n"
        "34 32 0:34 / /other rw - tmpfs tmpfs rw\n"
    )
    found = layout_of(text).hierarchies
    assert [(one.name, one.mount_point) for one in found] == [("x", "/cg")]


def test_unified_hierarchy_comes_first(tmp_path: Path) -> None:
    """Version 2 stands before version 1, with the controllers that its file lists."""
    (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    text = (
        "30 20 0:30 / /cg/pids rw - cgroup cgroup rw,pids\n"
        f"31 20 0:31 / {tmp_path} rw - cgroup2 cgroup2 rw,nsdelegate\n"
    )
    first, second = layout_of(text).hierarchies
    assert (first.version, first.controllers, first.mount_point) == (2, ("cpu", "memory"), str(tmp_path))
    assert (second.version, second.controllers) == (1, ("pids",))
    assert plan_layout([], {}).hierarchies == ()
