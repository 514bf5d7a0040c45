"""Bad input on a real kernel: each is refused with file, value, number and remedy, and what was in force still is."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kernelproof.impl.cgroups import (
    BelowUsageError,
    Cgroup,
    LimitError,
    Limits,
    NoControllerError,
    StillBusyError,
    read_layout,
)
from kernelproof.impl.cgroups.limits import IoLimit

pytestmark = pytest.mark.machine

CONTROLLERS = ("cpu", "cpuset", "memory", "io", "pids")
BEFORE = Limits(cpu_weight=50, memory_max_bytes=256 << 20, pids_max=40, cpuset_cpus="0")
FILES = {"cpu.weight": "50\n", "memory.max": f"{256 << 20}\n", "pids.max": "40\n", "cpuset.cpus": "0\n", "io.max": ""}
_HOLD = """
import signal
input()
blob = bytearray(16 << 20)
blob[::4096] = b"x" * 4096
print(flush=True)
signal.pause()
"""


@pytest.fixture
def top(hierarchy: Callable[..., Path]) -> Path:
    """The mounted root of version 2."""
    return hierarchy("v2")


@pytest.fixture
def box(top: Path) -> Iterator[Cgroup]:
    """A cgroup with limits."""
    with Cgroup.create("box", controllers=CONTROLLERS) as made:
        made.set(BEFORE)
        yield made


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has 16 MiB and waits."""
    with subprocess.Popen([sys.executable, "-c", _HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield process
        process.kill()


def in_force(top: Path) -> dict[str, str]:
    return {name: (top / "box" / name).read_text() for name in FILES}


def notes(error: BaseException) -> str:
    return "\n".join(getattr(error, "__notes__", ()))


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(cpu_weight=0), "cpu_weight 0: a weight is 1 to 10000"),
        (Limits(cpu_weight=10_001), "cpu_weight 10001: a weight is 1 to 10000"),
        (Limits(io_weight=0), "io_weight"),
        (Limits(memory_max_bytes=-2), "memory_max_bytes -2: bytes, or -1 for no limit"),
        (Limits(pids_max=-2), "pids_max -2: 0 to"),
        (Limits(cpu_quota_microseconds=-5), "cpu_quota_microseconds -5: 1000 to 17592186044415 microseconds"),
        (Limits(io=(IoLimit(8, 0, read_bytes=-7),)), "io -7: a rate is at least 1"),
        (Limits(cpuset_cpus="0-9999"), "cpuset_cpus '0-9999': this machine can have 0-1, and not 2-9999"),
        (Limits(cpuset_mems="7"), "this machine can have 0, and not 7"),
        (Limits(cpuset_cpus="1-0"), "runs backwards"),
        (Limits(unified={"cgroup.procs": "0"}), "a file that sets a limit"),
        (Limits(memory_swappiness=1), "version 2 of cgroups has no such limit"),
    ],
    ids=[
        "weight-0", "weight-10001", "io-weight", "memory", "pids", "quota", "rate", "cpus", "nodes", "backwards", "raw",
        "version",
    ],
)  # fmt: skip
def test_limits_that_no_kernel_takes(top: Path, box: Cgroup, limits: Limits, words: str) -> None:
    """With a limit that is good beside it, neither is written; the error has limit, value and range."""
    with pytest.raises((LimitError, NoControllerError), match=None) as refused:
        box.set(limits._replace(cpu_idle=None, memory_high_bytes=1 << 20))
    assert words in str(refused.value)
    assert in_force(top) == FILES
    assert (top / "box/memory.high").read_text() == "max\n"


def test_what_the_kernel_refuses_is_undone(top: Path, box: Cgroup) -> None:
    """A device that is not, after limits that were written: these are as they were; file, value, number and remedy."""
    with pytest.raises(OSError, match="No such device") as refused:
        box.set(Limits(memory_max_bytes=64 << 20, cpuset_cpus="1", io=(IoLimit(4000, 1, read_bytes=1),)))
    assert refused.value.errno == errno.ENODEV
    assert refused.value.filename == str(top / "box/io.max")
    assert "writing '4000:1 rbps=1' to io.max for io" in notes(refused.value)
    assert "the device is not there" in notes(refused.value)
    assert in_force(top) == FILES


def test_memory_below_usage(top: Path, box: Cgroup, sleeper: subprocess.Popen[bytes]) -> None:
    """It is refused with the usage and what to do, and the process lives."""
    assert sleeper.stdin is not None
    assert sleeper.stdout is not None
    box.add(sleeper.pid)
    sleeper.stdin.write(b"\n")
    sleeper.stdin.flush()
    sleeper.stdout.readline()
    usage = int((top / "box/memory.current").read_text())
    assert usage > 16 << 20
    asked = 8 << 20
    with pytest.raises(BelowUsageError, match=r"lower memory.high first") as refused:
        box.set(Limits(memory_max_bytes=asked, pids_max=7))
    assert refused.value.asked == asked < refused.value.usage
    assert sleeper.poll() is None
    assert in_force(top) == FILES


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "a//b", "a/./b", "a\0b", "a\nb"], ids=["up", "out", "empty", "dot", "nul", "line"]
)
def test_names_that_lead_elsewhere(top: Path, box: Cgroup, name: str) -> None:
    """They are refused before anything is made."""
    before = sorted(path.name for path in top.rglob("*") if path.is_dir())
    for attempt in (Cgroup.create, Cgroup.open, box.child):
        with pytest.raises(LimitError, match="components must not be"):
            attempt(name)
    with pytest.raises(LimitError, match="an absolute one is not below /box"):
        box.child("/x")
    assert sorted(path.name for path in top.rglob("*") if path.is_dir()) == before


