"""Calls on a terminal, made so that a background process is not stopped by them, with errors that name them.

A process of a background group that changes its terminal is stopped by SIGTTOU, unless the calling thread blocks that
signal. It is blocked for the time of the call and in this thread only: ignoring it would change the whole process.
"""

from __future__ import annotations

import fcntl
import signal
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager

IS_LINUX = bool(sys.platform == "linux")  # bool: type checkers look at both branches


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
    """tcgetattr."""
    with named("tcgetattr", fd):
        return termios.tcgetattr(fd)


def set_attributes(fd: int, when: int, attributes: list[int | list[bytes | int]]) -> None:
    """tcsetattr, also from the background."""
    with named("tcsetattr", fd), sigttou_blocked():
        termios.tcsetattr(fd, when, attributes)


def control(fd: int, name: str, request: int, argument: int | bytes = 0) -> int | bytes:
    """An ioctl, by name in its errors; what the kernel stored, for an argument of bytes."""
    with named(f"ioctl({name})", fd):
        return fcntl.ioctl(fd, request, argument)
