"""Memory files, and what the host has to give."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.memory import (
    MIB,
    check_memory,
    copy_sparse,
    create_memory,
    parse_available,
    parse_room,
    read_available,
    seal_memory,
)


def test_sparse_copy(tmp_path: Path) -> None:
    """A copy has the same bytes at the same places, and holes where the source has them."""
    source = create_memory("test", 64 * MIB)
    for offset in (0, 5 * MIB + 123, 63 * MIB):
        os.pwrite(source, b"data", offset)
    with (tmp_path / "copy").open("w+b") as target:
        copied = copy_sparse(source, target.fileno())
        assert copied < MIB
        status = os.fstat(target.fileno())
        assert status.st_size == 64 * MIB
        assert status.st_blocks * 512 < MIB
        for offset in (0, 5 * MIB + 123, 63 * MIB):
            assert os.pread(target.fileno(), 4, offset) == b"data"
        assert os.pread(target.fileno(), 4, 30 * MIB) == bytes(4)
    os.close(source)


def test_empty_copy() -> None:
    """Memory of which nothing is allocated is copied as nothing."""
    source, target = create_memory("a", MIB), create_memory("b", 0)
    assert copy_sparse(source, target) == 0
    assert os.fstat(target).st_size == MIB
    os.close(source)
    os.close(target)


def test_sealed_memory() -> None:
    """Sealed memory can't be written any more, nor cut."""
    memory = create_memory("test", MIB)
    seal_memory(memory)
    with pytest.raises(PermissionError):
        os.write(memory, b"x")
    with pytest.raises(OSError, match="not permitted") as caught:
        os.ftruncate(memory, 0)
    assert caught.value.errno == errno.EPERM
    os.close(memory)


def test_meminfo() -> None:
    """What the kernel says can be had is read in bytes."""
    assert parse_available("MemTotal: 100 kB\nMemAvailable:   12 kB\n") == 12 * 1024
    with pytest.raises(ValueError, match="MemAvailable"):
        parse_available("MemTotal: 1 kB\n")


@pytest.mark.parametrize(
    ("limit", "current", "room"),
    [("max\n", "5\n", None), ("9223372036854771712\n", "5\n", None), ("100\n", "30\n", 70), ("100\n", "130\n", 0)],
)
def test_room_in_a_cgroup(limit: str, current: str, room: int | None) -> None:
    """A cgroup's limit leaves what is not used yet; no limit, in either version's words, leaves all."""
    assert parse_room(limit, current) == room


def make_host(root: Path, membership: str, files: dict[str, str]) -> tuple[Path, Path]:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text("MemAvailable: 1000 kB\n")
    (root / "proc/self/cgroup").write_text(membership)
    for name, text in files.items():
        (root / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "cgroup" / name).write_text(text)
    return root / "proc", root / "cgroup"


@pytest.mark.parametrize(
    ("membership", "files", "available"),
    [
        ("0::/\n", {}, 1000 * 1024),
        ("0::/a/b\n", {"a/memory.max": "500", "a/memory.current": "100", "a/b/memory.max": "max"}, 400),
        ("0::/a/b\n", {"a/b/memory.max": "90", "a/b/memory.current": "1", "memory.max": "7", "memory.current": "2"}, 5),
        (
            "4:memory:/a\n0::/\n",
            {"memory/a/memory.limit_in_bytes": "300", "memory/a/memory.usage_in_bytes": "50"},
            250,
        ),
    ],
    ids=["none", "parent", "root", "version-1"],
)
def test_tightest_limit_counts(tmp_path: Path, membership: str, files: dict[str, str], available: int) -> None:
    """The tightest of the host's and all cgroups' limits counts, of either version."""
    assert read_available(*make_host(tmp_path, membership, files)) == available


def test_too_little_memory() -> None:
    """Too little memory is told with what is needed and what is given."""
    check_memory(10, 10)
    with pytest.raises(ProvisionError, match="1216 MiB are needed, 512 MiB can be had"):
        check_memory(1216 * MIB, 512 * MIB)
