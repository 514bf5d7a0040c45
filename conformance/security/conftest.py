"""Processes with chosen sets of capabilities, programs with capabilities of their own, and how a child ended."""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from kernelproof.impl._syscalls.capabilities import capget, capset
from kernelproof.impl._syscalls.mount import mount, umount2
from kernelproof.impl._syscalls.prctl import PR_SET_KEEPCAPS, prctl
from kernelproof.impl.user import set_gids, set_uids

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kernelproof.conformance.conftest import InChild, OutputOf

USER = 1000
KILL, SETPCAP, NET_RAW, SETFCAP = 5, 8, 13, 31
CAT, READ_STATUS = "/usr/bin/cat", ("cat", "/proc/self/status")
_EFFECTIVE = 0x02000001
_PLAIN = 0x02000000


class AfterExec(Protocol):
    def __call__(self, prepare: Callable[[], object], program: str | Path = CAT) -> Status: ...


class FileWith(Protocol):
    def __call__(self, *, permitted: int = 0, inheritable: int = 0, effective: bool = False) -> Path: ...


class Ending(Protocol):
    def __call__(self, function: Callable[[], object]) -> int: ...


class Without(Protocol):
    def __call__(self, capability: int, function: Callable[[], Any]) -> Any: ...


class Status:
    """/proc/PID/status of a program, as it printed it itself."""

    def __init__(self, text: str) -> None:
        self.text = text

    def words(self, name: str) -> list[str]:
        """The words of a line."""
        for line in self.text.splitlines():
            if line.startswith(f"{name}:"):
                return line.split()[1:]
        pytest.fail(f"no line {name} in what the program said: {self.text}")

    def bits(self, name: str) -> int:
        """A line that holds a set of capabilities."""
        return int(self.words(name)[0], 16)


def bit(*numbers: int) -> int:
    """The set of some capabilities."""
    return sum(1 << number for number in numbers)


def become_user_with(permitted: int, *, inheritable: int = 0) -> None:
    """Become a user who keeps some capabilities permitted and effective."""
    capset(*capget()[:2], inheritable)
    prctl(PR_SET_KEEPCAPS, 1)
    set_gids(USER, USER, USER)
    set_uids(USER, USER, USER)
    capset(permitted, permitted, inheritable)


@pytest.fixture
def after_exec(output_of: OutputOf) -> AfterExec:
    """Prepare a process, have it execute a program that prints its own status, and return that."""

    def run(prepare: Callable[[], object], program: str | Path = CAT) -> Status:
        def become() -> None:
            prepare()
            os.execv(program, READ_STATUS)

        return Status(output_of(become))

    return run


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Path]:
    """A copy of cat that every user may execute, on a file system that lets programs gain rights."""
    for folder in (tmp_path, *tmp_path.parents):
        mode = folder.stat().st_mode
        if not mode & 0o001:
            folder.chmod(mode | 0o111)
    mount("none", tmp_path, "tmpfs", data="mode=755")
    copy = Path(shutil.copy(CAT, tmp_path / "program"))
    copy.chmod(0o755)
    yield copy
    umount2(tmp_path)


@pytest.fixture
def file_with(program: Path) -> FileWith:
    """Give the program capabilities of a file."""

    def give(*, permitted: int = 0, inheritable: int = 0, effective: bool = False) -> Path:
        magic = _EFFECTIVE if effective else _PLAIN
        low = 0xFFFFFFFF
        value = struct.pack("<5I", magic, permitted & low, inheritable & low, permitted >> 32, inheritable >> 32)
        os.setxattr(program, "security.capability", value)
        return program

    return give


@pytest.fixture
def ending() -> Ending:
    """Run a function in a child, and return how that ended: its status, or the negative number of the signal."""

    def run(function: Callable[[], object]) -> int:
        pid = os.fork()
        if pid == 0:
            try:
                function()
            finally:
                os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    return run


@pytest.fixture
def without(in_child: InChild) -> Without:
    """Run a function in a child of root's that lacks one capability, and return its value."""

    def run(capability: int, function: Callable[[], Any]) -> Any:
        def drop_and_call() -> Any:
            effective, permitted, inheritable = (bits & ~bit(capability) for bits in capget())
            capset(effective, permitted, inheritable)
            return function()

        return in_child(drop_and_call)

    return run
