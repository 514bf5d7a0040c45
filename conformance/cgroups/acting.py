"""What processes of these tests do inside a cgroup, and how their ends are told."""

from __future__ import annotations

import mmap
import os
import select
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from kernelproof.impl.cgroups.controllers import cpuset
from kernelproof.impl.cgroups.directory import Directory
from kernelproof.impl.cgroups.limits import Limits
from kernelproof.impl.cgroups.planning import plan_v1, plan_v2
from kernelproof.impl.cgroups.writes import apply

MIB = 1 << 20
PAGE = mmap.PAGESIZE
DEADLINE_SECONDS = 30.0


def start_inside(directory: Directory, function: Callable[[], object]) -> int:
    """Start a process that runs a function in a cgroup; return its PID once it is inside."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            directory.write("cgroup.procs", "0")
            os.write(writer, b"x")
            function()
            status = 0
        finally:
            # Nothing may leave this function: the caller's frames belong to the parent.
            if status:
                traceback.print_exc()
            os._exit(status)
    os.close(writer)
    arrived = os.read(reader, 1)
    os.close(reader)
    assert arrived, "the child could not enter the cgroup"
    return pid


def end_of(pid: int) -> int:
    """Wait for a child's end: its exit status, or the negative number of the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run_inside(directory: Directory, function: Callable[[], object]) -> int:
    """Run a function in a child that is in the cgroup; return how it ended."""
    return end_of(start_inside(directory, function))


def touch(size: int) -> mmap.mmap:
    """Memory of its own, every page written to."""
    memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for offset in range(0, size, PAGE):
        memory[offset] = 1
    return memory


def hold(size: int) -> Callable[[], object]:
    """A function that touches memory, says so by stopping itself, and keeps it."""

    def touch_and_wait() -> None:
        with touch(size):
            os.kill(os.getpid(), signal.SIGSTOP)
            while True:
                signal.pause()

    return touch_and_wait


def wait_for_stop(pid: int) -> None:
    """Wait until a child has stopped itself, and let it go on."""
    _, status = os.waitpid(pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), f"the child ended with wait status {status}"
    os.kill(pid, signal.SIGCONT)


def end_by_kill(pid: int) -> None:
    """Kill a child and wait for it."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def burn(seconds: float) -> None:
    """Use that much CPU time."""
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def burn_for(seconds: float) -> None:
    """Use the CPU until that much time has passed."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def burn_always() -> None:
    """Use the CPU for ever."""
    while True:
        pass


def wait_for_change(path: Path, act: Callable[[], object]) -> int:
    """Read a file, act, and return what poll(2) says of it then."""
    with path.open() as file:
        file.read()
        poll = select.poll()
        poll.register(file, select.POLLPRI)
        assert poll.poll(0) == []
        act()
        answers = poll.poll(DEADLINE_SECONDS * 1000)
        return answers[0][1] if answers else 0


def wait_until(path: Path, has: Callable[[str], bool]) -> str:
    """Read a file again at each of its events, until it says what is waited for."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    with path.open() as file:
        poll = select.poll()
        poll.register(file, select.POLLPRI)
        while True:
            file.seek(0)
            text = file.read()
            left = deadline - time.monotonic()
            if has(text) or left <= 0:
                return text
            poll.poll(left * 1000)


def table(path: Path) -> dict[str, int]:
    """The lines of a flat keyed file."""
    return {key: int(value) for key, value in (line.split() for line in path.read_text().splitlines())}


def set_limits(directory: Directory, limits: Limits) -> None:
    """Do what the package plans for a cgroup of version 2, whatever is in use."""
    apply(directory, plan_v2(limits, directory.read_or_none, check_usage=False))


def set_limits_v1(directory: Directory, limits: Limits) -> None:
    """Likewise, of version 1: all controllers are in the one hierarchy of the directory."""
    steps = plan_v1(limits, lambda controller: directory.read_or_none, check_usage=False)
    apply(directory, [step.write for step in steps])


def inherit_cpus(directory: Directory, parent: Directory) -> Directory:
    """A new cpuset of version 1 has no CPU and no memory node: give it its parent's."""
    apply(directory, cpuset.plan_inherited(directory.read_or_none, parent.read_or_none))
    return directory
