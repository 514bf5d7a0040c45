"""openat2(2): rules about how a path is resolved."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.impl import mount
from kernelproof.impl._syscalls.libc import BYTES, INT, STRING, ULONG, Call
from kernelproof.impl._syscalls.resolve import ResolveFlag, openat2
from kernelproof.impl.mount import Root

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kernelproof.conformance.mount.conftest import Refusal
    from kernelproof.conformance.seen import Seen

_openat2 = Call("openat2", dir_fd=INT, path=STRING, how=BYTES, size=ULONG)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    """A directory with the file "f", the directory "d" with links, and beside it another file "f"."""
    path = tmp_path / "directory"
    (path / "d").mkdir(parents=True)
    (path / "f").write_text("inside")
    (tmp_path / "f").write_text("outside")
    (path / "absolute").symlink_to("/f")
    (path / "plain").symlink_to("f")
    (path / "dir").symlink_to("d")
    (path / "d/inner").touch()
    fd = os.open(path, os.O_PATH)
    yield fd
    os.close(fd)


def read_by(fd: int) -> str:
    """What an open file holds; it is closed."""
    text = os.read(fd, 100).decode()
    os.close(fd)
    return text


@behaviour("mount.openat2.beneath-dotdot-exdev", subject="impl")
def test_beneath(directory: int, refusal: Refusal, seen: Seen) -> None:
    """RESOLVE_BENEATH refuses what leaves the directory, and not what stays in it."""
    paths = ("../f", "/f", "absolute", "d/../../f")
    beneath = ResolveFlag.BENEATH
    assert refusal(openat2, directory, "d/../f", os.O_RDONLY, resolve=beneath) == "no error"
    answers = [refusal(openat2, directory, path, os.O_RDONLY, resolve=beneath) for path in paths]
    assert seen(answers) == ["EXDEV"] * 4


@behaviour("mount.openat2.in-root-absolute", subject="impl")
def test_in_root(directory: int, seen: Seen) -> None:
    """RESOLVE_IN_ROOT takes the directory for the root."""
    paths = ("/f", "../../f", "absolute")
    texts = [read_by(openat2(directory, path, os.O_RDONLY, resolve=ResolveFlag.IN_ROOT)) for path in paths]
    with Root(directory) as root:
        assert [read_by(root.open(path, os.O_RDONLY)) for path in paths] == ["inside"] * 3
    assert seen(texts) == ["inside"] * 3


@behaviour("mount.openat2.beneath-and-in-root-einval", subject="impl")
def test_beneath_and_in_root(directory: int, seen: Seen) -> None:
    """The two rules exclude each other."""
    both = ResolveFlag.BENEATH | ResolveFlag.IN_ROOT
    assert seen.errno_of(openat2, directory, "f", os.O_RDONLY, resolve=both) == "EINVAL"


@behaviour("mount.openat2.no-symlinks-eloop", subject="impl")
def test_no_symlinks(directory: int, refusal: Refusal, seen: Seen) -> None:
    """RESOLVE_NO_SYMLINKS refuses a link at the end and in the middle."""
    rule = ResolveFlag.NO_SYMLINKS
    answers = [refusal(openat2, directory, path, os.O_RDONLY, resolve=rule) for path in ("plain", "dir/inner", "f")]
    assert seen(answers) == ["ELOOP", "ELOOP", "no error"]


@behaviour("mount.openat2.no-symlinks-opath-nofollow", subject="impl")
def test_the_link_itself(directory: int, seen: Seen) -> None:
    """With O_PATH and O_NOFOLLOW a link at the end is opened itself."""
    fd = openat2(directory, "plain", os.O_PATH | os.O_NOFOLLOW, resolve=ResolveFlag.NO_SYMLINKS)
    assert seen(os.readlink("", dir_fd=fd)) == "f"
    os.close(fd)


@behaviour("mount.openat2.no-magiclinks-eloop", subject="impl")
def test_no_magiclinks(directory: int, refusal: Refusal, seen: Seen) -> None:
    """RESOLVE_NO_MAGICLINKS refuses links of procfs that jump, and follows plain ones."""
    rule = ResolveFlag.NO_MAGICLINKS
    paths = ("/proc/self/exe", "/proc/self/root/proc", "plain")
    answers = [refusal(openat2, directory, path, os.O_RDONLY, resolve=rule) for path in paths]
    assert seen(answers) == ["ELOOP", "ELOOP", "no error"]


@behaviour("mount.openat2.no-xdev-exdev", subject="impl")
def test_no_xdev(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """RESOLVE_NO_XDEV refuses to cross a mount, even to the same filesystem."""
    (tree / "a/file").touch()
    mount.bind(tree / "a", tree / "b")
    fd = os.open(tree, os.O_PATH)
    rule = ResolveFlag.NO_XDEV
    answers = [refusal(openat2, fd, path, os.O_RDONLY, resolve=rule) for path in ("b/file", "b", "..", "a/file")]
    with Root(fd) as root:
        assert refusal(root.open, "b/file", cross_mounts=False) == "EXDEV"
    os.close(fd)
    assert seen(answers) == ["EXDEV", "EXDEV", "EXDEV", "no error"]


@behaviour("mount.openat2.cached-eagain", subject="impl")
def test_cached(tree: Path, refusal: Refusal, seen: Seen) -> None:
    """RESOLVE_CACHED opens what is in the cache and nothing else."""
    (tree / "a/file").touch()
    assert refusal(openat2, -100, tree / "a/file", os.O_RDONLY, resolve=ResolveFlag.CACHED) == "no error"
    unseen = f"/proc/{os.getpid()}/task/{os.getpid()}/attr/never-looked-up"
    assert seen.errno_of(openat2, -100, unseen, os.O_RDONLY, resolve=ResolveFlag.CACHED) == "EAGAIN"


@behaviour("mount.openat2.mode-without-creat-einval", subject="impl")
def test_mode_without_creation(directory: int, seen: Seen) -> None:
    """A mode without O_CREAT or O_TMPFILE is refused."""
    assert seen.errno_of(openat2, directory, "f", os.O_RDONLY, mode=0o644) == "EINVAL"


@behaviour("mount.openat2.mode-unknown-bits-einval", subject="impl")
def test_mode_with_unknown_bits(directory: int, refusal: Refusal, seen: Seen) -> None:
    """A mode of more than 07777 is refused."""
    flags = os.O_WRONLY | os.O_CREAT
    answers = [refusal(openat2, directory, "new", flags, mode=mode) for mode in (0o10644, 0o644)]
    assert seen(answers) == ["EINVAL", "no error"]


@behaviour("mount.openat2.unknown-flag-einval", subject="impl")
def test_unknown_bits(directory: int, refusal: Refusal, seen: Seen) -> None:
    """An unknown bit is refused in flags and in resolve; open() ignores it in its flags."""
    unknown = 1 << 30  # 1 << 26 is none: the kernel's own FMODE_NONOTIFY, later O_EMPTYPATH
    assert refusal(os.open, "f", os.O_RDONLY | unknown, dir_fd=directory) == "no error"
    answers = [
        refusal(openat2, directory, "f", os.O_RDONLY | unknown),
        refusal(openat2, directory, "f", os.O_RDONLY, resolve=1 << 20),
    ]
    assert seen(answers) == ["EINVAL", "EINVAL"]


def how(tail: bytes = b"") -> bytes:
    """An open_how that opens to be read, with something after it."""
    return struct.pack("=3Q", os.O_RDONLY | os.O_CLOEXEC, 0, 0) + tail


@behaviour("mount.openat2.struct-size", subject="impl")
def test_short_structure(directory: int, seen: Seen) -> None:
    """A structure shorter than the first version is refused."""
    assert seen.errno_of(_openat2, directory, "f", how(), 16) == "EINVAL"


@behaviour("mount.openat2.struct-zero-tail-accepted", subject="impl")
def test_longer_structure(directory: int, seen: Seen) -> None:
    """A structure that is longer than the kernel knows is taken if the rest is zero."""
    data = how(bytes(256))
    assert seen(read_by(_openat2(directory, "f", data, len(data)))) == "inside"


@behaviour("mount.openat2.struct-nonzero-tail-e2big", subject="impl")
def test_longer_structure_with_something_in_it(directory: int, seen: Seen) -> None:
    """A structure that is longer than the kernel knows is refused if the rest is not zero."""
    data = how(bytes(255) + b"\1")
    assert seen.errno_of(_openat2, directory, "f", data, len(data)) == "E2BIG"
