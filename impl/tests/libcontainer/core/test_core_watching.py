"""Processes and their ends, watched by descriptors: children of the test stand for a container's processes."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kernelproof.impl.cgroups.directory import Directory
from kernelproof.impl.cgroups.errors import NoControllerError
from kernelproof.impl.libcontainer.children import NOTHING, PIPE, Running, Streams
from kernelproof.impl.libcontainer.ending import freeze
from kernelproof.impl.libcontainer.events import ENDED, Event, Watch, watch
from kernelproof.impl.libcontainer.process.helper import Made
from kernelproof.impl.libcontainer.process.identity import Identity, read_identity
from kernelproof.impl.libcontainer.state import State, WrongStatusError

Child = subprocess.Popen[bytes]


@pytest.fixture
def child() -> Iterator[Child]:
    """A process that lives until it is told."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def state_of(child: Child) -> State:
    """The state of a container whose process this is."""
    state = State("box", "/", "/", {})
    pidfd = os.pidfd_open(child.pid)
    state.process = read_identity(child.pid, pidfd)
    os.close(pidfd)
    return state


@contextmanager
def without_stdin() -> Iterator[None]:
    """Descriptor 0 is closed, as in some services: the next one that is opened gets its number."""
    kept = os.dup(0)
    os.close(0)
    try:
        yield
    finally:
        os.dup2(kept, 0)
        os.close(kept)


class FakeCgroup:
    """A cgroup in place of a real one."""

    def __init__(self, version: int, directory: Directory) -> None:
        self.version = version
        self.directory = directory
        self.closed = 0

    def directory_of(self, controller: str) -> Directory:
        """There is no memory controller."""
        raise NoControllerError(controller)

    def exists(self) -> bool:
        """It is there."""
        return True

    def processes(self) -> tuple[int, ...]:
        """Nobody is in it."""
        return ()

    def close(self) -> None:
        """Count."""
        self.closed += 1


# Watching.


def test_end_without_a_cgroup(child: Child) -> None:
    """The end of the process is the only event; until then there is none."""
    state = state_of(child)
    before = len(os.listdir("/dev/fd"))
    assert list(watch(state, timeout_seconds=0)) == []
    with watch(state) as happening:
        child.kill()
        assert list(happening) == [Event(ENDED, "box")]
    assert list(watch(state)) == [Event(ENDED, "box")]
    assert len(os.listdir("/dev/fd")) == before


def test_end_in_an_event_loop(child: Child) -> None:
    """An event loop hears of it too, and a time that passes ends the watch."""
    state = state_of(child)

    async def listen(timeout_seconds: float | None) -> list[Event]:
        async with watch(state, timeout_seconds) as happening:
            return [event async for event in happening]

    assert asyncio.run(listen(0)) == []
    child.kill()
    assert asyncio.run(listen(None)) == [Event(ENDED, "box")]


def test_watch_whose_descriptor_is_0(child: Child) -> None:
    """In a program without a standard input a container that lives has not ended."""
    state = state_of(child)
    with without_stdin(), watch(state, timeout_seconds=0) as happening:
        found = list(happening)
    assert found == []


@pytest.mark.parametrize(("version", "expected"), [(1, []), (2, [Event(ENDED, "box")])], ids=["v1", "v2"])
def test_who_tells_the_end(child: Child, tmp_path: Path, version: int, expected: list[Event]) -> None:
    """On version 2 a cgroup without processes is the end, on version 1 the end of the process; all is closed."""
    for name in ("memory.events", "pids.events", "cgroup.events"):
        (tmp_path / name).write_text("max 0\n")
    state = state_of(child)
    before = len(os.listdir("/dev/fd"))
    with Directory(os.open(tmp_path, os.O_RDONLY), "/box", version) as directory:
        cgroup: Any = FakeCgroup(version, directory)
        with Watch(state, cgroup) as watching:
            assert list(watching.events(0)) == expected
        assert cgroup.closed == 1
        watching.close()
    assert cgroup.closed == 1
    assert len(os.listdir("/dev/fd")) == before


def test_end_before_an_event_loop_watches(child: Child, tmp_path: Path) -> None:
    """A cgroup without processes is the end for an event loop too, which then waits for nothing."""
    (tmp_path / "cgroup.events").write_text("populated 0\n")

    async def listen(watching: Watch) -> list[Event]:
        return [event async for event in watching.events_async()]

    with Directory(os.open(tmp_path, os.O_RDONLY), "/box", 2) as directory:
        cgroup: Any = FakeCgroup(2, directory)
        with Watch(state_of(child), cgroup) as watching:
            assert asyncio.run(listen(watching)) == [Event(ENDED, "box")]


