"""What runs, compared with what was asked: here this very process stands for a container's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernelproof.impl.libcontainer.attesting import _mounts, names_of, parse_status, verify
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
    user = User(os.getuid(), os.getgid())
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


def test_mounts_are_looked_for_where_they_should_be(own: State, tmp_path: Path) -> None:
    """A mount is found by its mount point, not by what is mounted there; its per-mount options are compared."""
    (tmp_path / str(os.getpid())).mkdir()
    for name in ("status", "stat"):
        (tmp_path / str(os.getpid()) / name).write_bytes(Path(f"/proc/self/{name}").read_bytes())
    line = "20 1 0:5 /inside {} rw,nosuid - tmpfs tmpfs rw\n"
    (tmp_path / str(os.getpid()) / "mountinfo").write_text(line.format("/data") + line.format("/tmp"))
    config = Config(
        "1.0.2",
        mounts=(Mount("/data", "tmpfs", "tmpfs"), Mount("/tmp", options=("ro",)), Mount("/inside")),
        linux=Linux((Namespace("mount"),)),
    )
    found = {str(one.what): (one.asked, one.found) for one in _mounts(os.getpid(), config, str(tmp_path))}
    assert found == {
        "$.mounts[1].options": ("ro", "rw,nosuid"),
        "$.mounts[2].destination": ("/inside", "no mount point"),
    }


def test_one_that_does_not_run(own: State) -> None:
    """Of a process that is gone, or a stranger's, nothing is compared."""
    own.process = Identity(own.process.pid, own.process.start_time - 1, own.process.inode)
    with pytest.raises(WrongStatusError):
        verify(own, Config("1.0.2"))


def test_names_of_masks() -> None:
    """Bits are capabilities by number."""
    assert names_of(1 << 21 | 1) == {"CAP_CHOWN", "CAP_SYS_ADMIN"}
