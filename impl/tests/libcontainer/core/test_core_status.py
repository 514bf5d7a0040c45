"""What a container is by its process: here this very process stands for a container's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernelproof.impl.libcontainer.ending import may_have_hooks
from kernelproof.impl.libcontainer.process.identity import Identity, read_identity
from kernelproof.impl.libcontainer.state import (
    CREATING,
    PAUSED,
    RUNNING,
    STOPPED,
    State,
    StateDirectory,
    open_directory,
    status_of,
)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[StateDirectory]:
    """The folder of a container that waits for nothing."""
    (tmp_path / "box").mkdir()
    with open_directory(str(tmp_path), "box") as opened:
        yield opened


@pytest.fixture
def own() -> State:
    """A state whose process is this one."""
    state = State("box", "/", "/", {})
    pidfd = os.pidfd_open(os.getpid())
    state.process = read_identity(os.getpid(), pidfd)
    os.close(pidfd)
    return state


def test_status_is_the_process_s(directory: StateDirectory, own: State) -> None:
    """A process that lives runs, is paused with its cgroup, and is being made until that was written otherwise."""
    own.status = RUNNING
    before = len(os.listdir("/proc/self/fd"))
    assert status_of(directory, own) == RUNNING
    assert status_of(directory, own, frozen=True) == PAUSED
    own.status = CREATING
    assert (status_of(directory, own), status_of(directory, own, frozen=True)) == (CREATING, PAUSED)
    assert len(os.listdir("/proc/self/fd")) == before


def test_status_without_a_process(directory: StateDirectory, own: State) -> None:
    """One that has ended, or whose number another process has now, is stopped; one that never was is being made."""
    own.process = Identity(own.process.pid, own.process.start_time - 1, own.process.inode)
    for status in (RUNNING, CREATING):
        own.status = status
        assert status_of(directory, own) == STOPPED
    made = State("box", "/", "/", {})
    made.status = CREATING
    assert status_of(directory, made) == CREATING


@pytest.mark.parametrize(
    ("text", "may"),
    [
        (b'{"hooks": {"poststop": []}}', True),
        (b'{"hooks": {"poststart": []}}', False),
        (b'{"hooks": {"post\\u0073top": []}}', True),
        (b"{}", False),
    ],
    ids=["there", "another", "escaped", "none"],
)
def test_configuration_that_may_have_hooks(text: bytes, may: bool) -> None:
    """Only a text without the key, and without escapes that could be it, has surely none."""
    assert may_have_hooks(text, "poststop") == may
