"""Each row of the profiles is the machine that it says it is; run in them."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

machine = pytest.mark.machine


def say(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@machine(profile="runtimes")
@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_runtimes(runtime: str, tmp_path: Path, hierarchy: Callable[..., Path]) -> None:
    """A container is run by each runtime, with nothing in it but busybox."""
    hierarchy("v2", at=Path("/sys/fs/cgroup"))
    programs = tmp_path / "rootfs/bin"
    programs.mkdir(parents=True)
    shutil.copy2("/usr/bin/busybox", programs / "sh")
    say(runtime, "spec", "--bundle", str(tmp_path))
    config = tmp_path / "config.json"
    text = config.read_text().replace('"terminal": true', '"terminal": false')
    config.write_text(text.replace('"sh"', '"sh", "-c", "echo in $$"', 1))
    assert say(runtime, "run", "--bundle", str(tmp_path), "one") == "in 1\n"


@machine(profile="runtimes")
def test_podman(tmp_path: Path, hierarchy: Callable[..., Path]) -> None:
    """The engine runs a container of a folder."""
    hierarchy("v2", at=Path("/sys/fs/cgroup"))
    programs = tmp_path / "bin"
    programs.mkdir()
    shutil.copy2("/usr/bin/busybox", programs / "sh")
    words = ("--rm", "--network", "none", "--cgroups", "disabled", "--rootfs", str(tmp_path))
    assert say("podman", "run", *words, "sh", "-c", "echo in $$") == "in 1\n"


@pytest.mark.parametrize("profile", [pytest.param(name, marks=machine(profile=name)) for name in ("plain", "systemd")])
def test_the_kernel_has_random_numbers_before_they_are_asked_for(profile: str) -> None:
    """The host's, from a driver that is gone again: no boot waits until the kernel has collected its own."""
    log = say("dmesg")
    assert log.index("random: crng init done") < log.index("tun: Universal TUN/TAP")
    assert not Path("/sys/module/virtio_rng").exists()


@machine(profile="plain")
def test_the_loopback_is_up_and_the_modules_are_loaded() -> None:
    """What init does before the agent, as `ip` and the kernel's list show it."""
    assert "LOOPBACK,UP,LOWER_UP" in say("ip", "-oneline", "link", "show", "lo")
    loaded = {line.split()[0] for line in Path("/proc/modules").read_text().splitlines()}
    assert {"tun", "loop", "bridge", "veth", "dummy", "macvlan", "overlay"} <= loaded
    assert not Path("/sys/class/net/dummy0").exists()


@machine(profile="systemd")
def test_systemd() -> None:
    """systemd is PID 1, has started all it wanted, and runs the test as a service of its own."""
    assert os.readlink("/proc/1/exe") == "/usr/lib/systemd/systemd"
    assert say("systemctl", "is-system-running") == "running\n"
    assert Path("/proc/self/cgroup").read_text() == "0::/system.slice/kernelproof-agent.service\n"
    assert say("systemd-run", "--wait", "--pipe", "--quiet", "cat", "/proc/self/cgroup").startswith(
        "0::/system.slice/run-"
    )


@machine(profile="systemd")
def test_systemd_users() -> None:
    """The names that systemd adds are looked up."""
    assert "Disposition: intrinsic" in say("userdbctl", "user", "root")
    assert say("systemctl", "is-active", "systemd-homed.service") == "active\n"
    assert "messagebus" in say("getent", "passwd")


@machine(profile="systemd")
def test_systemd_has_real_time() -> None:
    """Where a profile has no virtual time the clock is the host's, though the marker did not ask for it."""
    assert "KERNELPROOF_GUEST" in os.environ
    assert '"time": "real"' in os.environ["KERNELPROOF_GUEST"]


@machine(profile="bare")
def test_no_landlock() -> None:
    """Landlock is not there to be asked."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.syscall(444, None, 0, 1) == -1  # landlock_create_ruleset(2), for its version
    assert ctypes.get_errno() == errno.EOPNOTSUPP


@machine(profile="bare")
def test_no_v1_named() -> None:
    """A named hierarchy of version 1 can't be mounted."""
    done = subprocess.run(["mount", "-t", "cgroup", "-o", "none,name=x", "x", "/mnt"], check=False, capture_output=True)
    assert done.returncode != 0


@machine(profile="bare")
def test_initial_ramfs() -> None:
    """The root is the mount that the kernel made: its own parent."""
    lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    assert [fields[0] == fields[1] for fields in lines if fields[4] == "/"] == [True]


@machine(profile="plain", time="real")
def test_real_time() -> None:
    """The real-time twin waits as long as it says."""
    before = time.monotonic()
    time.sleep(0.3)
    assert time.monotonic() - before >= 0.3
