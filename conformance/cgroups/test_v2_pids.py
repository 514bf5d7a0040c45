"""Version 2, the pids controller: what is counted and told; acted on by impl.cgroups."""

from __future__ import annotations

import os
import select
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from kernelproof import behaviour
from kernelproof.conformance.cgroups.acting import run_inside, set_limits, table, wait_for_change
from kernelproof.impl.cgroups import enabling
from kernelproof.impl.cgroups.controllers import pids
from kernelproof.impl.cgroups.limits import Limits

if TYPE_CHECKING:
    from kernelproof.conformance.cgroups.conftest import Make
    from kernelproof.conformance.conftest import Bystander
    from kernelproof.impl.cgroups.directory import Directory


def fork_in_vain() -> None:
    """fork(2), which has to be refused."""
    try:
        if os.fork() == 0:
            os._exit(0)
    except BlockingIOError:  # EAGAIN
        return
    raise AssertionError("a child was made")


def full(directory: Directory) -> Directory:
    set_limits(directory, Limits(pids_max=1))
    return directory


@behaviour("cgroup-v2.pids.threads-count", subject="impl")
def test_threads_are_counted(unified: Path, make: Make) -> None:
    """A thread beyond pids.max can't be made; what Python says then is what pthread_create was told."""
    directory = make("child", "pids")
    set_limits(directory, Limits(pids_max=2))

    def make_threads() -> None:
        done = threading.Event()
        first = threading.Thread(target=done.wait)
        first.start()
        assert (unified / "child/pids.current").read_text() == "2\n"
        try:
            threading.Thread(target=done.wait).start()
        except RuntimeError:
            done.set()
            first.join()
            return
        raise AssertionError("a third thread was made")

    assert run_inside(directory, make_threads) == 0
    assert table(unified / "child/pids.events")["max"] == 1


@behaviour("cgroup-v2.pids.events-max", subject="impl")
def test_refused_forks_are_counted(unified: Path, make: Make) -> None:
    """One is one more of max; the package reads it."""
    directory = full(make("child", "pids"))
    before = table(unified / "child/pids.events")["max"]
    assert run_inside(directory, fork_in_vain) == 0
    assert table(unified / "child/pids.events")["max"] - before == 1
    found = pids.read(directory.read_or_none)
    assert found is not None
    assert found.refused == 1


@behaviour("cgroup-v2.pids.events-notify", subject="impl")
def test_a_refused_fork_wakes_who_waits(unified: Path, make: Make) -> None:
    """pids.events gives POLLPRI."""
    directory = full(make("child", "pids"))
    answer = wait_for_change(unified / "child/pids.events", lambda: run_inside(directory, fork_in_vain))
    assert answer & select.POLLPRI


@behaviour("cgroup-v2.pids.events-hierarchical", subject="impl")
def test_whose_limit_it_was(unified: Path, make: Make) -> None:
    """The cgroup whose limit it was and those above count it, and it alone counts it as its own."""
    for name in ("outer", "outer/full"):
        enabling.enable(make(name, "pids"), ["pids"])
    full(make("outer/full"))
    assert run_inside(make("outer/full/child"), fork_in_vain) == 0
    names = ("outer", "outer/full", "outer/full/child")
    found = {
        file: [table(unified / name / file)["max"] for name in names] for file in ("pids.events", "pids.events.local")
    }
    assert found == {"pids.events": [1, 1, 0], "pids.events.local": [0, 1, 0]}


@behaviour("cgroup-v2.pids.peak", subject="impl")
def test_the_most_processes_are_kept(unified: Path, make: Make, top: Directory, bystander: Bystander) -> None:
    """pids.peak says how many there were when they are gone."""
    directory = make("child", "pids")
    numbers = [bystander(), bystander()]
    for pid in numbers:
        directory.write("cgroup.procs", str(pid))
    for pid in numbers:
        top.write("cgroup.procs", str(pid))
    assert (unified / "child/pids.current").read_text() == "0\n"
    assert (unified / "child/pids.peak").read_text() == "2\n"
    found = pids.read(directory.read_or_none)
    assert found is not None
    assert found.peak == 2
