"""Time namespaces: whom they are for, and the offsets of their clocks."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kernelproof import behaviour
from kernelproof.conformance.process.procfs import namespace
from kernelproof.impl._syscalls.execution import execve
from kernelproof.impl._syscalls.namespaces import CloneFlag, clone3, unshare
from kernelproof.impl.user import WriteFile, perform

if TYPE_CHECKING:
    from kernelproof.conformance.conftest import Companion, InChild, OutputOf
    from kernelproof.conformance.namespaces.conftest import Without
    from kernelproof.conformance.seen import Seen

CAP_SYS_TIME = 25
OFFSETS = "/proc/self/timens_offsets"


def set_offsets(text: str) -> None:
    """Make a time namespace for one's children, with offsets."""
    unshare(CloneFlag.NEWTIME)
    perform(WriteFile(OFFSETS, text))


def offsets() -> dict[str, list[int]]:
    """The offsets of the clocks, seconds and nanoseconds by name."""
    lines = (line.split() for line in Path(OFFSETS).read_text().splitlines())
    return {name: [int(seconds), int(nanoseconds)] for name, seconds, nanoseconds in lines}


@behaviour("namespaces.time.unsharer-stays-outside")
def test_unshare_of_time_is_for_children(in_child: InChild, companion: Companion, seen: Seen) -> None:
    """unshare(CLONE_NEWTIME) leaves the caller in its time namespace and names a new one for its children."""

    def leave() -> list[bool]:
        before = namespace("time")
        assert namespace("time_for_children") == before
        unshare(CloneFlag.NEWTIME)
        child = companion(lambda talk: talk.ask())
        child.hear()
        named = namespace("time_for_children")
        return [namespace("time") == before, named == before, namespace("time", child.pid) == named]

    assert seen(in_child(leave)) == [True, False, True]


@behaviour("namespaces.time.exec-keeps-caller-outside")
def test_program_of_the_unsharer(output_of: OutputOf, seen: Seen) -> None:
    """A process that unshared its time namespace is in the old one after execve too."""

    def run() -> None:
        unshare(CloneFlag.NEWTIME)
        execve("/bin/readlink", ["readlink", "/proc/self/ns/time", "/proc/self/ns/time_for_children"])

    own, for_children = output_of(run).split()
    assert for_children != namespace("time")
    assert seen("the old namespace" if own == namespace("time") else "the new namespace") == "the old namespace"


@behaviour("namespaces.time.only-unshare-creates")
def test_clone_makes_no_time_namespace(in_child: InChild, seen: Seen) -> None:
    """clone3 with NEWTIME fails."""

    def make() -> None:
        child = clone3(CloneFlag.NEWTIME).pid
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)

    assert seen(in_child(lambda: seen.errno_of(make))) != "no error"


@behaviour("namespaces.time.offset-applies-to-children")
def test_clock_of_children(in_child: InChild, companion: Companion, seen: Seen) -> None:
    """A child's CLOCK_MONOTONIC is ahead of its parent's by the offset."""

    def look() -> int:
        set_offsets("monotonic 1000 0\n")
        before = time.clock_gettime(time.CLOCK_MONOTONIC)
        inside: float = companion(lambda talk: talk.say(time.clock_gettime(time.CLOCK_MONOTONIC))).hear()
        after = time.clock_gettime(time.CLOCK_MONOTONIC)
        assert before < inside - 1000 < after
        return round((inside - before) / 100)

    assert seen(in_child(look)) == 10


@behaviour("namespaces.time.realtime-not-virtualised")
def test_wall_clock_of_children(in_child: InChild, companion: Companion, seen: Seen) -> None:
    """CLOCK_REALTIME is the same inside."""

    def look() -> list[bool]:
        set_offsets("monotonic 1000 0\nboottime 1000 0\n")
        clocks = (time.CLOCK_REALTIME, time.CLOCK_MONOTONIC)
        before = [time.clock_gettime(clock) for clock in clocks]
        inside = companion(lambda talk: talk.say([time.clock_gettime(clock) for clock in clocks])).hear()
        after = [time.clock_gettime(clock) for clock in clocks]
        return [low <= told <= high for low, told, high in zip(before, inside, after, strict=True)]

    assert seen(in_child(look)) == [True, False]


@behaviour("namespaces.time.uptime-follows-boottime")
def test_uptime_inside(in_child: InChild, companion: Companion, seen: Seen) -> None:
    """/proc/uptime includes the offset of boottime."""

    def uptime() -> float:
        return float(Path("/proc/uptime").read_text().split()[0])

    def look() -> bool:
        set_offsets("boottime 100000 0\n")
        before = uptime()
        inside: float = companion(lambda talk: talk.say(uptime())).hear()
        return before <= round(inside - 100000, 2) <= uptime()

    assert seen(in_child(look)) is True


