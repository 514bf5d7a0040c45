"""Mounts of a test: a private tmpfs to work on, and what /proc/PID/mountinfo says of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import pytest

from kernelproof.impl._syscalls.mount import MountFlag, UnmountFlag, mount, umount2

if TYPE_CHECKING:
    from collections.abc import Iterator


class Line(NamedTuple):
    """The fields of a mountinfo line that these tests look at (proc_pid_mountinfo(5))."""

    root: str
    options: frozenset[str]
    tags: frozenset[str]  # optional fields: the propagation
    super_options: frozenset[str]


class MountAt(Protocol):
    def __call__(self, path: Path, pid: int | str = "self") -> Line | None: ...


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs whose root mount is private, with the directories "a" and "b"."""
    path = tmp_path / "tree"
    path.mkdir()
    mount("tree", path, "tmpfs")
    mount(None, path, None, MountFlag.PRIVATE)
    for name in ("a", "b"):
        (path / name).mkdir()
    yield path
    umount2(path, UnmountFlag.DETACH)


@pytest.fixture
def mount_at() -> MountAt:
    """Return the topmost mount on a mount point as a process sees it, or None."""
    return _mount_at


def _mount_at(path: Path, pid: int | str = "self") -> Line | None:
    found = None
    for text in Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
        before, _, after = text.partition(" - ")
        fields = before.split(" ")
        if fields[4] == str(path):
            super_options = after.split(" ")[2]
            found = Line(fields[3], _words(fields[5]), frozenset(fields[6:]), _words(super_options))
    return found


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split(","))
