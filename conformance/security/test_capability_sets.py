"""The five sets of capabilities of a thread: what may grow, what is refused, and what user IDs do to them."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from kernelproof import behaviour
from kernelproof.conformance.process.procfs import status_bits
from kernelproof.conformance.security.conftest import KILL, NET_RAW, SETFCAP, SETPCAP, USER, bit
from kernelproof.impl._syscalls.capabilities import (
    ambient_has,
    bounding_has,
    capget,
    capset,
    drop_bounding,
    raise_ambient,
)
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare
from kernelproof.impl._syscalls.prctl import (
    PR_CAP_AMBIENT,
    PR_SET_SECUREBITS,
    SECBIT_NO_CAP_AMBIENT_RAISE,
    prctl,
)
from kernelproof.impl.user import set_uids

if TYPE_CHECKING:
    from kernelproof.conformance.conftest import Companion, InChild, Talk
    from kernelproof.conformance.security.conftest import Without
    from kernelproof.conformance.seen import Seen

NAMES = ("CapPrm", "CapEff", "CapInh")


def sets() -> list[int]:
    """Permitted, effective and inheritable capabilities, as /proc tells them."""
    return [status_bits(name) for name in NAMES]


def last_capability() -> int:
    """The highest number that the kernel knows."""
    return int(Path("/proc/sys/kernel/cap_last_cap").read_text())


@behaviour("capabilities.bounding.drop-is-final")
def test_dropped_for_good(in_child: InChild, seen: Seen) -> None:
    """A dropped capability reads 0, also after capset and a change of user and back."""

    def drop() -> list[object]:
        drop_bounding(NET_RAW)
        first = bounding_has(NET_RAW)
        capset(*capget())
        set_uids(0, USER, 0)
        set_uids(0, 0, 0)
        return [first, bounding_has(NET_RAW), bool(status_bits("CapBnd") & bit(NET_RAW))]

    assert seen(in_child(drop)) == [False, False, False]


@behaviour("capabilities.bounding.drop-needs-setpcap")
def test_dropping_needs_a_capability(without: Without, seen: Seen) -> None:
    """Without CAP_SETPCAP a capability can't be dropped: EPERM, and it stays."""

    def drop() -> list[object]:
        answer = seen.errno_of(drop_bounding, NET_RAW)
        return [answer, bool(status_bits("CapBnd") & bit(NET_RAW))]

    assert seen(without(SETPCAP, drop)) == ["EPERM", True]


@behaviour("capabilities.bounding.invalid-capability")
def test_number_that_is_no_capability(in_child: InChild, seen: Seen) -> None:
    """A number above the last capability gives EINVAL, read or dropped; the last one is known."""
    beyond = last_capability() + 1

    def ask() -> list[str]:
        return [seen.errno_of(call, number) for number in (beyond, 2**31) for call in (bounding_has, drop_bounding)] + [
            seen.errno_of(bounding_has, beyond - 1)
        ]

    assert seen(in_child(ask)) == ["EINVAL"] * 4 + ["no error"]


@behaviour("capabilities.bounding.drop-leaves-permitted")
def test_other_sets_stay(in_child: InChild, seen: Seen) -> None:
    """Permitted, effective and inheritable sets are what they were after a drop."""

    def drop() -> bool:
        capset(*capget()[:2], bit(NET_RAW))
        before = sets()
        drop_bounding(NET_RAW)
        return before == sets() and bool(before[2] & bit(NET_RAW)) and not status_bits("CapBnd") & bit(NET_RAW)

    assert seen(in_child(drop)) is True


@behaviour("capabilities.bounding.limits-inheritable")
def test_nothing_beyond_bounding_is_inheritable(in_child: InChild, seen: Seen) -> None:
    """A permitted capability that was dropped from bounding can't be made inheritable: EPERM."""

    def add() -> list[object]:
        drop_bounding(NET_RAW)
        effective, permitted, _ = capget()
        return [seen.errno_of(capset, effective, permitted, bit(each)) for each in (NET_RAW, KILL)]

    assert seen(in_child(add)) == ["EPERM", "no error"]