def test_deep_and_long_paths(top: Path, box: Cgroup) -> None:
    """A path that is too deep is refused with the limit's name, and nothing of it is left; 60 levels are none."""
    (top / "box/cgroup.max.depth").write_text("2")
    with pytest.raises(BlockingIOError) as refused:
        box.child("a/b/c/d", controllers=())
    assert refused.value.filename == str(top / "box/a/b/c")
    assert "cgroup.max.depth" in notes(refused.value)
    assert not (top / "box/a").exists()
    deep = "/".join(["d"] * 60)
    with Cgroup.create(deep, controllers=()) as made:
        assert made.exists()
    with Cgroup.open("d") as first:
        first.remove()
    assert not (top / "d").exists()


def test_removal_of_what_is_in_use(top: Path, box: Cgroup, sleeper: subprocess.Popen[bytes]) -> None:
    """The error names the process and what to do; the limits are in force."""
    box.add(sleeper.pid)
    with pytest.raises(StillBusyError) as refused:
        box.remove(0.1)
    assert refused.value.errno == errno.EBUSY
    assert f"process {sleeper.pid}" in notes(refused.value)
    assert "kill them or move them out first" in notes(refused.value)
    assert in_force(top) == FILES


def test_a_process_that_is_not(box: Cgroup) -> None:
    """A dead one and a negative number; the error says where it should have gone."""
    with pytest.raises(ProcessLookupError) as refused:
        box.add(4_194_303)
    assert "moving process 4194303 into" in notes(refused.value)
    assert "the process has ended" in notes(refused.value)
    with pytest.raises(ValueError, match="process ID -1 is negative"):
        box.add(-1)


def test_without_permission(top: Path, box: Cgroup, sleeper: subprocess.Popen[bytes]) -> None:
    """A user may neither limit, nor enter, nor make: each error has file, number and remedy."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        found = []
        try:
            os.setgroups([])
            os.setresgid(1234, 1234, 1234)
            os.setresuid(1234, 1234, 1234)
            for attempt in (
                lambda: box.set(Limits(pids_max=5)),
                lambda: box.add(sleeper.pid),
                lambda: box.directory.make("below"),
            ):
                try:
                    attempt()
                    found.append("done")
                except OSError as error:
                    found.append(f"{errno.errorcode[error.errno or 0]} {error.filename} {notes(error)}")
        finally:
            os.write(writer, "\0".join(found).encode())
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(writer)
    answers = os.read(reader, 65536).decode().split("\0")
    os.close(reader)
    assert [answer.split()[:2] for answer in answers] == [
        ["EACCES", str(top / "box/pids.max")],
        ["EACCES", str(top / "box/cgroup.procs")],
        ["EACCES", str(top / "box/below")],
    ]
    assert all("this user's to write" in answer for answer in answers)
    assert in_force(top) == FILES


def test_controllers_that_are_not_there(top: Path, box: Cgroup) -> None:
    """One that nobody has, one that the cgroup was not given, and a hierarchy that is read-only or not there at all."""
    with pytest.raises(NoControllerError, match="nosuch"):
        Cgroup.create("other", controllers=["nosuch"])
    assert not (top / "other").exists()
    with Cgroup.create("plain", controllers=()) as plain:
        with pytest.raises(NoControllerError, match=r"this cgroup has no hugetlb.2MB.max"):
            plain.set(Limits(hugetlb_bytes={"2MB": 0}))
        plain.remove()
    with pytest.raises(NoControllerError, match="no mounted hierarchy has nosuch; there are cpu"):
        read_layout().hierarchy("nosuch")
    assert in_force(top) == FILES


def test_a_hierarchy_that_is_read_only(top: Path, box: Cgroup) -> None:
    """It is said so, and a limit is refused with the remedy."""
    subprocess.run(["mount", "-o", "remount,ro,bind", str(top)], check=True)
    try:
        (hierarchy,) = read_layout().hierarchies
        assert hierarchy.is_read_only
        with Cgroup.open("box") as again, pytest.raises(OSError, match="Read-only") as refused:
            again.set(Limits(pids_max=5))
        assert "mounted read-only: remount it" in notes(refused.value)
    finally:
        subprocess.run(["mount", "-o", "remount,rw,bind", str(top)], check=True)
    assert in_force(top) == FILES


def test_no_hierarchy_at_all() -> None:
    """Without one there is no cgroup, and the error says so."""
    assert read_layout().version == "none"
    with pytest.raises(NoControllerError, match="no hierarchy is mounted"):
        Cgroup.create("box")
    with pytest.raises(NoControllerError, match="none is mounted"):
        read_layout().hierarchy("memory")
