"""Mounts of a test: a private tmpfs to work on, what /proc/PID/mountinfo says of it, and less privileged callers."""

from __future__ import annotations

import os
from errno import errorcode
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import pytest

from kernelproof.conformance.mount.overlays import Overlay
from kernelproof.impl import mount
from kernelproof.impl._syscalls.identity import setgroups
from kernelproof.impl._syscalls.mount import UnmountFlag, umount2
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kernelproof.conformance.conftest import InChild

NOBODY = 65534


class Line(NamedTuple):
    """The fields of a mountinfo line that these tests look at (proc_pid_mountinfo(5))."""

    id: int
    parent_id: int
    root: str
    options: frozenset[str]
    tags: frozenset[str]  # optional fields: the propagation
    fstype: str
    source: str
    super_options: frozenset[str]

    @property
    def tag(self) -> dict[str, str]:
        """Peer groups by the name of their field."""
        return {name: number for name, _, number in (tag.partition(":") for tag in self.tags)}


class MountAt(Protocol):
    def __call__(self, path: Path, pid: int | str = "self") -> Line | None: ...


class LineAt(Protocol):
    def __call__(self, path: Path, pid: int | str = "self") -> Line: ...


class LinesBelow(Protocol):
    def __call__(self, path: Path, pid: int | str = "self") -> dict[str, Line]: ...


class Refusal(Protocol):
    def __call__(self, call: Callable[..., object], /, *arguments: object, **keywords: object) -> str: ...


class InOthersSkin(Protocol):
    def __call__(self, function: Callable[[], Any]) -> Any: ...


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs whose root mount is private, with the directories "a" and "b"."""
    path = tmp_path / "tree"
    path.mkdir()
    mount.force_mount("tree", path, "tmpfs", "private")
    for name in ("a", "b"):
        (path / name).mkdir()
    yield path
    umount2(path, UnmountFlag.DETACH)


@pytest.fixture
def peers(tree: Path) -> tuple[Path, Path]:
    """Two mounts in one peer group, on a private mount: "a", a shared tmpfs with the directory "x", and "b"."""
    mount.force_mount("peers", tree / "a", "tmpfs", "shared")
    (tree / "a/x").mkdir()
    mount.bind(tree / "a", tree / "b")
    return tree / "a", tree / "b"


@pytest.fixture
def overlay(tree: Path) -> Overlay:
    """An overlay that is not mounted yet."""
    return Overlay(tree)


@pytest.fixture
def mount_at() -> MountAt:
    """Return the topmost mount on a mount point as a process sees it, or None."""
    return _mount_at


@pytest.fixture
def line_at() -> LineAt:
    """As mount_at, where there must be a mount."""

    def line_at(path: Path, pid: int | str = "self") -> Line:
        found = _mount_at(path, pid)
        assert found is not None, f"nothing is mounted at {path}"
        return found

    return line_at


@pytest.fixture
def lines_below() -> LinesBelow:
    """The topmost mounts at a path and below it by their names relative to it, the path itself as "."."""

    def lines_below(path: Path, pid: int | str = "self") -> dict[str, Line]:
        found = {}
        for mount_point, line in _lines(pid):
            if mount_point == str(path) or mount_point.startswith(f"{path}/"):
                found[os.path.relpath(mount_point, path)] = line
        return found

    return lines_below


@pytest.fixture
def refusal() -> Refusal:
    """The name of the errno that a call is refused with, or "no error"; unlike `seen.errno_of` it is not recorded."""

    def refusal(call: Callable[..., object], /, *arguments: object, **keywords: object) -> str:
        try:
            call(*arguments, **keywords)
        except OSError as error:
            return errorcode[error.errno or 0]
        return "no error"

    return refusal


def _mount_at(path: Path, pid: int | str = "self") -> Line | None:
    found = None
    for mount_point, line in _lines(pid):
        if mount_point == str(path):
            found = line
    return found


def _lines(pid: int | str) -> Iterator[tuple[str, Line]]:
    for text in Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
        before, _, after = text.partition(" - ")
        fields = before.split(" ")
        fstype, source, super_options = after.split(" ", 2)
        yield (
            fields[4],
            Line(
                int(fields[0]),
                int(fields[1]),
                fields[3],
                _words(fields[5]),
                frozenset(fields[6:]),
                fstype,
                source,
                _words(super_options),
            ),
        )


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split(","))


@pytest.fixture
def as_nobody(in_child: InChild) -> InOthersSkin:
    """Run a function in a child without any capability, as user 65534."""

    def run(function: Callable[[], Any]) -> Any:
        def drop_and_call() -> Any:
            setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            return function()

        return in_child(drop_and_call)

    return run


def open_the_way(path: Path) -> Path:
    """Let everybody reach a path: directories of tests are their owner's alone."""
    for each in (path, *path.parents[:-1]):
        each.chmod(each.stat().st_mode | 0o555)
    return path


@pytest.fixture
def public_tree(tree: Path) -> Path:
    """The tree, which everybody reaches."""
    return open_the_way(tree)


@pytest.fixture
def as_guest_root(in_child: InChild) -> InOthersSkin:
    """Run a function in a child that is root of a user namespace with a mount namespace, which is less privileged."""

    def run(function: Callable[[], Any]) -> Any:
        return in_child(lambda: enter_user_namespace(function))

    return run


def enter_user_namespace(function: Callable[[], Any]) -> Any:
    """Enter a user namespace, in which each ID is mapped to itself, with a mount namespace, and call a function there.

    The maps are written by a process that stayed outside, as more than one's own ID is mapped.
    """
    reader, writer = os.pipe()
    target = os.getpid()
    mapper = os.fork()
    if mapper == 0:
        status = 1
        try:
            os.read(reader, 1)
            for name in ("uid_map", "gid_map"):
                Path(f"/proc/{target}/{name}").write_text("0 0 65536\n")
            status = 0
        finally:
            os._exit(status)
    unshare(CloneFlag.NEWUSER | CloneFlag.NEWNS)
    os.write(writer, b"!")
    assert os.waitpid(mapper, 0)[1] == 0
    return function()
