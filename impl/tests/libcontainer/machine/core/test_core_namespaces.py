"""Namespaces of a container that are not simply new: joined by their paths, with own clocks, with other users."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kernelproof.impl.libcontainer import Request, StartError, lifecycle, running
from kernelproof.impl.libcontainer.config.records import Config, Mount, Namespace, Rlimit, TimeOffset
from kernelproof.impl.libcontainer.config.writing import dump

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.usefixtures("nothing_left")]

KINDS = ("pid", "network", "ipc", "uts", "mount", "cgroup")
FILES = {"pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "cgroup": "cgroup", "user": "user"}


def run(bundle: Any, config: Config) -> str:
    """Runs a container whose program writes to /out, and returns what it wrote."""
    text = dump(config, own=True).encode()
    started = lifecycle.run(str(bundle.states), config, Request("box", str(bundle.path), waits=False), config_text=text)
    os.close(started.pidfd)
    code = running.await_end(started)
    lifecycle.delete(str(bundle.states), "box")
    assert code == 0
    return str((bundle.rootfs / "out").read_text())


@pytest.fixture
def holder() -> Iterator[subprocess.Popen[bytes]]:
    """A process in new namespaces of all kinds but that of mounts; of its PID namespace it is the parent."""
    code = (
        "import os, signal, sys\n"
        "os.unshare(os.CLONE_NEWNET | os.CLONE_NEWUTS | os.CLONE_NEWIPC | os.CLONE_NEWCGROUP | os.CLONE_NEWPID)\n"
        "if os.fork() == 0: signal.pause()\n"
        "os.write(1, b'x')\n"
        "signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"x"
        inner = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield process
        for pid in (*map(int, inner), process.pid):
            os.kill(pid, 9)


def path_of(holder: subprocess.Popen[bytes], kind: str) -> str:
    file = "pid_for_children" if kind == "pid" else FILES[kind]
    return f"/proc/{holder.pid}/ns/{file}"


@pytest.mark.parametrize("kind", ["network", "uts", "ipc", "pid", "cgroup"])
def test_a_namespace_is_joined(bundle: Any, cgroup2: Path, holder: subprocess.Popen[bytes], kind: str) -> None:
    """The program is in the namespace that the path names, and in a new one of each other kind that is listed."""
    config = bundle.config(
        "sh", "-c", "for kind in net uts ipc pid cgroup; do readlink /proc/self/ns/$kind; done > /out"
    )
    namespaces = tuple(Namespace(one, path_of(holder, one) if one == kind else None) for one in KINDS)
    found = run(bundle, config.replace(linux=config.linux.replace(namespaces=namespaces))).split()
    names = ("network", "uts", "ipc", "pid", "cgroup")
    theirs = [os.readlink(path_of(holder, one)) for one in names]
    assert [one for one, ours, other in zip(names, found, theirs, strict=True) if ours == other] == [kind]
    assert not set(found) & {os.readlink(f"/proc/self/ns/{FILES[one]}") for one in names}


def test_a_path_of_another_kind(bundle: Any, cgroup2: Path, holder: subprocess.Popen[bytes]) -> None:
    """A path that leads to a namespace of another kind, or to none, ends the start before anything is joined."""
    config = bundle.config("true")
    for path, said in ((path_of(holder, "uts"), "of kind uts, not network"), ("/etc/passwd", "no namespace")):
        namespaces = tuple(Namespace(one, path if one == "network" else None) for one in KINDS)
        wrong = config.replace(linux=config.linux.replace(namespaces=namespaces))
        with pytest.raises(StartError, match=said):
            run(bundle, wrong)


def test_clocks(bundle: Any, cgroup2: Path) -> None:
    """In a time namespace the clocks are moved by what the configuration says, and the host's stay."""
    if not os.path.exists("/proc/self/ns/time"):
        pytest.skip("not applicable: the kernel has no time namespaces")
    offsets = (("boottime", TimeOffset(7_000_000, 0)), ("monotonic", TimeOffset(3_000_000, 0)))
    config = bundle.config(
        "sh", "-c", "cat /proc/uptime > /out; cat /proc/self/timens_offsets >> /out",
        kinds=(*KINDS, "time"), time_offsets=offsets,
    )  # fmt: skip
    uptime, *lines = run(bundle, config).splitlines()
    assert 7_000_000 <= float(uptime.split()[0]) < 7_100_000
    assert [line.split() for line in lines] == [["monotonic", "3000000", "0"], ["boottime", "7000000", "0"]]
    assert float(Path("/proc/uptime").read_text().split()[0]) < 100_000


def test_limits_above_the_callers(bundle: Any, cgroup2: Path) -> None:
    """A hard limit above the caller's and a lower OOM score are had with other users too, where the caller may."""
    for path in (bundle.rootfs, *bundle.rootfs.rglob("*")):
        os.chown(path, 100_000, 100_000, follow_symlinks=False)
    config = bundle.config(
        "sh",
        "-c",
        "ulimit -Hn > /out; ulimit -Sn >> /out; cat /proc/self/oom_score_adj >> /out",
        kinds=(*KINDS, "user"),
    )
    limit = Rlimit("RLIMIT_NOFILE", 300_000, 50)
    process = config.process.replace(rlimits=(limit,), oom_score_adj=-300)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 4096))
    assert run(bundle, config.replace(process=process)).split() == ["300000", "50", "-300"]


def test_a_source_that_only_root_reaches(bundle: Any, cgroup2: Path) -> None:
    """A directory of mode 0700 on the way to a bind's source does not stop a container with other users."""
    secret = bundle.path / "secret"
    (secret / "volume").mkdir(parents=True)
    (secret / "volume/file").write_text("inside\n")
    (secret / "volume").chmod(0o755)
    secret.chmod(0o700)
    for path in (bundle.rootfs, *bundle.rootfs.rglob("*")):
        os.chown(path, 100_000, 100_000, follow_symlinks=False)
    proc = Mount("/proc", "proc", "proc")
    mounts = (proc, Mount("/mnt", "none", str(secret / "volume"), ("rbind", "ro")))
    config = bundle.config("sh", "-c", "cat /mnt/file > /out", kinds=(*KINDS, "user"), mounts=mounts)
    assert run(bundle, config) == "inside\n"
