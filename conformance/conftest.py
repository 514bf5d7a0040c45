"""What tests of every subsystem use: a forked child, and a process that only lives."""

from __future__ import annotations

import json
import os
import signal
import traceback
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
