"""containerd with nsinit as the runtime of its runc shim, offline: the image is made of busybox on the spot.

The shim calls the runtime with its own words and reads the last error of the JSON log; `ctr` is what asks for it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from kernelproof.impl.tests.libcontainer.machine.nsinit.command import HALF

pytestmark = pytest.mark.machine(profile="containerd")

APPLETS = ("true", "sh", "sleep", "cat", "id", "echo", "hostname", "tty")
SCRIPTS = Path(__file__).parents[4] / "libcontainer/nsinit/scripts"
# In front of nsinit: notes the words of each call.
FRONT = """#!/bin/sh
echo "$@" >> {log}
exec {nsinit} "$@"
"""
IMAGE = "example.test/box:1"
STATES = "/run/containerd/runc/default"
SETTINGS = """version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.tracing"]
"""


class Containerd(NamedTuple):
    """A running containerd, and `ctr` that speaks to it."""

    place: Path
    socket: Path
    runtime: Path

    def __call__(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs `ctr`, and says what it printed if it fails."""
        with open(self.place / "out", "w+") as out, open(self.place / "err", "w+") as err:
            done = subprocess.run(
                ["ctr", f"--address={self.socket}", *words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                check=False,
            )
        said = [(self.place / name).read_text() for name in ("out", "err")]
        assert not check or done.returncode == 0, f"ctr {' '.join(words)}: {done.returncode}\n{''.join(said)}"
        return subprocess.CompletedProcess(done.args, done.returncode, *said)

    def words(self, *options: str, name: str, script: str) -> list[str]:
        """The words of `ctr run` of a script in the image."""
        return [
            "run",
            "--snapshotter=native",
            f"--runc-binary={self.runtime}",
            *options,
            IMAGE,
            name,
            "sh",
            "-c",
            script,
        ]

    def run(self, *options: str, name: str, script: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`ctr run` of a script in the image."""
        return self(*self.words(*options, name=name, script=script), check=check)

    @contextmanager
    def running(self, *options: str, name: str, script: str) -> Iterator[subprocess.Popen[bytes]]:
        """`ctr run` of a script that says when it is ready; it ends with the script's status."""
        command = ["ctr", f"--address={self.socket}", *self.words(*options, name=name, script=f"echo ready; {script}")]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            try:
                assert process.stdout.readline() == b"ready\n"
                yield process
            finally:
                process.kill()

    def tasks(self) -> dict[str, str]:
        """What each container's task does, by its name."""
        lines = self("task", "list").stdout.splitlines()[1:]
        return {name: status for name, _, status in map(str.split, lines)}

    def calls(self) -> list[list[str]]:
        """The words of the runtime's calls, without its global options."""
        found = []
        for line in (self.place / "calls").read_text().splitlines():
            words = line.split()
            assert words[:2] == ["--root", STATES]
            assert (words[2], words[4:6]) == ("--log", ["--log-format", "json"])
            found.append(words[6:])
        return found


def write_script(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


def write_image(place: Path) -> Path:
    """An image of one layer with busybox, as an archive of the OCI layout."""
    busybox = shutil.which("busybox")
    assert busybox is not None, "the profile has it"
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        for name in ("bin", "proc", "dev", "sys", "etc", "tmp", "run"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(folder)
        archive.add(busybox, "bin/busybox")
        for name in APPLETS:
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
    blobs: dict[str, bytes] = {}

    def keep(data: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    machine = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    layered = keep(layer.getvalue(), "layer.v1.tar")
    config = {
        "architecture": machine,
        "os": "linux",
        "config": {"Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [layered["digest"]]},
    }
    configured = keep(json.dumps(config).encode(), "config.v1+json")
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": configured,
        "layers": [layered],
    }
    whole = keep(json.dumps(manifest).encode(), "manifest.v1+json")
    whole["annotations"] = {"io.containerd.image.name": IMAGE}
    blobs["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [whole]}).encode()
    blobs["oci-layout"] = b'{"imageLayoutVersion": "1.0.0"}'
    with tarfile.open(place / "image.tar", "w") as archive:
        for name, data in blobs.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return place / "image.tar"


@pytest.fixture
def cgroup2(hierarchy: Callable[..., Path]) -> Path:
    """The hierarchy of version 2, where containerd looks for it."""
    return hierarchy("v2", at=Path("/sys/fs/cgroup"))


@pytest.fixture
def containerd(tmp_path: Path, cgroup2: Path) -> Iterator[Containerd]:
    """containerd without its Kubernetes half, with an image, and nsinit for its shim."""
    write_script(tmp_path / "bin/nsinit", (SCRIPTS / "nsinit").read_text(encoding="utf-8"))
    write_script(tmp_path / "bin/nsinit-python", HALF)
    front = FRONT.format(log=tmp_path / "calls", nsinit=tmp_path / "bin/nsinit")
    made = Containerd(tmp_path, Path("/run/tried.sock"), write_script(tmp_path / "front/nsinit", front))
    (tmp_path / "config.toml").write_text(SETTINGS)
    command = ["containerd", f"--config={tmp_path}/config.toml", f"--address={made.socket}"]
    command += [f"--root={tmp_path}/root", f"--state={tmp_path}/state"]
    with (
        open(tmp_path / "log", "w", encoding="utf-8") as log,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready,
    ):
        ready.bind(str(tmp_path / "ready"))
        ready.settimeout(120)
        env = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "ready")}
        with subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as daemon:
            try:
                assert ready.recv(100).startswith(b"READY=1")
                made("image", "import", "--snapshotter=native", str(write_image(tmp_path)))
                yield made
            finally:
                daemon.send_signal(signal.SIGTERM)
                print((tmp_path / "log").read_text(encoding="utf-8")[-4000:])


def test_run(containerd: Containerd, cgroup2: Path) -> None:
    """`ctr run` gives the program's output and exit status, and leaves no state and no cgroup behind."""
    done = containerd.run("--rm", name="web", script="echo from $$; id -u; exit 7", check=False)
    assert (done.returncode, done.stdout) == (7, "from 1\n0\n"), done.stderr
    assert [words[0] for words in containerd.calls()] == ["create", "start", "delete", "delete"]
    assert list(Path(STATES).iterdir()) == []
    assert not (cgroup2 / "default/web").exists()
    assert containerd("container", "list", "--quiet").stdout == ""


def test_life(containerd: Containerd, cgroup2: Path) -> None:
    """run, exec, pause, resume, metrics, ps, kill and delete by the shim."""
    cgroup = cgroup2 / "default/web"
    script = "trap 'exit 3' TERM; sleep 1000 & wait"
    with containerd.running("--memory-limit=67108864", name="web", script=script) as process:
        assert containerd.tasks() == {"web": "RUNNING"}
        assert (cgroup / "memory.max").read_text() == f"{64 << 20}\n"
        done = containerd("task", "exec", "--exec-id=more", "web", "sh", "-c", "echo again; exit 5", check=False)
        assert (done.returncode, done.stdout) == (5, "again\n"), done.stderr
        containerd("task", "pause", "web")
        assert containerd.tasks() == {"web": "PAUSED"}
        assert "frozen 1" in (cgroup / "cgroup.events").read_text()
        containerd("task", "resume", "web")
        assert containerd.tasks() == {"web": "RUNNING"}
        pids = {line.split()[0] for line in containerd("task", "ps", "web").stdout.splitlines()[1:]}
        assert pids == set((cgroup / "cgroup.procs").read_text().split())
        assert "memory.usage " in containerd("task", "metrics", "web").stdout
        containerd("task", "kill", "--signal=TERM", "web")
        assert process.wait(60) == 3
    containerd("container", "delete", "web")
    assert not cgroup.exists()
    asked = {words[0] for words in containerd.calls()}
    assert asked >= {"create", "start", "exec", "pause", "resume", "ps", "kill", "delete"}
    assert list(Path(STATES).iterdir()) == []


def test_update(containerd: Containerd, cgroup2: Path) -> None:
    """Limits are changed with the words that the shim has for it; `ctr` has no command that asks for them."""
    with containerd.running(name="web", script="sleep 1000") as process:
        given = json.dumps({"memory": {"limit": 32 << 20}, "pids": {"limit": 12}})
        words = ["--root", STATES, "--log", "log.json", "--log-format", "json", "update", "--resources", "-", "web"]
        subprocess.run([containerd.runtime, *words], input=given, text=True, check=True, cwd=containerd.place)
        cgroup = cgroup2 / "default/web"
        assert [(cgroup / name).read_text() for name in ("memory.max", "pids.max")] == [f"{32 << 20}\n", "12\n"]
        containerd("task", "kill", "--signal=KILL", "web")
        assert process.wait(60) == 137
    containerd("container", "delete", "web")


def test_what_fails(containerd: Containerd, cgroup2: Path) -> None:
    """The error that reaches the user is the runtime's own, and nothing is left."""
    front = ("run", "--rm", "--snapshotter=native", f"--runc-binary={containerd.runtime}", IMAGE, "web", "nosuch")
    done = containerd(*front, check=False)
    assert done.returncode != 0
    assert "nosuch" in done.stderr
    assert "executable file not found" in done.stderr
    assert not (cgroup2 / "default/web").exists()
    assert list(Path(STATES).iterdir()) == []


def test_a_container_that_was_killed(containerd: Containerd, cgroup2: Path) -> None:
    """When its shim is killed, containerd has the runtime delete what is left, by force."""
    containerd.run("--detach", name="web", script="sleep 1000")
    (pid,) = (cgroup2 / "default/web/cgroup.procs").read_text().split()
    shim = next(line.split()[1] for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "PPid" in line)
    ended = os.pidfd_open(int(pid))
    os.kill(int(shim), signal.SIGKILL)
    try:
        assert select.select([ended], [], [], 60)[0]
    finally:
        os.close(ended)
    containerd("container", "delete", "web")
    assert ["delete", "--force", "web"] in containerd.calls()
