"""What a namespace's descriptor tells: ioctl_nsfs(2)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.conftest import become_plain
from kernelproof.conformance.process.procfs import identity, open_flags, open_namespace
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare
from kernelproof.impl._syscalls.nsfs import namespace_kind, owner_uid, owning_user_namespace, parent_namespace

if TYPE_CHECKING:
    from kernelproof.conformance.conftest import Companion, Talk
    from kernelproof.conformance.namespaces.conftest import InUserNamespace, Member
    from kernelproof.conformance.seen import Seen

KINDS = {
    "cgroup": CloneFlag.NEWCGROUP,
    "ipc": CloneFlag.NEWIPC,
    "mnt": CloneFlag.NEWNS,
    "net": CloneFlag.NEWNET,
    "pid": CloneFlag.NEWPID,
    "time": CloneFlag.NEWTIME,
    "user": CloneFlag.NEWUSER,
    "uts": CloneFlag.NEWUTS,
}


@behaviour("namespaces.ioctl.nstype")
@pytest.mark.parametrize("name", list(KINDS))
def test_kind_of_a_namespace(name: str, seen: Seen) -> None:
    """NS_GET_NSTYPE gives the flag that makes such a namespace."""
    assert seen(namespace_kind(open_namespace(name))) == KINDS[name]


@behaviour("namespaces.ioctl.owner-uid")
def test_owner_of_a_user_namespace(companion: Companion, seen: Seen) -> None:
    """NS_GET_OWNER_UID gives the effective uid of who made the user namespace."""

    def make(talk: Talk) -> None:
        become_plain(1234)
        unshare(CloneFlag.NEWUSER)
        talk.ask()

    maker = companion(make)
    maker.hear()
    assert seen([owner_uid(open_namespace("user", pid)) for pid in (maker.pid, os.getpid())]) == [1234, 0]


@behaviour("namespaces.ioctl.owner-uid-wrong-type")
def test_owner_of_another_kind(seen: Seen) -> None:
    """NS_GET_OWNER_UID of another namespace than a user namespace gives EINVAL."""
    assert seen([seen.errno_of(owner_uid, open_namespace(name)) for name in ("uts", "net", "pid")]) == ["EINVAL"] * 3


@behaviour("namespaces.ioctl.parent-nonhierarchical")
def test_parent_of_a_flat_kind(seen: Seen) -> None:
    """NS_GET_PARENT of a UTS namespace gives EINVAL."""
    assert seen.errno_of(parent_namespace, open_namespace("uts")) == "EINVAL"


@behaviour("namespaces.ioctl.parent-of-initial")
def test_parent_of_the_first(member: Member, seen: Seen) -> None:
    """NS_GET_PARENT of the initial user and PID namespaces gives EPERM, and of a child the initial one."""
    child = open_namespace("user", member(CloneFlag.NEWUSER).pid)
    assert identity(parent_namespace(child)) == identity("/proc/self/ns/user")
    assert seen([seen.errno_of(parent_namespace, open_namespace(name)) for name in ("user", "pid")]) == ["EPERM"] * 2


@behaviour("namespaces.ioctl.userns-out-of-scope")
def test_owner_above_the_caller(in_user_namespace: InUserNamespace, seen: Seen) -> None:
    """From a child user namespace NS_GET_USERNS of what an ancestor owns gives EPERM; of one's own it succeeds."""

    def ask() -> list[str]:
        return [seen.errno_of(owning_user_namespace, open_namespace(name)) for name in ("net", "uts")]

    assert seen(in_user_namespace(ask, flags=CloneFlag.NEWNET)) == ["no error", "EPERM"]


@behaviour("namespaces.ioctl.result-cloexec")
def test_result_is_close_on_exec(seen: Seen) -> None:
    """What NS_GET_USERNS gives is close-on-exec, though what it was asked of is not."""
    asked = os.open("/proc/self/ns/uts", os.O_RDONLY)
    os.set_inheritable(asked, True)
    flags = [open_flags(fd) for fd in (asked, owning_user_namespace(asked))]
    assert seen([bool(each & os.O_CLOEXEC) for each in flags]) == [False, True]


@behaviour("namespaces.ioctl.result-read-only")
def test_result_is_read_only(seen: Seen) -> None:
    """What NS_GET_USERNS gives is open for reading only."""
    fd = owning_user_namespace(open_namespace("uts"))
    assert os.readlink(f"/proc/self/fd/{fd}") == os.readlink("/proc/self/ns/user")
    assert seen(open_flags(fd) & os.O_ACCMODE) == os.O_RDONLY


@behaviour("namespaces.ioctl.not-a-namespace")
def test_ordinary_file(tmp_path: Path, seen: Seen) -> None:
    """An ordinary file gives ENOTTY to each of these requests."""
    (tmp_path / "file").touch()
    with (tmp_path / "file").open("rb") as file:
        calls = (namespace_kind, owner_uid, owning_user_namespace, parent_namespace)
        assert seen([seen.errno_of(call, file.fileno()) for call in calls]) == ["ENOTTY"] * 4
