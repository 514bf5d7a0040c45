"""Copies of a directory's contents, links of procfs in a walk, and the list of 2014."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from kernelproof.impl import mount
from kernelproof.impl.mount import MountinfoError, Root, listing, tmpfs


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A directory with an entry of each kind that needs no privilege."""
    source = tmp_path / "source"
    (source / "inner").mkdir(parents=True)
    (source / "file").write_bytes(b"x" * 100_000)
    (source / "link").symlink_to("nowhere")
    os.mkfifo(source / "fifo")
    os.link(source / "file", source / "inner/same")
    for name, mode in (("file", 0o4751), ("fifo", 0o620), ("inner", 0o2750)):
        (source / name).chmod(mode)
    for name in ("file", "link", "inner"):
        os.utime(source / name, ns=(10**18, 10**18 + 7), follow_symlinks=False)
    return source


@pytest.fixture
def ends(source: Path, tmp_path: Path) -> Iterator[tuple[int, int]]:
    """The directory and an empty one, open."""
    (tmp_path / "target").mkdir()
    opened = [os.open(path, os.O_RDONLY) for path in (source, tmp_path / "target")]
    yield opened[0], opened[1]
    for fd in opened:
        os.close(fd)


def looks(path: Path) -> tuple[object, ...]:
    """What is copied of an entry besides its contents."""
    found = path.lstat()
    time = None if stat.S_ISFIFO(found.st_mode) else found.st_mtime_ns
    return found.st_mode, found.st_uid, found.st_gid, time


def test_everything_is_copied(source: Path, tmp_path: Path, ends: tuple[int, int]) -> None:
    """Contents, kinds, modes, owners and times come along; a file with two names is one file; nothing stays open."""
    before = len(os.listdir("/dev/fd"))
    with closing(tmpfs._Copy(source.stat().st_dev)) as copy:
        copy.contents(*ends)
    target = tmp_path / "target"
    names = sorted(str(path.relative_to(source)) for path in source.rglob("*"))
    assert sorted(str(path.relative_to(target)) for path in target.rglob("*")) == names
    assert {name: looks(target / name) for name in names} == {name: looks(source / name) for name in names}
    assert (target / "file").read_bytes() == b"x" * 100_000
    assert os.readlink(target / "link") == "nowhere"
    assert (target / "file").samefile(target / "inner/same")
    assert len(os.listdir("/dev/fd")) == before


def test_mounts_below_are_not_entered(source: Path, tmp_path: Path, ends: tuple[int, int]) -> None:
    """A directory on another filesystem is there, and empty."""
    with closing(tmpfs._Copy(source.stat().st_dev + 1)) as copy:
        copy.contents(*ends)
    assert (tmp_path / "target/inner").is_dir()
    assert not (tmp_path / "target/inner/same").exists()


def test_nobody_else_reads_an_unfinished_copy(
    ends: tuple[int, int], source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until a file is whole and has its owner, only who copies can open it."""
    modes = set()

    def sendfile(writer: int, reader: int, offset: None, count: int) -> int:
        modes.add(stat.S_IMODE(os.fstat(writer).st_mode))
        return 0

    monkeypatch.setattr(os, "sendfile", sendfile)
    with closing(tmpfs._Copy(source.stat().st_dev)) as copy:
        copy.contents(*ends)
    assert modes == {0o600}


def test_attributes_that_a_tmpfs_does_not_know() -> None:
    """Extended attributes that can't be there are left out; all other errors are told."""
    for number in (errno.ENOTSUP, errno.ENODATA, errno.EPERM):
        with tmpfs.suppress_missing():
            raise OSError(number, os.strerror(number))
    with pytest.raises(OSError, match="No space"), tmpfs.suppress_missing():
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(KeyError), tmpfs.suppress_missing():
        raise KeyError


@pytest.mark.parametrize("emulate", [False, True], ids=["openat2", "steps"])
def test_links_of_procfs(emulate: bool) -> None:
    """Links of procfs with a text are followed; those that jump to a file, wherever it is, are refused."""
    with Root("/proc", emulate=emulate) as root:
        for path in ("self/stat", "thread-self/stat", "mounts", "net"):
            os.close(root.open(path, os.O_PATH))
        for path in ("self/exe", "self/root/proc", "self/fd/0", "self/ns/user"):
            with pytest.raises(OSError, match=r".") as error:
                root.open(path, os.O_PATH)
            assert error.value.errno == errno.ELOOP


def test_list_of_2014(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is what the filter keeps, in the kernel's order, and a line that can't be read is an error."""
    text = b"1 0 0:1 / / rw - ext4 a rw\n2 1 0:2 / /b rw - tmpfs b rw\n3 1 0:3 / /c rw - tmpfs c rw\n"
    monkeypatch.setattr(listing, "read_mountinfo", lambda pid: (text, True))
    assert [each.source for each in mount.pid_mount_info(7)] == ["a", "b", "c"]
    assert [each.source for each in mount.get_mounts(mount.fstype_filter("tmpfs"))] == ["b", "c"]
    monkeypatch.setattr(listing, "read_mountinfo", lambda pid: (text + b"rubbish\n", True))
    with pytest.raises(MountinfoError, match="line 4"):
        mount.pid_mount_info(7)
