"""Making namespaces: who may, and which flags go together."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kernelproof import behaviour
from kernelproof.conformance.process.procfs import namespace, namespaces, status_bits
from kernelproof.impl._syscalls.clones import check_clone
from kernelproof.impl._syscalls.identity import sethostname
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from kernelproof.conformance.conftest import InChild, Unprivileged
    from kernelproof.conformance.seen import Seen

THREAD = CloneFlag.THREAD | CloneFlag.SIGHAND | CloneFlag.VM
SHARED = (CloneFlag.VM, CloneFlag.SIGHAND, CloneFlag.THREAD)


@behaviour("namespaces.create.needs-sys-admin")
@pytest.mark.parametrize("name", ["NEWNS", "NEWUTS", "NEWIPC", "NEWNET", "NEWPID", "NEWCGROUP"])
def test_unprivileged_caller(name: str, in_child: InChild, unprivileged: Unprivileged, seen: Seen) -> None:
    """Without CAP_SYS_ADMIN no namespace is made but a user namespace: EPERM."""
    assert in_child(lambda: seen.errno_of(unshare, CloneFlag[name])) == "no error"
    assert seen(unprivileged(lambda: seen.errno_of(unshare, CloneFlag[name]))) == "EPERM"


@behaviour("namespaces.create.user-namespace-needs-no-privilege")
def test_user_namespace_of_nobody(unprivileged: Unprivileged, seen: Seen) -> None:
    """A process without any capability makes a user namespace."""

    def make() -> list[Any]:
        capabilities, before = status_bits("CapPrm"), namespace("user")
        unshare(CloneFlag.NEWUSER)
        return [capabilities, namespace("user") != before]

    assert seen(unprivileged(make)) == [0, True]


@behaviour("namespaces.create.userns-first-in-one-call")
def test_user_namespace_comes_first(unprivileged: Unprivileged, seen: Seen) -> None:
    """In one call the user namespace is made first, and owns the others."""

    def make() -> list[Any]:
        before = namespaces()
        unshare(CloneFlag.NEWUSER | CloneFlag.NEWUTS | CloneFlag.NEWNET)
        sethostname("inside")
        new = [name for name, text in namespaces().items() if before[name] != text]
        return [new, os.uname().nodename]

    assert seen(unprivileged(make)) == [["net", "user", "uts"], "inside"]
    assert os.uname().nodename != "inside"


@behaviour("namespaces.create.unshare-zero-is-noop")
def test_unshare_of_nothing(in_child: InChild, seen: Seen) -> None:
    """unshare(0) changes nothing."""

    def call() -> list[bool]:
        before = namespaces()
        unshare(0)
        unchanged = namespaces() == before
        unshare(CloneFlag.NEWUTS)  # so that a link can be seen to change
        return [unchanged, namespaces() == before]

    assert seen(in_child(call)) == [True, False]


@behaviour("namespaces.create.unshare-unknown-bit")
def test_unknown_flag(in_child: InChild, seen: Seen) -> None:
    """A bit that is no flag gives EINVAL."""
    assert seen(in_child(lambda: [seen.errno_of(unshare, flags) for flags in (0x1, CloneFlag.NEWUTS | 0x1)])) == [
        "EINVAL",
        "EINVAL",
    ]


@behaviour("namespaces.create.unshare-vm-single-threaded")
def test_flags_of_threads_alone(in_child: InChild, seen: Seen) -> None:
    """With one thread unshare of VM, SIGHAND and THREAD succeeds and changes nothing."""

    def call() -> list[Any]:
        before = namespaces()
        # A flag that the kernel has not makes it refuse: it does look at the others.
        return [[seen.errno_of(unshare, flag) for flag in (*SHARED, CloneFlag.VM | 0x1)], namespaces() == before]

    assert seen(in_child(call)) == [["no error"] * 3 + ["EINVAL"], True]


@behaviour("namespaces.create.unshare-vm-multithreaded")
def test_memory_of_two_threads(
    in_child: InChild, second_thread: Callable[[], AbstractContextManager[None]], seen: Seen
) -> None:
    """With two threads unshare of VM gives EINVAL."""

    def call() -> list[str]:
        alone = seen.errno_of(unshare, CloneFlag.VM)
        with second_thread():
            return [alone, seen.errno_of(unshare, CloneFlag.VM)]

    assert seen(in_child(call)) == ["no error", "EINVAL"]


def answers(seen: Seen, first: CloneFlag, second: CloneFlag, taken: tuple[int, ...] = (1,)) -> list[str]:
    """What clone3 says to flags without and with some more."""
    return [seen.errno_of(check_clone, flags, taken=taken) for flags in (first, first | second)]


@behaviour("namespaces.create.clone-newns-with-fs")
def test_mount_namespace_with_shared_directories(seen: Seen) -> None:
    """A new mount namespace and a shared root directory give EINVAL."""
    assert seen(answers(seen, CloneFlag.NEWNS, CloneFlag.FS)) == ["no error", "EINVAL"]


@behaviour("namespaces.create.clone-newuser-with-fs")
def test_user_namespace_with_shared_directories(seen: Seen) -> None:
    """A new user namespace and a shared root directory give EINVAL."""
    # Without a right in the user namespace that is left: the ids are asked for in the caller's PID namespace.
    assert seen.errno_of(check_clone, CloneFlag.NEWUSER) == "no error"
    assert seen.errno_of(check_clone, CloneFlag.NEWUSER | CloneFlag.FS) == "EINVAL"


@behaviour("namespaces.create.clone-newipc-with-sysvsem")
def test_ipc_namespace_with_shared_semaphores(seen: Seen) -> None:
    """A new IPC namespace and shared undo values of semaphores give EINVAL."""
    assert seen(answers(seen, CloneFlag.NEWIPC, CloneFlag.SYSVSEM)) == ["no error", "EINVAL"]


@behaviour("namespaces.create.clone-newpid-with-thread")
def test_pid_namespace_of_a_thread(seen: Seen) -> None:
    """A new PID namespace for a thread gives EINVAL."""
    assert seen.errno_of(check_clone, CloneFlag.NEWPID, taken=(1, 1)) == "no error"
    assert seen.errno_of(check_clone, THREAD) == "no error"
    assert seen.errno_of(check_clone, CloneFlag.NEWPID | THREAD, taken=(1, 1)) == "EINVAL"


@behaviour("namespaces.create.clone-newpid-with-parent")
def test_pid_namespace_of_a_sibling(in_child: InChild, seen: Seen) -> None:
    """A new PID namespace for a process with the caller's parent gives EINVAL."""
    # In a child: the parent of a machine's first process is nobody that could be shared.
    flags = CloneFlag.NEWPID | CloneFlag.PARENT
    assert in_child(lambda: seen.errno_of(check_clone, CloneFlag.NEWNS | CloneFlag.FS)) == "EINVAL"
    assert in_child(lambda: seen.errno_of(check_clone, CloneFlag.PARENT)) == "no error"
    assert seen(in_child(lambda: seen.errno_of(check_clone, flags, taken=(1, 1)))) == "EINVAL"


@behaviour("namespaces.create.unshare-newns-implies-fs")
def test_mount_namespace_has_its_own_directory(in_child: InChild, tmp_path: Path, seen: Seen) -> None:
    """A thread with a mount namespace of its own has its working directory for itself."""

    def directories() -> tuple[str, str]:
        mine = os.readlink(f"/proc/self/task/{threading.get_native_id()}/cwd")
        return mine, os.readlink(f"/proc/self/task/{os.getpid()}/cwd")

    def wander(found: list[list[str]]) -> None:
        os.chdir("/proc")
        found.append([*directories()])
        unshare(CloneFlag.NEWNS)
        os.chdir(tmp_path)
        found.append([*directories()])

    def call() -> list[list[str]]:
        found: list[list[str]] = []
        thread = threading.Thread(target=wander, args=(found,))
        thread.start()
        thread.join()
        return found

    assert seen(in_child(call)) == [["/proc", "/proc"], [str(tmp_path), "/proc"]]
