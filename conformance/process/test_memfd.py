"""Sealed memory files."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from kernelproof import behaviour

if TYPE_CHECKING:
    from kernelproof.conformance.seen import Seen


@behaviour("process.memfd.sealed-write", subject="stand-in")
def test_sealed_file_neither_changes_nor_grows_nor_shrinks(seen: Seen) -> None:
    """With the write, grow and shrink seals a write, a longer and a shorter ftruncate are refused with EPERM."""
    fd = os.memfd_create("sealed", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, b"content")

    def attempts() -> list[str]:
        return [
            seen.errno_of(os.pwrite, fd, b"changed", 0),
            seen.errno_of(os.ftruncate, fd, 100),
            seen.errno_of(os.ftruncate, fd, 7),
            seen.errno_of(os.ftruncate, fd, 3),
        ]

    assert attempts() == ["no error"] * 4
    os.ftruncate(fd, 7)
    os.pwrite(fd, b"content", 0)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    answers = attempts()
    assert seen(answers) == ["EPERM", "EPERM", "no error", "EPERM"]
    with open(f"/proc/self/fd/{fd}", "rb") as again:
        assert again.read() == b"content"
    os.close(fd)
