"""How look-ups inside a root go on when they are raced with, or when the call is missing: without a kernel's help."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kernelproof.impl import mount
from kernelproof.impl._syscalls.resolve import openat2
from kernelproof.impl.mount import release, resolve
from kernelproof.impl.mount.resolve import Root, create_mount_point_in_root, mkdir_in_root

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


@pytest.mark.parametrize("emulate", [False, True], ids=["openat2", "steps"])
def test_what_a_link_that_leads_nowhere_names_is_made_inside(tmp_path: Path, emulate: bool) -> None:
    """A link to what is not there yet, relative, absolute, by others, or far above, has its end made in the root."""
    inside = tmp_path / "inside"
    (inside / "etc").mkdir(parents=True)
    (inside / "var").mkdir()
    (inside / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    (inside / "etc/up").symlink_to("/../../../made-by-up")
    (inside / "var/lock").symlink_to("/run/lock")
    (inside / "var/first").symlink_to("second/below")
    (inside / "var/second").symlink_to(f"../../..{tmp_path}/outside")
    with Root(inside, emulate=emulate) as root:
        for path in ("etc/resolv.conf", "/etc/up"):
            fd = create_mount_point_in_root(root, path, is_directory=False)
            assert os.path.samestat(os.fstat(fd), os.stat(root_path(inside, root.resolve(path))))
            os.close(fd)
        for path in ("/var/lock", "var/first/new", "var/lock/../deep/er"):
            fd = mkdir_in_root(root, path, 0o700)
            assert os.path.samestat(os.fstat(fd), os.stat(root_path(inside, root.resolve(path))))
            os.close(fd)
    assert (inside / "run/systemd/resolve/stub-resolv.conf").is_file()
    assert (inside / "made-by-up").is_file()
    assert (inside / "run/lock").is_dir()
    assert (inside / "run/deep/er").is_dir()
    assert root_path(inside, f"{tmp_path}/outside/below/new").is_dir()
    assert (inside / "etc/resolv.conf").is_symlink()
    assert os.listdir(tmp_path) == ["inside"]


def root_path(inside: Path, path: str) -> Path:
    """A path of the root, as seen from outside it."""
    return inside / path.lstrip("/")


@pytest.mark.parametrize("emulate", [False, True], ids=["openat2", "steps"])
def test_links_without_an_end_make_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, emulate: bool) -> None:
    """Loops, more links than are followed, and `..` after what a link does not lead to are refused; nothing is made."""
    (tmp_path / "loop").symlink_to("pool")
    (tmp_path / "pool").symlink_to("/loop")
    (tmp_path / "way").symlink_to("missing/../x")
    for number in range(5):
        (tmp_path / f"{number}").symlink_to(f"{number + 1}")
    before = sorted(os.listdir(tmp_path)), len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(resolve, "MOST_LINKS", 4)
    cases = {"loop": errno.ELOOP, "loop/x": errno.ELOOP, "way": errno.ENOENT, "0": errno.ELOOP, "0/x": errno.ELOOP}
    with Root(tmp_path, emulate=emulate) as root:
        for path, number in cases.items():
            for is_directory in (True, False):
                with pytest.raises(OSError, match=r".") as refused:
                    create_mount_point_in_root(root, path, is_directory=is_directory)
                assert refused.value.errno == number, path
    assert (sorted(os.listdir(tmp_path)), len(os.listdir("/proc/self/fd"))) == before


def test_link_that_is_put_in_the_place_of_what_is_made_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link to the outside that appears when a name was found missing stops the call, for directories and files."""
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "outside").mkdir()
    read_link = vars(resolve)["_read_link"]

    def put_a_link(directory: int, name: str) -> str | None:
        found: str | None = read_link(directory, name)
        os.symlink(tmp_path / "outside", name, dir_fd=directory)
        return found

    monkeypatch.setattr(resolve, "_read_link", put_a_link)
    with Root(inside) as root:
        with pytest.raises(NotADirectoryError):
            mkdir_in_root(root, "directory/below")
        with pytest.raises(mount.UnsafePathError, match="a link is in the place"):
            create_mount_point_in_root(root, "file", is_directory=False)
    assert os.listdir(tmp_path / "outside") == []
