"""The real systemd as init: scopes and slices with limits, seen in the files of their cgroups."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernelproof.impl.cgroups.devices.attaching import read_programs
from kernelproof.impl.cgroups.devices.rules import DeviceRule
from kernelproof.impl.cgroups.directory import Directory
from kernelproof.impl.cgroups.errors import LimitError, NoControllerError, SystemdError
from kernelproof.impl.cgroups.layout import read_layout
from kernelproof.impl.cgroups.limits import Limits
from kernelproof.impl.cgroups.systemd.manager import Manager, is_booted
from kernelproof.impl.cgroups.systemd.names import expand_slice
from kernelproof.impl.cgroups.systemd.properties import round_limits

pytestmark = pytest.mark.machine(profile="systemd")

TOP = Path("/sys/fs/cgroup")
# The guest's root has no files that pam-auth-update(8) would have made.
PAM = "account required pam_permit.so\nsession required pam_permit.so\nsession optional pam_systemd.so\n"


@pytest.fixture
def manager() -> Iterator[Manager]:
    """The system's manager."""
    with Manager.open() as opened:
        yield opened


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits."""
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as process:
        yield process
        process.kill()


def read(cgroup: str, file: str) -> str:
    return (TOP / cgroup.lstrip("/") / file).read_text().strip()


def place(pid: int) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text().strip().removeprefix("0::")


def test_a_scope_in_a_slice(manager: Manager, sleeper: subprocess.Popen[bytes]) -> None:
    """When the call returns the process is there and the limits are in the files; stopped, the process has ended."""
    assert is_booted()
    limits = Limits(memory_max_bytes=64 << 20, pids_max=50, cpu_weight=50, cpu_quota_microseconds=20_000)
    unit = manager.start_scope("tried.scope", [sleeper.pid], slice="work-web.slice", limits=limits)
    assert unit.cgroup == f"{expand_slice('work-web.slice')}/tried.scope"
    assert place(sleeper.pid) == unit.cgroup
    files = ("memory.max", "pids.max", "cpu.weight", "cpu.max")
    assert [read(unit.cgroup, file) for file in files] == ["67108864", "50", "50", "20000 100000"]
    assert manager.property_of("tried.scope", "MemoryMax") == 64 << 20
    manager.stop("tried.scope")
    assert sleeper.wait(timeout=30) == -signal.SIGTERM
    assert not (TOP / unit.cgroup.lstrip("/")).exists()


def test_limits_change(manager: Manager, sleeper: subprocess.Popen[bytes]) -> None:
    """They are in the files when the call returns, and those that are not named stay; one refused changes nothing."""
    unit = manager.start_scope("tried.scope", [sleeper.pid], limits=Limits(pids_max=50))
    manager.set_limits(unit.name, Limits(memory_high_bytes=32 << 20, cpuset_cpus="1"))
    assert [read(unit.cgroup, file) for file in ("pids.max", "memory.high")] == ["50", str(32 << 20)]
    assert os.sched_getaffinity(sleeper.pid) == {1}
    manager.set_limits(unit.name, Limits(memory_high_bytes=-1))
    assert read(unit.cgroup, "memory.high") == "max"
    with pytest.raises(LimitError):
        manager.set_limits(unit.name, Limits(pids_max=0))
    with pytest.raises(SystemdError) as refused:
        manager.set_limits("nosuch.scope", Limits(pids_max=5))
    assert "nosuch.scope" in str(refused.value)


def test_a_quota_is_what_was_rounded(manager: Manager, sleeper: subprocess.Popen[bytes]) -> None:
    """What round_limits says is what the file has, so an update of something else changes nothing."""
    asked = Limits(cpu_quota_microseconds=123_456, memory_max_bytes=(64 << 20) + 1)
    unit = manager.start_scope("tried.scope", [sleeper.pid], limits=asked)
    expected = round_limits(asked, os.sysconf("SC_PAGE_SIZE"))
    first = [read(unit.cgroup, file) for file in ("cpu.max", "memory.max")]
    manager.set_limits(unit.name, Limits(pids_max=9))
    assert [read(unit.cgroup, file) for file in ("cpu.max", "memory.max")] == first
    assert first == [f"{expected.cpu_quota_microseconds} 100000", str(expected.memory_max_bytes)]


def test_devices_survive_a_reload(manager: Manager, sleeper: subprocess.Popen[bytes]) -> None:
    """systemd attaches the program itself, and has it attached when it has read its units again."""
    rules = [DeviceRule.parse(text) for text in ("c 1:3 rwm", "c 5:* rw")]
    unit = manager.start_scope("tried.scope", [sleeper.pid], devices=rules)
    (hierarchy,) = (one for one in read_layout().hierarchies if one.mount_point == str(TOP))
    with Directory.open(hierarchy, unit.cgroup) as directory:
        before = read_programs(directory)
        subprocess.run(["systemctl", "daemon-reload"], check=True)
        after = read_programs(directory)
    assert len(before) == len(after) == 1


def test_what_is_delegated(manager: Manager, sleeper: subprocess.Popen[bytes]) -> None:
    """A scope that is delegated has all controllers, and a cgroup can be made and given them below it."""
    unit = manager.start_scope("tried.scope", [sleeper.pid], delegate=True)
    assert {"memory", "pids", "cpu"} <= set(read(unit.cgroup, "cgroup.controllers").split())
    (hierarchy,) = (one for one in read_layout().hierarchies if one.mount_point == str(TOP))
    with Directory.open(hierarchy, unit.cgroup) as directory, directory.make("leaf") as leaf:
        leaf.write("cgroup.procs", str(sleeper.pid))
        directory.write("cgroup.subtree_control", "+pids")
        assert read(f"{unit.cgroup}/leaf", "pids.max") == "max"


def test_refusals_are_told(manager: Manager, sleeper: subprocess.Popen[bytes]) -> None:
    """A name that is taken, a process that is not, no process at all: an error each, and nothing is left."""
    manager.start_scope("tried.scope", [sleeper.pid])
    with pytest.raises(SystemdError, match="UnitExists"):
        manager.start_scope("tried.scope", [sleeper.pid])
    with pytest.raises(SystemdError):
        manager.start_scope("other.scope", [4_194_303])
    with pytest.raises(ValueError, match="no process ID"):
        manager.start_scope("empty.scope", [])
    with pytest.raises(SystemdError):
        manager.cgroup_of("other.scope")
    manager.reset_failed("other.scope")


def test_a_slice_of_its_own(manager: Manager) -> None:
    """A slice has limits that hold for all that is in it, and goes when it is stopped."""
    unit = manager.start_slice("work.slice", Limits(pids_max=77))
    assert (unit.cgroup, read("/work.slice", "pids.max")) == ("/work.slice", "77")
    manager.stop("work.slice")
    assert not (TOP / "work.slice").exists()


def test_frozen_by_systemd(manager: Manager, sleeper: subprocess.Popen[bytes]) -> None:
    """Freezing and thawing are over when the call returns; a signal reaches all."""
    unit = manager.start_scope("tried.scope", [sleeper.pid])
    manager.freeze(unit.name)
    assert "frozen 1" in read(unit.cgroup, "cgroup.events")
    manager.thaw(unit.name)
    assert "frozen 0" in read(unit.cgroup, "cgroup.events")
    manager.kill(unit.name, signal.SIGKILL)
    assert sleeper.wait(timeout=30) == -signal.SIGKILL


def test_the_users_own_manager(
    manager: Manager, sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scopes of a user are below his service; without his bus that is said."""
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/0")
    with pytest.raises(NoControllerError, match="/run/user/0/bus"):
        Manager.open(user=True)
    for name in ("systemd-user", "other"):
        Path("/etc/pam.d", name).write_text(PAM)
    subprocess.run(["systemctl", "start", "user@0.service"], check=True)
    with Manager.open(user=True) as own:
        unit = own.start_scope("tried.scope", [sleeper.pid], limits=Limits(pids_max=20))
        assert place(sleeper.pid) == unit.cgroup
        assert unit.cgroup.startswith("/user.slice/user-0.slice/user@0.service/")
        assert read(unit.cgroup, "pids.max") == "20"
        own.stop(unit.name)
    assert sleeper.wait(timeout=30) == -signal.SIGTERM
