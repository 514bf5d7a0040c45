"""A process that was linked has no io_uring: a filter refuses it, and nothing else."""

from __future__ import annotations

import errno
import os
import struct
import sys
from pathlib import Path

import pytest

from kernelproof.vm import without_rings
from kernelproof.vm.linked import Linked, NotLinked
from kernelproof.vm.without_rings import pack_filter

# Asks for a ring that would have nowhere to be described.
CODE = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
print(libc.syscall(425, 1, 0), ctypes.get_errno(), end=" ")
with open("/proc/self/status") as file:
    print(*(line.split()[1] for line in file if line.startswith(("NoNewPrivs", "Seccomp:"))), end="")
"""


def ask(tmp_path: Path) -> str:
    """What a process says that was forked from a linked Python."""
    try:
        python = Linked.start(os.path.realpath(sys.executable), {"PYTHONHOME": sys.base_prefix})
    except NotLinked as error:
        pytest.skip(str(error))
    try:
        with (tmp_path / "said").open("w+b") as said:
            pid = python.spawn(("python", "-I", "-S", "-c", CODE), (), said.fileno())
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            said.seek(0)
            return said.read().decode()
    finally:
        python.close()


def test_no_ring(tmp_path: Path) -> None:
    """EPERM, as a host gives that allows none; all else that a Python calls is allowed."""
    assert ask(tmp_path) == f"-1 {errno.EPERM} 1 2"


def test_host_that_allows_no_filter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the program has what it has there."""
    monkeypatch.setattr(without_rings, "SECCOMP", 100_000)
    assert ask(tmp_path) in (f"-1 {errno.EFAULT} 1 0", f"-1 {errno.EPERM} 1 0")


def test_filter() -> None:
    """Four steps of struct sock_filter behind a struct sock_fprog that points to them: seccomp(2)."""
    data = pack_filter(0x1000)
    assert len(data) == 48
    assert struct.unpack_from("=HxxxxxxQ", data) == (4, 0x1010)
    assert [code for code, *_ in struct.iter_unpack("=HBBI", data[16:])] == [0x20, 0x15, 0x06, 0x06]