def test_watch_that_can_not_begin(child: Child, tmp_path: Path) -> None:
    """What the cgroup's files refuse is told, and the cgroup is closed."""
    with Directory(os.open(tmp_path, os.O_RDONLY), "/box", 2) as directory:
        cgroup: Any = FakeCgroup(2, directory)
        with pytest.raises(NoControllerError, match="/box has none of"):
            Watch(state_of(child), cgroup)
    assert cgroup.closed == 1


@pytest.mark.parametrize("frozen", [True, False], ids=["pause", "resume"])
def test_nothing_to_be_paused(frozen: bool) -> None:
    """A container without a cgroup can't be paused, and says why."""
    with pytest.raises(WrongStatusError, match="'box' has no cgroup"):
        freeze(State("box", "/", "/", {}), frozen=frozen)


def test_process_that_is_another_one() -> None:
    """A number that another process has by now is not taken for the container's."""
    state = State("box", "/", "/", {})
    state.process = Identity(os.getpid(), 1, 1)
    assert list(watch(state)) == [Event(ENDED, "box")]


# Children.


@contextmanager
def running(program: str, output: int | None = NOTHING) -> Iterator[Running]:
    """A child that runs a program of the shell."""
    streams = Streams((NOTHING, output, None))
    actions = [(os.POSIX_SPAWN_DUP2, given, place) for place, given in enumerate(streams.given)]
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", program], {}, file_actions=actions)
    streams.close()
    with Running(Made(pid, os.pidfd_open(pid), -1), streams) as made:
        yield made


@pytest.mark.parametrize(("program", "status"), [("exit 7", 7), ("kill -9 $$", 137)], ids=["exit", "signal"])
def test_status_of_a_child(program: str, status: int) -> None:
    """It is the exit status, or 128 and the signal's number; it is known once it was waited for, and stays."""
    for wait in (Running.wait, lambda process: asyncio.run(process.wait_async())):
        with running(program) as process:
            seen = [process.exit_status, wait(process), process.wait(0), process.exit_status]
            assert seen == [None, status, status, status]


def test_child_that_goes_on() -> None:
    """A wait ends with its time, and a signal ends the child; one that has ended takes signals as well."""
    with running("kill -STOP $$") as process:
        with pytest.raises(TimeoutError, match=f"process {process.pid} has not ended after 0 s"):
            process.wait(0)
        process.kill(9)
        assert process.wait(60) == 137
        process.kill()
    assert process.pidfd == -1
    process.close()


def test_output_of_a_child() -> None:
    """All that it writes until it closes its output is one answer, and a silence that is too long an error."""
    with running("printf one; printf two", PIPE) as process:
        assert process.read_output(60) == b"onetwo"
        process.wait(60)
    with running("read line", PIPE) as process:
        process.wait(60)
        assert process.read_output() == b""
    with running("kill -STOP $$", PIPE) as process:
        with pytest.raises(TimeoutError, match="has said nothing for 0 s"):
            process.read_output(0)
        process.kill(9)
        process.wait(60)
    with running("exit 0") as process:
        with pytest.raises(ValueError, match="ask for PIPE"):
            process.read_output()
        process.wait(60)


def test_output_on_descriptor_0() -> None:
    """In a program without a standard input a pipe may have its number."""
    read, write = os.pipe()
    os.write(write, b"x")
    os.close(write)
    streams: Any = SimpleNamespace(ours=[-1, 0, -1])
    with without_stdin():
        os.dup2(read, 0)
        found = Running(Made(1, -1, -1), streams).read_output(60)
    os.close(read)
    assert found == b"x"


def test_streams_that_can_not_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was opened for a process before one of its streams was refused is closed."""

    def refuse(flags: int) -> tuple[int, int]:
        raise OSError(errno.EMFILE, "Too many open files")

    before = len(os.listdir("/dev/fd"))
    made = Streams((PIPE, PIPE, NOTHING))
    assert made.given[0] != made.ours[0]
    made.close(ours=True)
    assert Streams((None, 5, None)).given == [0, 5, 2]
    monkeypatch.setattr(os, "pipe2", refuse)
    with pytest.raises(OSError, match="Too many"):
        Streams((NOTHING, PIPE, None))
    assert len(os.listdir("/dev/fd")) == before
