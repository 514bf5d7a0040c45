"""Directories made for a user, while somebody works against it."""

from __future__ import annotations

import errno
import os
import resource
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from kernelproof.impl.tests.user.owners import GID, OTHER, UID, Swapper, as_root, owner_of
from kernelproof.impl.user import (
    ExchangedError,
    IdRangeError,
    make_directories,
    mkdir_as,
)

Make = Callable[[str, Path], object]


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def ours(path: str, root: Path) -> object:
    return make_directories(path, *OTHER, 0o750, root=root)


def peer(path: str, root: Path) -> object:
    """Look, make and change by path, as the engines did."""
    missing = []
    at = root / path
    while not at.exists():
        missing.append(at)
        at = at.parent
    for each in reversed(missing):
        os.mkdir(each, 0o750)
        os.chown(each, *OTHER)
    return missing


def test_missing_directories_are_made(tmp_path: Path) -> None:
    """Only the missing ones are made, all with owner and mode; those that exist stay as they are."""
    (tmp_path / "a").mkdir(mode=0o700)
    assert make_directories("/a/b/c", *OTHER, 0o2751, root=tmp_path) == ("a/b", "a/b/c")
    assert [mode_of(tmp_path / each) for each in ("a", "a/b", "a/b/c")] == [0o700, 0o2751, 0o2751]
    assert [owner_of(tmp_path / each) for each in ("a/b", "a/b/c")] == [OTHER] * 2
    assert owner_of(tmp_path / "a") == (UID, GID)
    assert make_directories("a/b/c", UID, GID, root=tmp_path) == ()
    assert make_directories("/", UID, GID, root=tmp_path) == ()


def test_paths_without_a_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a root a path is the process's own, a relative one from its working directory."""
    assert make_directories(tmp_path / "x/y", UID, GID)[-1].endswith("/x/y")
    monkeypatch.chdir(tmp_path)
    assert make_directories("z/w", UID, GID) == ("z", "z/w")
    assert (tmp_path / "z/w").is_dir()


def test_umask_has_no_say(tmp_path: Path) -> None:
    """The mode is the one that was asked for."""
    before = os.umask(0o077)
    try:
        make_directories("a", UID, GID, 0o1777, root=tmp_path)
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "a") == 0o1777


@pytest.mark.rule("U8", ours=ours, wrong=peer)
def test_set_group_id_parent_changes_nothing(tmp_path: Path, subject: Make) -> None:
    """Below a directory with the set-group-ID bit, group and mode are those that were asked for."""
    (tmp_path / "a").mkdir()
    os.chown(tmp_path / "a", -1, OTHER[1] if UID else GID)
    (tmp_path / "a").chmod(0o2777)
    subject("a/b", tmp_path)
    assert (mode_of(tmp_path / "a/b"), owner_of(tmp_path / "a/b")) == (0o750, OTHER)