@behaviour("capabilities.capset.permitted-cannot-grow")
def test_permitted_does_not_grow(in_child: InChild, seen: Seen) -> None:
    """A capability that left the permitted set does not come back: EPERM."""

    def grow() -> list[object]:
        effective, permitted, inheritable = capget()
        capset(effective & ~bit(KILL), permitted & ~bit(KILL), inheritable)
        answer = seen.errno_of(capset, effective, permitted, inheritable)
        return [answer, bool(status_bits("CapPrm") & bit(KILL))]

    assert seen(in_child(grow)) == ["EPERM", False]


@behaviour("capabilities.capset.effective-within-permitted")
def test_effective_is_permitted(in_child: InChild, seen: Seen) -> None:
    """An effective capability outside the new permitted set gives EPERM."""

    def exceed() -> list[object]:
        effective, permitted, inheritable = capget()
        answer = seen.errno_of(capset, effective, permitted & ~bit(KILL), inheritable)
        return [answer, bool(status_bits("CapPrm") & bit(KILL))]

    assert seen(in_child(exceed)) == ["EPERM", True]


@behaviour("capabilities.capset.other-thread")
def test_no_other_threads_sets(seen: Seen) -> None:
    """capset for another process gives EPERM, for root too."""
    other = status_bits("CapEff", os.getppid())
    assert seen.errno_of(capset, *capget(), pid=os.getppid()) == "EPERM"
    assert status_bits("CapEff", os.getppid()) == other


@behaviour("capabilities.capget.missing-thread")
def test_process_that_is_not_there(seen: Seen) -> None:
    """capget for a pid that nobody has gives ESRCH; of a process it gives what /proc tells."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    assert seen.errno_of(capget, pid) == "ESRCH"
    effective, permitted, inheritable = capget(os.getppid())
    assert [permitted, effective, inheritable] == [status_bits(name, os.getppid()) for name in NAMES]


@behaviour("capabilities.capget.unknown-version")
def test_unknown_version(seen: Seen) -> None:
    """An unknown version of the header gives EINVAL, and the kernel writes the one that it prefers."""
    told = []
    try:
        capget(version=0x12345678)
    except OSError as error:
        told = [seen.errno_of(capget, version=0x12345678), "0x20080522" in " ".join(error.__notes__)]
    assert seen(told) == ["EINVAL", True]


@behaviour("capabilities.ambient.raise-needs-both-sets")
def test_ambient_is_permitted_and_inheritable(in_child: InChild, seen: Seen) -> None:
    """A capability in one of the two sets alone can't be raised: EPERM; one in both can."""

    def try_all() -> list[object]:
        effective, permitted, _ = capget()
        capset(effective & ~bit(NET_RAW), permitted & ~bit(NET_RAW), bit(NET_RAW, SETPCAP))
        answers = [seen.errno_of(raise_ambient, each) for each in (KILL, NET_RAW, SETPCAP)]
        return [*answers, status_bits("CapAmb") == bit(SETPCAP)]

    assert seen(in_child(try_all)) == ["EPERM", "EPERM", "no error", True]


@behaviour("capabilities.ambient.invalid-capability")
def test_ambient_of_no_capability(in_child: InChild, seen: Seen) -> None:
    """A number above the last capability gives EINVAL."""
    beyond = last_capability() + 1
    assert (
        seen(in_child(lambda: [seen.errno_of(call, beyond) for call in (raise_ambient, ambient_has)])) == ["EINVAL"] * 2
    )


@behaviour("capabilities.ambient.invalid-operation")
def test_unknown_ambient_operation(in_child: InChild, seen: Seen) -> None:
    """An operation that PR_CAP_AMBIENT does not define gives EINVAL."""
    assert (
        seen(in_child(lambda: [seen.errno_of(prctl, PR_CAP_AMBIENT, each, KILL) for each in (0, 5)])) == ["EINVAL"] * 2
    )


