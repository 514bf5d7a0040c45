"""What is done, and what is left open, where the kernel has not what is asked for or refuses it."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from kernelproof.impl import mount
from kernelproof.impl._syscalls.mount import OpenTreeFlag
from kernelproof.impl.mount import DetachedMount, IdRange, detached, handles, idmapped, tmpfs, watching
from kernelproof.impl.mount.idmapped import open_user_namespace

ONE = [IdRange(0, 1000, 1)]


def refuse(number: int) -> Callable[..., NoReturn]:
    """A call that is refused."""

    def call(*_: object, **__: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    return call


def opened() -> list[str]:
    return sorted(os.listdir("/dev/fd"))


# Descriptors.


def test_refused_loop_device_leaves_nothing_open(tmp_path: Path) -> None:
    """Without a loop driver the file that was opened is closed, and a descriptor that was given stays open."""
    image = tmp_path / "image"
    image.write_bytes(bytes(512))
    before = opened()
    with pytest.raises(FileNotFoundError, match="loop-control"):
        mount.attach_loop(image, dev=tmp_path)
    assert opened() == before
    with image.open("rb") as file:
        with pytest.raises(FileNotFoundError, match="loop-control"):
            mount.attach_loop(file.fileno(), dev=tmp_path)
        assert file.read() == bytes(512)


def test_copy_up_leaves_the_mount_alone_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a copy only the mount is open, after a refusal nothing."""
    for name in ("source", "made"):
        (tmp_path / name).mkdir()
    (tmp_path / "source/file").write_text("content")
    before = opened()
    monkeypatch.setattr(tmpfs, "mount_tmpfs", refuse(errno.EPERM))
    with pytest.raises(PermissionError):
        mount.tmpfs_copy_up(tmp_path / "source")
    assert opened() == before
    made = DetachedMount(os.open(tmp_path / "made", os.O_PATH), road="fsopen")
    monkeypatch.setattr(tmpfs, "mount_tmpfs", lambda words, source: made)
    with mount.tmpfs_copy_up(tmp_path / "source"):
        assert len(opened()) == len(before) + 1
    assert (tmp_path / "made/file").read_text() == "content"


def test_copy_has_what_is_below_only_if_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of a mount takes those below it along when it is to be recursive, and not else."""
    asked = []

    def open_tree(directory: int, path: object, flags: OpenTreeFlag) -> int:
        asked.append(flags & ~OpenTreeFlag.CLOEXEC)
        return os.open(tmp_path, os.O_PATH)

    monkeypatch.setattr(detached, "open_tree", open_tree)
    for recursive in (True, False):
        DetachedMount.copy(tmp_path, recursive=recursive).close()
    assert asked == [OpenTreeFlag.CLONE | OpenTreeFlag.RECURSIVE, OpenTreeFlag.CLONE]


# A procfs that was verified, and what wakes a watcher.


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM], ids=["old kernel", "filter"])
def test_files_of_procfs_without_openat2(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Without the call a file is reached step by step, and what is no part of procfs is refused as with it."""
    monkeypatch.setattr(handles, "openat2", refuse(number))
    with handles.open_procfs(private=False) as proc:
        with open(proc.open(f"{os.getpid()}/stat"), "rb") as file:
            assert file.read().startswith(b"%d " % os.getpid())
        with pytest.raises(mount.UnsafePathError):
            proc.open("sys/../../etc")


def test_watcher_of_a_kernel_without_its_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other way is taken where a kernel has none of this one, and neither unasked nor after another error."""
    monkeypatch.setattr(watching, "fanotify_init", refuse(errno.EINVAL))
    with mount.MountWatch() as watcher:
        assert watcher.backend == "poll"
    with pytest.raises(OSError, match="Invalid argument"):
        mount.MountWatch(backend="fanotify")
    monkeypatch.setattr(watching, "fanotify_init", refuse(errno.EMFILE))
    with pytest.raises(OSError, match="Too many open files"):
        mount.MountWatch()


# Children that hold a user namespace.


class EndedError(BaseException):
    """In place of the end of a process."""


def procfs_with(tasks: int, folder: Path) -> Path:
    """A procfs in which the process has so many threads."""
    for number in range(tasks):
        (folder / f"self/task/{number}").mkdir(parents=True)
    return folder


@pytest.mark.parametrize("number", [0, errno.EPERM], ids=["made", "refused"])
def test_forked_child_ends_where_it_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The child says how it went and ends, and never goes on in the caller's code."""
    pipes: list[tuple[int, int]] = []
    pipe = os.pipe

    def recorded() -> tuple[int, int]:
        pipes.append(pipe())
        return pipes[-1]

    def end(status: int) -> NoReturn:
        raise EndedError(status)

    monkeypatch.setattr(os, "pipe", recorded)
    monkeypatch.setattr(os, "fork", lambda: 0)
    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(idmapped, "unshare", refuse(number) if number else lambda flags: None)
    with pytest.raises(EndedError, match=r"^0$"):
        open_user_namespace(ONE, proc=procfs_with(1, tmp_path))
    (ready, told), (ended, _) = pipes
    assert os.read(ready, 1) == bytes([number])
    for fd in (ready, told, ended):
        os.close(fd)


def test_child_that_cannot_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are other threads a program is the child; if there is none that is told, and nothing stays open."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
    before = opened()
    with pytest.raises(FileNotFoundError):
        open_user_namespace(ONE, proc=procfs_with(2, tmp_path))
    assert opened() == before
