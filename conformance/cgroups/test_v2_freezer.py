"""Version 2: who is frozen does nothing, and who is killed leaves nobody; acted on by impl.cgroups."""

from __future__ import annotations

import os
import select
import signal
from typing import TYPE_CHECKING

from kernelproof import behaviour
from kernelproof.conformance.cgroups.acting import (
    burn_always,
    burn_for,
    end_by_kill,
    end_of,
    start_inside,
    wait_for_change,
    wait_until,
)
from kernelproof.impl.cgroups import freezing
from kernelproof.impl.cgroups.ending import kill

if TYPE_CHECKING:
    from pathlib import Path

    from kernelproof.conformance.cgroups.conftest import Make
    from kernelproof.conformance.conftest import Bystander


def ticks(pid: int) -> int:
    """CPU time of a process: utime and stime of /proc/PID/stat (proc_pid_stat(5)), with those of schedstat."""
    with open(f"/proc/{pid}/schedstat", encoding="ascii") as file:
        return int(file.read().split()[0])


def grows(pid: int) -> bool:
    burn_for(0.01)  # who says that it is frozen has yet to leave its CPU
    before = ticks(pid)
    burn_for(0.05)
    return ticks(pid) != before


@behaviour("cgroup-v2.freeze.stops", subject="impl")
def test_who_is_frozen_uses_no_cpu(unified: Path, make: Make) -> None:
    """Once frozen is 1 a busy process gets no CPU; thawed, it does."""
    directory = make("busy")
    pid = start_inside(directory, burn_always)
    running = grows(pid)
    freezing.freeze(directory)
    assert "frozen 1" in (unified / "busy/cgroup.events").read_text()
    frozen = grows(pid)
    freezing.thaw(directory)
    thawed = grows(pid)
    end_by_kill(pid)
    assert (running, frozen, thawed) == (True, False, True)


@behaviour("cgroup-v2.freeze.poll-pri", subject="impl")
def test_a_change_of_frozen_wakes_poll(unified: Path, make: Make, bystander: Bystander) -> None:
    """cgroup.events gives POLLPRI when frozen changes, and changes back."""
    directory = make("child")
    directory.write("cgroup.procs", str(bystander()))
    file = unified / "child/cgroup.events"
    assert wait_for_change(file, lambda: directory.write("cgroup.freeze", "1")) & select.POLLPRI
    assert "frozen 1" in file.read_text()
    assert wait_for_change(file, lambda: directory.write("cgroup.freeze", "0")) & select.POLLPRI


@behaviour("cgroup-v2.freeze.move-in-stops", subject="impl")
def test_who_moves_in_stops(unified: Path, make: Make) -> None:
    """A running process that is moved into a frozen cgroup runs no more."""
    cold = make("cold")
    freezing.freeze(cold)
    pid = start_inside(make("warm"), burn_always)
    running = grows(pid)
    cold.write("cgroup.procs", str(pid))
    assert "frozen 1" in wait_until(unified / "cold/cgroup.events", lambda text: "frozen 1" in text)
    stopped = not grows(pid)
    freezing.thaw(cold)
    end_by_kill(pid)
    assert (running, stopped) == (True, True)


@behaviour("cgroup-v2.freeze.move-out-runs", subject="impl")
def test_who_moves_out_runs_again(make: Make) -> None:
    """A process that is moved out of a frozen cgroup goes on."""
    cold, warm = make("cold"), make("warm")
    pid = start_inside(cold, burn_always)
    freezing.freeze(cold)
    stopped = not grows(pid)
    warm.write("cgroup.procs", str(pid))
    running = grows(pid)
    end_by_kill(pid)
    assert (stopped, running) == (True, True)


@behaviour("cgroup-v2.kill.fork-bomb", subject="impl")
def test_who_forks_without_pause_ends_too(unified: Path, make: Make) -> None:
    """Processes that replace themselves all the time are killed all the same, and populated is 0 then."""
    directory = make("bomb")

    def fork_always() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while True:
            if os.fork():
                os._exit(0)

    pids = [start_inside(directory, fork_always) for _ in range(4)]
    for pid in pids:
        end_of(pid)  # what was started has made a successor
    assert "populated 1" in (unified / "bomb/cgroup.events").read_text()
    kill(directory)
    assert "populated 0" in (unified / "bomb/cgroup.events").read_text()
    assert (unified / "bomb/cgroup.procs").read_text() == ""
