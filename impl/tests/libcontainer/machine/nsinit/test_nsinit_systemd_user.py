"""--systemd-cgroup for a user without rights: the scope is one of the user's own manager, limited, and gone with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from kernelproof.impl.libcontainer.config.records import (
    Config,
    Cpu,
    IdMapping,
    Memory,
    Mount,
    Namespace,
    Pids,
    Resources,
)
from kernelproof.impl.tests.libcontainer.machine.nsinit.command import CODE

pytestmark = pytest.mark.machine(profile="systemd")

TOP = Path("/sys/fs/cgroup")
UID = GID = 1234
KINDS = ("user", "pid", "mount", "uts", "ipc", "network", "cgroup")
LIMITS = Resources(memory=Memory(limit=64 << 20), pids=Pids(30), cpu=Cpu(quota=20_000, period=100_000))
PAM = "account required pam_permit.so\nsession required pam_permit.so\nsession optional pam_systemd.so\n"
SERVICE = f"/user.slice/user-{UID}.slice/user@{UID}.service"


class User(NamedTuple):
    """A user with a bundle, whose calls come from wherever the test is: not from below the user's own service."""

    home: Path

    def call(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a subcommand of nsinit --systemd-cgroup; what it prints goes to files."""
        command = [sys.executable, "-c", CODE, "--systemd-cgroup", *words]
        with open(self.home / "out", "w+") as out, open(self.home / "err", "w+") as err:
            done = subprocess.run(
                command,
                cwd=self.home,
                env={"PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": f"/run/user/{UID}"},
                user=UID,
                group=GID,
                extra_groups=[],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                check=False,
            )
        said = [(self.home / name).read_text() for name in ("out", "err")]
        assert not check or done.returncode == 0, f"{words}: {said[1]}"
        return subprocess.CompletedProcess(command, done.returncode, *said)

    def configure(self, script: str, path: str | None = "work.slice:web:box", **linux: object) -> None:
        """Writes config.json for a shell script; the root has the guest's own programs."""
        config = Config.minimal("rootfs", ("/bin/sh", "-c", script))
        maps = (IdMapping(0, UID, 1),)
        config = config.replace(
            mounts=(
                Mount("/proc", "proc", "proc"),
                Mount("/usr", "none", "/usr", ("rbind", "ro")),
                Mount("/dev", "tmpfs", "tmpfs", ("nosuid", "mode=755")),
            ),
            linux=config.linux.replace(
                uid_mappings=maps,
                gid_mappings=maps,
                cgroups_path=path,
                **{"namespaces": tuple(Namespace(kind) for kind in KINDS), "resources": LIMITS, **linux},
            ),
        )
        (self.home / "config.json").write_text(config.dump())

    def systemctl(self, *words: str) -> str:
        """Asks the user's own manager."""
        done = subprocess.run(
            ["systemctl", "--user", *words],
            env={"PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": f"/run/user/{UID}"},
            user=UID,
            group=GID,
            extra_groups=[],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout


@pytest.fixture
def user() -> User:
    """A user whose manager runs."""
    home = Path("/home/tester")
    (home / "rootfs/tmp").mkdir(parents=True)
    for name in ("bin", "lib", "lib64"):
        (home / "rootfs" / name).symlink_to(f"usr/{name}")
    for path in (home, *home.rglob("*")):
        os.chown(path, UID, GID, follow_symlinks=False)
    with open("/etc/passwd", "a") as passwd, open("/etc/group", "a") as group:
        passwd.write(f"tester:x:{UID}:{GID}::{home}:/bin/sh\n")
        group.write(f"tester:x:{GID}:\n")
    for name in ("systemd-user", "other"):
        Path("/etc/pam.d", name).write_text(PAM)
    subprocess.run(["systemctl", "start", f"user@{UID}.service"], check=True)
    return User(home)


def place_of(pid: str) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text().strip().removeprefix("0::")


def read(scope: Path, *names: str) -> list[str]:
    return [(scope / name).read_text().strip() for name in names]


def test_a_scope_of_the_user(user: User) -> None:
    """create, start, update, exec, pause, resume, delete: all below the user's service, by the user alone."""
    user.configure("exec sleep 1000")
    user.call("create", "--pid-file", "pid", "box")
    pid = (user.home / "pid").read_text()
    assert place_of(pid) == f"{SERVICE}/work.slice/web-box.scope"
    scope = TOP / place_of(pid).strip("/")
    assert scope.stat().st_uid == UID
    user.call("start", "box")
    files = ("memory.max", "pids.max", "cpu.max")
    assert read(scope, *files) == [str(64 << 20), "30", "20000 100000"]
    user.call("update", "--memory", str(48 << 20), "box")
    user.systemctl("daemon-reload")
    assert read(scope, *files) == [str(48 << 20), "30", "20000 100000"]
    told = user.systemctl("show", "--property=MemoryMax,TasksMax,Delegate", "web-box.scope").split()
    assert sorted(told) == ["Delegate=yes", f"MemoryMax={48 << 20}", "TasksMax=30"]
    done = user.call("exec", "box", "/bin/sh", "-c", "cat /proc/self/cgroup; exit 4", check=False)
    assert (done.returncode, done.stdout) == (4, "0::/\n"), done.stderr
    user.call("pause", "box")
    assert json.loads(user.call("state", "box").stdout)["status"] == "paused"
    assert "frozen 1" in (scope / "cgroup.events").read_text()
    user.call("resume", "box")
    assert len(json.loads(user.call("ps", "--format", "json", "box").stdout)) == 1
    user.call("delete", "--force", "box")
    assert not scope.exists()
    assert "web-box" not in user.systemctl("list-units", "--all", "--plain")
    assert list(Path(f"/run/user/{UID}/kernelproof/containers").iterdir()) == []


def test_without_a_path(user: User) -> None:
    """The scope is nsinit-ID in the user's slice; run leaves no scope, whatever the program's end."""
    namespaces = tuple(Namespace(kind) for kind in KINDS if kind != "cgroup")
    user.configure("cat /proc/self/cgroup; exit 3", None, namespaces=namespaces, resources=None)
    done = user.call("run", "box", check=False)
    assert (done.returncode, done.stdout) == (3, f"0::{SERVICE}/user.slice/nsinit-box.scope\n"), done.stderr
    assert "nsinit-box" not in user.systemctl("list-units", "--all", "--plain")


def test_what_fails_leaves_no_scope_of_the_user(user: User) -> None:
    """A program that is missing is told, and the user's manager has no unit of it."""
    user.configure("true")
    config = json.loads((user.home / "config.json").read_text())
    config["process"]["args"] = ["/nosuch"]
    (user.home / "config.json").write_text(json.dumps(config))
    done = user.call("create", "box", check=False)
    assert (done.returncode, "no such file or directory" in done.stderr) == (1, True), done.stderr
    assert "web-box" not in user.systemctl("list-units", "--all", "--plain")


def test_without_a_manager_of_the_user(user: User) -> None:
    """Where the user has no manager, that is said, and nothing is left."""
    subprocess.run(["systemctl", "stop", f"user@{UID}.service", f"user-runtime-dir@{UID}.service"], check=True)
    Path(f"/run/user/{UID}").mkdir(mode=0o700, exist_ok=True)
    os.chown(f"/run/user/{UID}", UID, GID)
    user.configure("true")
    done = user.call("create", "box", check=False)
    assert done.returncode == 1
    assert f"/run/user/{UID}/bus" in done.stderr
    assert list(Path(f"/run/user/{UID}/kernelproof/containers").iterdir()) == []
