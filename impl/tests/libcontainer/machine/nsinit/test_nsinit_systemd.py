"""--systemd-cgroup: the container's cgroup is a scope that systemd made, limited by it and gone with the container."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from kernelproof.impl.cgroups.systemd.manager import Manager
from kernelproof.impl.libcontainer.config.records import Config, Cpu, Memory, Mount, Pids, Resources
from kernelproof.impl.tests.libcontainer.machine.nsinit.command import NSINIT, run_in

pytestmark = pytest.mark.machine(profile="systemd")

TOP = Path("/sys/fs/cgroup")
LIMITS = Resources(memory=Memory(limit=64 << 20), pids=Pids(30), cpu=Cpu(quota=20_000, period=100_000))
BURSTING = LIMITS.replace(cpu=Cpu(quota=20_000, period=100_000, burst=5_000))


class Command(NamedTuple):
    """nsinit --systemd-cgroup in a bundle, with a directory of states of its own."""

    bundle: Path

    def __call__(self, *words: str, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        """Runs a subcommand; what it prints goes to files, as the container's process inherits them."""
        command = [*NSINIT, "--systemd-cgroup", "--root", str(self.bundle / "states"), *words]
        done = run_in(self.bundle, command, env)
        assert not check or done.returncode == 0, done.stderr
        return done

    def configure(self, *args: str, path: str | None, resources: Resources | None = None) -> None:
        """Writes config.json for a program; the root has the guest's own programs."""
        root = self.bundle / "rootfs"
        if not root.exists():
            root.mkdir()
            for name in ("bin", "lib", "lib64"):
                (root / name).symlink_to(f"usr/{name}")
        config = Config.minimal("rootfs", args)
        config = config.replace(mounts=(*config.mounts, Mount("/usr", "none", "/usr", ("rbind", "ro"))))
        linux = config.linux.replace(cgroups_path=path, resources=resources)
        (self.bundle / "config.json").write_text(config.replace(linux=linux).dump())


@pytest.fixture
def nsinit(tmp_path: Path) -> Command:
    """The command in an empty bundle."""
    return Command(tmp_path)


def place_of(pid: str) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text().strip().removeprefix("0::")


def read(scope: Path) -> list[str]:
    return [(scope / name).read_text().strip() for name in ("memory.max", "pids.max", "cpu.max")]


def has_bursts() -> bool:
    """Whether the kernel has cpu.max.burst: since Linux 5.14."""
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int(minor)) >= (5, 14)


def test_a_scope(nsinit: Command) -> None:
    """The scope is where cgroupsPath says, limits are systemd's and the files', and both are changed by an update."""
    nsinit.configure("/bin/sleep", "1000", path="work-web.slice:web:box", resources=BURSTING)
    if not has_bursts():
        refused = nsinit("create", "box", check=False)
        assert refused.returncode == 1
        assert "this cgroup has no cpu.max.burst" in refused.stderr
        assert not (TOP / "work.slice/work-web.slice/web-box.scope").exists()
        nsinit.configure("/bin/sleep", "1000", path="work-web.slice:web:box", resources=LIMITS)
    nsinit("create", "--pid-file", "pid", "box")
    pid = (nsinit.bundle / "pid").read_text()
    assert place_of(pid) == "/work.slice/work-web.slice/web-box.scope"
    scope = TOP / place_of(pid).strip("/")
    nsinit("start", "box")
    assert read(scope) == [str(64 << 20), "30", "20000 100000"]
    if has_bursts():
        assert (scope / "cpu.max.burst").read_text() == "5000\n"
    nsinit("update", "--memory", str(48 << 20), "box")
    with Manager.open() as manager:
        told = [manager.property_of("web-box.scope", name) for name in ("MemoryMax", "TasksMax", "Delegate")]
    assert told == [48 << 20, 30, True]
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    assert read(scope) == [str(48 << 20), "30", "20000 100000"]
    if has_bursts():
        assert (scope / "cpu.max.burst").read_text() == "5000\n"
    assert nsinit("exec", "box", "/bin/sh", "-c", "exit 4", check=False).returncode == 4
    nsinit("pause", "box")
    assert json.loads(nsinit("state", "box").stdout)["status"] == "paused"
    nsinit("delete", "--force", "box")
    assert not scope.exists()
    # The name is free again at once, whatever the first container's end was.
    nsinit.configure("/bin/sh", "-c", "kill -9 $$; exit 1", path="work-web.slice:web:box")
    nsinit("run", "box", check=False)
    assert not scope.exists()
    assert list((nsinit.bundle / "states").iterdir()) == []


