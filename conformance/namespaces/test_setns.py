"""Joining namespaces: setns(2) with a namespace's descriptor."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernelproof import behaviour
from kernelproof.conformance.conftest import become_plain
from kernelproof.conformance.process.procfs import namespace, namespaces, open_namespace, status_bits
from kernelproof.impl._syscalls.namespaces import CloneFlag, setns, unshare

if TYPE_CHECKING:
    from kernelproof.conformance.conftest import Companion, InChild, Talk, Unprivileged
    from kernelproof.conformance.namespaces.conftest import Member, Without
    from kernelproof.conformance.seen import Seen

USER = 1000
CAP_SYS_CHROOT = 18


@behaviour("namespaces.setns.type-mismatch")
def test_wrong_type(member: Member, in_child: InChild, seen: Seen) -> None:
    """A descriptor of another kind than the one asked for gives EINVAL."""
    fd = open_namespace("uts", member(CloneFlag.NEWUTS).pid)
    kinds = (CloneFlag.NEWUTS, CloneFlag.NEWNET)
    assert seen(in_child(lambda: [seen.errno_of(setns, fd, kind) for kind in kinds])) == ["no error", "EINVAL"]


@behaviour("namespaces.setns.bad-fd")
def test_no_descriptor(seen: Seen) -> None:
    """A number that is no open descriptor gives EBADF."""
    fd = open_namespace("uts")
    os.close(fd)
    assert seen([seen.errno_of(setns, number, CloneFlag.NEWUTS) for number in (fd, -1)]) == ["EBADF", "EBADF"]


@behaviour("namespaces.setns.zero-type-joins-any")
def test_any_type(member: Member, in_child: InChild, seen: Seen) -> None:
    """Type 0 joins the namespace of whatever kind the descriptor is."""
    other = member(CloneFlag.NEWUTS | CloneFlag.NEWIPC | CloneFlag.NEWNET).pid

    def join() -> list[bool]:
        joined = []
        for name in ("uts", "ipc", "net"):
            before = namespace(name)
            setns(open_namespace(name, other), 0)
            joined.append(before != namespace(name) == namespace(name, other))
        return joined

    assert seen(in_child(join)) == [True] * 3


@behaviour("namespaces.setns.own-user-namespace")
def test_own_user_namespace(in_child: InChild, seen: Seen) -> None:
    """The user namespace that the caller is in gives EINVAL."""
    assert seen(in_child(lambda: seen.errno_of(setns, open_namespace("user"), CloneFlag.NEWUSER))) == "EINVAL"


def alone_and_threaded(seen: Seen, in_child: InChild, second_thread: Any, fd: int, kind: CloneFlag) -> list[str]:
    """What setns says to a process with one thread, and to one with two."""

    def threaded() -> str:
        with second_thread():
            return seen.errno_of(setns, fd, kind)

    return [in_child(lambda: seen.errno_of(setns, fd, kind)), in_child(threaded)]


@behaviour("namespaces.setns.userns-multithreaded")
def test_user_namespace_with_threads(member: Member, in_child: InChild, second_thread: Any, seen: Seen) -> None:
    """A process with two threads joins no user namespace: EINVAL."""
    fd = open_namespace("user", member(CloneFlag.NEWUSER).pid)
    found = alone_and_threaded(seen, in_child, second_thread, fd, CloneFlag.NEWUSER)
    assert seen(found) == ["no error", "EINVAL"]


@behaviour("namespaces.setns.mntns-with-shared-fs")
def test_mount_namespace_with_threads(member: Member, in_child: InChild, second_thread: Any, seen: Seen) -> None:
    """A process whose threads share their root directory joins no mount namespace: EINVAL."""
    fd = open_namespace("mnt", member(CloneFlag.NEWNS).pid)
    found = alone_and_threaded(seen, in_child, second_thread, fd, CloneFlag.NEWNS)
    assert seen(found) == ["no error", "EINVAL"]


@behaviour("namespaces.setns.ancestor-pidns")
def test_pid_namespace_above(in_child: InChild, companion: Companion, seen: Seen) -> None:
    """A process can't go back to the PID namespace above its own: EINVAL."""
    above = open_namespace("pid")

    def go_down() -> Any:
        unshare(CloneFlag.NEWPID)
        inside = companion(lambda talk: talk.say([os.getpid(), seen.errno_of(setns, above, CloneFlag.NEWPID)]))
        return inside.hear()

    assert seen(in_child(go_down)) == [1, "EINVAL"]


def pid_namespace(companion: Companion) -> Talk:
    """Start process 1 of a new PID namespace; the caller's own children go there too from now on."""
    unshare(CloneFlag.NEWPID)

    def live(talk: Talk) -> None:
        talk.say()
        talk.hear()

    inside = companion(live)
    inside.hear()
    return inside


@behaviour("namespaces.setns.pidns-moves-children-only")
def test_pid_namespace_is_for_children(companion: Companion, in_child: InChild, seen: Seen) -> None:
    """setns to a PID namespace leaves the caller where it is, and its next child is in it."""

    def make(talk: Talk) -> None:
        talk.say(pid_namespace(companion).pid)
        talk.hear()

    init = companion(make).hear()

    def join() -> list[bool]:
        pid, own = os.getpid(), namespace("pid")
        setns(open_namespace("pid", init), CloneFlag.NEWPID)
        child = companion(lambda talk: talk.ask(os.getpid()))
        told = child.hear()
        there = namespace("pid", child.pid) == namespace("pid", init)
        return [os.getpid() == pid, namespace("pid") == own, there, told == 2 != child.pid]

    assert seen(in_child(join)) == [True] * 4


