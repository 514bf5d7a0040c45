"""What comes back from a machine comes whole, under its own name, and over nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import pytest

from kernelproof.vm.errors import ChannelError, VmError
from kernelproof.vm.machine import Machine
from kernelproof.vm.messages import broken
from kernelproof.vm.pulled import PulledTree
from kernelproof.vm.pulling import plan_pulls, pull


class Source:
    """A machine that has these files, by path; one without content is a lie."""

    def __init__(self, files: Mapping[str, bytes | None]) -> None:
        self._files = files
        self.asked: list[str] = []

    def pull(self, path: str, directory: int, name: str) -> int:
        self.asked.append(path)
        tree = PulledTree(directory, name, 1000)
        for inner, content in self._files.items():
            with tree.writing(inner) as write:
                if content is None:
                    raise broken("a lie")
                write(content)
        return tree.files


def take(source: Source, paths: list[str], folder: Path) -> None:
    pull(cast("Machine", source), paths, folder, "/work")


def test_tree_and_file(tmp_path: Path) -> None:
    """Files and folders get their own names, relative ones are meant below the working directory."""
    source = Source({"a": b"1", "b/c": b"2"})
    take(source, ["out/", "/tmp/other"], tmp_path / "new")
    assert source.asked == ["/work/out/", "/tmp/other"]
    assert (tmp_path / "new/out/b/c").read_bytes() == b"2"
    assert (tmp_path / "new/other/a").read_bytes() == b"1"
    take(Source({"": b"3"}), ["file"], tmp_path)
    assert (tmp_path / "file").read_bytes() == b"3"


@pytest.mark.parametrize("files", [{"a": b"1", "b": None}, {"a": b"1", "../b": b"2"}, {"": None}, {"a": bytes(1001)}])
def test_guest_that_lies(files: dict[str, bytes | None], tmp_path: Path) -> None:
    """Of what a guest breaks off, or sends where it may not, nothing is left."""
    with pytest.raises(ChannelError):
        take(Source(files), ["out"], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_there(tmp_path: Path) -> None:
    """What holds no regular file is an error, and leaves nothing."""
    with pytest.raises(VmError, match="holds no regular file"):
        take(Source({}), ["out"], tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("paths", "seen"),
    [
        (["/"], "no name of its own"),
        ([".."], "no name of its own"),
        (["a/b", "c/b"], "is called b, as a/b is"),
        (["there"], "is there already"),
        (["link"], "is there already"),
    ],
    ids=["root", "parent", "twice", "file", "link"],
)
def test_names(paths: list[str], seen: str, tmp_path: Path) -> None:
    """A path without a name, two of one name, and what is there already, a dangling link too, are refused before."""
    (tmp_path / "there").touch()
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(VmError, match=seen):
        plan_pulls(paths, tmp_path)
    source = Source({"": b"x"})
    with pytest.raises(VmError):
        take(source, paths, tmp_path)
    assert source.asked == []
    assert sorted(os.listdir(tmp_path)) == ["link", "there"]
