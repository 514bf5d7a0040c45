"""What a guest sends lands below one directory, and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernelproof.vm import pulled
from kernelproof.vm.errors import ChannelError
from kernelproof.vm.pulled import PulledTree, split_path


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "below").mkdir()
    descriptor = os.open(tmp_path / "below", os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "..", "a/../b", "a//b", "./a", "a/", "a\0b", "a" * 256, "ä" * 128, "/".join("a" * 65)],
    ids=lambda path: path[:12].replace("\0", "0"),
)
def test_path_that_leaves(path: str) -> None:
    """A path that is absolute, has odd parts, or is too long or too deep is refused."""
    with pytest.raises(ChannelError, match="does not stay"):
        split_path(path)


def test_tree(directory: int, tmp_path: Path) -> None:
    """Files are made with their folders; the pulled file itself has the empty path."""
    tree = PulledTree(directory, "out", 100)
    for path in ("a/b", "a/c", "d"):
        with tree.writing(path) as write:
            write(path.encode())
    assert (tmp_path / "below/out/a/c").read_bytes() == b"a/c"
    assert tree.files == 3
    with PulledTree(directory, "single", 100).writing("") as write:
        write(b"x")
    assert (tmp_path / "below/single").read_bytes() == b"x"


def test_link_is_not_followed(directory: int, tmp_path: Path) -> None:
    """A folder that is a symbolic link is not entered, and one in the place of a file is not written through."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "below/out").mkdir()
    (tmp_path / "below/out/folder").symlink_to(tmp_path / "outside")
    (tmp_path / "below/out/file").symlink_to(tmp_path / "outside/victim")
    with (
        pytest.raises(OSError, match=r"Not a directory|symbolic links"),
        PulledTree(directory, "out", 9).writing("folder/x"),
    ):
        pass
    with pytest.raises(FileExistsError), PulledTree(directory, "out", 9).writing("file"):
        pass
    assert list((tmp_path / "outside").iterdir()) == []


def test_existing_file_is_not_touched(directory: int, tmp_path: Path) -> None:
    """A file that exists is not written to, also when the guest sends the same name twice."""
    tree = PulledTree(directory, "out", 100)
    with tree.writing("a") as write:
        write(b"first")
    with pytest.raises(FileExistsError), tree.writing("a"):
        pass
    assert (tmp_path / "below/out/a").read_bytes() == b"first"


def test_limits(directory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many bytes of all files together, and too many files, are refused."""
    tree = PulledTree(directory, "bytes", 5)
    with tree.writing("a") as write:
        write(b"1234")
    with pytest.raises(ChannelError, match="more bytes"), tree.writing("b") as write:
        write(b"56")
    monkeypatch.setattr(pulled, "MAX_FILES", 1)
    tree = PulledTree(directory, "files", 5)
    with tree.writing("a"):
        pass
    with pytest.raises(ChannelError, match="more than 1 files"), tree.writing("b"):
        pass


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0"])
def test_name_that_is_no_name(directory: int, name: str) -> None:
    """The host's own name for what it pulls is one part of a path."""
    with pytest.raises(ValueError, match="not the name"):
        PulledTree(directory, name, 1)
