"""Which layer would refuse something, told from the configuration alone."""

from __future__ import annotations

import pytest

from kernelproof.impl.libcontainer.config.own import Landlock, LandlockPath, Network
from kernelproof.impl.libcontainer.config.records import (
    Capabilities,
    Config,
    Linux,
    Mount,
    Namespace,
    Process,
    Root,
    Seccomp,
    SeccompArgument,
    SeccompRule,
)
from kernelproof.impl.libcontainer.security.explain import (
    ALLOWED,
    ANSWERED,
    DENIED,
    explain_call,
    explain_path,
    explain_port,
)

pytestmark = pytest.mark.rule("K+3")

POLICY = Seccomp(
    "SCMP_ACT_ERRNO",
    architectures=("SCMP_ARCH_X86_64", "SCMP_ARCH_X86"),
    listener_path="/agent",
    syscalls=(
        SeccompRule(("read", "mount"), "SCMP_ACT_ALLOW"),
        SeccompRule(("personality",), "SCMP_ACT_ALLOW", args=(SeccompArgument(0, 8, "SCMP_CMP_EQ"),)),
        SeccompRule(("mkdir",), "SCMP_ACT_NOTIFY"),
        SeccompRule(("ptrace",), "SCMP_ACT_KILL_PROCESS"),
    ),
)
X86_64 = "SCMP_ARCH_X86_64"


def config(**how: object) -> Config:
    """A configuration with all layers."""
    capabilities = Capabilities(effective=("CAP_KILL",), permitted=("CAP_KILL",), bounding=("CAP_KILL",))
    linux = Linux((Namespace("network"),), seccomp=POLICY, masked_paths=("/proc/kcore",), readonly_paths=("/proc/sys",))
    made = Config(
        "1.3.0",
        Root("rootfs", readonly=True),
        Process("/", ("true",), capabilities=capabilities),
        mounts=(Mount("/data", options=("ro", "rw")), Mount("/data/fixed", options=("rbind", "ro"))),
        linux=linux,
        landlock=Landlock(4, paths=(LandlockPath("/data", ("read_file", "write_file")),), bind_tcp=(80, 8080)),
    )
    return made.replace(**how)


def told(reasons: tuple[object, ...]) -> list[tuple[str, str]]:
    """Layers and verdicts."""
    return [(each.layer, each.verdict) for each in reasons]  # type: ignore[attr-defined]


def test_calls() -> None:
    """Each layer that has a say about a call says it, with the place in the configuration."""
    assert told(explain_call(config(), "read", architecture=X86_64)) == [("seccomp", ALLOWED)]
    (reason,) = explain_call(config(), "unlink", architecture=X86_64)
    assert reason.why == "unlink fails with EPERM (not named: the default action)"
    assert told(explain_call(config(), "personality", 8, architecture=X86_64)) == [("seccomp", ALLOWED)]
    assert told(explain_call(config(), "personality", 9, architecture=X86_64)) == [("seccomp", DENIED)]
    assert told(explain_call(config(), "mkdir", architecture=X86_64)) == [("seccomp", ANSWERED)]
    (reason,) = explain_call(config(), "ptrace", architecture="SCMP_ARCH_X86")
    assert reason.why == "ptrace kills the process (named in linux.seccomp.syscalls[3])"
    layers = told(explain_call(config(), "mount", architecture=X86_64))
    assert layers == [("seccomp", ALLOWED), ("capabilities", DENIED), ("Landlock", DENIED)]


def test_newer_call_and_foreign_machine() -> None:
    """A call newer than the rules fails with ENOSYS; one of a machine that is not listed kills."""
    (reason,) = explain_call(config(), "landlock_restrict_self", architecture=X86_64)
    assert "fails with ENOSYS" in reason.why
    assert "kills the process" in explain_call(config(), "read", architecture="SCMP_ARCH_AARCH64")[0].why


def test_paths() -> None:
    """A path is judged by masks, read-only places, the mount above it, and Landlock."""
    assert told(explain_path(config(), "/data/file")) == [("Landlock", ALLOWED)]
    assert told(explain_path(config(), "/data/file", "write_file")) == [("Landlock", ALLOWED)]
    assert told(explain_path(config(), "/data/fixed/x", "write_file")) == [("mounts", DENIED), ("Landlock", ALLOWED)]
    assert told(explain_path(config(), "/etc/shadow", "write_file")) == [("mounts", DENIED), ("Landlock", DENIED)]
    assert told(explain_path(config(landlock=None), "/etc/shadow")) == []
    assert told(explain_path(config(landlock=None), "/proc/kcore")) == [("mounts", DENIED)]
    (reason,) = explain_path(config(landlock=None, root=None), "/proc/sys/kernel/x", "write_file")
    assert reason.why == "linux.readonlyPaths has /proc/sys: EROFS"


def test_ports() -> None:
    """A port is judged by Landlock, by the network namespace, and by the capability for low ports."""
    assert told(explain_port(config(), 8080, "bind_tcp")) == [("Landlock", ALLOWED)]
    assert told(explain_port(config(), 80, "bind_tcp")) == [("Landlock", ALLOWED), ("capabilities", DENIED)]
    assert told(explain_port(config(), 443)) == [("Landlock", DENIED), ("namespaces", DENIED)]
    assert told(explain_port(config(landlock=None, networks=(Network("bridge"),)), 443)) == []


def test_questions_that_are_none() -> None:
    """A call, path, right or port that is none is an error."""
    with pytest.raises(LookupError, match="no system call 'frobnicate'"):
        explain_call(config(), "frobnicate", architecture=X86_64)
    told = r"is not absolute|there is no right|is no port"
    with pytest.raises(ValueError, match=told):
        explain_path(config(), "etc")
    with pytest.raises(ValueError, match=told):
        explain_path(config(), "/etc", "fly")
    with pytest.raises(ValueError, match=told):
        explain_port(config(), 65536)
    with pytest.raises(ValueError, match=told):
        explain_port(config(), 1, "fly")
