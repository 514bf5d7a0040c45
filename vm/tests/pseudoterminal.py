"""A command on a terminal of its own, driven as a person would: type, read, resize, signal."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

SECONDS = 300.0  # what it waits for may have to be booted first


class Person:
    """Sits at the terminal that a command runs on."""

    def __init__(self, master: int, terminal: int, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.seen = b""
        self._master, self._terminal = master, terminal

    def type(self, text: bytes) -> None:
        os.write(self._master, text)

    def read_until(self, text: bytes) -> bytes:
        """All that is shown up to this text; what comes behind it is kept for the next call."""
        deadline = time.monotonic() + SECONDS
        while text not in self.seen:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self._master], [], [], max(left, 0))
            assert ready, f"{text!r} was not shown, but {self.seen[-500:]!r}"
            self.seen += os.read(self._master, 65536)
        shown, _, self.seen = self.seen.partition(text)
        return shown

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process.send_signal(signal.SIGWINCH)

    def attributes(self) -> list[object]:
        return termios.tcgetattr(self._terminal)

    def is_raw(self) -> bool:
        return not termios.tcgetattr(self._terminal)[3] & termios.ICANON

    def wait(self) -> int:
        """Read on until the command has ended; its status, negative for a signal's number."""
        deadline = time.monotonic() + SECONDS
        pidfd = os.pidfd_open(self.process.pid)
        try:
            while True:
                ready, _, _ = select.select([self._master, pidfd], [], [], max(deadline - time.monotonic(), 0))
                assert ready, f"it did not end, but showed {self.seen[-500:]!r}"
                if self._master in ready:
                    self.seen += os.read(self._master, 65536)
                elif pidfd in ready:
                    return self.process.wait()
        finally:
            os.close(pidfd)


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@contextmanager
def sit_at(command: Sequence[str], rows: int = 24, columns: int = 80, **environment: str) -> Iterator[Person]:
    """Start a command on a new terminal, which is its controlling one."""
    master, terminal = os.openpty()
    try:
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        process = subprocess.Popen(
            command,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
            preexec_fn=_take_terminal,
            env={**os.environ, "TERM": "xterm", **environment},
        )
        try:
            yield Person(master, terminal, process)
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()
    finally:
        os.close(master)
        os.close(terminal)
