"""Waiting for a cgroup, and programs that are let go, with folders that stand for cgroups."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernelproof.impl._syscalls import bpf
from kernelproof.impl.cgroups.devices import attaching
from kernelproof.impl.cgroups.devices.rules import DeviceRule
from kernelproof.impl.cgroups.directory import Directory
from kernelproof.impl.cgroups.waiting import wait_until_event


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Directory]:
    """A folder as a cgroup of version 2 that is populated."""
    (tmp_path / "cgroup.events").write_text("populated 1\nfrozen 0\n")
    with Directory(os.open(tmp_path, os.O_RDONLY), str(tmp_path), 2) as opened:
        yield opened


def test_waiting_sleeps_until_something_changes(
    folder: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks the kernel to wake it, for as long as there is time, and looks again then."""
    asked: list[float] = []

    class Poll:
        def register(self, fd: int, events: int) -> None:
            assert events == select.POLLPRI

        def poll(self, milliseconds: float) -> None:
            asked.append(milliseconds)
            (tmp_path / "cgroup.events").write_text("populated 0\nfrozen 0\n")

    monkeypatch.setattr(select, "poll", Poll)
    assert wait_until_event(folder, "populated", 0, time.monotonic() + 1000)
    (wait,) = asked
    assert 900_000 < wait <= 1_000_000


def test_waiting_ends_with_its_time(folder: Directory) -> None:
    """What does not come is no error; what is there already needs no time."""
    assert not wait_until_event(folder, "populated", 0, time.monotonic())
    assert wait_until_event(folder, "populated", 1, 0.0)


@pytest.mark.parametrize("fails", [False, True], ids=["attached", "refused"])
def test_program_is_let_go(folder: Directory, monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    """The descriptor of a program that was loaded is closed when the cgroup has it, and when it can't have it."""
    loaded = []

    def load(*_: object, **__: object) -> int:
        loaded.append(os.open(os.devnull, os.O_RDONLY))
        return loaded[-1]

    def replace(*_: object) -> None:
        os.fstat(loaded[0])
        if fails:
            raise PermissionError(1, "no")

    monkeypatch.setattr(bpf, "load_program", load)
    monkeypatch.setattr(attaching, "_own_programs", lambda *_: [])
    monkeypatch.setattr(attaching, "_replace", replace)
    if fails:
        with pytest.raises(PermissionError):
            attaching.set_devices(folder, [DeviceRule(allow=True)])
    else:
        attaching.set_devices(folder, [DeviceRule(allow=True)])
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(loaded[0])
