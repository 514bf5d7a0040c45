"""Waiting for a cgroup, room and births in one, and programs that are let go, with folders that stand for cgroups."""

from __future__ import annotations

import errno
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from kernelproof.impl._syscalls import bpf
from kernelproof.impl.cgroups import birth
from kernelproof.impl.cgroups.cgroup import Cgroup
from kernelproof.impl.cgroups.devices import attaching
from kernelproof.impl.cgroups.devices.rules import DeviceRule
from kernelproof.impl.cgroups.directory import Directory
from kernelproof.impl.cgroups.entering import widen_affinity
from kernelproof.impl.cgroups.errors import BelowUsageError, LimitError, NoControllerError
from kernelproof.impl.cgroups.layout import Hierarchy
from kernelproof.impl.cgroups.placing import Place
from kernelproof.impl.cgroups.shrinking import make_room
from kernelproof.impl.cgroups.waiting import wait_until_event, wait_until_gone


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Directory]:
    """A folder as a cgroup of version 2 that is populated."""
    (tmp_path / "cgroup.events").write_text("populated 1\nfrozen 0\n")
    with Directory(os.open(tmp_path, os.O_RDONLY), str(tmp_path), 2) as opened:
        yield opened


def test_waiting_sleeps_until_something_changes(
    folder: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks the kernel to wake it, for as long as there is time, and looks again then."""
    asked: list[float] = []

    class Poll:
        def register(self, fd: int, events: int) -> None:
            assert events == select.POLLPRI

        def poll(self, milliseconds: float) -> None:
            asked.append(milliseconds)
            (tmp_path / "cgroup.events").write_text("populated 0\nfrozen 0\n")

    monkeypatch.setattr(select, "poll", Poll)
    assert wait_until_event(folder, "populated", 0, time.monotonic() + 1000)
    (wait,) = asked
    assert 900_000 < wait <= 1_000_000


def test_waiting_ends_with_its_time(folder: Directory) -> None:
    """What does not come is no error; what is there already needs no time."""
    assert not wait_until_event(folder, "populated", 0, time.monotonic())
    assert wait_until_event(folder, "populated", 1, 0.0)


def test_processes_that_are_gone() -> None:
    """Processes that ended count as gone, reaped or not; one that lives is waited for until the deadline."""
    reaped, zombie = (subprocess.Popen([sys.executable, "-c", ""]) for _ in range(2))
    reaped.wait()
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    before = len(os.listdir("/dev/fd"))
    assert wait_until_gone([reaped.pid, zombie.pid], time.monotonic() + 30)
    assert not wait_until_gone([reaped.pid, zombie.pid, os.getpid()], time.monotonic())
    assert len(os.listdir("/dev/fd")) == before
    zombie.wait()


class Reclaiming(Directory):
    """A cgroup whose memory goes down to a rest when memory.high is written."""

    rest = 0

    def write(self, file: str, value: str) -> None:
        """Write, and take back."""
        super().write(file, f"{value:8}")
        if value != "max":
            super().write("memory.current", f"{max(self.rest, int(value)):8}")


@pytest.mark.parametrize(("rest", "fits"), [(0, True), (700, False)], ids=["enough", "too little"])
def test_room_for_a_limit(tmp_path: Path, rest: int, fits: bool) -> None:
    """Memory is taken back by a lower memory.high, which is put back; if too much stays in use, that is an error."""
    (tmp_path / "memory.high").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    with Reclaiming(os.open(tmp_path, os.O_RDONLY), "/box", 2) as cgroup:
        cgroup.rest = rest
        make_room(cgroup, 1000)
        make_room(cgroup, -1)
        assert cgroup.read("memory.current") == "1000\n"
        if fits:
            make_room(cgroup, 500, timeout_seconds=30)
        else:
            with pytest.raises(BelowUsageError, match="700"):
                make_room(cgroup, 500, timeout_seconds=0)
        assert cgroup.read("memory.high").strip() == "max"
        assert cgroup.read("memory.current").strip() == ("500" if fits else "700")


def test_what_has_no_such_files(folder: Directory) -> None:
    """Without the controller's files there is no room to be made and no CPU to be had."""
    with pytest.raises(NoControllerError, match=r"has no memory\.high"):
        make_room(folder, 4096)
    with pytest.raises(NoControllerError, match=r"has no cpuset\.cpus\.effective"):
        widen_affinity(folder, 0)


@pytest.mark.parametrize("file", ["cpuset.cpus.effective", "cpuset.effective_cpus"])
def test_all_processors_of_a_cpuset(folder: Directory, tmp_path: Path, file: str) -> None:
    """A process may use all processors that its cpuset has, by the file of either version."""
    own = os.sched_getaffinity(0)
    (tmp_path / file).write_text(",".join(map(str, sorted(own))) + "\n")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        os.sched_setaffinity(process.pid, {min(own)})
        assert widen_affinity(folder, process.pid) == own
        assert os.sched_getaffinity(process.pid) == own


def test_births_that_can_not_be(folder: Directory, tmp_path: Path) -> None:
    """A program must be named, and nothing can be born into a cgroup of version 1."""
    with pytest.raises(ValueError, match="argv is empty"):
        birth.spawn(folder, [])
    with (
        Directory(os.open(tmp_path, os.O_RDONLY), "/box", 1) as old,
        pytest.raises(NoControllerError, match="of version 1"),
    ):
        birth.spawn(old, ["/bin/true"])


@pytest.fixture
def forked(folder: Directory, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Who was made, by fork(2), which knows no cgroups."""
    pids: list[int] = []

    def make(flags: object, *, cgroup_fd: int) -> SimpleNamespace:
        assert cgroup_fd == folder.fileno()
        pid = os.fork()
        pids.append(pid)
        return SimpleNamespace(pid=pid, pidfd=os.pidfd_open(pid) if pid else None)

    monkeypatch.setattr(birth, "clone3", make)
    return pids


@pytest.mark.parametrize(("env", "status"), [({"ANSWER": "7"}, 7), ({}, 9), (None, 8)], ids=["given", "empty", "own"])
def test_environment_of_who_is_born(
    folder: Directory, forked: list[int], monkeypatch: pytest.MonkeyPatch, env: dict[str, str] | None, status: int
) -> None:
    """A program has the environment that it is given, an empty one too, and else that of who starts it."""
    monkeypatch.setenv("ANSWER", "8")
    program = "import os; os._exit(int(os.environ.get('ANSWER', '9')))"
    cgroup = Cgroup([Place(Hierarchy(2, (), "", "/cg", "/", False), folder, "/box")])
    born = cgroup.spawn([sys.executable, "-c", program], env)
    os.close(born.pidfd)
    assert forked == [born.pid]
    assert os.waitstatus_to_exitcode(os.waitpid(born.pid, 0)[1]) == status


def test_program_that_can_not_be_born(folder: Directory, tmp_path: Path, forked: list[int]) -> None:
    """What execve(2) says is the caller's, with the path and the cgroup; no process and no descriptor is left."""
    before = len(os.listdir("/dev/fd"))
    with pytest.raises(FileNotFoundError) as refused:
        birth.spawn(folder, [str(tmp_path / "none")])
    assert refused.value.filename == str(tmp_path / "none")
    assert refused.value.__notes__ == [f"execve in the cgroup {folder.path}"]
    assert len(os.listdir("/dev/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(forked[0], os.WNOHANG)


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EBUSY, "the cgroup gives cpu, io to those below it"),
        (errno.EOPNOTSUPP, "an invalid domain"),
        (errno.EACCES, "must be this user's to write"),
        (errno.EAGAIN, "pids.max"),
    ],
    ids=["EBUSY", "EOPNOTSUPP", "EACCES", "EAGAIN"],
)
def test_birth_that_is_refused(
    folder: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, advice: str
) -> None:
    """The kernel's error is told with the cgroup and with what to do, and no descriptor is left."""

    def refuse(flags: object, *, cgroup_fd: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(birth, "clone3", refuse)
    (tmp_path / "cgroup.subtree_control").write_text("cpu io\n")
    before = len(os.listdir("/dev/fd"))
    with pytest.raises(OSError, match=os.strerror(number)) as refused:
        birth.spawn(folder, ["/bin/true"])
    first, second = refused.value.__notes__
    assert (refused.value.errno, first) == (number, f"a birth into the cgroup {folder.path}")
    assert advice in second
    assert len(os.listdir("/dev/fd")) == before


def test_names_of_cgroups_below(folder: Directory) -> None:
    """An absolute name is not below a cgroup, and is refused before anything is made."""
    cgroup = Cgroup([Place(Hierarchy(2, (), "", "/cg", "/", False), folder, "/box")])
    with pytest.raises(LimitError, match="an absolute one is not below /box"):
        cgroup.child("/other")


@pytest.mark.parametrize("fails", [False, True], ids=["attached", "refused"])
def test_program_is_let_go(folder: Directory, monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    """The descriptor of a program that was loaded is closed when the cgroup has it, and when it can't have it."""
    loaded = []

    def load(*_: object, **__: object) -> int:
        loaded.append(os.open(os.devnull, os.O_RDONLY))
        return loaded[-1]

    def replace(*_: object) -> None:
        os.fstat(loaded[0])
        if fails:
            raise PermissionError(1, "no")

    monkeypatch.setattr(bpf, "load_program", load)
    monkeypatch.setattr(attaching, "_own_programs", lambda *_: [])
    monkeypatch.setattr(attaching, "_replace", replace)
    if fails:
        with pytest.raises(PermissionError):
            attaching.set_devices(folder, [DeviceRule(allow=True)])
    else:
        attaching.set_devices(folder, [DeviceRule(allow=True)])
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(loaded[0])
