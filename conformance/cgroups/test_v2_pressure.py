"""Version 2, pressure stall information: files and triggers; acted on by impl.cgroups."""

from __future__ import annotations

import os
import re
import select
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.cgroups.acting import DEADLINE_SECONDS, MIB, end_by_kill, set_limits, start_inside, touch
from kernelproof.impl.cgroups.controllers.pressure import parse_pressure
from kernelproof.impl.cgroups.ending import remove
from kernelproof.impl.cgroups.errors import LimitError
from kernelproof.impl.cgroups.limits import Limits
from kernelproof.impl.cgroups.pressure import PressureTrigger

if TYPE_CHECKING:
    from kernelproof.conformance.cgroups.conftest import Make
    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.seen import Seen
    from kernelproof.impl.cgroups.directory import Directory

SYSTEM = Path("/proc/pressure")
LINE = r"(some|full) avg10=\d+\.\d\d avg60=\d+\.\d\d avg300=\d+\.\d\d total=\d+"


def lines(path: Path) -> list[str]:
    found = path.read_text().splitlines()
    assert all(re.fullmatch(LINE, line) for line in found)
    return [line.split()[0] for line in found]


def write_trigger(path: Path, text: str) -> None:
    """A trigger that is gone at once."""
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.write(fd, f"{text}\0".encode())
    finally:
        os.close(fd)


@behaviour("cgroup-v2.psi.file-format", subject="impl")
def test_two_lines_a_file() -> None:
    """some and full, each with three averages and a total; the package reads them."""
    for kind in ("cpu", "memory", "io"):
        assert lines(SYSTEM / kind) == ["some", "full"]
        found = parse_pressure((SYSTEM / kind).read_text())
        assert found.some is not None
        assert found.full is not None


@behaviour("cgroup-v2.psi.cgroup-files", subject="impl")
def test_every_cgroup_has_its_own(unified: Path, make: Make) -> None:
    """Three files of the same format."""
    make("child")
    for kind in ("cpu", "memory", "io"):
        assert lines(unified / f"child/{kind}.pressure") == lines(SYSTEM / kind)


@behaviour("cgroup-v2.psi.trigger-second-ebusy", subject="impl")
def test_one_trigger_a_descriptor(make: Make, seen: Seen) -> None:
    """A second one is refused; another descriptor takes one."""
    child = make("child")
    trigger = "some 500000 1000000\0"
    with PressureTrigger.open(child, "memory", stall_microseconds=500_000) as first:
        assert seen.errno_of(os.write, first.fileno(), trigger.encode()) == "EBUSY"
        with PressureTrigger.open(child, "memory", stall_microseconds=500_000):
            pass


@behaviour("cgroup-v2.psi.window-range-einval", subject="impl")
def test_windows_there_are_not(make: Make, seen: Seen) -> None:
    """Less than half a second and more than ten are refused, by the package too."""
    child = make("child")
    path = Path(child.path, "memory.pressure")
    answers = [seen.errno_of(write_trigger, path, f"some 100000 {window}") for window in (499_999, 10_000_001)]
    assert seen(answers) == ["EINVAL", "EINVAL"]
    for window in (499_999, 10_000_001):
        with pytest.raises(LimitError):
            PressureTrigger.open(child, "memory", stall_microseconds=100_000, window_microseconds=window)
    for window in (500_000, 10_000_000):
        PressureTrigger.open(child, "memory", stall_microseconds=100_000, window_microseconds=window).close()


@behaviour("cgroup-v2.psi.threshold-einval", subject="impl")
def test_stalls_there_are_not(make: Make, seen: Seen) -> None:
    """Nothing at all, and more than the window, are refused, by the package too."""
    child = make("child")
    path = Path(child.path, "memory.pressure")
    answers = [seen.errno_of(write_trigger, path, f"some {stall} 1000000") for stall in (0, 1_000_001)]
    assert seen(answers) == ["EINVAL", "EINVAL"]
    for stall in (0, 1_000_001):
        with pytest.raises(LimitError):
            PressureTrigger.open(child, "memory", stall_microseconds=stall)


