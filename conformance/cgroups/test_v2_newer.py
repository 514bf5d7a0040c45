"""Version 2: files and counters that came after Linux 6.8; impl.cgroups makes the cgroups."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.cgroups.acting import MIB, end_by_kill, hold, start_inside, table, wait_for_stop
from kernelproof.impl.cgroups import enabling

if TYPE_CHECKING:
    from pathlib import Path

    from kernelproof.conformance.cgroups.conftest import Make
    from kernelproof.conformance.seen import Seen

PROACTIVE = {"pgscan_proactive", "pgsteal_proactive", "pgdemote_proactive"}


@behaviour("cgroup-v2.memory.high-nonblock")
def test_a_high_that_waits_for_nobody(unified: Path, make: Make, seen: Seen) -> None:
    """Written through O_NONBLOCK, memory.high is set below the usage and nothing is reclaimed."""
    child = make("child", "memory")
    pid = start_inside(child, hold(16 * MIB))
    wait_for_stop(pid)
    fd = child.open_file("memory.high", os.O_WRONLY | os.O_NONBLOCK)
    os.write(fd, b"4194304")
    os.close(fd)
    limit = (unified / "child/memory.high").read_text()
    used = int((unified / "child/memory.current").read_text())
    end_by_kill(pid)
    assert limit == "4194304\n"
    assert seen(used > 15 * MIB)


@pytest.mark.parametrize(
    ("file", "keys"),
    [
        pytest.param(file, keys, id=statement.rpartition(".")[2], marks=behaviour(statement))
        for statement, file, keys in (
            ("cgroup-v2.memory.stat-swap-counts", "memory.stat", {"pswpin", "pswpout"}),
            ("cgroup-v2.memory.stat-proactive", "memory.stat", PROACTIVE),
            ("cgroup-v2.memory.events-sock-throttled", "memory.events", {"sock_throttled"}),
        )
    ],
)
def test_counters_begin_at_zero(unified: Path, make: Make, file: str, keys: set[str], seen: Seen) -> None:
    """The counters are there, and 0 in a new cgroup."""
    make("child", "memory")
    found = table(unified / "child" / file)
    assert seen({key: found.get(key) for key in keys} == dict.fromkeys(keys, 0))


@behaviour("cgroup-v2.stat.controllers-counted")
def test_cgroups_of_a_controller(unified: Path, make: Make, seen: Seen) -> None:
    """nr_subsys_pids counts the cgroups that have the controller, the asked one among them."""
    parent = make("parent", "pids")
    before = table(unified / "parent/cgroup.stat")["nr_subsys_pids"]
    enabling.enable(parent, ["pids"])
    for name in ("one", "two"):
        make(f"parent/{name}")
    assert seen([before, table(unified / "parent/cgroup.stat")["nr_subsys_pids"]]) == [1, 3]


@pytest.mark.parametrize(
    "file",
    [
        pytest.param("rdma.peak", id="peak", marks=behaviour("cgroup-v2.rdma.peak-below-root")),
        pytest.param("rdma.events", id="events", marks=behaviour("cgroup-v2.rdma.events-below-root")),
    ],
)
def test_files_of_rdma(unified: Path, make: Make, file: str, seen: Seen) -> None:
    """The file is in a child and not in the root, and has no line where there is no device."""
    make("child", "rdma")
    assert not (unified / file).exists()
    assert seen((unified / "child" / file).read_text()) == ""
