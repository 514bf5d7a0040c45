"""podman with nsinit as its runtime, offline: the image is made of busybox on the spot, and no name is looked up.

podman's own calls come without PATH and HOME, those of conmon with all that podman had.
"""

from __future__ import annotations

import errno
import os
import pty
import shutil
import subprocess
import tarfile
import termios
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple

import pytest

from kernelproof.impl.tests.libcontainer.machine.nsinit.command import HALF

pytestmark = pytest.mark.machine(profile="runtimes")

APPLETS = ("true", "sh", "sleep", "cat", "id", "echo", "tty", "env", "dd", "kill", "stty", "touch", "grep")
CONTROLLERS = ("cpu", "memory", "pids", "freezer", "devices", "blkio")
SCRIPTS = Path(__file__).parents[4] / "libcontainer/nsinit/scripts"
# In front of nsinit: notes which variables the call has.
FRONT = """#!/bin/sh
{{ echo "$1 $2 $3 $4"; /bin/cat /proc/$$/environ | /usr/bin/tr '\\0' '\\n'; echo; }} >> {log}
exec {nsinit} "$@"
"""


class Podman(NamedTuple):
    """podman with a storage of its own below a directory, and a root that needs no image."""

    place: Path
    rootfs: Path
    runtime: Path

    def __call__(self, *words: str, check: bool = True, given: str = "") -> subprocess.CompletedProcess[str]:
        """Runs a subcommand, and says what it printed if it fails."""
        done = subprocess.run(
            self.command(*words),
            env={**os.environ, "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"},
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, f"podman {' '.join(words)}: {done.returncode}\n{done.stderr}"
        return done

    def command(self, *words: str) -> list[str]:
        """The words of a call."""
        options = ["--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--events-backend=file"]
        options += [f"--{option}={self.place / option}" for option in ("root", "runroot", "tmpdir")]
        return ["podman", *options, f"--runtime={self.runtime}", *words]

    def run(self, *words: str, script: str, check: bool = True, given: str = "") -> subprocess.CompletedProcess[str]:
        """`podman run` of a script, without a network and without an image."""
        front = ("run", "--network=none", *words, "--rootfs", str(self.rootfs))
        return self(*front, "sh", "-c", script, check=check, given=given)

    def calls(self) -> list[list[str]]:
        """The calls of the runtime: the subcommand with its first words, then the variables."""
        return [part.splitlines() for part in (self.place / "calls").read_text().split("\n\n") if part.strip()]


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    """A root that holds busybox."""
    place = tmp_path / "rootfs"
    for name in ("bin", "proc", "dev", "sys", "etc", "tmp"):
        (place / name).mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox is not None, "the profile has it"
    shutil.copy(busybox, place / "bin/busybox")
    for name in APPLETS:
        (place / "bin" / name).symlink_to("busybox")
    return place


@pytest.fixture
def podman(tmp_path: Path, rootfs: Path) -> Podman:
    """podman, and nsinit installed as its runtime; the test mounts the cgroups."""
    (tmp_path / "bin").mkdir()
    write_script(tmp_path / "bin/nsinit", (SCRIPTS / "nsinit").read_text(encoding="utf-8"))
    write_script(tmp_path / "bin/nsinit-python", HALF)
    (tmp_path / "front").mkdir()
    write_script(tmp_path / "front/nsinit", FRONT.format(log=tmp_path / "calls", nsinit=tmp_path / "bin/nsinit"))
    return Podman(tmp_path, rootfs, tmp_path / "front/nsinit")


def write_script(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


@pytest.fixture
def cgroup2(hierarchy: Callable[..., Path]) -> Path:
    """The hierarchy of version 2, where podman looks for it."""
    return hierarchy("v2", at=Path("/sys/fs/cgroup"))


@pytest.fixture
def cgroup1(hierarchy: Callable[..., Path]) -> Path:
    """Hierarchies of version 1, where podman looks for them; without those that the kernel lacks."""
    top = Path("/sys/fs/cgroup")
    subprocess.run(["mount", "-t", "tmpfs", "none", str(top)], check=True)
    known = Path("/proc/cgroups").read_text(encoding="ascii")
    for controller in CONTROLLERS:
        if f"\n{controller}\t" in known:
            hierarchy("v1", controller, at=top / controller)
    return top


def test_an_image(podman: Podman, cgroup2: Path) -> None:
    """An image that was made on the spot runs; output and exit status are the program's, and nothing is left."""
    with tarfile.open(podman.place / "image.tar", "w") as archive:
        archive.add(podman.rootfs, ".")
    podman("import", str(podman.place / "image.tar"), "box")
    done = podman("run", "--network=none", "--rm", "box", "sh", "-c", "echo inside; exit 7", check=False)
    assert (done.returncode, done.stdout) == (7, "inside\n"), done.stderr
    assert podman("ps", "-aq").stdout == ""
    assert not list(Path("/run/kernelproof/containers").iterdir())


@pytest.mark.parametrize("version", ["cgroup2", "cgroup1"])
def test_life(podman: Podman, version: str, request: pytest.FixtureRequest) -> None:
    """run, exec, stop, rm, on either version of cgroups; the signal of `stop` is the container's to handle."""
    request.getfixturevalue(version)
    podman.run("-d", "--name=web", script="trap 'exit 3' TERM; echo ready; sleep 1000 & wait")
    done = podman("exec", "web", "sh", "-c", "echo again; exit 5", check=False)
    assert (done.returncode, done.stdout) == (5, "again\n"), done.stderr
    podman("stop", "web")
    assert podman("logs", "web").stdout == "ready\n"
    assert podman("wait", "web").stdout == "3\n"
    podman("rm", "web")
    assert not list(Path("/run/kernelproof/containers").iterdir())
    # Calls that conmon makes have all variables; of podman's own some have a PATH, and none a HOME.
    bare = [call for call in podman.calls() if not any(line.startswith(("PATH=", "HOME=")) for line in call[1:])]
    assert {"kill", "delete"} <= {call[0].split()[0] for call in bare}
    homeless = [call for call in podman.calls() if not any(line.startswith("HOME=") for line in call[1:])]
    assert {"start", "kill", "delete"} <= {call[0].split()[0] for call in homeless}


def test_attach(podman: Podman, cgroup2: Path) -> None:
    """`attach` gives a running container input and shows its output until it has ended."""
    podman.run("-d", "-i", "--name=web", script="read word; echo got $word; exit 9")
    assert podman("attach", "web", given="a word\n").stdout.split() == ["got", "a", "word"]
    assert podman("wait", "web").stdout == "9\n"
    podman("rm", "web")


def test_limits(podman: Podman, cgroup2: Path) -> None:
    """Memory, tasks and CPU are limited; what is updated counts; who takes too much memory is killed for it."""
    podman.run("-d", "--name=web", "--memory=64m", "--pids-limit=20", "--cpus=0.5", script="sleep 1000")
    (found,) = cgroup2.rglob("libpod-*/cgroup.procs")
    place = found.parent
    read = {name: (place / name).read_text().strip() for name in ("memory.max", "pids.max", "cpu.max")}
    assert read == {"memory.max": str(64 << 20), "pids.max": "20", "cpu.max": "50000 100000"}
    podman("update", "--memory=48m", "web")
    assert (place / "memory.max").read_text() == f"{48 << 20}\n"
    many = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do (sleep 9 & sleep 9) & done"
    assert "can't fork" in podman("exec", "web", "sh", "-c", many, check=False).stderr
    assert int((place / "pids.events").read_text().split()[1]) > 0
    podman("rm", "-f", "-t", "0", "web")
    assert not place.exists()


def test_out_of_memory(podman: Podman, cgroup2: Path) -> None:
    """A container that takes more memory than it may is killed, and podman knows why."""
    done = podman.run("--name=web", "--memory=16m", script="exec dd if=/dev/zero of=/dev/null bs=64M", check=False)
    assert done.returncode == 137
    state = podman("inspect", "--format={{.State.OOMKilled}}", "web").stdout
    assert state == "true\n"


def test_a_terminal(podman: Podman, cgroup2: Path) -> None:
    """`run -t` gives the program a terminal of its own, of the size of the user's."""
    leader, follower = pty.openpty()
    termios.tcsetwinsize(leader, (31, 97))
    words = podman.command("run", "--network=none", "--rm", "-it", "--rootfs", str(podman.rootfs))
    child = subprocess.Popen([*words, "sh", "-c", "tty; stty size"], stdin=follower, stdout=follower, stderr=follower)
    os.close(follower)
    with open(leader, "rb", buffering=0) as file:
        said = list(iter(lambda: read_terminal(file), b""))
    assert child.wait() == 0
    assert b"".join(said).split() == [b"/dev/pts/0", b"31", b"97"]


def read_terminal(file: BinaryIO) -> bytes:
    """Reads on; nothing when nobody has the other end any more."""
    try:
        return file.read(1000)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return b""


@pytest.mark.parametrize(("program", "code"), [("nosuch", 127), ("/etc", 126)])
def test_what_cannot_be_run(podman: Podman, cgroup2: Path, program: str, code: int) -> None:
    """A program that is missing gives 127, what is none 126, and no container is left."""
    front = ("run", "--rm", "--network=none", "--rootfs", str(podman.rootfs))
    assert podman(*front, program, check=False).returncode == code
    assert podman("ps", "-aq").stdout == ""
    assert not list(Path("/run/kernelproof/containers").iterdir())


def test_mapped_and_read_only(podman: Podman, cgroup2: Path) -> None:
    """Users can be mapped, the root read-only, capabilities dropped: the program finds it so."""
    for path in (podman.place, *podman.place.parents):
        path.chmod(path.stat().st_mode | 0o011)
    for path in (podman.rootfs, *podman.rootfs.rglob("*")):
        os.chown(path, 100_000, 100_000, follow_symlinks=False)
    script = "cat /proc/self/uid_map; touch /x 2>/dev/null || echo read-only; grep CapEff /proc/self/status"
    done = podman.run(
        "--rm", "--uidmap=0:100000:65536", "--gidmap=0:100000:65536", "--read-only", "--cap-drop=all", script=script
    )
    assert done.stdout.split() == ["0", "100000", "65536", "read-only", "CapEff:", "0" * 16]
