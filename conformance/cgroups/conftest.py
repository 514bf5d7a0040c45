"""Hierarchies that a test mounts for itself: the machine's profile mounts none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from kernelproof.impl._syscalls.mount import UnmountFlag, mount, umount2
from kernelproof.impl.cgroups.directory import Directory
from kernelproof.impl.cgroups.layout import Hierarchy

if TYPE_CHECKING:
    from collections.abc import Iterator


class MountV1(Protocol):
    def __call__(self, data: str) -> Path: ...


class Make(Protocol):
    def __call__(self, path: str) -> Directory: ...


class CgroupOf(Protocol):
    def __call__(self, pid: int | str, controllers: str = "") -> str: ...


@pytest.fixture
def unified(tmp_path: Path) -> Iterator[Path]:
    """The root of the version 2 hierarchy."""
    path = tmp_path / "unified"
    path.mkdir()
    mount("cgroup2", path, "cgroup2")
    assert _type_of_mount(path) == "cgroup2"
    yield path
    umount2(path, UnmountFlag.DETACH)


@pytest.fixture
def top(unified: Path) -> Iterator[Directory]:
    """The root of the version 2 hierarchy, to act on."""
    with Directory.open(Hierarchy(2, (), "", str(unified), "/", is_read_only=False)) as directory:
        yield directory


@pytest.fixture
def make(top: Directory) -> Iterator[Make]:
    """Make a cgroup of version 2, with those above it, and open it."""
    made: list[Directory] = []

    def make_one(path: str) -> Directory:
        directory = top.duplicate()
        for part in path.split("/"):
            made.append(directory)
            try:
                directory = directory.make(part)
            except FileExistsError:
                directory = directory.child(part)
        made.append(directory)
        return directory

    yield make_one
    for directory in made:
        directory.close()


@pytest.fixture
def mount_v1(tmp_path: Path) -> Iterator[MountV1]:
    """Mount a version 1 hierarchy of the controllers, or of the name, that mount(2) is given as data."""
    mounted: list[Path] = []

    def mount_one(data: str) -> Path:
        path = tmp_path / f"hierarchy-{len(mounted)}"
        path.mkdir()
        mount("cgroup", path, "cgroup", 0, data)
        mounted.append(path)
        assert _type_of_mount(path) == "cgroup"
        return path

    yield mount_one
    for path in mounted:
        umount2(path, UnmountFlag.DETACH)


def _type_of_mount(path: Path) -> str | None:
    types = {}
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount_point, fstype, *_ = line.split(" ")
        types[mount_point] = fstype
    return types.get(str(path))


@pytest.fixture
def cgroup_of() -> CgroupOf:
    """Return the path of a process's cgroup: in the version 2 hierarchy, or in that of version 1 controllers."""
    return _cgroup_of


def _cgroup_of(pid: int | str, controllers: str = "") -> str:
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, listed, path = line.split(":", 2)
        if listed == controllers:
            return path
    raise LookupError(f"/proc/{pid}/cgroup has no line for the controllers {controllers!r}")
