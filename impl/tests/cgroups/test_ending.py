"""Freezing and killing, and programs that are read, with folders that stand for cgroups."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from kernelproof.impl._syscalls import bpf
from kernelproof.impl.cgroups import ending, freezing
from kernelproof.impl.cgroups.controllers import hugetlb
from kernelproof.impl.cgroups.devices import attaching
from kernelproof.impl.cgroups.devices.program import Instruction, encode_program
from kernelproof.impl.cgroups.directory import Directory
from kernelproof.impl.cgroups.errors import StillBusyError

Child = subprocess.Popen[bytes]


@pytest.fixture
def freezer(tmp_path: Path) -> Iterator[Directory]:
    """A folder as a cgroup of the freezer hierarchy of version 1."""
    (tmp_path / "freezer.state").write_text("THAWED")
    with Directory(os.open(tmp_path, os.O_RDONLY), "/box", 1) as opened:
        yield opened


@pytest.fixture
def child() -> Iterator[Child]:
    """A process that lives until it is killed."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


class Holding(Directory):
    """A cgroup that a process is in until it ends."""

    pid = 0

    def processes(self) -> tuple[int, ...]:
        """The process, if it has not ended."""
        ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return () if ended is not None else (self.pid,)


def state(folder: Path) -> str:
    """What the freezer says."""
    return (folder / "freezer.state").read_text()


def test_frozen_for_a_block(freezer: Directory, tmp_path: Path) -> None:
    """Version 1 is frozen and thawed by words, and thawed whatever happens in the block."""
    with freezing.frozen(freezer):
        assert (state(tmp_path), freezing.is_frozen(freezer)) == ("FROZEN", True)
    assert (state(tmp_path), freezing.is_frozen(freezer)) == ("THAWED", False)
    with pytest.raises(KeyError), freezing.frozen(freezer):
        raise KeyError
    assert state(tmp_path) == "THAWED"


class Busy(Directory):
    """A cgroup whose processes do not stop, or do not go on."""

    said = freezing.FREEZING

    def read(self, file: str) -> str:
        """Always the same."""
        return self.said


@pytest.mark.parametrize(
    ("act", "said", "why"),
    [
        (freezing.freeze, freezing.FREEZING, "not all processes were frozen within 0 s; the cgroup is thawed again"),
        (freezing.thaw, freezing.FROZEN, "still frozen: an ancestor is"),
    ],
    ids=["freeze", "thaw"],
)
def test_states_that_do_not_come(
    freezer: Directory, tmp_path: Path, act: Callable[..., None], said: str, why: str
) -> None:
    """At the deadline that is an error which says why, and what could not be frozen is thawed."""
    with Busy(os.dup(freezer.fileno()), "/box", 1) as busy:
        busy.said = said
        with pytest.raises(TimeoutError) as error:
            act(busy, 0)
    assert (error.value.errno, error.value.filename, error.value.__notes__) == (errno.ETIMEDOUT, "/box", [why])
    assert state(tmp_path) == "THAWED"


@pytest.mark.parametrize("has_freezer", [True, False], ids=["frozen", "without freezer"])
def test_killing_on_version_1(
    freezer: Directory, child: Child, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_freezer: bool
) -> None:
    """What is killed is frozen first, so that it can't fork, and thawed then, so that it can die."""
    seen = []
    kill = os.kill

    def look_and_kill(pid: int, number: int) -> None:
        seen.append((pid, number, state(tmp_path)))
        kill(pid, number)

    monkeypatch.setattr(os, "kill", look_and_kill)
    with Holding(os.dup(freezer.fileno()), "/box", 1) as cgroup:
        cgroup.pid = child.pid
        ending.kill(cgroup, 60, freezer=freezer if has_freezer else None)
    assert seen == [(child.pid, signal.SIGKILL, "FROZEN" if has_freezer else "THAWED")]
    assert state(tmp_path) == "THAWED"
    assert child.wait(60) == -signal.SIGKILL


def test_who_can_not_be_killed(
    freezer: Directory, child: Child, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is left at the deadline is told, with state and name; a refusal is told too, and all is thawed."""
    monkeypatch.setattr(os, "kill", lambda pid, number: None)
    with Holding(os.dup(freezer.fileno()), "/box", 1) as cgroup:
        cgroup.pid = child.pid
        with pytest.raises(StillBusyError, match=str(child.pid)):
            ending.kill(cgroup, 0, freezer=freezer)

        def refuse(pid: int, number: int) -> None:
            raise PermissionError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "kill", refuse)
        with pytest.raises(PermissionError):
            ending.kill(cgroup, 0, freezer=freezer)
    ((pid, _, name),) = ending.describe((child.pid, 2**22 + 1))
    assert (pid, name) == (child.pid, Path(f"/proc/{child.pid}/comm").read_text().strip())
    assert state(tmp_path) == "THAWED"


# What the kernel has.


def test_programs_that_are_attached(freezer: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is read by its number, as instructions, and no descriptor stays open."""
    code = (Instruction(0xB7, immediate=1), Instruction(0x95))

    def describe(fd: int) -> SimpleNamespace:
        os.fstat(fd)
        return SimpleNamespace(id=7, name="devices", tag=b"ab", instructions=encode_program(code))

    monkeypatch.setattr(bpf, "query_programs", lambda fd, kind, effective: (7, 7))
    monkeypatch.setattr(bpf, "open_program", lambda number: os.open(os.devnull, os.O_RDONLY))
    monkeypatch.setattr(bpf, "describe_program", describe)
    before = len(os.listdir("/dev/fd"))
    assert attaching.read_programs(freezer) == (attaching.Attached(7, "devices", b"ab", code),) * 2
    assert len(os.listdir("/dev/fd")) == before


def test_sizes_of_huge_pages() -> None:
    """Page sizes are in the names of files, once each; a file without a size has none."""
    files = ("memory.max", "hugetlb.2MB.max", "hugetlb.2MB.rsvd.max", "hugetlb.1GB.current", "hugetlb.events")
    assert hugetlb.list_sizes(files) == ("1GB", "2MB")
