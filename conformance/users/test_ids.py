"""User ids of a process, changed by impl and observed through /proc/PID/status."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kernelproof import behaviour
from kernelproof.impl._syscalls.credentials import setgid, setresuid, setreuid, setuid
from kernelproof.impl._syscalls.identity import setfsuid, setresuid_of_thread
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare
from kernelproof.impl.user import (
    ExecUser,
    IdMap,
    IdRangeError,
    Writer,
    acting_as,
    become,
    perform,
    plan_id_maps,
    read_credentials,
    set_gids,
    set_uids,
)

if TYPE_CHECKING:
    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.seen import Seen

USER = 1000
LEAVE = 2**32 - 1
# Bits of capabilities(7) that a filesystem uid other than 0 takes away.
FILE_CAPABILITIES = {"CHOWN": 0, "DAC_OVERRIDE": 1, "DAC_READ_SEARCH": 2, "FOWNER": 3, "FSETID": 4}


def status(name: str, task: str = "self") -> list[str]:
    """The words of a line of /proc/PID/status."""
    lines = dict(line.split(":\t", 1) for line in Path(f"/proc/{task}/status").read_text().splitlines())
    return lines[name].split()


def uids(task: str = "self") -> list[int]:
    """Real, effective, saved and filesystem uid."""
    return [int(number) for number in status("Uid", task)]


@behaviour("user.ids.setuid-privileged")
def test_setuid_of_root_is_for_good(in_child: InChild, seen: Seen) -> None:
    """setuid(1000) with CAP_SETUID sets the real, effective and saved uid: root is lost, setuid(0) gives EPERM."""

    def drop() -> list[Any]:
        before = uids()
        setuid(USER)
        return [before, uids()[:3], seen.errno_of(setuid, 0), seen.errno_of(set_uids, 0, 0, 0), uids()[:3]]

    assert seen(in_child(drop)) == [[0] * 4, [USER] * 3, "EPERM", "EPERM", [USER] * 3]


@behaviour("user.ids.setuid-unprivileged")
def test_setuid_of_a_user(in_child: InChild, seen: Seen) -> None:
    """Without CAP_SETUID setuid to the real or saved uid changes the effective one alone; any other gives EPERM."""

    def move() -> list[Any]:
        set_uids(1000, 1001, 1002)
        views = []
        for uid in (1000, 1002):
            setuid(uid)
            views.append(uids()[:3])
        answers = [seen.errno_of(setuid, uid) for uid in (0, 1001, 1003)]
        return [*views, answers, seen.errno_of(set_uids, 1003), uids()[:3]]

    expected = [[1000, 1000, 1002], [1000, 1002, 1002], ["EPERM"] * 3, "EPERM", [1000, 1002, 1002]]
    assert seen(in_child(move)) == expected


@behaviour("user.ids.seteuid-round-trip")
def test_effective_uid_can_be_given_back(in_child: InChild, seen: Seen) -> None:
    """Root that has the effective uid 1000 returns to 0, since the saved uid is still 0."""

    def leave_and_return() -> list[list[int]]:
        with acting_as(USER, USER):
            away = uids()[:3]
        return [away, uids()[:3]]

    assert seen(in_child(leave_and_return)) == [[0, USER, 0], [0, 0, 0]]


@behaviour("user.ids.setresuid-permutation")
def test_three_uids_in_any_order(in_child: InChild, seen: Seen) -> None:
    """A user may set its three uids to any arrangement of the present three; EPERM meets any other value."""

    def arrange() -> list[Any]:
        set_uids(1000, 1001, 1002)
        views = []
        for order in ((1002, 1000, 1001), (1001, 1002, 1000), (1000, 1001, 1002)):
            set_uids(*order)
            views.append(uids()[:3])
        other = [seen.errno_of(setresuid, *ids) for ids in ((0, 1001, 1002), (1000, 1003, 1002), (1000, 1001, 0))]
        return [views, other, seen.errno_of(set_uids, 1000, 0, 1000), uids()[:3]]

    views = [[1002, 1000, 1001], [1001, 1002, 1000], [1000, 1001, 1002]]
    assert seen(in_child(arrange)) == [views, ["EPERM"] * 3, "EPERM", [1000, 1001, 1002]]


@behaviour("user.ids.setresuid-minus-one")
def test_minus_one_leaves_an_id(in_child: InChild, seen: Seen) -> None:
    """An argument of -1 leaves that uid unchanged; the typed layer has None for it, and refuses the number."""

    def change_some() -> list[list[int]]:
        views = []
        for ids in ((LEAVE, LEAVE, 1002), (1000, LEAVE, LEAVE), (LEAVE, 1001, LEAVE), (LEAVE, LEAVE, LEAVE)):
            setresuid(*ids)
            views.append(uids()[:3])
        set_uids(effective=1000)
        return [*views, uids()[:3]]

    with pytest.raises(IdRangeError):
        set_uids(effective=LEAVE)
    expected = [[0, 0, 1002], [1000, 0, 1002], [1000, 1001, 1002], [1000, 1001, 1002], [1000, 1000, 1002]]
    assert seen(in_child(change_some)) == expected


@behaviour("user.ids.setreuid-saved")
def test_setreuid_saves_the_effective_uid(in_child: InChild, seen: Seen) -> None:
    """setreuid that sets the real uid sets the saved one to the new effective uid as well."""

    def change() -> list[int]:
        setreuid(1000, 1001)
        return uids()[:3]

    def change_to_another_effective_only() -> list[int]:
        setreuid(LEAVE, 0)  # the effective uid is the real one: the saved uid is left alone
        return uids()[:3]

    assert seen([in_child(change), in_child(change_to_another_effective_only)]) == [[1000, 1001, 1001], [0, 0, 0]]


@behaviour("user.ids.unmapped-einval")
def test_uid_that_is_not_mapped(in_child: InChild, seen: Seen) -> None:
    """In a user namespace setuid to a uid without mapping gives EINVAL, and to a mapped one succeeds."""

    def change() -> list[Any]:
        unshare(CloneFlag.NEWUSER)
        only_root = IdMap([(0, 0, 1)])
        for step in plan_id_maps(os.getpid(), only_root, only_root, Writer(0, 0, is_capable=False)):
            perform(step)
        return [
            seen.errno_of(setuid, USER),
            seen.errno_of(set_uids, USER, USER, USER),
            seen.errno_of(setuid, 0),
            uids()[:3],
        ]

    assert seen(in_child(change)) == ["EINVAL", "EINVAL", "no error", [0, 0, 0]]


@behaviour("user.ids.fsuid-follows")
def test_filesystem_uid_follows_the_effective_one(in_child: InChild, seen: Seen) -> None:
    """Each change of the effective uid sets the filesystem uid to it."""

    def change_twice() -> list[list[int]]:
        views = []
        for effective in (USER, 0, USER + 1):
            set_uids(effective=effective)
            views.append(uids())
        return views

    assert seen(in_child(change_twice)) == [[0, user, 0, user] for user in (USER, 0, USER + 1)]


@behaviour("user.ids.order-gid-before-uid")
def test_gid_comes_before_uid(in_child: InChild, seen: Seen) -> None:
    """After setuid(1000) from root setgid(1000) gives EPERM; become, which sets the gid first, has both."""

    def wrong() -> list[Any]:
        setuid(USER)
        return [seen.errno_of(setgid, USER), seen.errno_of(set_gids, USER, USER, USER), status("Gid")]

    def right() -> list[Any]:
        become(ExecUser(USER, USER + 1, (USER + 2,)))
        return [uids(), status("Gid"), status("Groups")]

    assert seen(in_child(wrong)) == ["EPERM", "EPERM", ["0"] * 4]
    assert in_child(right) == [[USER] * 4, [str(USER + 1)] * 4, [str(USER + 2)]]


@behaviour("user.ids.threads-share")
def test_all_threads_change(in_child: InChild, seen: Seen) -> None:
    """setuid through libc changes all threads; the raw system call changes the calling one alone."""

    def change(function: Any) -> list[int]:
        ready, go = threading.Event(), threading.Event()
        other: list[int] = []

        def live() -> None:
            other.append(threading.get_native_id())
            ready.set()
            go.wait(30)

        thread = threading.Thread(target=live)
        thread.start()
        ready.wait(30)
        function()
        effective = [uids(f"self/task/{task}")[1] for task in (threading.get_native_id(), *other)]
        go.set()
        thread.join()
        return effective

    by_libc = in_child(lambda: change(lambda: setuid(USER)))
    raw = in_child(lambda: change(lambda: setresuid_of_thread(USER, USER, USER)))
    assert seen([by_libc, raw]) == [[USER, USER], [USER, 0]]


@behaviour("user.caps.setfsuid-clears-file-caps")
def test_filesystem_uid_and_capabilities(in_child: InChild, seen: Seen) -> None:
    """A filesystem uid other than 0 takes the file capabilities from the effective set, and from no other."""

    def change() -> list[Any]:
        before = [int(status(name)[0], 16) for name in ("CapEff", "CapPrm")]
        was = setfsuid(USER)
        after = [int(status(name)[0], 16) for name in ("CapEff", "CapPrm")]
        lost = before[0] & ~after[0]
        names = [name for name, bit in FILE_CAPABILITIES.items() if lost & 1 << bit]
        kept = bool(after[0] & 1 << 7)  # CAP_SETUID
        back = setfsuid(0)
        return [was, names, kept, before[1] == after[1], back, int(status("CapEff")[0], 16) == before[0]]

    assert seen(in_child(change)) == [0, list(FILE_CAPABILITIES), True, True, USER, True]


@behaviour("user.groups.preserved-by-exec")
def test_groups_outlive_exec(in_child: InChild, seen: Seen) -> None:
    """Supplementary groups are inherited by fork and kept by execve."""

    def run() -> str:
        become(ExecUser(USER, USER, (10, 20)))
        reader, writer = os.pipe()
        pid = os.posix_spawn(
            "/usr/bin/id", ["id", "-G"], {}, file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)]
        )  # fmt: skip
        os.close(writer)
        os.waitpid(pid, 0)
        return os.read(reader, 100).decode()

    assert seen(in_child(run)) == f"{USER} 10 20\n"
    assert read_credentials().groups != (10, 20)
