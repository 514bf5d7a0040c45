"""nsinit for a user without rights: many users by newuidmap and newgidmap, one user without them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from kernelproof.impl.libcontainer.config.records import Config, IdMapping, Mount, Namespace
from kernelproof.impl.libcontainer.config.records import User as Account
from kernelproof.impl.tests.libcontainer.machine.nsinit.command import CODE

pytestmark = pytest.mark.machine(profile="runtimes")

UID, GID = 1000, 1001
FIRST, SIZE = 200_000, 5000
ONE = (IdMapping(0, UID, 1),), (IdMapping(0, GID, 1),)
MANY = (IdMapping(0, UID, 1), IdMapping(1, FIRST, SIZE)), (IdMapping(0, GID, 1), IdMapping(1, FIRST, SIZE))


class User(NamedTuple):
    """A user with a bundle; `call` is nsinit as that user calls it."""

    home: Path

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Runs a subcommand; what it prints goes to files."""
        with open(self.home / "out", "w+") as out, open(self.home / "err", "w+") as err:
            done = subprocess.run(
                [sys.executable, "-c", CODE, *words],
                cwd=self.home,
                env={"PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": str(self.home / "run")},
                user=UID,
                group=GID,
                extra_groups=[],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                check=False,
            )
        return subprocess.CompletedProcess(
            done.args, done.returncode, *[(self.home / name).read_text() for name in ("out", "err")]
        )

    def configure(
        self, script: str, maps: tuple[tuple[IdMapping, ...], tuple[IdMapping, ...]], **process: object
    ) -> None:
        """Writes config.json for a shell script; the root has the guest's own programs."""
        config = Config.minimal("rootfs", ("/bin/sh", "-c", script))
        assert config.process is not None
        kinds = ("user", "pid", "mount", "uts", "ipc", "network", "cgroup")
        config = config.replace(
            process=config.process.replace(**process),
            mounts=(
                Mount("/proc", "proc", "proc"),
                Mount("/usr", "none", "/usr", ("rbind", "ro")),
                Mount("/dev", "tmpfs", "tmpfs", ("nosuid", "mode=755")),
            ),
            linux=config.linux.replace(
                namespaces=tuple(Namespace(kind) for kind in kinds),
                uid_mappings=maps[0],
                gid_mappings=maps[1],
                resources=None,
                cgroups_path=None,
            ),
        )
        (self.home / "config.json").write_text(config.dump())


@pytest.fixture
def user() -> User:
    """A user with subordinate ids, on a machine without cgroups."""
    home = Path("/home/tester")
    (home / "rootfs").mkdir(parents=True)
    (home / "run").mkdir(mode=0o700)
    for name in ("bin", "lib", "lib64"):
        (home / "rootfs" / name).symlink_to(f"usr/{name}")
    (home / "rootfs/tmp").mkdir(mode=0o1777)
    (home / "rootfs/tmp").chmod(0o1777)
    for path in (home, *home.rglob("*")):
        os.chown(path, UID, GID, follow_symlinks=False)
    with open("/etc/passwd", "a") as passwd, open("/etc/group", "a") as group:
        passwd.write(f"tester:x:{UID}:{GID}::{home}:/bin/sh\n")
        group.write(f"tester:x:{GID}:\n")
    for file in ("/etc/subuid", "/etc/subgid"):
        Path(file).write_text(f"tester:{FIRST}:{SIZE}\n")
    return User(home)


def test_many_users(user: User) -> None:
    """Root inside is the user, another inside is of his subordinate ones, and each is seen so from both sides."""
    assert shutil.which("newuidmap") is not None, "the profile has it"
    user.configure("id -u; id -g; cat /proc/self/uid_map; echo x > /tmp/file", MANY)
    done = user.call("run", "box")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines == [["0"], ["0"], ["0", str(UID), "1"], ["1", str(FIRST), str(SIZE)]]
    assert os.stat(user.home / "rootfs/tmp/file").st_uid == UID
    from_inside = Account().replace(uid=33, gid=34, additional_gids=(35,))
    user.configure("id -u; id -G; echo x > /tmp/other", MANY, user=from_inside)
    done = user.call("run", "box")
    assert (done.returncode, done.stdout.split()) == (0, ["33", "34", "35"]), done.stderr
    other = os.stat(user.home / "rootfs/tmp/other")
    assert (other.st_uid, other.st_gid) == (FIRST + 32, FIRST + 33)


def test_a_life_without_rights(user: User) -> None:
    """create, start, exec, kill, delete by the user alone; the state is below his own directory, nothing is left."""
    user.configure("sleep 1000", ONE)
    assert user.call("create", "--pid-file", "pid", "box").returncode == 0, (user.home / "err").read_text()
    pid = int((user.home / "pid").read_text())
    assert os.stat(f"/proc/{pid}").st_uid in (0, UID)  # root while it can't be looked at
    assert json.loads(user.call("state", "box").stdout)["status"] == "created"
    assert user.call("start", "box").returncode == 0
    assert os.stat(f"/proc/{pid}").st_uid == UID
    done = user.call("exec", "box", "/bin/sh", "-c", "id -u; exit 6")
    assert (done.returncode, done.stdout) == (6, "0\n"), done.stderr
    assert user.call("kill", "box", "KILL").returncode == 0
    assert user.call("delete", "--force", "box").returncode == 0
    assert list((user.home / "run/kernelproof/containers").iterdir()) == []


def test_ids_that_are_not_his(user: User) -> None:
    """A range that /etc/subuid does not give is refused by newuidmap, with its words and ours; nothing is left."""
    beyond = (IdMapping(0, UID, 1), IdMapping(1, FIRST + SIZE, 10))
    user.configure("true", (beyond, MANY[1]))
    done = user.call("run", "box")
    assert done.returncode == 1
    assert "newuidmap" in done.stderr
    assert "/etc/subuid" in done.stderr
    assert list((user.home / "run/kernelproof/containers").iterdir()) == []
    os.rename("/usr/bin/newuidmap", "/usr/bin/newuidmap.away")
    user.configure("true", MANY)
    done = user.call("run", "box")
    assert (done.returncode, "package uidmap" in done.stderr) == (1, True)
