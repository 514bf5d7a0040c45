"""Reading files: regular ones, up to a limit, never outside the root."""

from __future__ import annotations

import errno
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kernelproof.impl._syscalls import resolve
from kernelproof.impl.user import (
    NotRegularFileError,
    TooLargeError,
    open_regular,
    parse_group_file,
    parse_group_file_filter,
    parse_passwd_file,
    parse_passwd_file_filter,
    read_group,
    read_gshadow,
    read_passwd,
    read_shadow,
    read_subgid,
    read_subuid,
    read_text,
)
from kernelproof.impl.user import root as root_module
from kernelproof.impl.user.files import read_blocks
from kernelproof.impl.user.root import open_in_root, walk_in_root

Open = Callable[[str, int, int], int]
both_ways = pytest.mark.parametrize("opener", [open_in_root, walk_in_root], ids=["openat2", "walk"])


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A root with links that lead in, out, up and round."""
    image = tmp_path / "image"
    (image / "etc/real").mkdir(parents=True)
    (image / "etc/real/passwd").write_text("inside")
    (tmp_path / "secret").write_text("outside")
    (image / "etc/passwd").symlink_to("real/passwd")
    (image / "etc/absolute").symlink_to("/etc/real/passwd")
    (image / "etc/up").symlink_to("../../../../../../etc/real/passwd")
    (image / "etc/out").symlink_to("../../secret")
    (image / "etc/host").symlink_to(tmp_path / "secret")
    (image / "etc/loop").symlink_to("loop")
    (image / "etc/directory").symlink_to("/etc/real/")
    return image


def read_with(opener: Open, path: str, root: Path) -> str:
    root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fd = opener(path, os.O_RDONLY, root_fd)
        try:
            assert not os.get_inheritable(fd)
            return os.read(fd, 100).decode()
        finally:
            os.close(fd)
    finally:
        os.close(root_fd)


@both_ways
@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "etc/passwd", "etc/absolute", "/etc/up", "etc/./real//passwd", "etc/real/../passwd",
     "../../etc/passwd", "etc/directory/passwd", "/etc/directory/../real/passwd"],
)  # fmt: skip
def test_path_inside_the_root(opener: Open, path: str, image: Path) -> None:
    """Absolute paths, absolute links and any number of ".." stay in the root."""
    assert read_with(opener, path, image) == "inside"


@both_ways
@pytest.mark.parametrize(
    ("path", "error"),
    [("etc/out", errno.ENOENT), ("etc/host", errno.ENOENT), ("etc/loop", errno.ELOOP), ("etc/missing", errno.ENOENT),
     ("etc/passwd/x", errno.ENOTDIR)],
)  # fmt: skip
def test_path_that_leads_nowhere(opener: Open, path: str, error: int, image: Path) -> None:
    """A link out of the root finds nothing, a loop ends, and a file is no directory."""
    with pytest.raises(OSError, match=r".") as caught:
        read_with(opener, path, image)
    assert caught.value.errno == error


@both_ways
def test_root_itself_opens(opener: Open, image: Path) -> None:
    """The paths "/", "." and ".." are the root."""
    root_fd = os.open(image, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for path in ("/", ".", "..", "etc/.."):
            fd = opener(path, os.O_RDONLY | os.O_DIRECTORY, root_fd)
            assert os.path.sameopenfile(fd, root_fd)
            os.close(fd)
    finally:
        os.close(root_fd)


@pytest.mark.skipif(sys.platform != "linux", reason="magic links of proc")
def test_magic_links_are_no_way_out(tmp_path: Path) -> None:
    """A link of proc that jumps anywhere is not taken."""
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    try:
        with pytest.raises(OSError, match="Too many levels of symbolic links"):
            open_in_root("self/root/etc/hostname", os.O_RDONLY, proc)
    finally:
        os.close(proc)


@pytest.mark.parametrize("refusal", [errno.ENOSYS, errno.EPERM])
def test_walk_replaces_a_call_that_is_denied(refusal: int, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where openat2 is missing or filtered, the walk answers; and a success of one call proves nothing for the next."""

    def denied(*_: object, **__: object) -> int:
        raise OSError(refusal, os.strerror(refusal))

    assert read_with(open_in_root, "etc/absolute", image) == "inside"
    monkeypatch.setattr(resolve, "openat2", denied)
    assert read_with(open_in_root, "etc/absolute", image) == "inside"


def test_race_with_renames_ends(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """openat2's EAGAIN is tried 128 times and then told."""
    calls = []

    def racing(*_: object, **__: object) -> int:
        calls.append(1)
        raise BlockingIOError(errno.EAGAIN, "")

    monkeypatch.setattr(resolve, "openat2", racing)
    with pytest.raises(BlockingIOError, match="renamed without pause"):
        read_with(open_in_root, "etc/passwd", image)
    assert len(calls) == 128


@pytest.mark.long
@both_ways
def test_swapped_component_never_leads_out(opener: Open, image: Path, full_number: Callable[[int], int]) -> None:
    """While somebody exchanges a directory for a link out of the root, reading gives the inside, or an error."""
    (image.parent / "outside").mkdir()
    (image.parent / "outside/passwd").write_text("outside")
    (image / "swap").symlink_to(image.parent / "outside")
    done = threading.Event()

    def attack() -> None:
        here, there, spare = image / "etc/real", image / "swap", image / "spare"
        while not done.is_set():
            here.rename(spare)
            there.rename(here)
            here.rename(there)
            spare.rename(here)

    attacker = threading.Thread(target=attack)
    attacker.start()
    seen = set()
    try:
        for _ in range(full_number(100_000)):
            try:
                seen.add(read_with(opener, "etc/real/passwd", image))
            except OSError as error:
                seen.add(str(error.errno))
    finally:
        done.set()
        attacker.join()
    assert seen <= {"inside", *map(str, (errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.EAGAIN))}


# What is no file.


def peer_read(path: Path) -> str:
    """Open and read."""
    with open(path, "rb", buffering=0) as file:
        return (file.read(64 << 20) or b"").decode("latin-1")


@pytest.mark.rule("U4", ours=read_text, wrong=peer_read, raises=(pytest.fail.Exception, IsADirectoryError))
@pytest.mark.parametrize("kind", ["character device", "directory"])
def test_only_regular_files_are_read(kind: str, tmp_path: Path, subject: Callable[[Path], str]) -> None:
    """A device and a directory are refused by what they are, before anything is read."""
    path = tmp_path / "passwd"
    if kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(NotRegularFileError, match=f"is a {kind}, not a regular file"):
        subject(path)


def test_socket_is_refused(tmp_path: Path) -> None:
    """A socket is refused by open(2) itself."""
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "passwd"))
        with pytest.raises(OSError, match="No such device or address"):
            read_text(tmp_path / "passwd")


