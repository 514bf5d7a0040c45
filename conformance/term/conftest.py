"""Pseudoterminal pairs, sessions on them, and jobs of their own process group."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Protocol

import pytest

from kernelproof.impl.term import PseudoterminalPair, set_controlling_terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kernelproof.conformance.conftest import InChild

# Jobs begin with these as a shell leaves them.
_JOB_SIGNALS = (signal.SIGTTOU, signal.SIGTTIN, signal.SIGTSTP, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
_SECONDS = 30


class Pair(NamedTuple):
    """The two ends of a pseudoterminal; `path` is that of the slave."""

    master: int
    slave: int
    path: str


class InSession(Protocol):
    def __call__(self, function: Callable[[], Any]) -> Any: ...


class Job(Protocol):
    def __call__(self, function: Callable[[], Any], *, orphaned: bool = False) -> Any: ...


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A fresh pseudoterminal pair, no process's controlling terminal; reads of the master do not wait."""
    with PseudoterminalPair.open() as opened:
        slave = opened.peer()
        os.set_blocking(opened.master, False)
        yield Pair(opened.master, slave, os.ttyname(slave))
        os.close(slave)


class ReadNow(Protocol):
    def __call__(self, fd: int) -> bytes | None: ...


class ReadAll(Protocol):
    def __call__(self) -> bytes | None: ...


@pytest.fixture
def read_now() -> ReadNow:
    """Return what one read gives; None if nothing is there, and nothing comes within half a second.

    What is written to one end of a pair is handed on by a worker of the kernel, and so is its echo.
    """

    def read(fd: int) -> bytes | None:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return os.read(fd, 10000) if poll.poll(500) else None

    return read


@pytest.fixture
def read_all(pair: Pair, read_now: ReadNow) -> ReadAll:
    """Return what the master reads until nothing comes any more; None if nothing was there.

    Output and echo are handed on piece by piece, a character that is treated specially as a piece of its own: a read
    may be in time for the first of them only.
    """

    def read() -> bytes | None:
        return b"".join(iter(lambda: read_now(pair.master) or b"", b"")) or None

    return read


@pytest.fixture
def arrived() -> Callable[[int], None]:
    """Wait until something can be read."""

    def wait(fd: int) -> None:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        assert poll.poll(_SECONDS * 1000), "nothing arrived"

    return wait


@pytest.fixture
def in_session(pair: Pair, in_child: InChild) -> InSession:
    """Run a function in a child that leads a session with the pair as controlling terminal, and return its value."""

    def run(function: Callable[[], Any]) -> Any:
        def lead() -> Any:
            os.setsid()
            set_controlling_terminal(pair.slave)
            return function()

        return in_child(lead)

    return run


@pytest.fixture
def job() -> Job:
    """Run a function in a process of a group of its own, and return what it returned, or how it ended.

    That is its value as JSON data, "stopped by SIGTTOU", "ended by SIGHUP" and so on. An orphaned job's parent is gone
    and was in the same session; it can't be seen to stop. OSError is returned as its errno's name by the function.
    """

    def run(function: Callable[[], Any], *, orphaned: bool = False) -> Any:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            if orphaned:
                _orphan()
            os.setpgid(0, 0)
            _answer(writer, function)
        os.close(writer)
        if not orphaned:
            how = _wait(pid)
            if how:
                os.close(reader)
                return how
        else:
            os.waitpid(pid, 0)
        said = _read_all(reader).decode()
        os.close(reader)
        if not said.startswith("{"):
            pytest.fail(f"the job said {said!r}")
        return json.loads(said)["value"]

    return run


def _orphan() -> None:
    """Go on as a grandchild whose parent has gone: its descriptors close before it stops being the parent."""
    parent = os.pidfd_open(os.getpid())
    if os.fork():
        os._exit(0)
    poll = select.poll()
    poll.register(parent, select.POLLIN)
    poll.poll(_SECONDS * 1000)
    os.close(parent)


def _answer(writer: int, function: Callable[[], Any]) -> NoReturn:
    for number in _JOB_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _JOB_SIGNALS)
    answer = ""
    try:
        answer = json.dumps({"value": function()})
    finally:
        # Nothing may leave this function: the caller's frames belong to the parent.
        os.write(writer, (answer or traceback.format_exc()).encode())
        os._exit(0)


def _wait(pid: int) -> str:
    _, status = os.waitpid(pid, os.WUNTRACED)
    if os.WIFSTOPPED(status):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return f"stopped by {signal.Signals(os.WSTOPSIG(status)).name}"
    return f"ended by {signal.Signals(os.WTERMSIG(status)).name}" if os.WIFSIGNALED(status) else ""


def _read_all(reader: int) -> bytes:
    deadline = time.monotonic() + _SECONDS
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    said = b""
    while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        piece = os.read(reader, 65536)
        if not piece:
            return said
        said += piece
    pytest.fail(f"the job did not end within {_SECONDS} s; it said {said!r}")


@pytest.fixture
def pending() -> Callable[[int], set[str]]:
    """Return the names of the signals that are pending for a process, by /proc/PID/status."""

    def read(pid: int) -> set[str]:
        lines = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        bits = int(lines["SigPnd"], 16) | int(lines["ShdPnd"], 16)
        return {number.name for number in signal.Signals if bits & 1 << number - 1}

    return read


class Rival(NamedTuple):
    """A process beside the test that leads a session with the pair as controlling terminal."""

    pid: int
    ask: Callable[[], Any]  # let it run its function, and return the value


class StartRival(Protocol):
    def __call__(self, function: Callable[[], Any]) -> Rival: ...


@pytest.fixture
def rival(pair: Pair) -> Iterator[StartRival]:
    """Start a process that leads a session with the pair, and waits until it is asked to run a function."""
    pids: list[int] = []
    sockets: list[socket.socket] = []

    def start(function: Callable[[], Any]) -> Rival:
        ours, theirs = socket.socketpair()
        sockets.append(ours)
        pid = os.fork()
        if pid == 0:
            try:
                ours.close()
                os.setsid()
                set_controlling_terminal(pair.slave)
                theirs.send(b"!")
                theirs.recv(1)
                theirs.send(json.dumps(function()).encode())
            finally:
                os._exit(0)
        theirs.close()
        ours.settimeout(_SECONDS)
        pids.append(pid)
        assert ours.recv(1) == b"!"

        def ask() -> Any:
            ours.send(b"?")
            return json.loads(ours.recv(65536))

        return Rival(pid, ask)

    yield start
    for pid, connection in zip(pids, sockets, strict=True):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        connection.close()


class TerminalOf(Protocol):
    def __call__(self, pid: int | str = "self") -> int: ...


@pytest.fixture
def terminal_of() -> TerminalOf:
    """Return the device number of a process's controlling terminal, 0 if it has none (proc_pid_stat(5), tty_nr)."""

    def read(pid: int | str = "self") -> int:
        number = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[4])
        minor = (number >> 12) & 0xFFF00 | number & 0xFF
        return os.makedev((number >> 8) & 0xFF, minor) if number else 0

    return read
