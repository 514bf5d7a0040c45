"""What runs, compared with what was asked: here this very process stands for a container's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernelproof.impl.cgroups.writes import Write
from kernelproof.impl.libcontainer.attesting import (
    Place,
    _process,
    compare_mounts,
    is_kept,
    names_of,
    parse_status,
    verify,
)
from kernelproof.impl.libcontainer.config.records import (
    Capabilities,
    Config,
    Linux,
    Mount,
    Namespace,
    Process,
    Root,
    Seccomp,
    User,
)
from kernelproof.impl.libcontainer.process.identity import Identity, read_identity
from kernelproof.impl.libcontainer.state import State, WrongStatusError
from kernelproof.impl.mount.table import MountTable


@pytest.fixture
def own() -> State:
    """A state whose process is this one."""
    state = State("box", "/", "/", {})
    pidfd = os.pidfd_open(os.getpid())
    state.process = read_identity(os.getpid(), pidfd)
    os.close(pidfd)
    return state


@pytest.mark.rule("K+7")
def test_what_differs_is_named(own: State) -> None:
    """A process in no namespace of its own, of another user, without filter, is not what a container asks for."""
    process = Process(
        "/",
        ("x",),
        user=User(os.getuid() + 7, os.getgid()),
        no_new_privileges=True,
        capabilities=Capabilities(),
    )
    linux = Linux((Namespace("pid"), Namespace("uts")), seccomp=Seccomp("SCMP_ACT_ALLOW"))
    found = {one.what: one for one in verify(own, Config("1.0.2", Root("/x"), process, linux=linux))}
    assert found["$.linux.namespaces[pid]"].found == "the host's"
    assert found["$.linux.namespaces[uts]"].asked == "one of its own"
    assert "$.linux.namespaces[ipc]" not in found
    assert found["$.process.user.uid"].asked == os.getuid() + 7
    assert "$.process.user.gid" not in found
    assert str(found["$.process.noNewPrivileges"]) == "$.process.noNewPrivileges: True was asked, False is"
    assert "$.linux.seccomp" in found or "Seccomp:\t2" in Path("/proc/self/status").read_text()


@pytest.mark.rule("K+7")
def test_what_is_as_asked_is_not_named(own: State) -> None:
    """A configuration that asks for what this process is has no findings."""
    user = User(os.getuid(), os.getgid(), additional_gids=tuple(os.getgroups()))
    status = parse_status(Path("/proc/self/status").read_text())
    seccomp = Seccomp("SCMP_ACT_ALLOW") if status.get("Seccomp") == "2" else None
    sets = [tuple(names_of(int(status[name], 16))) for name in ("CapBnd", "CapEff", "CapInh", "CapPrm", "CapAmb")]
    process = Process(
        "/", ("x",), user=user, no_new_privileges=status.get("NoNewPrivs") == "1", capabilities=Capabilities(*sets)
    )
    asked = Config("1.0.2", Root("/x"), process, linux=Linux(seccomp=seccomp))
    assert verify(own, asked) == ()
    silent = asked.replace(process=process.replace(capabilities=None))
    assert {one.what.rpartition(".")[2] for one in verify(own, silent)} == {
        field for field, names in zip(Capabilities.__annotations__, sets, strict=True) if names
    }


TABLE = MountTable.parse(
    "20 1 0:5 / / ro - ext4 disc rw\n"
    "21 20 0:6 /inside /data rw,nosuid,relatime - tmpfs tmpfs rw\n"
    "22 20 0:7 / /work rw,relatime - ext4 disc rw\n"
    "23 20 0:8 / /mask ro,relatime - tmpfs tmpfs ro\n"
)
DATA, WORK, MASK = [Place(TABLE.find(path)) for path in ("/data", "/work", "/mask")]
PLACES = {
    "/": Place(TABLE.root),
    "/data": DATA,
    "data/": DATA,
    "/link": WORK,
    "/proc/keys": Place(None, os.makedev(1, 3)),
    "/proc/kcore": Place(None),
    "/sys/firmware": MASK,
    "/inside": Place(None),
}


@pytest.mark.parametrize(
    ("mounts", "masked", "expected"),
    [
        ((Mount("/data", "tmpfs", "tmpfs"), Mount("data/"), Mount("/link", "bind", "/", ("rbind",))), (), {}),
        ((Mount("/data", options=("ro",)),), (), {"$.mounts[0].options": ("ro", "rw,nosuid,relatime")}),
        ((Mount("/inside"),), (), {"$.mounts[0].destination": ("/inside", "no mount point")}),
        ((Mount("/inside/a"), Mount("inside/a/b"), Mount("/data")), (), {
            "$.mounts[0].destination": ("/inside/a", "no mount point"),
            "$.mounts[1].destination": ("inside/a/b", "no mount point"),
        }),
        ((Mount("/data/a"), Mount("/data")), (), {}),
        ((Mount("/link", "tmpfs", "tmpfs"),), (), {"$.mounts[0].type": ("tmpfs", "ext4")}),
        ((Mount("/link", "tmpfs", "tmpfs"), Mount("/link", "bind", "/", ("bind",))), (), {}),
        ((Mount("/sys/firmware", "proc"),), ("/sys/firmware", "/proc/keys", "/nosuch"), {}),
        ((), ("/proc/kcore", "/link"), {
            "$.linux.maskedPaths[0]": ("/proc/kcore", "not masked"),
            "$.linux.maskedPaths[1]": ("/link", "not masked"),
        }),
    ],
)  # fmt: skip
def test_mounts_are_looked_for_where_they_should_be(
    mounts: tuple[Mount, ...], masked: tuple[str, ...], expected: dict[str, tuple[str, str]]
) -> None:
    """What a destination leads to is compared: type, ro; not what the configuration itself mounts over it."""
    config = Config("1.0.2", Root("/x", readonly=True), mounts=mounts, linux=Linux(masked_paths=masked))
    assert {one.what: (one.asked, one.found) for one in compare_mounts(config, PLACES.get)} == expected


@pytest.mark.parametrize(
    ("write", "seen", "expected"),
    [
        (Write("memory.max", "50000001", "memory_max_bytes"), "49999872", True),
        (Write("memory.max", "50000001", "memory_max_bytes"), "49995776", False),
        (Write("pids.max", "5000", "pids_max"), "4096", False),
        (Write("memory.limit_in_bytes", "-1", "memory_max_bytes"), str((1 << 63) - 4096), True),
        (Write("memory.limit_in_bytes", "-1", "memory_max_bytes"), "4096", False),
        (Write("memory.oom_control", "1", "memory_disable_oom_kill", "1"), "oom_kill_disable 1\nunder_oom 0", True),
        (Write("memory.oom_control", "1", "memory_disable_oom_kill", "0"), "oom_kill_disable 0\nunder_oom 0", False),
        (Write("io.max", "8:0 rbps=1", "io"), "8:16 rbps=1\n8:0 rbps=1 wbps=max", True),
        (Write("io.max", "8:0 rbps=1", "io"), "8:0 rbps=2 wbps=max", False),
        (Write("pids.max", "5", "pids_max"), "", False),
    ],
)
def test_limits_as_the_kernel_keeps_them(write: Write, seen: str, expected: bool) -> None:
    """Whole pages, no limit as a large number, and one device's line among others are what was asked."""
    assert is_kept(write, seen, 4096) == expected