@contextmanager
def before_mkdir(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> Iterator[None]:
    """Let an attacker act once, right before the directory "new" is made."""
    real = os.mkdir
    acted: list[int] = []

    def mkdir(path: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        if os.path.basename(path) == "new" and not acted:
            acted.append(1)
            act()
        real(path, mode, dir_fd=dir_fd)

    with monkeypatch.context() as patched:
        patched.setattr(os, "mkdir", mkdir)
        yield


@contextmanager
def after_mkdir(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> Iterator[None]:
    """Let an attacker act once, right after the directory "new" was made."""
    real = os.mkdir

    def mkdir(path: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        real(path, mode, dir_fd=dir_fd)
        if os.path.basename(path) == "new":
            act()

    with monkeypatch.context() as patched:
        patched.setattr(os, "mkdir", mkdir)
        yield


@pytest.mark.rule("U8", ours=ours, wrong=peer)
def test_component_swapped_for_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subject: Make) -> None:
    """A directory on the way that becomes a link out of the root after it was looked at leads nowhere outside."""
    root, victim = tmp_path / "root", tmp_path / "victim"
    (root / "way").mkdir(parents=True)
    victim.mkdir()

    def attack() -> None:
        (root / "way").rename(root / "moved")
        (root / "way").symlink_to(victim)

    with before_mkdir(monkeypatch, attack):
        subject("way/new", root)
    assert list(victim.iterdir()) == []


@as_root
@pytest.mark.rule("U8", ours=ours, wrong=peer, raises=pytest.fail.Exception)
@pytest.mark.parametrize("kind", ["link", "full directory", "open directory", "other's directory"])
def test_new_directory_exchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, subject: Make) -> None:
    """What is put in the place of the new directory is not given away."""
    root, victim = tmp_path / "root", tmp_path / "victim"
    root.mkdir()
    victim.mkdir(mode=0o700)
    if kind == "full directory":
        (victim / "secret").touch()
    elif kind == "open directory":
        victim.chmod(0o755)
    elif kind == "other's directory":
        os.chown(victim, 77, 77)
    owner = owner_of(victim)

    def attack() -> None:
        (root / "new").rename(root / "moved")
        if kind == "link":
            (root / "new").symlink_to(victim)
        else:
            victim.rename(root / "new")

    with after_mkdir(monkeypatch, attack), pytest.raises((ExchangedError, OSError)) as caught:
        subject("new", root)
    if kind != "link":
        assert isinstance(caught.value, ExchangedError)
    assert owner_of(victim if kind == "link" else root / "new") == owner


@pytest.mark.rule("U8", ours=ours, wrong=peer, raises=FileExistsError)
def test_racing_creator_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subject: Make) -> None:
    """A directory that somebody else makes in between is taken as it is."""

    def make() -> None:
        (tmp_path / "new").mkdir()
        (tmp_path / "new").chmod(0o711)  # whatever the umask is

    with before_mkdir(monkeypatch, make):
        subject("new/below", tmp_path)
    assert mode_of(tmp_path / "new") == 0o711
    assert owner_of(tmp_path / "new/below") == OTHER


def test_moved_away_while_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new directory that is moved between its opening and the end is an error, and nothing is left of the rest."""
    real = os.fchmod

    def fchmod(fd: int, mode: int) -> None:
        real(fd, mode)
        (tmp_path / "a/new").rename(tmp_path / "elsewhere")
        (tmp_path / "a/new").mkdir()

    monkeypatch.setattr(os, "fchmod", lambda fd, mode: fchmod(fd, mode) if mode == 0o711 else real(fd, mode))
    (tmp_path / "a").mkdir()
    with pytest.raises(ExchangedError, match="was moved away while it was being made"):
        make_directories("a/new", UID, GID, 0o711, root=tmp_path)
    assert (tmp_path / "a/new").is_dir()  # somebody else's, and so not ours to remove


def test_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a step fails, what was made before it is removed, and no descriptor stays open."""
    real = os.fchown
    before = len(os.listdir("/dev/fd"))
    calls = []

    def fchown(fd: int, uid: int, gid: int) -> None:
        calls.append(fd)
        if len(calls) == 3:
            raise PermissionError(errno.EPERM, "no")
        real(fd, uid, gid)

    monkeypatch.setattr(os, "fchown", fchown)
    with pytest.raises(PermissionError):
        make_directories("a/b/c/d", UID, GID, root=tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert len(os.listdir("/dev/fd")) == before


def test_links_on_the_way(tmp_path: Path) -> None:
    """A link on the way is an error; where links are followed, it leads inside the root."""
    root = tmp_path / "root"
    (root / "run").mkdir(parents=True)
    (root / "var").symlink_to("/run")
    (root / "up").symlink_to("../../../run/./x/..")
    (root / "loop").symlink_to("loop")
    (root / "file").touch()
    for name, code in (("var", errno.ELOOP), ("loop", errno.ELOOP), ("file", errno.ENOTDIR)):
        with pytest.raises(OSError, match=r".") as caught:
            make_directories(f"{name}/a", UID, GID, root=root)
        assert caught.value.errno == code
    assert make_directories("var/a", UID, GID, root=root, follow_symlinks=True) == ("run/a",)
    (root / "run/x").mkdir()
    assert make_directories("up/b", UID, GID, root=root, follow_symlinks=True) == ("run/b",)
    for name, code in (("loop", errno.ELOOP), ("file", errno.ENOTDIR)):
        with pytest.raises(OSError, match=r".") as caught:
            make_directories(f"{name}/a", UID, GID, root=root, follow_symlinks=True)
        assert caught.value.errno == code
    assert sorted(each.name for each in tmp_path.iterdir()) == ["root"]


def test_bad_arguments(tmp_path: Path) -> None:
    """A path with "..", an id out of range and a mode of too many bits are refused before anything is made."""
    with pytest.raises(ValueError, match=r"component '\.\.'"):
        make_directories("a/../b", UID, GID, root=tmp_path)
    with pytest.raises(IdRangeError):
        make_directories("a", 2**32 - 1, GID, root=tmp_path)
    with pytest.raises(ValueError, match="beyond 07777"):
        make_directories("a", UID, GID, 0o17777, root=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_one_directory(tmp_path: Path) -> None:
    """mkdir_as makes one directory, and says when it exists or when the one above is missing."""
    mkdir_as("a", *OTHER, 0o711, root=tmp_path)
    assert (mode_of(tmp_path / "a"), owner_of(tmp_path / "a")) == (0o711, OTHER)
    for again in ("a", "/"):
        with pytest.raises(FileExistsError):
            mkdir_as(again, UID, GID, root=tmp_path)
    with pytest.raises(FileNotFoundError):
        mkdir_as("b/c", UID, GID, root=tmp_path)
    assert not (tmp_path / "b").exists()


def test_mode_without_a_bit(tmp_path: Path) -> None:
    """A directory that nobody may enter can be made."""
    mkdir_as("a", UID, GID, 0, root=tmp_path)
    assert mode_of(tmp_path / "a") == 0


def test_name_that_comes_and_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that somebody makes and removes all the time ends in EAGAIN."""

    def mkdir(*_: object, **__: object) -> None:
        raise FileExistsError(errno.EEXIST, "")

    monkeypatch.setattr(os, "mkdir", mkdir)
    with pytest.raises(BlockingIOError, match="without pause"):
        make_directories("a", UID, GID, root=tmp_path)


@pytest.mark.long
@pytest.mark.rule("U+5")
@pytest.mark.parametrize("follow", [False, True])
def test_attacker_swaps_components(tmp_path: Path, full_number: Callable[[int], int], follow: bool) -> None:
    """While a thread exchanges components for links out of the root, nothing outside it is made or changed."""
    root, victim = tmp_path / "root", tmp_path / "victim"
    (root / "way").mkdir(parents=True)
    (victim / "inner").mkdir(parents=True)
    before = [(owner_of(each), mode_of(each)) for each in (victim, victim / "inner")]
    made = 0
    with Swapper(root, victim) as attacker:
        for number in attacker.wait_for(full_number(100_000)):
            with suppress(OSError, ExchangedError):
                made += len(make_directories(f"way/inner/{number % 997}", *OTHER, root=root, follow_symlinks=follow))
    assert [(owner_of(each), mode_of(each)) for each in (victim, victim / "inner")] == before
    assert list((victim / "inner").iterdir()) == []
    assert sorted(each.name for each in tmp_path.iterdir()) == ["root", "victim"]
    assert made > 0


# Trees.


@contextmanager
def free_descriptors(count: int) -> Iterator[None]:
    """Leave the process that many descriptors."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 10, limits[1]))
    used: list[int] = []
    try:
        with suppress(OSError):
            while True:
                used.append(os.dup(0))
        for _ in range(count):
            os.close(used.pop())
        yield
    finally:
        for each in used:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("count", range(5))
def test_nothing_is_left_for_want_of_descriptors(tmp_path: Path, count: int) -> None:
    """A process that has too few descriptors is told so, and no directory stays."""
    with free_descriptors(count), pytest.raises(OSError, match="Too many open files"):
        make_directories("a/b", UID, GID, root=tmp_path)
    assert list(tmp_path.iterdir()) == []


UNREADABLE = """
import encodings.idna, os, sys
from kernelproof.impl.user import make_directories, mkdir_as
os.setgroups([]); os.setgid(65534); os.setuid(65534); os.umask(0o477)
for make in make_directories, mkdir_as:
    try:
        make("a", 65534, 65534, root=sys.argv[1])
    except PermissionError:
        print(os.listdir(sys.argv[1]))
"""


@as_root
def test_nothing_is_left_if_the_umask_takes_the_owners_rights() -> None:
    """A user whose umask keeps him out of his own new directory is told so, and it does not stay."""
    with tempfile.TemporaryDirectory() as made:  # not pytest's, which other users may not reach
        os.chmod(made, 0o777)
        done = subprocess.run([sys.executable, "-c", UNREADABLE, made], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "[]"]
