"""What tests of every subsystem use: forked children that answer, go along with the test, or only live."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import traceback
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import pytest

from kernelproof.impl._syscalls.identity import setgroups
from kernelproof.impl._syscalls.prctl import PR_SET_DUMPABLE, prctl
from kernelproof.impl.user import set_gids, set_uids

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOBODY = 65534

_SECONDS = 30
_PIPE_BYTES = 65536  # what a pipe holds (pipe(7), Pipe capacity): a longer answer would block the child


class InChild(Protocol):
    def __call__(self, function: Callable[[], Any]) -> Any: ...


class Bystander(Protocol):
    def __call__(self) -> int: ...


@pytest.fixture
def in_child() -> InChild:
    """Run a function in a forked child and return its value, which must fit JSON and 64 KiB.

    The child is a process of its own, so it may leave namespaces, drop privileges or lower limits. An exception in
    it fails the test with its traceback.
    """
    return _in_child


def _in_child(function: Callable[[], Any]) -> Any:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _answer(writer, function)
    # Wait first and read what is there: a grandchild that lives on keeps the pipe from ever reaching its end.
    _, status = os.waitpid(pid, 0)
    os.close(writer)
    answered = os.WIFEXITED(status)
    text = os.read(reader, _PIPE_BYTES).decode() if answered else f"the child ended with wait status {status}"
    os.close(reader)
    if status:
        pytest.fail(text)
    return json.loads(text)


def _answer(writer: int, function: Callable[[], Any]) -> NoReturn:
    status = 1
    text = ""
    try:
        text = json.dumps(function())
        status = 0
    finally:
        # Nothing may leave this function: the caller's frames belong to the parent.
        os.write(writer, (traceback.format_exc() if status else text).encode())
        os._exit(status)


@pytest.fixture
def bystander() -> Iterator[Bystander]:
    """Start a process that does nothing until it is killed, which happens to all of them after the test."""
    pids: list[int] = []

    def start() -> int:
        pid = os.fork()
        if pid == 0:
            while True:
                signal.pause()
        pids.append(pid)
        return pid

    yield start
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


class Unprivileged(Protocol):
    def __call__(self, function: Callable[[], Any], uid: int = NOBODY) -> Any: ...


@pytest.fixture
def unprivileged() -> Unprivileged:
    """Run a function in a child of another user, without groups and capabilities, and return its value.

    Its files in /proc are its own, as those of a program that this user started.
    """

    def run(function: Callable[[], Any], uid: int = NOBODY) -> Any:
        def drop_and_call() -> Any:
            become_plain(uid)
            return function()

        return _in_child(drop_and_call)

    return run


def become_plain(uid: int) -> None:
    """Make this process one of a user without groups and capabilities."""
    setgroups([])
    set_gids(uid, uid, uid)
    set_uids(uid, uid, uid)
    prctl(PR_SET_DUMPABLE, 1)


class OutputOf(Protocol):
    def __call__(self, function: Callable[[], object]) -> str: ...


@pytest.fixture
def output_of() -> OutputOf:
    """Run a function that becomes a program in a child, and return what the program writes to its output."""

    def run(function: Callable[[], object]) -> str:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.dup2(writer, 1)
                function()
            finally:
                traceback.print_exc()
                os._exit(127)
        os.close(writer)
        with open(reader, "rb") as output:
            said = output.read()
        os.waitpid(pid, 0)
        return said.decode("utf-8", "backslashreplace")

    return run


class Talk:
    """One end of the talk between a test and its companion; each message is a value that fits JSON."""

    def __init__(self, connection: int, pid: int = 0) -> None:
        self._connection = connection  # a plain number: nobody closes it, and a clone ends with its test
        self._readable = select.poll()
        self._readable.register(connection, select.POLLIN)
        self.pid = pid  # of the companion, at the test's end

    def say(self, value: Any = None) -> None:
        """Send a value to the other side, without waiting."""
        os.write(self._connection, json.dumps([value]).encode())

    def hear(self) -> Any:
        """Wait for what the other side says; a traceback from there fails the test."""
        if not self._readable.poll(_SECONDS * 1000):
            pytest.fail(f"the other side of the talk was silent for {_SECONDS} s")
        message = os.read(self._connection, _PIPE_BYTES).decode()
        if not message.startswith("["):
            pytest.fail(message or "the other side of the talk has ended")
        return json.loads(message)[0]

    def ask(self, value: Any = None) -> Any:
        """Send a value and wait for the answer."""
        self.say(value)
        return self.hear()


class Companion(Protocol):
    def __call__(self, function: Callable[[Talk], object], fork: Callable[[], int] = os.fork) -> Talk: ...


@pytest.fixture
def companion() -> Companion:
    """Start a forked process that runs a function beside the test; the two talk by `say`, `hear` and `ask`.

    It ends when its function returns. It is the caller's child, who may wait for it; a clone ends with its test, so
    one that lives on is in nobody's way.
    """
    return _start_companion


def _start_companion(function: Callable[[Talk], object], fork: Callable[[], int] = os.fork) -> Talk:
    ours, theirs = (end.detach() for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    pid = fork()
    if pid == 0:
        os.close(ours)
        _accompany(theirs, function)
    os.close(theirs)
    return Talk(ours, pid)


def _accompany(connection: int, function: Callable[[Talk], object]) -> NoReturn:
    status = 1
    try:
        function(Talk(connection))
        status = 0
    finally:
        # Nothing may leave this function, as the caller's frames belong to the parent: not even that nobody hears it.
        try:
            if status:
                os.write(connection, traceback.format_exc().encode())
        finally:
            os._exit(status)
