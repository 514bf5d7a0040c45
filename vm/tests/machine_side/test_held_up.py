"""How long a process waits for a processor, and what that does to a machine's deadlines."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kernelproof.vm.channel import Channel, DeadlineMissed
from kernelproof.vm.held_up import LONGEST_SECONDS, HeldUp, count_held_up, parse_schedstat, read_delays


def test_form() -> None:
    """The second number is what a task waited, in nanoseconds; another form is an error."""
    assert parse_schedstat("123 4500000000 6\n") == 4.5
    with pytest.raises(ValueError, match="unpack"):
        parse_schedstat("1 2\n")


def test_longest_wait_counts() -> None:
    """Of several threads the one that waited longest between two readings counts, one that is new from its start."""
    assert count_held_up({1: 5.0, 2: 1.0}, {1: 6.0, 2: 4.0, 3: 2.0}) == 3.0
    assert count_held_up({}, {}) == 0.0
    assert count_held_up({1: 5.0}, {2: 0.0}) == 0.0
    assert count_held_up({}, {1: 1e9}) == LONGEST_SECONDS


def write_delays(proc: Path, *seconds: float) -> None:
    for number, delay in enumerate(seconds):
        (proc / f"7/task/{number}").mkdir(parents=True, exist_ok=True)
        (proc / f"7/task/{number}/schedstat").write_text(f"0 {int(delay * 1e9)} 1\n")


def test_account(tmp_path: Path) -> None:
    """It counts from the start of the process, then from where it was begun; without such files nothing."""
    assert HeldUp(7, tmp_path).seconds() == 0.0
    write_delays(tmp_path, 1.0, 2.5)
    account = HeldUp(7, tmp_path)
    assert account.seconds() == 2.5
    account.begin()
    assert account.seconds() == 0.0
    write_delays(tmp_path, 4.0, 3.0)
    assert account.seconds() == 3.0


def test_kernel_that_keeps_no_account(tmp_path: Path) -> None:
    """A file of another form counts as none."""
    (tmp_path / "7/task/7").mkdir(parents=True)
    (tmp_path / "7/task/7/schedstat").write_text("\n")
    assert read_delays(7, tmp_path) == {}


def test_this_process() -> None:
    """The account of a process that lives holds its threads, where this kernel keeps one."""
    if not Path("/proc/self/schedstat").exists():
        pytest.skip("not applicable: this kernel keeps no account of waiting")
    assert os.getpid() in read_delays(os.getpid())


@contextmanager
def silent_channel(held_up: HeldUp | None) -> Iterator[Channel]:
    """A machine that never says anything."""
    (agent, one), (control, other) = socket.socketpair(), socket.socketpair()
    with one, other, subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        pidfd = os.pidfd_open(process.pid)
        channel = Channel(agent, control, pidfd, held_up=held_up)
        try:
            yield channel
        finally:
            channel.close()
            os.close(pidfd)
            process.kill()


def test_deadline_is_put_off(tmp_path: Path) -> None:
    """A wait goes on for as long as the process was held up, and no longer."""
    write_delays(tmp_path, 0.3)
    with silent_channel(HeldUp(7, tmp_path)) as channel:
        began = time.monotonic()
        with pytest.raises(DeadlineMissed):
            channel.receive(began + 0.1)
        assert time.monotonic() - began >= 0.4
        channel.count_anew()
        with pytest.raises(DeadlineMissed):
            channel.receive(time.monotonic() - 0.1)


def test_deadline_that_is_kept() -> None:
    """Without an account a deadline is what it says."""
    with silent_channel(None) as channel, pytest.raises(DeadlineMissed):
        channel.receive(time.monotonic() + 0.01)
