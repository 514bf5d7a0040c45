"""What a cgroup's life costs beside the bare calls, in a machine whose clock counts instructions."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kernelproof.impl.cgroups import Cgroup, read_layout

pytestmark = pytest.mark.machine

CONTROLLERS = ("cpu", "cpuset", "memory", "io", "pids")
ROUNDS = 40
MOST = 1.5


def test_life_beside_bare_calls(hierarchy: Callable[..., Path]) -> None:
    """To make a cgroup, move a process into it and remove it takes at most half again what the bare calls take."""
    top = hierarchy("v2")
    layout = read_layout()
    with subprocess.Popen(["sleep", "1000"]) as sleeper, open(top / "cgroup.procs", "wb", buffering=0) as root:
        pid = str(sleeper.pid).encode()

        def ours() -> None:
            with Cgroup.create("life", layout, controllers=CONTROLLERS) as cgroup:
                cgroup.add(sleeper.pid)
                root.write(pid)
                cgroup.remove()

        def calls() -> None:
            os.mkdir(f"{top}/life")
            fd = os.open(f"{top}/life/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
            os.write(fd, pid)
            os.close(fd)
            root.write(pid)
            os.rmdir(f"{top}/life")

        ours()  # what is imported at first use is imported, and the controllers are enabled
        taken: dict[str, list[float]] = {"ours": [], "calls": []}
        for _ in range(ROUNDS):
            for name, work in (("ours", ours), ("calls", calls)):
                begin = time.monotonic()
                work()
                taken[name].append(time.monotonic() - begin)
        sleeper.kill()
    assert min(taken["ours"]) <= MOST * min(taken["calls"])
