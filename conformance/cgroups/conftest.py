"""Hierarchies that a test mounts for itself: the machine's profile mounts none."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from kernelproof.impl._syscalls.mount import UnmountFlag, mount, umount2
from kernelproof.impl.cgroups import enabling
from kernelproof.impl.cgroups.directory import Directory
from kernelproof.impl.cgroups.layout import Hierarchy

if TYPE_CHECKING:
    from collections.abc import Iterator


_LOOP_SET_FD, _LOOP_CLR_FD, _LOOP_CTL_GET_FREE = 0x4C00, 0x4C01, 0x4C82  # linux/loop.h


class MountV1(Protocol):
    def __call__(self, data: str) -> Path: ...


class MakeV1(Protocol):
    def __call__(self, path: str, controllers: str = "none,name=tried") -> Directory: ...


class Make(Protocol):
    def __call__(self, path: str, controllers: str = "") -> Directory: ...


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
    """Make a cgroup of version 2, with those above it, give it controllers, and open it."""
    made: list[Directory] = []

    def make_one(path: str, controllers: str = "") -> Directory:
        directory = top.duplicate()
        for part in path.split("/"):
            made.append(directory)
            enabling.enable(directory, controllers.split())
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
        path.mkdir(exist_ok=True)  # of a mount that was refused
        mount("cgroup", path, "cgroup", 0, data)
        mounted.append(path)
        assert _type_of_mount(path) == "cgroup"
        return path

    yield mount_one
    for path in mounted:
        umount2(path, UnmountFlag.DETACH)


@pytest.fixture
def make_v1(mount_v1: MountV1) -> Iterator[MakeV1]:
    """Make a cgroup of version 1, with those above it, and open it; "" is the root of the hierarchy."""
    mounted: dict[str, Path] = {}
    made: list[Directory] = []

    def make_one(path: str, controllers: str = "none,name=tried") -> Directory:
        if controllers not in mounted:
            mounted[controllers] = mount_v1(controllers)
        directory = Directory.open(Hierarchy(1, (), "", str(mounted[controllers]), "/", is_read_only=False))
        for part in path.split("/") if path else ():
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
def loop_device(tmp_path: Path) -> Iterator[Path]:
    """A block device of 32 MiB whose blocks are in a file: what is read of it is clean page cache."""
    content = tmp_path / "blocks"
    with content.open("w+b") as file:
        file.truncate(32 << 20)
        with open("/dev/loop-control", "rb") as control:
            path = Path(f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}")
        with path.open("rb") as device:
            fcntl.ioctl(device, _LOOP_SET_FD, file.fileno())
            yield path
            fcntl.ioctl(device, _LOOP_CLR_FD)


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
