"""Mounts of cgroups: version 2 and the tree of version 1, in a cgroup namespace and without."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kernelproof.impl import cgroups, mount
from kernelproof.impl.libcontainer.config.records import Mount

pytestmark = pytest.mark.machine

PROC = Mount("/proc", "proc", "proc", ())
CGROUP = Mount("/sys/fs/cgroup", "cgroup", "cgroup", ("nosuid", "noexec", "nodev", "relatime", "ro"))


class Host(NamedTuple):
    """Facts of the host."""

    hierarchies: tuple[cgroups.Hierarchy, ...]
    is_rootless: bool = False


def read_mountinfo() -> str:
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        return file.read()


def table_of(text: object) -> mount.MountTable:
    assert isinstance(text, str), text
    return mount.MountTable(mount.parse_mountinfo(text).mounts)


@pytest.fixture
def old(hierarchy: Callable[..., Path]) -> tuple[cgroups.Hierarchy, ...]:
    """Hierarchies of version 1: one of two controllers, one of one, and one with a name only."""
    hierarchy("v1", "cpu", "cpuacct")
    hierarchy("v1", "freezer")
    hierarchy("v1", "name=own")
    return tuple(each for each in cgroups.read_layout().hierarchies if each.version == 1)


@pytest.fixture
def new(hierarchy: Callable[..., Path]) -> cgroups.Hierarchy:
    """The hierarchy of version 2."""
    hierarchy("v2", at=Path("/sys/fs/cgroup"))
    found = cgroups.read_layout().unified
    assert found is not None
    return found


@pytest.mark.parametrize("kinds", ["mount cgroup", "mount", "user mount pid cgroup", "user mount pid"])
@pytest.mark.parametrize("word", ["ro", "rw"])
def test_version_2(container: Any, new: cgroups.Hierarchy, kinds: str, word: str) -> None:
    """In a namespace of its own, or of users, the own cgroup is seen as the root, else the host's; `ro` is read-only.

    The options of the host's mount are as they were.
    """
    mount.remount(new.mount_point, "remount,nsdelegate")
    own = cgroups.Cgroup.create("rootfs-test", cgroups.read_layout())
    for path in [container.image, *container.image.rglob("*")]:
        os.chown(path, 100_000, 100_000)

    def look() -> list[object]:
        names = os.listdir("/sys/fs/cgroup")
        return [read_mountinfo(), "cgroup.procs" in names, "rootfs-test" in names, os.access("/sys/fs/cgroup", os.W_OK)]

    wanted = Mount("/sys/fs/cgroup", "cgroup", "cgroup", ("nosuid", "noexec", "nodev", "relatime", word))
    own.add(os.getpid())
    try:
        seen: Any = container.run(container.config([PROC, wanted], kinds=kinds.split()), look, host=Host((new,)))
    finally:
        Path(new.mount_point, "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
        own.remove()
        own.close()
    assert isinstance(seen, list), seen
    found = table_of(seen[0]).find("/sys/fs/cgroup")
    assert (found.fstype, found.opts) == ("cgroup2", f"{word},nosuid,nodev,noexec,relatime")
    assert seen[1:3] == [True, kinds == "mount"]
    assert seen[3] == (word == "rw" and "user" not in kinds)
    assert "nsdelegate" in mount.MountTable.read().find(new.mount_point).super_options


@pytest.mark.parametrize("kinds", [("mount", "cgroup"), ("mount",)], ids=["namespace", "bound"])
@pytest.mark.parametrize("word", ["ro", "rw"])
def test_version_1(container: Any, old: tuple[cgroups.Hierarchy, ...], kinds: tuple[str, ...], word: str) -> None:
    """Each hierarchy is in a directory, its controllers are links to it; all is read-only unless asked otherwise."""
    wanted = Mount("/sys/fs/cgroup", "cgroup", "cgroup", ("nosuid", "noexec", "nodev", word))

    def look() -> list[object]:
        names = os.listdir("/sys/fs/cgroup")
        links = {
            name: os.readlink(f"/sys/fs/cgroup/{name}") for name in names if os.path.islink(f"/sys/fs/cgroup/{name}")
        }
        full = [name for name in names if os.path.exists(f"/sys/fs/cgroup/{name}/cgroup.procs")]
        return [read_mountinfo(), sorted(names), links, sorted(full)]

    seen: Any = container.run(container.config([PROC, wanted], kinds=kinds), look, host=Host(old))
    assert isinstance(seen, list), seen
    directories = {each.name or ",".join(each.controllers) for each in old}
    links = {name: ",".join(each.controllers) for each in old for name in each.controllers if len(each.controllers) > 1}
    assert seen[1] == sorted(directories | set(links))
    assert seen[2] == links
    assert seen[3] == sorted(directories | set(links))
    table = table_of(seen[0])
    for path in ("/sys/fs/cgroup", *(f"/sys/fs/cgroup/{name}" for name in directories)):
        assert table.find(path).opts == f"{word},nosuid,nodev,noexec,relatime"
        assert table.find(path).fstype == ("tmpfs" if path == "/sys/fs/cgroup" else "cgroup")


def test_version_2_that_is_not_delegated_is_masked(container: Any, new: cgroups.Hierarchy) -> None:
    """CVE-2023-25809: a user without rights, and without a cgroup namespace, sees no cgroup and writes none."""
    for path in [container.image, *container.image.rglob("*")]:
        os.chown(path, 100_000, 100_000)

    def look() -> list[object]:
        return [os.listdir("/sys/fs/cgroup"), os.access("/sys/fs/cgroup", os.W_OK), read_mountinfo()]

    config = container.config([PROC, CGROUP], kinds=("user", "mount", "pid"))
    seen: Any = container.run(config, look, host=Host((new,), is_rootless=True))
    assert isinstance(seen, list), seen
    assert seen[:2] == [[], False]
    assert table_of(seen[2]).find("/sys/fs/cgroup").fstype == "tmpfs"
