"""Calls on a terminal as they are, with errors that name them, and the block that keeps the background from stopping.

A process of a background group that changes its terminal is stopped by SIGTTOU, unless the calling thread blocks that
signal. The other modules block it for the time of a call and in this thread only: ignoring it would change the whole
process. The functions here do not: they are the lowest layer, and do what the system does.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

IS_LINUX = bool(sys.platform == "linux")  # bool: type checkers look at both branches

LONGEST_MILLISECONDS = 2**31 - 1  # what poll(2) takes: 24 days


def poll_until(
    poll: select.poll, due: float | None, clock: Callable[[], float] = time.monotonic
) -> list[tuple[int, int]]:
    """poll(2) until a time, however far away it is; None waits without end."""
    while True:
        left = None if due is None else max(0.0, due - clock()) * 1000
        ready = poll.poll(None if left is None else min(left, LONGEST_MILLISECONDS))
        if ready or (left is not None and left <= LONGEST_MILLISECONDS):
            return ready


@contextmanager
def sigttou_blocked() -> Iterator[None]:
    """Let this thread change a terminal whose foreground group is another one."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        yield
    finally:
        if signal.SIGTTOU not in before:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTTOU})


@contextmanager
def named(call: str, fd: int) -> Iterator[None]:
    """Turn termios.error, which is no OSError, into the OSError that it stands for, with the call in a note."""
    try:
        yield
    except termios.error as error:
        number, text = error.args
        refused = OSError(number, text)
        refused.add_note(f"{call} on descriptor {fd}")
        raise refused from None
    except OSError as error:
        error.add_note(f"{call} on descriptor {fd}")
        raise


def get_attributes(fd: int) -> list[int | list[bytes | int]]:
    """tcgetattr(3)."""
    with named("tcgetattr", fd):
        return termios.tcgetattr(fd)


def set_attributes(fd: int, when: int, attributes: list[int | list[bytes | int]]) -> None:
    """tcsetattr(3)."""
    with named("tcsetattr", fd):
        termios.tcsetattr(fd, when, attributes)


def flush_queue(fd: int, queue: int) -> None:
    """tcflush(3)."""
    with named(f"tcflush({queue})", fd):
        termios.tcflush(fd, queue)


def drain_output(fd: int) -> None:
    """tcdrain(3)."""
    with named("tcdrain", fd):
        termios.tcdrain(fd)


def control_flow(fd: int, action: int) -> None:
    """tcflow(3)."""
    with named(f"tcflow({action})", fd):
        termios.tcflow(fd, action)


def break_line(fd: int, duration: int) -> None:
    """tcsendbreak(3)."""
    with named(f"tcsendbreak({duration})", fd):
        termios.tcsendbreak(fd, duration)


def get_foreground_group(fd: int) -> int:
    """tcgetpgrp(3)."""
    with named("tcgetpgrp", fd):
        return os.tcgetpgrp(fd)


def put_foreground_group(fd: int, group: int) -> None:
    """tcsetpgrp(3)."""
    with named(f"tcsetpgrp({group})", fd):
        os.tcsetpgrp(fd, group)


def control(fd: int, name: str, request: int, argument: int | bytes = 0) -> int | bytes:
    """An ioctl, by name in its errors; what the kernel stored, for an argument of bytes."""
    with named(f"ioctl({name})", fd):
        return fcntl.ioctl(fd, request, argument)