@behaviour("namespaces.setns.pidns-child-sees-parent-zero")
def test_parent_outside_is_zero(companion: Companion, in_child: InChild, seen: Seen) -> None:
    """A child that was put into a PID namespace by setns has 0 as its parent's pid."""

    def make(talk: Talk) -> None:
        talk.say(pid_namespace(companion).pid)
        talk.hear()

    init = companion(make).hear()

    def join() -> Any:
        before = companion(lambda talk: talk.say(os.getppid() == os.getpid() - 1 or os.getppid() > 0)).hear()
        setns(open_namespace("pid", init), CloneFlag.NEWPID)
        return [before, companion(lambda talk: talk.say(os.getppid())).hear()]

    assert seen(in_child(join)) == [True, 0]


@behaviour("namespaces.setns.needs-sys-admin")
def test_unprivileged_caller(member: Member, in_child: InChild, unprivileged: Unprivileged, seen: Seen) -> None:
    """Without CAP_SYS_ADMIN another network namespace can't be joined: EPERM."""
    fd = open_namespace("net", member(CloneFlag.NEWNET).pid)
    assert in_child(lambda: seen.errno_of(setns, fd, CloneFlag.NEWNET)) == "no error"
    assert seen(unprivileged(lambda: seen.errno_of(setns, fd, CloneFlag.NEWNET))) == "EPERM"


@behaviour("namespaces.setns.mntns-needs-sys-chroot")
def test_mount_namespace_needs_chroot(member: Member, in_child: InChild, without: Without, seen: Seen) -> None:
    """CAP_SYS_ADMIN without CAP_SYS_CHROOT is not enough for a mount namespace: EPERM."""
    fd = open_namespace("mnt", member(CloneFlag.NEWNS).pid)

    def join() -> str:
        return seen.errno_of(setns, fd, CloneFlag.NEWNS)

    assert in_child(join) == "no error"
    assert seen(without(CAP_SYS_CHROOT, join)) == "EPERM"


@behaviour("namespaces.setns.userns-grants-full-caps")
def test_joining_a_user_namespace_gives_all(companion: Companion, unprivileged: Unprivileged, seen: Seen) -> None:
    """Who joins a user namespace of his own has every capability there, whatever his uid."""

    def make(talk: Talk) -> None:
        become_plain(USER)
        unshare(CloneFlag.NEWUSER)
        talk.ask()

    made = companion(make)
    made.hear()
    fd = open_namespace("user", made.pid)

    def join() -> list[Any]:
        before = status_bits("CapPrm")
        setns(fd, CloneFlag.NEWUSER)
        return [before, status_bits("CapPrm"), status_bits("CapEff"), os.getuid()]

    full = (2 << int(Path("/proc/sys/kernel/cap_last_cap").read_text())) - 1
    assert seen(unprivileged(join, USER)) == [0, full, full, 65534]


@behaviour("namespaces.setns.pidfd-joins-several")
def test_several_at_once(member: Member, in_child: InChild, seen: Seen) -> None:
    """A process descriptor joins the kinds asked for and no others."""
    other = member(CloneFlag.NEWUTS | CloneFlag.NEWNET | CloneFlag.NEWIPC).pid
    pidfd = os.pidfd_open(other)

    def join() -> list[str]:
        before = namespaces()
        setns(pidfd, CloneFlag.NEWUTS | CloneFlag.NEWNET)
        now, theirs = namespaces(), namespaces(other)
        assert all(now[name] == theirs[name] for name in ("uts", "net"))
        return [name for name in now if now[name] != before[name]]

    assert seen(in_child(join)) == ["net", "uts"]


def answer_for(member: Member, seen: Seen, in_child: InChild, nstype: int) -> list[Any]:
    """What setns with a process descriptor says, and whether any membership changed."""
    pidfd = os.pidfd_open(member(CloneFlag.NEWUTS).pid)

    def join() -> list[Any]:
        before = namespaces()
        return [seen.errno_of(setns, pidfd, nstype), namespaces() == before]

    found: list[Any] = in_child(join)
    return found


@behaviour("namespaces.setns.pidfd-zero-type")
def test_process_and_no_type(member: Member, in_child: InChild, seen: Seen) -> None:
    """A process descriptor with type 0 gives EINVAL."""
    assert answer_for(member, seen, in_child, CloneFlag.NEWUTS) == ["no error", False]
    assert seen(answer_for(member, seen, in_child, 0)) == ["EINVAL", True]


@behaviour("namespaces.setns.pidfd-unknown-flag")
def test_process_and_unknown_type(member: Member, in_child: InChild, seen: Seen) -> None:
    """A process descriptor with a bit that names no kind gives EINVAL."""
    assert seen(answer_for(member, seen, in_child, CloneFlag.NEWUTS | CloneFlag.FILES)) == ["EINVAL", True]


@behaviour("namespaces.setns.pidfd-all-or-nothing")
def test_one_that_cannot_be_joined(member: Member, in_child: InChild, seen: Seen) -> None:
    """If one of several can't be joined, none is: the caller's own user namespace spoils the UTS namespace."""
    assert seen(answer_for(member, seen, in_child, CloneFlag.NEWUTS | CloneFlag.NEWUSER)) == ["EINVAL", True]


@behaviour("namespaces.setns.pidfd-reaped-process")
def test_process_that_was_waited_for(companion: Companion, in_child: InChild, seen: Seen) -> None:
    """The descriptor of a process that was waited for gives ESRCH."""
    ended = companion(lambda talk: talk.hear())
    pidfd = os.pidfd_open(ended.pid)
    assert in_child(lambda: seen.errno_of(setns, pidfd, CloneFlag.NEWUTS)) == "no error"
    ended.say()
    os.waitpid(ended.pid, 0)
    assert seen(in_child(lambda: seen.errno_of(setns, pidfd, CloneFlag.NEWUTS))) == "ESRCH"