def test_what_systemd_rounds_and_what_is_raw_survives_a_reload(nsinit: Command) -> None:
    """A quota of part of a percent, one without its period, and raw keys: systemd writes again what is there."""
    unified = (("memory.high", str(32 << 20)), ("memory.max", str(64 << 20)), ("pids.max", "40"))
    resources = Resources(cpu=Cpu(quota=12_345, period=50_000), unified=unified)
    nsinit.configure("/bin/sleep", "1000", path="system.slice:web:box", resources=resources)
    nsinit("run", "--detach", "--pid-file", "pid", "box")
    scope = TOP / place_of((nsinit.bundle / "pid").read_text()).strip("/")
    first = [str(64 << 20), "40", "12500 50000"]
    for words, expected in (((), "12500 50000"), (("--cpu-quota", "6001"), "6500 50000")):
        if words:
            nsinit("update", *words, "box")
        assert read(scope) == [*first[:2], expected]
        subprocess.run(["systemctl", "daemon-reload"], check=True)
        # Another property has systemd write all of them.
        subprocess.run(["systemctl", "set-property", "--runtime", scope.name, "CPUWeight=50"], check=True)
        assert read(scope) == [*first[:2], expected]
        assert (scope / "memory.high").read_text().strip() == str(32 << 20)
    nsinit("delete", "--force", "box")


def test_names(nsinit: Command) -> None:
    """Without a path the scope is nsinit-ID in system.slice; a path of another form is refused, and nothing is left."""
    nsinit.configure("/bin/cat", "/proc/1/cgroup", path=None)
    config = json.loads((nsinit.bundle / "config.json").read_text())
    config["linux"]["namespaces"] = [one for one in config["linux"]["namespaces"] if one["type"] != "cgroup"]
    (nsinit.bundle / "config.json").write_text(json.dumps(config))
    assert nsinit("run", "box").stdout == "0::/system.slice/nsinit-box.scope\n"
    nsinit.configure("/bin/true", path="/a/b")
    done = nsinit("run", "box", check=False)
    assert done.returncode == 1
    assert "slice:prefix:name" in done.stderr
    assert not (TOP / "a").exists()
    assert list((nsinit.bundle / "states").iterdir()) == []


def test_what_fails_leaves_no_scope(nsinit: Command) -> None:
    """A program that is missing is told as without systemd, and no unit is left."""
    nsinit.configure("/nosuch", path="system.slice:web:box")
    done = nsinit("create", "box", check=False)
    assert (done.returncode, "no such file or directory" in done.stderr) == (1, True)
    units = subprocess.run(["systemctl", "list-units", "--all", "--plain"], capture_output=True, text=True, check=True)
    assert "web-box.scope" not in units.stdout


def test_a_service_that_says_when_it_is_ready(nsinit: Command) -> None:
    """READY=1 of the program reaches who started run or start, with the pid outside; nothing else of it does."""
    notify = "systemd-notify STATUS=no; systemd-notify READY=1 MAINPID=7; sleep 1000"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as host:
        host.bind(str(nsinit.bundle / "host"))
        host.settimeout(60)
        for began in (("run", "--detach"), ("create",)):
            nsinit.configure("/bin/sh", "-c", notify, path=None)
            nsinit(*began, "--pid-file", "pid", "box", NOTIFY_SOCKET=str(nsinit.bundle / "host"))
            if began == ("create",):
                nsinit("start", "box", NOTIFY_SOCKET=str(nsinit.bundle / "host"))
            pid = (nsinit.bundle / "pid").read_text()
            assert host.recv(1000) == f"READY=1\nMAINPID={pid}".encode()
            assert host.recv(1000) == b"BARRIER=1"  # taken too late here: the call waited as long as it does
            environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            assert b"NOTIFY_SOCKET=/run/notify/notify.sock" in environ
            nsinit("delete", "--force", "box")
        # One that ends without a word does not keep anybody.
        nsinit.configure("/bin/true", path=None)
        assert nsinit("run", "box", NOTIFY_SOCKET=str(nsinit.bundle / "host")).returncode == 0
        host.setblocking(False)
        with pytest.raises(BlockingIOError):
            host.recv(1000)
    assert list((nsinit.bundle / "states").iterdir()) == []
