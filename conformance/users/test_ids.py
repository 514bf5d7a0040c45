"""User and group IDs of a process, observed through /proc/PID/status."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from kernelproof import behaviour
from kernelproof.impl._syscalls.identity import setgroups

if TYPE_CHECKING:
    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.seen import Seen

USER = 1000


def ids(name: str) -> list[int]:
    """Return the numbers of a line of /proc/self/status: for Uid real, effective, saved and filesystem."""
    lines = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return [int(number) for number in lines[name].split()]


@behaviour("user.ids.setuid-privileged", subject="stand-in")
def test_setuid_of_root_is_for_good(in_child: InChild, seen: Seen) -> None:
    """setuid(2) with CAP_SETUID sets the real, effective and saved uid, so that root is lost: setuid(0) gives EPERM."""

    def drop() -> list[list[int] | str]:
        before = ids("Uid")
        os.setuid(USER)
        after = ids("Uid")
        return [before, after, seen.errno_of(os.setuid, 0), ids("Uid")]

    before, after, answer, at_last = in_child(drop)
    assert before == [0, 0, 0, 0]
    assert after[:3] == [USER] * 3
    assert seen(answer) == "EPERM"
    assert at_last == after


@behaviour("user.ids.fsuid-follows", subject="stand-in")
def test_filesystem_uid_follows_the_effective_one(in_child: InChild) -> None:
    """Each change of the effective uid sets the filesystem uid to it."""

    def change_twice() -> list[list[int]]:
        views = []
        for effective in (USER, 0, USER + 1):
            os.setresuid(-1, effective, -1)
            views.append(ids("Uid"))
        return views

    assert in_child(change_twice) == [[0, user, 0, user] for user in (USER, 0, USER + 1)]


@behaviour("user.ids.seteuid-round-trip", subject="stand-in")
def test_seteuid_can_be_undone(in_child: InChild) -> None:
    """After seteuid(1000) root returns with seteuid(0): the saved uid is still 0."""

    def leave_and_return() -> list[list[int]]:
        os.seteuid(USER)
        away = ids("Uid")
        os.seteuid(0)
        return [away, ids("Uid")]

    away, back = in_child(leave_and_return)
    assert away[:3] == [0, USER, 0]
    assert back[:3] == [0, 0, 0]


@behaviour("user.groups.setgroups-unprivileged", subject="stand-in")
def test_setgroups_needs_the_capability(in_child: InChild, seen: Seen) -> None:
    """setgroups(2) without CAP_SETGID is refused with EPERM, even for the groups that the process has."""

    def keep_groups() -> list[list[int] | str]:
        setgroups([10, 20])
        os.setuid(USER)
        return [ids("Groups"), seen.errno_of(setgroups, [10, 20]), ids("Groups")]

    before, answer, after = in_child(keep_groups)
    assert seen(answer) == "EPERM"
    assert before == after == [10, 20]


@behaviour("user.groups.setgroups-limit", subject="stand-in")
def test_setgroups_takes_65536_groups(in_child: InChild, seen: Seen) -> None:
    """setgroups(2) takes 65536 groups and refuses 65537 with EINVAL."""

    def set_many() -> list[int | str]:
        taken = seen.errno_of(setgroups, range(65536))
        count = len(ids("Groups"))
        return [taken, count, seen.errno_of(setgroups, range(65537)), len(ids("Groups"))]

    taken, count, answer, count_after = in_child(set_many)
    assert [taken, count] == ["no error", 65536]
    assert seen(answer) == "EINVAL"
    assert count_after == 65536
