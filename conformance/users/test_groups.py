"""Supplementary groups of a process, set by impl and observed through /proc/PID/status and id(1)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kernelproof import behaviour
from kernelproof.impl._syscalls.credentials import getgrouplist, initgroups
from kernelproof.impl._syscalls.identity import getgroups, setgroups
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare
from kernelproof.impl.user import (
    ExecUser,
    Files,
    IdMap,
    View,
    Writer,
    become,
    perform,
    plan_id_maps,
    resolve_user,
    set_groups,
)

if TYPE_CHECKING:
    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.seen import Seen

USER = 1000
NGROUPS = Path("/proc/sys/kernel/ngroups_max")


def groups() -> list[int]:
    """The supplementary groups."""
    lines = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return [int(number) for number in lines["Groups"].split()]


@pytest.fixture
def ada() -> None:
    """A user with the primary group 4000, listed by the groups 4001 and 4003."""
    for path, lines in (
        ("/etc/passwd", "ada:x:4000:4000:Ada,,,:/home/ada:/bin/sh\n"),
        ("/etc/group", "ada:x:4000:\none:x:4001:ada,bob\ntwo:x:4002:bob\nthree:x:4003:bob,ada\n"),
    ):
        with Path(path).open("a") as file:
            file.write(lines)


@behaviour("user.groups.initgroups")
@pytest.mark.usefixtures("ada")
def test_groups_of_a_user(in_child: InChild, seen: Seen) -> None:
    """initgroups sets each group that lists the user, and the one passed in; View.groups_of finds the same."""

    def initialise() -> list[int]:
        initgroups("ada", 4000)
        return groups()

    def set_found() -> list[int]:
        set_groups(View({"files": Files()}).groups_of("ada"))
        return groups()

    assert seen(in_child(initialise)) == [4000, 4001, 4003]
    assert in_child(set_found) == [4000, 4001, 4003]
    assert resolve_user("ada").groups == (4001, 4003)
    printed = subprocess.run(["id", "-G", "ada"], check=True, stdout=subprocess.PIPE, timeout=30).stdout
    assert printed == b"4000 4001 4003\n"


@behaviour("user.groups.initgroups-eperm")
@pytest.mark.usefixtures("ada")
def test_initgroups_needs_the_capability(in_child: InChild, seen: Seen) -> None:
    """initgroups without CAP_SETGID gives EPERM, and so does become."""

    def try_it() -> list[Any]:
        become(ExecUser(USER, USER))
        user = ExecUser(4000, 4000, (4001,))
        return [seen.errno_of(initgroups, "ada", 4000), seen.errno_of(become, user), groups()]

    assert seen(in_child(try_it)) == ["EPERM", "EPERM", []]


@behaviour("user.groups.getgrouplist-unknown-user")
@pytest.mark.usefixtures("ada")
def test_list_has_the_group_passed_in(seen: Seen) -> None:
    """getgrouplist has the group passed in, also for a user that no group lists."""
    assert seen([getgrouplist(name, 77, 10) for name in ("nobody-lists-me", "ada")]) == [
        (True, 1, (77,)),
        (True, 3, (77, 4001, 4003)),
    ]


@behaviour("user.groups.getgrouplist-too-small")
@pytest.mark.usefixtures("ada")
def test_list_without_room(seen: Seen) -> None:
    """getgrouplist with room for too few returns -1 and stores the number that is needed."""
    had_room, needed, _ = getgrouplist("ada", 4000, 1)
    assert seen([had_room, needed, getgrouplist("ada", 4000, needed)]) == [False, 3, (True, 3, (4000, 4001, 4003))]


@behaviour("user.groups.setgroups-limit")
def test_setgroups_takes_65536_groups(in_child: InChild, seen: Seen) -> None:
    """setgroups(2) takes 65536 groups and refuses 65537 with EINVAL."""

    def set_many() -> list[Any]:
        taken = seen.errno_of(setgroups, range(65536))
        count = len(groups())
        refusals = [seen.errno_of(setgroups, range(65537)), seen.errno_of(set_groups, range(65537))]
        return [taken, count, *refusals, len(groups())]

    assert seen(in_child(set_many)) == ["no error", 65536, "EINVAL", "EINVAL", 65536]


@behaviour("user.groups.setgroups-unprivileged")
def test_setgroups_needs_the_capability(in_child: InChild, seen: Seen) -> None:
    """setgroups(2) without CAP_SETGID is refused with EPERM, even for the groups that the process has."""

    def keep_groups() -> list[Any]:
        become(ExecUser(USER, USER, (10, 20)))
        before = groups()
        return [before, seen.errno_of(setgroups, [10, 20]), seen.errno_of(set_groups, [10, 20]), groups()]

    assert seen(in_child(keep_groups)) == [[10, 20], "EPERM", "EPERM", [10, 20]]


@behaviour("user.groups.setgroups-empty")
def test_no_groups_at_all(in_child: InChild, seen: Seen) -> None:
    """setgroups with an empty list drops every supplementary group."""

    def drop() -> list[list[int]]:
        set_groups([10, 20])
        before = groups()
        set_groups([])
        return [before, groups()]

    assert seen(in_child(drop)) == [[10, 20], []]


@behaviour("user.groups.getgroups-size")
def test_getgroups_needs_room(in_child: InChild, seen: Seen) -> None:
    """getgroups with size 0 returns the number of groups, and with a size that is too small gives EINVAL."""

    def ask() -> list[Any]:
        set_groups([10, 20, 30])
        return [getgroups(0)[0], seen.errno_of(getgroups, 2), list(getgroups(3)[1]), os.getgroups()]

    assert seen(in_child(ask)) == [3, "EINVAL", [10, 20, 30], [10, 20, 30]]


@behaviour("user.groups.ngroups-max-file")
def test_limit_can_be_read(in_child: InChild, seen: Seen) -> None:
    """/proc/sys/kernel/ngroups_max is 65536, is what sysconf says and what can be set, and cannot be written."""
    limit = int(NGROUPS.read_text())

    def set_limit() -> list[Any]:
        set_groups(range(limit))
        return [len(groups()), seen.errno_of(set_groups, range(limit + 1))]

    assert seen.errno_of(NGROUPS.write_text, "7") in ("EACCES", "EPERM")
    assert in_child(set_limit) == [65536, "EINVAL"]
    assert seen([limit, os.sysconf("SC_NGROUPS_MAX")]) == [65536, 65536]


@behaviour("user.groups.setgroups-denied-in-userns")
def test_groups_are_denied_in_a_user_namespace(in_child: InChild, seen: Seen) -> None:
    """In a user namespace with "deny" in its setgroups file, setgroups of its root gives EPERM."""

    def try_it() -> list[Any]:
        unshare(CloneFlag.NEWUSER)
        only_root = IdMap([(0, 0, 1)])
        steps = plan_id_maps(os.getpid(), only_root, only_root, Writer(0, 0, is_capable=False))
        for step in steps:
            perform(step)
        said = Path("/proc/self/setgroups").read_text()
        return [said, os.getuid(), seen.errno_of(setgroups, [0]), seen.errno_of(set_groups, [0])]

    assert seen(in_child(try_it)) == ["deny\n", 0, "EPERM", "EPERM"]