def answer(seen: Seen, text: str) -> str:
    """What the offsets of a new time namespace say to a text."""
    return seen.errno_of(set_offsets, text)


def answers(in_child: InChild, seen: Seen, *texts: str) -> list[str]:
    """The same of several namespaces."""
    return [in_child(partial(answer, seen, text)) for text in texts]


@behaviour("namespaces.time.write-after-first-member")
def test_offsets_are_fixed_by_the_first_process(in_child: InChild, companion: Companion, seen: Seen) -> None:
    """Once a process is in the namespace its offsets can't be written: EACCES."""

    def act() -> list[Any]:
        before = answer(seen, "monotonic 1 0\n")
        companion(lambda talk: talk.say()).hear()
        return [before, seen.errno_of(perform, WriteFile(OFFSETS, "monotonic 2 0\n")), offsets()["monotonic"]]

    assert seen(in_child(act)) == ["no error", "EACCES", [1, 0]]


@behaviour("namespaces.time.nanoseconds-range")
def test_nanoseconds_of_an_offset(in_child: InChild, seen: Seen) -> None:
    """999999999 nanoseconds are accepted, and one more gives EINVAL."""
    texts = [f"monotonic 1 {nanoseconds}\n" for nanoseconds in (999999999, 1000000000)]
    assert seen(answers(in_child, seen, *texts)) == ["no error", "EINVAL"]


@behaviour("namespaces.time.unknown-clock")
@pytest.mark.parametrize("clock", ["realtime", "0", "2", "MONOTONIC", ""])
def test_other_clock(clock: str, in_child: InChild, seen: Seen) -> None:
    """Another clock than monotonic and boottime gives EINVAL."""
    assert seen(in_child(lambda: answer(seen, f"{clock} 1 0\n"))) == "EINVAL"


@behaviour("namespaces.time.numeric-clock-ids")
def test_clock_by_number(in_child: InChild, seen: Seen) -> None:
    """1 stands for monotonic and 7 for boottime; the file reads back the names."""

    def act() -> dict[str, list[int]]:
        set_offsets("1 10 11\n7 20 21\n")
        return offsets()

    assert seen(sorted(in_child(act).items())) == [("boottime", [20, 21]), ("monotonic", [10, 11])]


@behaviour("namespaces.time.negative-clock")
def test_clock_below_zero(in_child: InChild, seen: Seen) -> None:
    """An offset that puts a clock below zero gives ERANGE; one that does not is accepted."""
    uptime = int(time.clock_gettime(time.CLOCK_BOOTTIME))
    texts = [f"boottime {seconds} 0\n" for seconds in (1 - uptime, -uptime - 1000)]
    assert uptime > 1
    assert seen(answers(in_child, seen, *texts)) == ["no error", "ERANGE"]


@behaviour("namespaces.time.too-large")
def test_clock_beyond_the_limit(in_child: InChild, seen: Seen) -> None:
    """An offset that puts a clock beyond half of KTIME_SEC_MAX gives ERANGE."""
    texts = [f"boottime {seconds} 0\n" for seconds in (4000000000, 4611686018)]
    assert seen(answers(in_child, seen, *texts)) == ["no error", "ERANGE"]


@behaviour("namespaces.time.needs-sys-time")
def test_offsets_need_a_capability(in_child: InChild, without: Without, seen: Seen) -> None:
    """Without CAP_SYS_TIME no offset is written: EPERM."""
    assert in_child(lambda: answer(seen, "monotonic 1 0\n")) == "no error"
    assert seen(without(CAP_SYS_TIME, lambda: answer(seen, "monotonic 1 0\n"))) == "EPERM"


@behaviour("namespaces.time.offsets-inherited")
def test_offsets_of_a_nested_namespace(in_child: InChild, companion: Companion, seen: Seen) -> None:
    """A time namespace that is made inside another one starts with its offsets."""

    def nest() -> dict[str, list[int]]:
        before = namespace("time_for_children")
        unshare(CloneFlag.NEWTIME)
        assert namespace("time_for_children") != before
        return offsets()

    def act() -> Any:
        set_offsets("monotonic 10 0\nboottime 20 5\n")
        return companion(lambda talk: talk.say(nest())).hear()

    assert seen(sorted(in_child(act).items())) == [("boottime", [20, 5]), ("monotonic", [10, 0])]