@behaviour("cgroup-v2.psi.first-word-einval", subject="impl")
def test_some_or_full(make: Make, seen: Seen) -> None:
    """Another word is refused, by the package too."""
    child = make("child")
    assert seen.errno_of(write_trigger, Path(child.path, "memory.pressure"), "many 100000 1000000") == "EINVAL"
    with pytest.raises(LimitError):
        PressureTrigger.open(child, "memory", "many", stall_microseconds=100_000)


@behaviour("cgroup-v2.psi.unprivileged-2s", subject="impl")
def test_windows_of_everybody(in_child: InChild, seen: Seen) -> None:
    """Without CAP_SYS_RESOURCE two seconds are taken and three refused; the package's error says the rule."""

    def arm(window: int) -> None:
        trigger = PressureTrigger.open(
            SYSTEM / "memory", "memory", stall_microseconds=100_000, window_microseconds=window
        )
        trigger.close()

    def as_nobody() -> list[str | bool]:
        os.setgid(65534)
        os.setuid(65534)
        answers: list[str | bool] = [seen.errno_of(arm, window) for window in (2_000_000, 3_000_000)]
        try:
            arm(3_000_000)
        except OSError as error:
            answers.append(any("a multiple of 2000000" in note for note in error.__notes__))
        return answers

    assert seen(in_child(as_nobody)) == ["no error", "EINVAL", True]


@behaviour("cgroup-v2.psi.trigger-fires", subject="impl")
def test_a_stall_wakes_who_waits(make: Make) -> None:
    """While a cgroup is held back by memory.high its trigger gives POLLPRI."""
    child = make("child", "memory")
    set_limits(child, Limits(memory_high_bytes=4 * MIB))
    with PressureTrigger.open(child, "memory", stall_microseconds=100_000) as trigger:
        poll = select.poll()
        poll.register(trigger.fileno(), select.POLLPRI)
        quiet = poll.poll(0)
        pid = start_inside(child, lambda: touch(64 * MIB))
        answers = poll.poll(DEADLINE_SECONDS * 1000)
        end_by_kill(pid)
    assert quiet == []
    assert [event for _, event in answers] == [select.POLLPRI]


@behaviour("cgroup-v2.psi.trigger-gone-pollerr", subject="impl")
def test_a_trigger_outlives_its_cgroup(top: Directory, make: Make) -> None:
    """When the cgroup is removed poll(2) gives POLLERR; the package says that it is gone."""
    with PressureTrigger.open(make("child"), "memory", stall_microseconds=100_000) as trigger:
        remove(top, "child")
        poll = select.poll()
        poll.register(trigger.fileno(), select.POLLPRI)
        ((_, event),) = poll.poll(DEADLINE_SECONDS * 1000)
        assert event & select.POLLERR


@behaviour("cgroup-v2.psi.cgroup-pressure-default", subject="impl")
def test_accounting_is_on(unified: Path, make: Make) -> None:
    """cgroup.pressure is 1 in a new cgroup."""
    make("child")
    assert (unified / "child/cgroup.pressure").read_text() == "1\n"


@behaviour("cgroup-v2.psi.cgroup-pressure-values", subject="impl")
def test_accounting_of_something_else(unified: Path, make: Make, seen: Seen) -> None:
    """2 is refused."""
    assert seen.errno_of(make("child").write, "cgroup.pressure", "2") == "ERANGE"
    assert (unified / "child/cgroup.pressure").read_text() == "1\n"


@behaviour("cgroup-v2.psi.cgroup-pressure-off", subject="impl")
def test_accounting_can_be_off(unified: Path, make: Make) -> None:
    """Of one cgroup, whose files are hidden then, and not of its children."""
    make("parent/child")
    make("parent").write("cgroup.pressure", "0")
    names = ("parent", "parent/child")
    assert [(unified / name / "cgroup.pressure").read_text() for name in names] == ["0\n", "1\n"]
    assert [(unified / name / "memory.pressure").exists() for name in names] == [False, True]
    assert make("parent").read_or_none("memory.pressure") is None
