"""What the behaviours of containers rehearse before machines are forked works, and leaves a machine as it was."""

from __future__ import annotations

import os
import time
import traceback
from pathlib import Path

import pytest

from kernelproof.conformance.libcontainer.conftest import rehearse
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare
from kernelproof.impl.mount import mount

pytestmark = pytest.mark.machine(profile="runtimes")

NAMESPACES = CloneFlag.NEWNS | CloneFlag.NEWUTS | CloneFlag.NEWIPC | CloneFlag.NEWNET


def seen_of_the_machine() -> dict[str, object]:
    """What a test could see of it."""
    processes = [stat.partition(")")[0] for name in os.listdir("/proc") if name.isdigit() and (stat := own_stat(name))]
    texts = {
        name: Path("/proc", name).read_text() for name in ("cgroups", "modules", "self/mounts", "sys/kernel/tainted")
    }
    folders = {name: sorted(os.listdir(name)) for name in ("/tmp", "/run", "/dev/shm", "/sys/class/net")}
    return {"processes": sorted(processes), "host name": os.uname().nodename, **texts, **folders}


def own_stat(pid: str) -> str:
    """What /proc/PID/stat says; nothing of a kernel's thread, which comes and goes."""
    try:
        stat = Path("/proc", pid, "stat").read_text()
    except FileNotFoundError:
        return ""
    return "" if stat.rpartition(")")[2].split()[1] == "2" else stat


def test_rehearsal_of_a_container() -> None:
    """It runs to its end in namespaces of its own, and what it made is gone."""
    before = seen_of_the_machine()
    child = os.fork()
    if not child:
        status = 1
        try:
            unshare(NAMESPACES)
            mount(None, Path("/"), None, "rprivate")
            rehearse()
            status = 0
        finally:
            if status:
                traceback.print_exc()
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    deadline = time.monotonic() + 5
    while (after := seen_of_the_machine()) != before and time.monotonic() < deadline:
        os.sched_yield()  # process 1 reaps what is left to it when it finds time
    assert after == before
