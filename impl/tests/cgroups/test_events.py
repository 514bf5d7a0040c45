"""Events of a cgroup and stalls, from files that stand for the kernel's."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernelproof.impl.cgroups import pressure
from kernelproof.impl.cgroups.directory import Directory
from kernelproof.impl.cgroups.errors import NoControllerError
from kernelproof.impl.cgroups.events import CgroupEvents, Event
from kernelproof.impl.cgroups.pressure import PressureTrigger, Stalled


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Directory]:
    """A cgroup with a memory controller and one for processes."""
    for name, text in (("memory.events", "max 2\noom_kill 1\n"), ("pids.events", "max 0\n")):
        (tmp_path / name).write_text(text)
    with Directory(os.open(tmp_path, os.O_RDONLY), "/box", 2) as opened:
        yield opened


def test_what_grew_is_told_once(folder: Directory, tmp_path: Path) -> None:
    """Counters from before the watch are not events; each change is told once, with what it says and how much it is."""
    with CgroupEvents.open(folder) as events:
        assert events.counters() == {"memory.events": {"max": 2, "oom_kill": 1}, "pids.events": {"max": 0}}
        assert events.changes() == []
        (tmp_path / "memory.events").write_text("max 2\noom_kill 3\noom 1\n")
        (tmp_path / "pids.events").write_text("max 5\n")
        assert events.changes() == [
            Event("memory.events", "oom_kill", 3, 2),
            Event("memory.events", "oom", 1, 1),
            Event("pids.events", "max", 5, 5),
        ]
        assert events.changes() == []
        assert list(events.watch(0)) == []
        assert events.counters()["memory.events"] == {"max": 2, "oom_kill": 3, "oom": 1}


def test_removal_is_the_last_event(folder: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cgroup that is gone says so once to who watches, and its last counters are kept."""

    def gone(*_: object) -> bytes:
        raise OSError(errno.ENODEV, "No such device")

    with CgroupEvents.open(folder) as events:
        monkeypatch.setattr(os, "pread", gone)
        assert events.changes() == [Event("", "removed", 1, 1)]
        assert list(events.watch()) == []
        assert events.counters() == {"memory.events": {"max": 2, "oom_kill": 1}, "pids.events": {"max": 0}}


def test_other_errors_of_reading_are_told(folder: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that is no removal is the caller's."""

    def broken(*_: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    with CgroupEvents.open(folder) as events:
        monkeypatch.setattr(os, "pread", broken)
        with pytest.raises(OSError, match="Input/output"):
            events.changes()


def test_files_that_are_watched(folder: Directory, tmp_path: Path) -> None:
    """Files that a cgroup lacks are left out; with none of them there is nothing to watch, and nothing stays open."""
    before = len(os.listdir("/dev/fd"))
    with CgroupEvents.open(folder, ("memory.swap.events", "pids.events")) as events:
        assert list(events.counters()) == ["pids.events"]
    with pytest.raises(NoControllerError, match=r"/box has none of cgroup\.events$"):
        CgroupEvents.open(folder, ("cgroup.events",))
    (tmp_path / "memory.events").write_bytes(b"rubbish\n")
    with pytest.raises(ValueError, match="rubbish"):
        CgroupEvents.open(folder)
    assert len(os.listdir("/dev/fd")) == before


def test_stalls_until_the_time_has_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time that a trigger fires it is told, with what came since the last time; then the waiting ends."""
    path = tmp_path / "memory.pressure"
    path.write_text("some avg10=0.00 avg60=0.00 avg300=0.00 total=100\n")
    totals = iter([150, 400])

    def wait(fd: int, events: int, timeout_seconds: float | None) -> bool:
        total = next(totals, None)
        if total is not None:
            path.write_text(f"some avg10=0.00 avg60=0.00 avg300=0.00 total={total}\n")
        return total is not None

    monkeypatch.setattr(pressure, "wait_for_event", wait)
    with PressureTrigger(os.open(path, os.O_RDONLY), "some", 100) as trigger:
        assert list(trigger.events(60)) == [Stalled(150, 50), Stalled(400, 250)]
        assert trigger.fileno() >= 0
    trigger.close()
    assert trigger.fileno() == -1