@behaviour("capabilities.ambient.lowered-with-permitted")
def test_ambient_follows(in_child: InChild, seen: Seen) -> None:
    """A capability that leaves the permitted or the inheritable set leaves the ambient one."""

    def lower() -> list[int]:
        effective, permitted, _ = capget()
        capset(effective, permitted, bit(KILL, NET_RAW, SETPCAP))
        for number in (KILL, NET_RAW, SETPCAP):
            raise_ambient(number)
        capset(effective & ~bit(KILL), permitted & ~bit(KILL), bit(KILL, NET_RAW, SETPCAP))
        first = status_bits("CapAmb")
        capset(effective & ~bit(KILL), permitted & ~bit(KILL), bit(KILL, SETPCAP))
        return [first, status_bits("CapAmb")]

    assert seen(in_child(lower)) == [bit(NET_RAW, SETPCAP), bit(SETPCAP)]


@behaviour("capabilities.ambient.raise-forbidden-by-securebit")
def test_securebit_forbids_raising(in_child: InChild, seen: Seen) -> None:
    """With SECBIT_NO_CAP_AMBIENT_RAISE raising gives EPERM."""

    def forbid() -> list[str]:
        effective, permitted, _ = capget()
        capset(effective, permitted, bit(KILL))
        prctl(PR_SET_SECUREBITS, SECBIT_NO_CAP_AMBIENT_RAISE)
        return [seen.errno_of(raise_ambient, KILL), str(status_bits("CapAmb"))]

    assert seen(in_child(forbid)) == ["EPERM", "0"]


@behaviour("capabilities.uid.setuid-clears-all")
def test_leaving_root_clears(in_child: InChild, seen: Seen) -> None:
    """When no user ID is 0 any more, permitted, effective and ambient sets are empty."""

    def leave() -> list[int]:
        capset(*capget()[:2], bit(KILL))
        raise_ambient(KILL)
        set_uids(USER, USER, 0)  # the saved one is 0 yet
        kept = status_bits("CapPrm") != 0
        set_uids(USER, USER, USER)
        return [int(kept), *(status_bits(name) for name in ("CapPrm", "CapEff", "CapAmb"))]

    assert seen(in_child(leave)) == [1, 0, 0, 0]


@behaviour("capabilities.uid.effective-only")
def test_effective_user_alone(in_child: InChild, seen: Seen) -> None:
    """Another effective user empties the effective set; back as root it is the permitted set again."""

    def change() -> list[bool]:
        before = sets()
        set_uids(0, USER, 0)
        away = sets()
        set_uids(0, 0, 0)
        return [away[0] == before[0], away[1] == 0, sets()[1] == before[0] != 0]

    assert seen(in_child(change)) == [True, True, True]


@behaviour("capabilities.files.xattr-needs-setfcap")
def test_capabilities_of_files_need_one(without: Without, program: Path, seen: Seen) -> None:
    """Without CAP_SETFCAP a file's capabilities can't be set: EPERM."""
    value = struct.pack("<5I", 0x02000000, bit(KILL), 0, 0, 0)
    name = "security.capability"
    assert seen(without(SETFCAP, lambda: seen.errno_of(os.setxattr, program, name, value))) == "EPERM"
    assert name not in os.listxattr(program)


@behaviour("capabilities.files.v3-created-in-userns")
def test_attribute_of_a_user_namespace(companion: Companion, program: Path, seen: Seen) -> None:
    """What is written as version 2 in a user namespace is version 3 with its root's user ID, seen from outside."""
    os.chown(program, 100_000, 100_000)

    def write(talk: Talk) -> None:
        unshare(CloneFlag.NEWUSER)
        talk.ask()
        os.setresgid(0, 0, 0)
        set_uids(0, 0, 0)
        os.setxattr(program, "security.capability", struct.pack("<5I", 0x02000000, bit(KILL), 0, 0, 0))
        talk.say("done")

    talk = companion(write)
    talk.hear()
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{talk.pid}/{name}").write_text("0 100000 65536")
    assert talk.ask() == "done"
    value = os.getxattr(program, "security.capability")
    assert seen([len(value), value[3], struct.unpack_from("<I", value, 20)[0]]) == [24, 3, 100_000]