@pytest.mark.rule("U4")
def test_fifo_does_not_wait(tmp_path: Path) -> None:
    """A FIFO that nobody writes to is refused at once."""
    os.mkfifo(tmp_path / "passwd")
    with pytest.raises(NotRegularFileError, match="is a FIFO"):
        read_text(tmp_path / "passwd")


@pytest.mark.rule("U4")
def test_file_over_the_limit(tmp_path: Path) -> None:
    """A file of the limit is read, one byte more is refused, and a sparse giant takes no memory."""
    path = tmp_path / "passwd"
    path.write_bytes(b"#" * 100)
    assert len(read_text(path, limit_bytes=100)) == 100
    with pytest.raises(TooLargeError, match="longer than the limit of 99 bytes"):
        read_text(path, limit_bytes=99)
    os.truncate(path, 1 << 40)
    with pytest.raises(TooLargeError, match="10485760 bytes"):
        read_passwd(path)


def test_file_over_the_limit_gives_no_block(tmp_path: Path) -> None:
    """What is too long is refused before any of it is given out."""
    path = tmp_path / "passwd"
    path.write_bytes(b"#\n" * 2_000_000)
    with pytest.raises(TooLargeError, match="longer than the limit of 3999999 bytes"):
        next(read_blocks(path, limit_bytes=3_999_999))


def test_no_descriptor_is_left(image: Path) -> None:
    """Neither success nor refusal leaves a descriptor open."""

    def count() -> int:
        return len(os.listdir("/dev/fd"))

    before = count()
    read_text("etc/passwd", root=image)
    for bad in ("etc", "etc/loop", "etc/out"):
        with pytest.raises((OSError, NotRegularFileError)):
            open_regular(bad, root=image)
    for bad in ("etc/loop", "etc/out"):
        root_fd = os.open(image, os.O_RDONLY)
        with pytest.raises(OSError, match=r"."):
            walk_in_root(bad, os.O_RDONLY, root_fd)
        os.close(root_fd)
    assert count() == before


def test_root_by_descriptor_or_path(image: Path) -> None:
    """A root is a path or a descriptor, which stays the caller's."""
    root_fd = os.open(image, os.O_RDONLY | os.O_DIRECTORY)
    assert read_text("/etc/passwd", root=root_fd) == read_text("/etc/passwd", root=image) == "inside"
    os.close(root_fd)


def test_every_file_has_its_reader(tmp_path: Path) -> None:
    """Each of the six files is read into its records, with its path in the diagnostics."""
    (tmp_path / "f").write_text("a:1:1\nb:x:1:1\n")
    assert len(read_passwd(tmp_path / "f")) == 1
    assert len(read_group(tmp_path / "f")) == 2
    assert len(read_shadow(tmp_path / "f").diagnostics) == 2
    assert len(read_gshadow(tmp_path / "f")) == 2
    assert len(read_subuid(tmp_path / "f")) == len(read_subgid(tmp_path / "f")) == 1
    assert read_passwd("f", root=tmp_path).diagnostics[0].source == "f"
    with pytest.raises(ExceptionGroup):
        read_passwd(tmp_path / "f", strict=True)


def test_names_of_2014(tmp_path: Path) -> None:
    """The functions of 2014 return entries, all or those that a function wants."""
    (tmp_path / "passwd").write_text("a:x:1:1:::\nb:x:2:2:::\n")
    (tmp_path / "group").write_text("g:x:1:\nh:x:2:\n")
    assert [each.name for each in parse_passwd_file(tmp_path / "passwd")] == ["a", "b"]
    assert [each.name for each in parse_passwd_file_filter(tmp_path / "passwd", lambda each: each.uid == 2)] == ["b"]
    assert [each.name for each in parse_group_file(tmp_path / "group")] == ["g", "h"]
    assert [each.name for each in parse_group_file_filter(tmp_path / "group", lambda each: each.gid == 1)] == ["g"]
    assert len(parse_passwd_file_filter(tmp_path / "passwd")) == len(parse_group_file_filter(tmp_path / "group")) == 2


def test_walk_without_o_path(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no O_PATH, the walk opens directories for reading and stays inside as well."""
    plain = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    monkeypatch.setattr(root_module, "DIRECTORY", plain)
    assert read_with(walk_in_root, "etc/directory/../up", image) == "inside"
    with pytest.raises(FileNotFoundError):
        read_with(walk_in_root, "etc/host", image)
