"""What differs between two memories, written down and applied again."""

from __future__ import annotations

import array
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kernelproof.vm.memory import MIB, copy_sparse, create_memory
from kernelproof.vm.memory_changes import PAGE, apply_changes, write_changes

SIZE = 8 * MIB


@pytest.fixture
def memory() -> Iterator[Callable[[dict[int, bytes]], int]]:
    """Makes memory files with these bytes at these offsets."""
    made: list[int] = []

    def make(contents: dict[int, bytes], size: int = SIZE) -> int:
        made.append(create_memory("test", size))
        for offset, data in contents.items():
            os.pwrite(made[-1], data, offset)
        return made[-1]

    yield make
    for descriptor in made:
        os.close(descriptor)


def read_all(descriptor: int) -> bytes:
    """Its whole content."""
    return os.pread(descriptor, SIZE, 0)


@pytest.mark.parametrize(
    ("old", "new", "pages"),
    [
        ({}, {}, 0),
        ({0: b"a"}, {0: b"a"}, 0),
        ({0: b"a"}, {0: b"b"}, 1),
        ({}, {SIZE - 1: b"z"}, 1),
        ({5 * PAGE: b"gone"}, {}, 1),
        ({}, {3 * MIB: bytes(7 * PAGE)}, 0),
        ({}, {PAGE - 1: b"xy"}, 2),
        ({2 * MIB: b"q" * 9 * PAGE}, {2 * MIB: b"q" * PAGE + b"r" * PAGE + b"q" * PAGE + b"s" * 6 * PAGE}, 7),
    ],
    ids=["nothing", "same", "first", "last", "zeroed", "zeros", "border", "two runs"],
)
def test_there_and_back(
    memory: Callable[[dict[int, bytes]], int],
    tmp_path: Path,
    old: dict[int, bytes],
    new: dict[int, bytes],
    pages: int,
) -> None:
    """Only the pages that differ are written, and the memory before becomes the one after by them."""
    before, after, again = memory(old), memory(new), memory({})
    with (tmp_path / "pages").open("w+b") as content, (tmp_path / "index").open("w+b") as index:
        assert write_changes(before, after, content.fileno(), index.fileno()) == pages
        assert os.fstat(content.fileno()).st_size == pages * PAGE
        copy_sparse(before, again)
        apply_changes(again, content.fileno(), index.fileno())
    assert read_all(again) == read_all(after)


def test_sizes_that_differ(memory: Callable[..., int], tmp_path: Path) -> None:
    """Memories of two sizes are no memories of one machine."""
    with (tmp_path / "file").open("w+b") as file, pytest.raises(ValueError, match="can't be compared"):
        write_changes(memory({}), memory({}, SIZE + PAGE), file.fileno(), file.fileno())


@pytest.mark.parametrize(
    ("index", "length"),
    [([0, 2], PAGE), ([0, 1], 2 * PAGE), ([SIZE // PAGE, 1], PAGE), ([0], 0), ([0, 1], PAGE - 1)],
    ids=["too few", "too many", "behind the end", "half a pair", "half a page"],
)
def test_files_that_do_not_fit(
    memory: Callable[[dict[int, bytes]], int], tmp_path: Path, index: list[int], length: int
) -> None:
    """Pages that their index does not describe, or that lie outside the memory, are refused; nothing is written."""
    (tmp_path / "index").write_bytes(array.array("I", index).tobytes())
    (tmp_path / "pages").write_bytes(b"x" * length)
    target = memory({})
    with (
        (tmp_path / "index").open("rb") as first,
        (tmp_path / "pages").open("rb") as second,
        pytest.raises(ValueError, match=r"do not fit|shorter|multiple"),
    ):
        apply_changes(target, second.fileno(), first.fileno())
    assert os.fstat(target).st_blocks == 0
