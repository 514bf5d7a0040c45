"""Sessions and process groups."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from kernelproof import behaviour
from kernelproof.conformance.process.procfs import stat_fields
from kernelproof.impl._syscalls.sessions import setpgid, setsid

if TYPE_CHECKING:
    from kernelproof.conformance.conftest import Bystander, InChild
    from kernelproof.conformance.process.conftest import Sleeper
    from kernelproof.conformance.seen import Seen

NOBODYS_GROUP = 32001  # no process of a fresh machine has this id


def group(pid: int | str = "self") -> int:
    """The process group of a process."""
    return int(stat_fields(pid)[2])


def session(pid: int | str = "self") -> int:
    """The session of a process."""
    return int(stat_fields(pid)[3])


@behaviour("process.session.setsid-leader-eperm")
def test_group_leader_starts_no_session(in_child: InChild, seen: Seen) -> None:
    """setsid(2) by the leader of a process group is refused with EPERM and leaves it in its session."""

    def lead_a_group() -> list[Any]:
        os.setpgid(0, 0)
        before = session()
        return [group() == os.getpid(), seen.errno_of(setsid), session() == before]

    assert seen(in_child(lead_a_group)) == [True, "EPERM", True]


@behaviour("process.session.setsid-ids")
def test_ids_of_a_new_session(in_child: InChild, seen: Seen) -> None:
    """After setsid the ids of session and group are the pid."""

    def start() -> list[bool]:
        before = [session() == os.getpid(), group() == os.getpid()]
        return [*before, setsid() == os.getpid(), session() == os.getpid(), group() == os.getpid()]

    assert seen(in_child(start)) == [False, False, True, True, True]


@behaviour("process.pgrp.setpgid-after-exec")
def test_group_of_a_program(bystander: Bystander, sleeper: Sleeper, seen: Seen) -> None:
    """A child that has called execve is moved to no group by its parent: EACCES; one that has not is."""
    before, after = bystander(), sleeper()
    assert seen([seen.errno_of(setpgid, pid, pid) for pid in (before, after)]) == ["no error", "EACCES"]
    assert [group(before) == before, group(after) == after] == [True, False]


@behaviour("process.pgrp.setpgid-negative-einval")
def test_negative_group(bystander: Bystander, seen: Seen) -> None:
    """A negative group gives EINVAL."""
    assert seen(seen.errno_of(setpgid, bystander(), -1)) == "EINVAL"


@behaviour("process.pgrp.setpgid-no-such-group-eperm")
def test_missing_group(bystander: Bystander, seen: Seen) -> None:
    """A group that does not exist gives EPERM; one that does is joined."""
    leader, pid = bystander(), bystander()
    setpgid(leader, leader)
    assert seen([seen.errno_of(setpgid, pid, NOBODYS_GROUP), seen.errno_of(setpgid, pid, leader)]) == [
        "EPERM",
        "no error",
    ]
    assert group(pid) == leader


@behaviour("process.pgrp.setpgid-leader-eperm")
def test_session_leader_stays(in_child: InChild, seen: Seen) -> None:
    """A session's leader is moved to no group: EPERM."""

    def lead() -> list[Any]:
        setsid()
        return [seen.errno_of(setpgid, 0, 0), group() == os.getpid()]

    assert seen(in_child(lead)) == ["EPERM", True]


@behaviour("process.pgrp.setpgid-not-child-esrch")
def test_stranger(bystander: Bystander, in_child: InChild, seen: Seen) -> None:
    """A process that is neither the caller nor a child of it gives ESRCH."""
    pid = bystander()
    before = group(pid)
    answers = in_child(lambda: [seen.errno_of(setpgid, each, each) for each in (pid, os.getppid())])
    assert seen([*answers, group(pid) == before]) == ["ESRCH", "ESRCH", True]
