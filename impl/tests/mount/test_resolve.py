"""How look-ups inside a root go on when they are raced with, or when the call is missing: without a kernel's help."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kernelproof.impl._syscalls.resolve import openat2
from kernelproof.impl.mount import release, resolve
from kernelproof.impl.mount.resolve import Root, mkdir_in_root

OpenAt2 = Callable[..., int]


def refuse(times: int, number: int, real: OpenAt2) -> OpenAt2:
    """An openat2 that is refused so many times."""
    left = [times]

    def call(*arguments: object, **keywords: object) -> int:
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(number, os.strerror(number))
        return real(*arguments, **keywords)

    return call


def try_32_times(root: Root, path: str) -> int:
    """What gave up too early under attack."""
    opener: OpenAt2 = vars(resolve)["openat2"]
    for _ in range(31):
        try:
            return opener(root.fd, path, os.O_PATH, resolve=resolve.IN_ROOT)
        except OSError as error:
            if error.errno != errno.EAGAIN:
                raise
    return opener(root.fd, path, os.O_PATH, resolve=resolve.IN_ROOT)


def open_in_root(root: Root, path: str) -> int:
    """Ours."""
    return root.open(path)


@pytest.mark.rule("M11", ours=open_in_root, wrong=try_32_times, raises=OSError)
def test_look_up_that_is_raced_with_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subject: Callable[[Root, str], int]
) -> None:
    """A hundred answers of EAGAIN are no reason to give up: what is opened is what was looked for."""
    (tmp_path / "a").mkdir()
    monkeypatch.setattr(resolve, "openat2", refuse(100, errno.EAGAIN, openat2))
    with Root(tmp_path) as root:
        found = subject(root, "a")
    assert os.path.samestat(os.fstat(found), (tmp_path / "a").stat())
    os.close(found)


@pytest.mark.rule("M11")
def test_end_of_patience(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After 128 tries the caller gets EAGAIN with their number; with a deadline the tries go on until it."""
    (tmp_path / "a").mkdir()
    monkeypatch.setattr(resolve, "openat2", refuse(128, errno.EAGAIN, openat2))
    with Root(tmp_path) as root:
        with pytest.raises(BlockingIOError) as refused:
            root.open("a")
        assert any("each of 128 look-ups" in note for note in refused.value.__notes__)
        monkeypatch.setattr(resolve, "openat2", refuse(5000, errno.EAGAIN, openat2))
        os.close(root.open("a", deadline=float("inf")))


@pytest.mark.rule("M11")
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM])
def test_success_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A call that worked and is forbidden a moment later, by a filter, is replaced by the walk in steps."""
    (tmp_path / "a").mkdir()
    with Root(tmp_path) as root:
        os.close(root.open("a"))
        monkeypatch.setattr(resolve, "openat2", refuse(1000, number, openat2))
        os.close(root.open("a"))
        os.close(mkdir_in_root(root, "b/c"))
    assert (tmp_path / "b/c").is_dir()


def test_permission_of_a_path_is_no_missing_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EPERM that comes from the path, while openat2 works, is the caller's."""
    monkeypatch.setattr(resolve, "openat2", refuse(1, errno.EPERM, openat2))
    with Root(tmp_path) as root, pytest.raises(PermissionError):
        root.open("a")


def probe_only(name: str) -> bool:
    """What takes a call that is there for one that works."""
    return True


@pytest.mark.rule("M13", ours=release.is_new_api_trusted, wrong=probe_only)
def test_calls_ported_back_are_not_trusted(subject: Callable[[str], bool]) -> None:
    """Before 5.2 the new mount API is refused even where it answers."""
    trusted = ["5.2.0", "5.10.0-32-cloud-amd64", "7.3-rc1+", "10.0"]
    others = ["4.18.0-553.el8_10.x86_64", "5.1.21", "strange"]
    assert [name for name in trusted + others if subject(name)] == trusted


@pytest.mark.parametrize("emulate", [False, True], ids=["openat2", "steps"])
def test_root_works_without_privilege(tmp_path: Path, emulate: bool) -> None:
    """Opening, making and reading inside a root need no right but those to the files."""
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/up").symlink_to("/../../a/b")
    with Root(tmp_path, emulate=emulate) as root:
        assert root.resolve("a/up/..") == "/a"
        assert root.readlink("a/up") == "/../../a/b"
        fd = root.open("a/b/new", os.O_WRONLY | os.O_CREAT, mode=0o600)
        os.write(fd, b"x")
        os.close(fd)
        with pytest.raises(FileExistsError):
            root.open("a/b/new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode=0o600)
        fd = root.open("a/b/new", os.O_RDWR | os.O_CREAT, mode=0o600)
        assert os.read(fd, 2) == b"x"
        assert not os.get_inheritable(fd)
        os.close(fd)
        with pytest.raises(OSError, match=r"."):
            root.open("a/up", os.O_RDONLY, follow=False)
        for path in ("", ".", "/", "..", "/../.."):
            assert root.resolve(path) == "/"
        with pytest.raises(FileNotFoundError, match=r"`\.\.` after a directory that does not exist"):
            mkdir_in_root(root, "a/missing/../new")
        assert not (tmp_path / "a/new").exists()
        (tmp_path / "a/b/link").symlink_to("new")
        for cross_mounts in (True, False):
            fd = root.open("a/b/link", os.O_RDWR, cross_mounts=cross_mounts)
            assert os.read(fd, 2) == b"x"
            os.close(fd)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with Root(tmp_path, emulate=emulate) as root, pytest.raises(FileNotFoundError):
            root.open("a/b/c/d")
    assert len(os.listdir("/proc/self/fd")) == before
