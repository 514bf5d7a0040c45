"""procfs: of another PID namespace, subsets that stay, and what a user namespace may mount."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.impl import mount
from kernelproof.impl._syscalls import mount as calls
from kernelproof.impl._syscalls.mount import AT_FDCWD, FsConfig, FsPickFlag, MountFlag, MoveMountFlag
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelproof.conformance.conftest import Companion, Talk
    from kernelproof.conformance.mount.conftest import InOthersSkin, LineAt, Refusal
    from kernelproof.conformance.seen import Seen


@pytest.fixture
def elsewhere(companion: Companion) -> int:
    """A descriptor of a PID namespace with one process."""

    def live(talk: Talk) -> None:
        unshare(CloneFlag.NEWPID)
        child = companion(lambda inner: inner.hear())
        talk.ask(child.pid)

    return os.open(f"/proc/{companion(live).hear()}/ns/pid", os.O_RDONLY)


def attach(context: int, place: Path) -> None:
    """Create what a context says and attach it."""
    calls.fsconfig(context, FsConfig.CMD_CREATE)
    calls.move_mount(calls.fsmount(context), "", AT_FDCWD, place, MoveMountFlag.F_EMPTY_PATH)


def pids_in(proc: Path) -> list[str]:
    """The processes that a procfs shows."""
    return [name for name in os.listdir(proc) if name.isdigit()]


@behaviour("mount.proc.pidns-by-fd")
def test_namespace_by_descriptor(elsewhere: int, tree: Path, seen: Seen) -> None:
    """procfs with a descriptor for pidns shows the processes of that namespace, and not those of who mounts it."""
    context = calls.fsopen("proc")
    calls.fsconfig(context, FsConfig.SET_FD, "pidns", None, elsewhere)
    attach(context, tree / "a")
    assert seen(pids_in(tree / "a")) == ["1"]
    assert len(pids_in(Path("/proc"))) > 1


@behaviour("mount.proc.pidns-by-path")
def test_namespace_by_path(elsewhere: int, tree: Path, seen: Seen) -> None:
    """procfs with a path for pidns shows the processes of that namespace, also by mount(2)."""
    calls.mount("proc", tree / "a", "proc", 0, f"pidns=/proc/{os.getpid()}/fd/{elsewhere}")
    assert seen(pids_in(tree / "a")) == ["1"]


@behaviour("mount.proc.pidns-stays")
def test_namespace_stays(elsewhere: int, tree: Path, seen: Seen) -> None:
    """The namespace of a procfs that is there can't be changed: EBUSY."""
    mount.mount("proc", tree / "a", "proc", "")
    context = calls.fspick(AT_FDCWD, tree / "a", FsPickFlag.CLOEXEC)
    assert seen.errno_of(calls.fsconfig, context, FsConfig.SET_FD, "pidns", None, elsewhere) == "EBUSY"


@behaviour("mount.proc.pidns-before-6-17")
def test_namespace_on_an_older_kernel(elsewhere: int, tree: Path, refusal: Refusal, seen: Seen) -> None:
    """A kernel without pidns refuses it: EINVAL."""
    assert refusal(calls.fsconfig, calls.fsopen("proc"), FsConfig.SET_FD, "pidns", None, elsewhere) == "EINVAL"
    assert seen.errno_of(calls.mount, "proc", tree / "a", "proc", 0, "pidns=/proc/self/ns/pid") == "EINVAL"


def add_subset(proc: Path) -> None:
    """Remount procfs as one of processes alone."""
    calls.mount(None, proc, None, MountFlag.REMOUNT, "subset=pid")


@behaviour("mount.proc.subset-stays")
def test_subset_stays(tree: Path, refusal: Refusal, line_at: LineAt, seen: Seen) -> None:
    """subset=pid can't be set on a procfs that is there: what it shows stays."""
    mount.mount("proc", tree / "a", "proc", "")
    assert refusal(add_subset, tree / "a") != "no error"
    assert "subset=pid" not in line_at(tree / "a").super_options
    assert seen((tree / "a/meminfo").exists())


def masked(then: Callable[[], str]) -> Callable[[], str]:
    """Hide a file of procfs by a mount and call a function in a new user, mount and PID namespace."""

    def run() -> str:
        reader, writer = os.pipe()
        unshare(CloneFlag.NEWPID)
        pid = os.fork()
        if pid == 0:
            os.write(writer, then().encode())
            os._exit(0)
        os.waitpid(pid, 0)
        return os.read(reader, 100).decode()

    return run


@pytest.fixture
def hidden_file(tree: Path) -> Path:
    """A place for procfs, in a mount namespace where a file of /proc is hidden by a mount."""
    unshare(CloneFlag.NEWNS)
    mount.make_rprivate("/")
    mount.bind("/dev/null", "/proc/meminfo")
    return tree / "a"


@behaviour("mount.proc.userns-hidden-eperm")
def test_hidden_file_in_user_namespace(
    hidden_file: Path, as_guest_root: InOthersSkin, refusal: Refusal, seen: Seen
) -> None:
    """Where a file of /proc is hidden, root of a user namespace mounts no whole procfs: EPERM."""
    ask = masked(lambda: refusal(calls.mount, "proc", hidden_file, "proc"))
    assert seen(as_guest_root(ask)) == "EPERM"


@behaviour("mount.proc.userns-hidden-subset")
def test_subset_in_user_namespace(hidden_file: Path, as_guest_root: InOthersSkin, refusal: Refusal, seen: Seen) -> None:
    """Where a file of /proc is hidden, root of a user namespace mounts procfs with subset=pid, and is in it."""

    def mount_and_look() -> str:
        answer = refusal(calls.mount, "proc", hidden_file, "proc", 0, "subset=pid")
        return " ".join([answer, *pids_in(hidden_file)])

    assert seen(as_guest_root(masked(mount_and_look))) == "no error 1"


@behaviour("mount.proc.userns-hidden-subset-before")
def test_subset_in_user_namespace_on_an_older_kernel(
    hidden_file: Path, as_guest_root: InOthersSkin, refusal: Refusal, seen: Seen
) -> None:
    """An older kernel refuses subset=pid there too: EPERM."""
    ask = masked(lambda: refusal(calls.mount, "proc", hidden_file, "proc", 0, "subset=pid"))
    assert seen(as_guest_root(ask)) == "EPERM"
