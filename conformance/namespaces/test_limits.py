"""Limits on the number of namespaces: /proc/sys/user."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernelproof import behaviour
from kernelproof.conformance.process.procfs import namespace, open_namespace
from kernelproof.impl._syscalls.capabilities import capget, capset
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare
from kernelproof.impl._syscalls.prctl import PR_SET_KEEPCAPS, prctl
from kernelproof.impl.user import WriteFile, perform, set_gids, set_uids

if TYPE_CHECKING:
    from kernelproof.conformance.conftest import Companion, InChild, Talk
    from kernelproof.conformance.namespaces.conftest import InUserNamespace
    from kernelproof.conformance.seen import Seen

LIMITS = Path("/proc/sys/user")


def limit(kind: str, number: int) -> None:
    """Set how many namespaces of a kind the caller's user namespace may have for each user."""
    perform(WriteFile(str(LIMITS / f"max_{kind}_namespaces"), str(number)))


def limit_of(kind: str) -> int:
    """Read such a limit."""
    return int((LIMITS / f"max_{kind}_namespaces").read_text())


@behaviour("namespaces.limits.enospc")
def test_limit_of_uts_namespaces_holds_for_root(in_child: InChild, seen: Seen) -> None:
    """With 0 in max_uts_namespaces not even user ID 0 gets a new UTS namespace: ENOSPC."""

    def try_once() -> list[Any]:
        before = namespace("uts")
        return [os.getuid(), seen.errno_of(unshare, CloneFlag.NEWUTS), namespace("uts") != before]

    assert in_child(try_once) == [0, "no error", True]
    limit("uts", 0)
    assert seen(in_child(try_once)) == [0, "ENOSPC", False]


@behaviour("namespaces.limits.child-default-maxint")
def test_limits_of_a_new_user_namespace(in_user_namespace: InUserNamespace, seen: Seen) -> None:
    """In a new user namespace each limit on namespaces is 2147483647."""

    def look() -> list[list[Any]]:
        return [[path.name, int(path.read_text())] for path in sorted(LIMITS.glob("max_*_namespaces"))]

    outside = look()
    kinds = {name.split("_")[1] for name, _ in outside}
    assert kinds >= {"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"}
    assert {number for _, number in outside} != {2147483647}
    assert seen(in_user_namespace(look)) == [[name, 2147483647] for name, _ in outside]


def count_networks(seen: Seen) -> list[Any]:
    """Make network namespaces, which stay, until one is refused; return their number and the errno."""
    kept: list[int] = []
    for _ in range(10):
        answer = seen.errno_of(unshare, CloneFlag.NEWNET)
        if answer != "no error":
            return [len(kept), answer]
        kept.append(open_namespace("net"))
    return [len(kept), "no error"]


@behaviour("namespaces.limits.counted-against-ancestors")
def test_limit_of_the_parent(companion: Companion, seen: Seen) -> None:
    """What a child namespace's root makes counts in the parent, whose limit stops him with ENOSPC."""

    def nest(talk: Talk) -> None:
        unshare(CloneFlag.NEWUSER)
        limit("net", 2)
        for name, text in (("setgroups", "deny"), ("uid_map", "0 0 1"), ("gid_map", "0 0 1")):
            perform(WriteFile(f"/proc/self/{name}", text))
        unshare(CloneFlag.NEWUSER)
        talk.say([limit_of("net"), *count_networks(seen)])

    assert seen(companion(nest).hear()) == [2147483647, 2, "ENOSPC"]


def become_administrator(uid: int) -> None:
    """Become a user who keeps all capabilities."""
    prctl(PR_SET_KEEPCAPS, 1)
    set_gids(uid, uid, uid)
    set_uids(uid, uid, uid)
    _, permitted, inheritable = capget()
    capset(permitted, permitted, inheritable)


@behaviour("namespaces.limits.per-user")
def test_each_user_has_the_limit(companion: Companion, seen: Seen) -> None:
    """With a limit of 1 each of two users makes one UTS namespace, and no second one."""

    def make(uid: int, talk: Talk) -> None:
        become_administrator(uid)
        answers = [seen.errno_of(unshare, CloneFlag.NEWUTS)]
        fd = open_namespace("uts")
        talk.ask([*answers, seen.errno_of(unshare, CloneFlag.NEWUTS)])
        os.close(fd)

    limit("uts", 1)
    first = companion(lambda talk: make(1000, talk)).hear()  # who stays, and so does the namespace
    second = companion(lambda talk: make(1001, talk)).hear()
    assert seen([first, second]) == [["no error", "ENOSPC"]] * 2


@behaviour("namespaces.limits.view-of-opener")
def test_limit_is_the_openers(in_user_namespace: InUserNamespace, seen: Seen) -> None:
    """A limit that is written in a child user namespace is that namespace's."""
    before = limit_of("net")

    def write() -> int:
        limit("net", 5)
        return limit_of("net")

    assert before != 5
    assert seen([in_user_namespace(write), limit_of("net") == before]) == [5, True]