@pytest.mark.rule("K+7")
def test_groups_and_what_was_lost_are_named(own: State) -> None:
    """A group that is missing or more than was asked, and a capability of the bounding set that could be had."""
    status = parse_status(Path("/proc/self/status").read_text())
    sets = [tuple(names_of(int(status[name], 16))) for name in ("CapBnd", "CapEff", "CapInh", "CapPrm", "CapAmb")]
    user = User(os.getuid(), os.getgid(), additional_gids=(*os.getgroups(), 77_777))
    config = Config("1.0.2", Root("/x"), Process("/", ("x",), user=user, capabilities=Capabilities(*sets)))
    assert "$.process.user.additionalGids" in {one.what for one in verify(own, config)}
    status["CapBnd"] = "0"
    found = {one.what for one in _process(config.process or Process("/"), config, status)}
    assert ("$.process.capabilities.bounding" in found) == bool(sets[0])


def test_one_that_does_not_run(own: State) -> None:
    """Of a process that is gone, or a stranger's, nothing is compared."""
    own.process = Identity(own.process.pid, own.process.start_time - 1, own.process.inode)
    with pytest.raises(WrongStatusError):
        verify(own, Config("1.0.2"))


def test_names_of_masks() -> None:
    """Bits are capabilities by number."""
    assert names_of(1 << 21 | 1) == {"CAP_CHOWN", "CAP_SYS_ADMIN"}
