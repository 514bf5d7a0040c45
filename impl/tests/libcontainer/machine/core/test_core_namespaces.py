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
from kernelproof.impl.libcontainer.config.records import Config, IdMapping, Mount, Namespace, Rlimit, TimeOffset
from kernelproof.impl.libcontainer.config.writing import dump

pytestmark = [pytest.mark.machine(profile="runtimes"), pytest.mark.usefixtures("nothing_left")]

KINDS = ("pid", "network", "ipc", "uts", "mount", "cgroup")
MAPS = (IdMapping(0, 100_000, 65_536),)
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


def test_a_cgroup_of_its_own_to_write_in(bundle: Any, cgroup2: Path) -> None:
    """With other users, and a writable cgroup mount, the container makes cgroups; its limits stay the host's."""
    for path in (bundle.rootfs, *bundle.rootfs.rglob("*")):
        os.chown(path, 100_000, 100_000, follow_symlinks=False)
    mounts = (Mount("/proc", "proc", "proc"), Mount("/sys/fs/cgroup", "cgroup", "cgroup", ("nosuid", "nodev", "rw")))
    script = (
        "cd /sys/fs/cgroup && mkdir sub && echo $$ > sub/cgroup.procs && cat /proc/self/cgroup > /out; ls -ln > /list"
    )
    config = bundle.config("sh", "-c", script, kinds=(*KINDS, "user"), mounts=mounts)
    assert run(bundle, config) == "0::/sub\n"
    owners = {line.split()[-1]: line.split()[2] for line in (bundle.rootfs / "list").read_text().splitlines()[1:]}
    delegated = Path("/sys/kernel/cgroup/delegate").read_text().split()
    assert {name for name, owner in owners.items() if owner == "0"} == {"sub", *(set(delegated) & owners.keys())}


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


@pytest.fixture
def mapped_holder() -> Iterator[subprocess.Popen[bytes]]:
    """A process in a user namespace with the usual maps, and in a network namespace that belongs to it."""
    code = (
        "import os, signal, sys\n"
        "os.unshare(os.CLONE_NEWUSER)\n"
        "os.write(1, b'x')\n"
        "sys.stdin.buffer.read(1)\n"
        "os.setresuid(0, 0, 0)\n"
        "os.unshare(os.CLONE_NEWNET)\n"
        "os.write(1, b'y')\n"
        "signal.pause()"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.read(1) == b"x"
        for file in ("uid_map", "gid_map"):
            Path(f"/proc/{process.pid}/{file}").write_text("0 100000 1000\n1000 101000 64536\n")
        process.stdin.write(b"x")
        assert process.stdout.read(1) == b"y"
        yield process
        process.kill()


def in_user_namespace(
    bundle: Any, holder: subprocess.Popen[bytes], script: str, kinds: tuple[str, ...] = ("user",), **linux: object
) -> Config:
    """A configuration that joins namespaces of a holder, the user namespace among them; the root's files are its."""
    for path in (bundle.rootfs, *bundle.rootfs.rglob("*")):
        os.chown(path, 100_000, 100_000, follow_symlinks=False)
    wanted = (*KINDS, "user")
    joined = tuple(Namespace(one, path_of(holder, one) if one in kinds else None) for one in wanted)
    config: Config = bundle.config("sh", "-c", script)
    return config.replace(linux=config.linux.replace(namespaces=joined, **linux))


SEEN = (
    "cd /proc/self; for one in user net uts; do readlink ns/$one; done > /out; cat uid_map gid_map >> /out; id >> /out"
)


@pytest.mark.parametrize("kinds", [("user",), ("user", "network")], ids="+".join)
@pytest.mark.parametrize("given", [False, True], ids=["no maps", "the same maps"])
def test_a_user_namespace_is_joined(
    bundle: Any, cgroup2: Path, mapped_holder: subprocess.Popen[bytes], kinds: tuple[str, ...], *, given: bool
) -> None:
    """The program is root of the namespace at the path, whose maps stay; what else is listed is new, or joined too."""
    maps: dict[str, Any] = {"uid_mappings": MAPS, "gid_mappings": MAPS} if given else {}
    user, net, uts, *rest = run(bundle, in_user_namespace(bundle, mapped_holder, SEEN, kinds, **maps)).splitlines()
    assert user == os.readlink(path_of(mapped_holder, "user")) != os.readlink("/proc/self/ns/user")
    assert (net == os.readlink(path_of(mapped_holder, "network"))) is ("network" in kinds)
    assert uts not in (os.readlink(path_of(mapped_holder, "uts")), os.readlink("/proc/self/ns/uts"))
    ranges = [["0", "100000", "1000"], ["1000", "101000", "64536"]]
    assert [line.split() for line in rest[:4]] == [*ranges, *ranges]
    assert rest[4] == "uid=0 gid=0"
    assert (bundle.rootfs / "out").stat().st_uid == 100_000


def test_a_process_enters_the_user_namespace_that_was_joined(
    bundle: Any, cgroup2: Path, mapped_holder: subprocess.Popen[bytes]
) -> None:
    """A further process of such a container is in the namespace of its first one."""
    config = in_user_namespace(bundle, mapped_holder, "sleep 1000")
    text = dump(config, own=True).encode()
    started = lifecycle.create(str(bundle.states), config, Request("box", str(bundle.path)), config_text=text)
    script = "readlink /proc/self/ns/user > /out; id -u >> /out; echo x > /dev/null && ls /dev/tty >> /out"
    assert config.process is not None
    entered = running.execute(str(bundle.states), "box", config.process.replace(args=("sh", "-c", script)))
    os.close(entered.pidfd)
    assert running.await_end(entered) == 0
    found = (bundle.rootfs / "out").read_text().splitlines()
    assert found == [os.readlink(path_of(mapped_holder, "user")), "0", "/dev/tty"]
    lifecycle.delete(str(bundle.states), "box", force=True)
    os.close(started.pidfd)
    assert running.await_end(started) == 137


@pytest.mark.parametrize("key", ["uid_mappings", "gid_mappings"])
def test_other_maps_than_the_namespace_has(
    bundle: Any, cgroup2: Path, mapped_holder: subprocess.Popen[bytes], key: str
) -> None:
    """Maps of the configuration that are not those of the namespace at the path end the start, and nothing is left."""
    maps: dict[str, Any] = {"uid_mappings": MAPS, "gid_mappings": MAPS, key: (IdMapping(0, 100_000, 1000),)}
    said = rf"{key[:3]}Mappings 0 is 100000 \(1000\): the user namespace that is joined has 0 is 100000 \(65536\)"
    with pytest.raises(StartError, match=said):
        run(bundle, in_user_namespace(bundle, mapped_holder, "true", **maps))


def test_a_user_namespace_without_maps(bundle: Any, cgroup2: Path) -> None:
    """One in which nobody is mapped can't be joined; the error says what is missing."""
    code = "import os, signal\nos.unshare(os.CLONE_NEWUSER)\nos.write(1, b'x')\nsignal.pause()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.read(1) == b"x"
            with pytest.raises(StartError, match=r"\(EINVAL\)\. .* user 0 or no group 0: map them"):
                run(bundle, in_user_namespace(bundle, process, "true"))
        finally:
            process.kill()
