"""Sealed memory files."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.impl import mount
from kernelproof.impl._syscalls.memory_files import MemfdFlag, Seal, add_seals, get_seals, memfd_create

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernelproof.conformance.seen import Seen


@pytest.fixture
def memory_file() -> Iterator[int]:
    """A file in memory that takes seals, of 4096 bytes."""
    fd = memfd_create("file", MemfdFlag.CLOEXEC | MemfdFlag.ALLOW_SEALING)
    os.ftruncate(fd, 4096)
    yield fd
    os.close(fd)


@behaviour("process.memfd.sealed-write")
def test_sealed_file_neither_changes_nor_grows_nor_shrinks(memory_file: int, seen: Seen) -> None:
    """With the write, grow and shrink seals a write, a longer and a shorter ftruncate are refused with EPERM."""

    def attempts() -> list[str]:
        return [
            seen.errno_of(os.pwrite, memory_file, b"changed", 0),
            seen.errno_of(os.ftruncate, memory_file, 100),
            seen.errno_of(os.ftruncate, memory_file, 7),
            seen.errno_of(os.ftruncate, memory_file, 3),
        ]

    assert attempts() == ["no error"] * 4
    os.ftruncate(memory_file, 7)
    os.pwrite(memory_file, b"content", 0)
    add_seals(memory_file, Seal.WRITE | Seal.GROW | Seal.SHRINK)
    assert seen(attempts()) == ["EPERM", "EPERM", "no error", "EPERM"]
    with open(f"/proc/self/fd/{memory_file}", "rb") as again:
        assert again.read() == b"content"


@behaviour("process.memfd.seal-sealed")
def test_seal_against_seals(memory_file: int, seen: Seen) -> None:
    """After F_SEAL_SEAL, and without MFD_ALLOW_SEALING, no seal is added: EPERM."""
    plain = memfd_create("plain")
    add_seals(memory_file, Seal.SEAL)
    assert seen([seen.errno_of(add_seals, fd, Seal.GROW) for fd in (memory_file, plain)]) == ["EPERM", "EPERM"]
    assert [get_seals(fd) for fd in (memory_file, plain)] == [Seal.SEAL, Seal.SEAL]
    assert seen.errno_of(os.ftruncate, plain, 10000) == "no error"


def seal_while_mapped(memory_file: int, seal: Seal, seen: Seen) -> list[str]:
    """What add_seals says while a shared writable mapping is there, and after it."""
    with mmap.mmap(memory_file, 4096):
        answer = seen.errno_of(add_seals, memory_file, seal)
    return [answer, seen.errno_of(add_seals, memory_file, seal)]


@behaviour("process.memfd.seal-write-mapped")
def test_write_seal_and_mapping(memory_file: int, seen: Seen) -> None:
    """F_SEAL_WRITE gives EBUSY while the file is mapped shared and writable."""
    assert seen(seal_while_mapped(memory_file, Seal.WRITE, seen)) == ["EBUSY", "no error"]


@behaviour("process.memfd.seal-future-write-mapped")
def test_future_write_seal_and_mapping(memory_file: int, seen: Seen) -> None:
    """F_SEAL_FUTURE_WRITE succeeds while the file is mapped shared and writable."""
    assert seen(seal_while_mapped(memory_file, Seal.FUTURE_WRITE, seen)[0]) == "no error"
    assert seen.errno_of(os.pwrite, memory_file, b"x", 0) == "EPERM"


@behaviour("process.memfd.seal-regular-file")
def test_file_without_seals(tmp_path: Path, seen: Seen) -> None:
    """On a file of ramfs both operations give EINVAL."""
    mount.mount("ram", tmp_path, "ramfs", "")
    with (tmp_path / "file").open("wb") as file:
        answers = [seen.errno_of(get_seals, file.fileno()), seen.errno_of(add_seals, file.fileno(), Seal.GROW)]
    assert seen(answers) == ["EINVAL", "EINVAL"]


@behaviour("process.memfd.name-limit")
def test_length_of_a_name(seen: Seen) -> None:
    """A name of 249 bytes is accepted, and one of 250 gives EINVAL."""
    name = "n" * 249
    assert os.readlink(f"/proc/self/fd/{memfd_create(name)}") == f"/memfd:{name} (deleted)"
    assert seen([seen.errno_of(memfd_create, "n" * length) for length in (249, 250)]) == ["no error", "EINVAL"]


@behaviour("process.memfd.seal-exec")
def test_execute_bits(memory_file: int, seen: Seen) -> None:
    """After F_SEAL_EXEC the execute bits stay: EPERM; other bits change."""
    os.fchmod(memory_file, 0o700)
    add_seals(memory_file, Seal.EXEC)
    answers = [seen.errno_of(os.fchmod, memory_file, mode) for mode in (0o600, 0o711, 0o500)]
    assert seen([*answers, os.fstat(memory_file).st_mode & 0o777]) == ["EPERM", "EPERM", "no error", 0o500]
