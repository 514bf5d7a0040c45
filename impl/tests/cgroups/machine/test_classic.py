"""The names of 2014 on real hierarchies of both versions."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kernelproof.impl.cgroups import classic, read_layout
from kernelproof.impl.cgroups.classic import Cgroup
from kernelproof.impl.cgroups.errors import LimitError, StillBusyError

pytestmark = pytest.mark.machine

OPENER = """
import os
input()
for path in ("/dev/null", "/dev/kmsg"):
    try:
        os.close(os.open(path, os.O_RDONLY))
        print("yes")
    except PermissionError:
        print("no")
"""
V1 = ("cpu", "cpuacct", "pids", "freezer", "blkio", "devices")


@pytest.fixture(params=["v2", "v1"])
def version(request: pytest.FixtureRequest, hierarchy: Callable[..., Path]) -> int:
    """The hierarchies of one version."""
    if request.param == "v2":
        hierarchy("v2")
        return 2
    for controller in V1:
        hierarchy("v1", controller)
    return 1


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits."""
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as process:
        yield process
        process.kill()


def test_a_life_of_2014(version: int, sleeper: subprocess.Popen[bytes]) -> None:
    """Applied, measured, frozen and thawed, cleaned up; parents stay."""
    cgroup = Cgroup(name="web", parent="docker", cpu_shares=512, cpu_quota=50_000)
    active = classic.apply(cgroup, sleeper.pid)
    directories = {Path(path) for path in active.paths().values()}
    assert {path.name for path in directories} == {"web"}
    assert all((path / "cgroup.procs").read_text() == f"{sleeper.pid}\n" for path in directories)
    shares = {2: ("cpu.weight", "59"), 1: ("cpu.shares", "512")}[version]
    assert [path.joinpath(shares[0]).read_text() for path in directories if (path / shares[0]).exists()] == [
        f"{shares[1]}\n"
    ]
    assert classic.get_pids(cgroup) == [sleeper.pid]
    found = classic.get_stats(cgroup)
    assert set(found) == {"cpu_stats", "memory_stats", "blkio_stats", "freezer_stats"}
    assert found["cpu_stats"]["cpu_usage"]["total_usage"] >= 0
    classic.freeze(cgroup, "FROZEN")
    if version == 1:
        assert classic.get_stats(cgroup)["freezer_stats"] == {"parent_state": "0", "self_state": "1"}
    classic.freeze(cgroup, "THAWED")
    with pytest.raises(LimitError):
        classic.freeze(cgroup, "COLD")
    with pytest.raises(StillBusyError):
        classic.remove_paths(active.paths(), 0.1)
    sleeper.kill()
    sleeper.wait()
    active.cleanup()
    active.cleanup()
    assert not any(path.exists() for path in directories)
    assert all(path.parent.exists() for path in directories)


def test_a_failed_step_leaves_nothing(version: int, sleeper: subprocess.Popen[bytes]) -> None:
    """A process that is not, and a weight that can't be: the cgroup is gone again."""
    tops = [Path(one.mount_point) for one in read_layout().hierarchies]
    with pytest.raises(ProcessLookupError):
        classic.apply(Cgroup(name="web"), 4_194_303)
    with pytest.raises((LimitError, OSError)):
        classic.apply(Cgroup(name="web", cpu_quota=1), sleeper.pid)
    assert not any((top / "web").exists() for top in tops)


def test_default_devices(version: int, sleeper: subprocess.Popen[bytes]) -> None:
    """A container opens null and makes nodes, and reads no memory."""
    active = classic.apply(Cgroup(name="box"), sleeper.pid)
    with subprocess.Popen([sys.executable, "-c", OPENER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        classic.enter_pid(active.paths(), process.pid)
        out, _ = process.communicate(b"\n")
    assert out == b"yes\nno\n"
    assert os.path.exists("/dev/kmsg")


def test_where_things_are(version: int) -> None:
    """Mount points and paths of every subsystem."""
    layout = read_layout()
    assert classic.find_cgroup_mountpoint("cpu") == layout.hierarchy("cpu").mount_point
    assert classic.get_this_cgroup_dir("cpu") == classic.get_init_cgroup_dir("cpu") == "/"
    assert "cpu" in classic.get_all_subsystems()
    assert not classic.use_systemd()


@pytest.mark.expect_log("Memory cgroup out of memory")
def test_oom_is_told(hierarchy: Callable[..., Path]) -> None:
    """A kill is told, and the iterator ends when the cgroup is gone."""
    hierarchy("v2")
    program = "input()\nblob = []\nwhile True: blob.append(bytearray(1 << 20))\n"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as process:
        cgroup = Cgroup(name="box", memory=32 << 20)
        active = classic.apply(cgroup, process.pid)
        told = classic.notify_on_oom(cgroup, 30)
        killer = threading.Timer(0.5, process.communicate, (b"\n",))
        killer.start()
        assert next(told) == 1
        killer.join()
        assert process.wait() == -9
    active.cleanup()
    assert list(told) == []
