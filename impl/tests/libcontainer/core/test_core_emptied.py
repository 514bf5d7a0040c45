"""A container's empty cgroup is removed without `impl.cgroups`, where that is the usual case and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernelproof.impl.libcontainer.emptied import only_hierarchy, remove_empty


def mountinfo(*lines: str) -> str:
    """A table of mounts."""
    return "\n".join(["21 1 8:1 / / rw - ext4 /dev/sda1 rw", *lines, ""])


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["31 2 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw"], ("/sys/fs/cgroup", "0:28")),
        (["31 2 0:28 / /a\\040b rw shared:1 - cgroup2 none rw"], ("/a b", "0:28")),
        (["31 2 0:28 / /x rw - cgroup2 none rw", "32 2 0:28 / /y rw - cgroup2 none rw"], None),
        (["31 2 0:28 / /x rw - cgroup2 none rw", "32 2 0:29 / /y rw - cgroup cgroup rw,cpu"], None),
        (["31 2 0:28 /part /x rw - cgroup2 none rw"], None),
        ([], None),
    ],
    ids=["one", "escaped", "two mounts", "version 1 beside it", "a part of it", "none"],
)
def test_one_hierarchy_of_version_2_is_the_usual_case(lines: list[str], found: tuple[str, str] | None) -> None:
    """Everything else is for `impl.cgroups`."""
    assert only_hierarchy(mountinfo(*lines)) == found


def test_what_is_not_empty_stays(tmp_path: Path) -> None:
    """A directory with something in it, one that is not there, and one of another device are left to the long way."""
    proc = tmp_path / "proc/self"
    proc.mkdir(parents=True)
    top = tmp_path / "cgroup"
    (top / "box/child").mkdir(parents=True)
    device = os.stat(top).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    (proc / "mountinfo").write_text(mountinfo(f"31 2 {number} / {top} rw - cgroup2 none rw"))
    assert not remove_empty("box", proc=str(tmp_path / "proc"))
    assert not remove_empty("other", proc=str(tmp_path / "proc"))
    assert remove_empty("box/child", proc=str(tmp_path / "proc"))
    assert sorted(path.name for path in top.rglob("*")) == ["box"]
    (proc / "mountinfo").write_text(mountinfo(f"31 2 0:{os.minor(device) + 1} / {top} rw - cgroup2 none rw"))
    assert not remove_empty("box", proc=str(tmp_path / "proc"))
    assert (top / "box").exists()
