"""Which hierarchies are in sight, from tables that stand for those of a process."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernelproof.impl.cgroups.errors import NoControllerError
from kernelproof.impl.cgroups.layout import (
    Hierarchy,
    Layout,
    find_membership,
    parse_membership,
    plan_layout,
    read_layout,
)
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


@pytest.mark.parametrize(
    ("root", "cgroup", "path"),
    [
        ("/", "/", "/cg"),
        ("/", "/a/b", "/cg/a/b"),
        ("/box", "/box", "/cg"),
        ("/box", "/box/a", "/cg/a"),
        ("/box", "/boxes", None),
        ("/box", "/", None),
        ("/box", "/other/box", None),
    ],
)
def test_directory_of_a_cgroup(root: str, cgroup: str, path: str | None) -> None:
    """It lies below the mount point, without what is above the root of the mount; a cgroup elsewhere has none."""
    assert Hierarchy(1, ("pids",), "", "/cg", root, False).path_of(cgroup) == path


V1 = Hierarchy(1, ("cpuacct", "cpu"), "", "/cg/cpu", "/", False)
NAMED = Hierarchy(1, (), "systemd", "/cg/systemd", "/", False)
V2 = Hierarchy(2, (), "", "/cg/unified", "/", False)


@pytest.mark.parametrize(
    ("hierarchies", "version"),
    [((), "none"), ((V1, NAMED), "v1"), ((V2,), "v2"), ((V2, V1), "hybrid"), ((V2, NAMED), "hybrid")],
    ids=["none", "v1", "v2", "hybrid", "named"],
)
def test_version_of_a_layout(hierarchies: tuple[Hierarchy, ...], version: str) -> None:
    """Which versions are mounted makes the word."""
    layout = Layout(hierarchies)
    assert layout.version == version
    assert layout.unified == (V2 if V2 in hierarchies else None)


def test_hierarchy_of_a_controller() -> None:
    """It is found by a controller or a name; a mount that is writable and whole is taken before others."""
    read_only, part = V1._replace(mount_point="/ro", is_read_only=True), V1._replace(mount_point="/part", root="/box")
    layout = Layout((V2, read_only, part, V1, NAMED))
    assert layout.hierarchy("cpu") == V1
    assert Layout((read_only, part)).hierarchy("cpuacct") == part
    assert layout.hierarchy("name=systemd") == NAMED
    for missing in ("systemd", "name=cpu", "memory"):
        with pytest.raises(NoControllerError, match=f"no mounted hierarchy has {missing}; there are cpu, cpuacct$"):
            layout.hierarchy(missing)
    with pytest.raises(NoControllerError, match=r"has cpu; none is mounted$"):
        Layout(()).hierarchy("cpu")


def test_line_of_a_hierarchy() -> None:
    """The line with just its controllers, or its name, is a hierarchy's; that of version 2 has number 0."""
    lines = parse_membership("5:cpu:/wrong\n4:cpu,cpuacct:/a:b\n3:name=systemd:/s\n2:name=x:/x\n0::/u (deleted)\n")
    assert find_membership(lines, V1).cgroup == "/a:b"
    assert find_membership(lines, NAMED).cgroup == "/s"
    assert find_membership(lines, V2)[3:] == ("/u", True)
    for hierarchy, others in ((V1, "3:name=systemd:/s\n0::/u\n"), (V2, "4:cpu:/a\n"), (NAMED, "0::/u\n")):
        with pytest.raises(NoControllerError, match=f"hierarchy at {hierarchy.mount_point}"):
            find_membership(parse_membership(others), hierarchy)
