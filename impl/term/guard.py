"""Start and end the watcher that puts a terminal back after the program was killed.

A process has one watcher for each terminal, however deep its blocks nest: two would race to put back two states. What
comes back is the state that the outermost block found.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from contextlib import suppress

from kernelproof.impl.term import linux, watcher
from kernelproof.impl.term.calls import IS_LINUX
from kernelproof.impl.term.process import Process
from kernelproof.impl.term.states import TermState

# Ends what full-screen programs switch on: mouse reports, bracketed paste, the alternate screen, a hidden cursor.
LEAVE = b"\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[?1049l\x1b[?25h"


class Guard:
    """A watcher's duty for one block: of the watcher that the terminal has already, else of a new one.

    Args:
        fd: the terminal.
        state: to put back.
        blocking: whether reads and writes of the terminal wait, to put back.
        leave: what to write to the terminal then.

    Raises:
        RuntimeError: there is no interpreter to run it.
        OSError: what posix_spawn(3) gives.
    """

    def __init__(self, fd: int, state: TermState, blocking: bool, leave: bytes = b"") -> None:
        # A child made by fork has the table too, but not the watcher: that waits for the end of its parent.
        self._key = (os.getpid(), *_identity(fd))
        with _lock:
            present = _watchers.get(self._key)
            if present is None:
                _watchers[self._key] = _Watcher(fd, state, blocking, leave)
            elif leave in present.leave:
                present.blocks += 1
            else:
                # One that leaves more modes. Both are there for a moment, and would put back the same.
                more = _Watcher(fd, present.state, present.blocking, leave + present.leave)
                more.blocks = present.blocks + 1
                _watchers[self._key] = more
                present.end()

    def end(self) -> None:
        """End the watcher with the outermost block: the terminal is as it should be."""
        with _lock:
            watcher = _watchers[self._key]
            watcher.blocks -= 1
            if not watcher.blocks:
                del _watchers[self._key]
                watcher.end()


# The watchers on duty, by process and terminal: of the process, as the terminal's state is. A handler of a signal may
# enter a block while another one is entered.
_watchers: dict[tuple[int, ...], _Watcher] = {}
_lock = threading.RLock()


def _identity(fd: int) -> tuple[int, ...]:
    """Return what tells a terminal from all others of this process: instances of devpts have the same numbers."""
    found = os.fstat(fd)
    if IS_LINUX and found.st_rdev == os.makedev(5, 2):
        return found.st_dev, found.st_rdev, linux.pseudoterminal_number(fd)
    try:
        os.tcgetpgrp(fd)
    except OSError:
        return found.st_dev, found.st_rdev
    return ()  # the controlling terminal, which is /dev/tty too


class _Watcher:
    """The process, and how many blocks it serves. Arguments and errors as for Guard."""

    def __init__(self, fd: int, state: TermState, blocking: bool, leave: bytes) -> None:
        self.state, self.blocking, self.leave = state, blocking, leave
        self.blocks = 1
        if not sys.executable:
            raise RuntimeError("a guard needs a Python interpreter to run, and sys.executable names none")
        wish = {
            "pid": os.getpid(),
            # Numbers, as JSON has no bytes; in the order of tcsetattr.
            "attributes": [*state[:6], list(state.characters)],
            "blocking": blocking,
            "leave": leave.hex(),
        }
        # Isolated and without site: 10 ms, and nothing of the user's is imported.
        argv = [sys.executable, "-I", "-S", watcher.__file__, json.dumps(wish)]
        reading, self._pipe = os.pipe()
        try:
            # In this order: the terminal may be descriptor 0, the pipe 1.
            spare = os.dup(fd)
            try:
                actions = [
                    (os.POSIX_SPAWN_DUP2, reading, 0),
                    (os.POSIX_SPAWN_DUP2, spare, 1),
                ]
                signals = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
                pid = os.posix_spawn(
                    argv[0], argv, {}, file_actions=actions, setsid=True, setsigmask=(), setsigdef=signals
                )
            finally:
                os.close(spare)
        except BaseException:
            os.close(self._pipe)
            raise
        finally:
            os.close(reading)
        self._process = Process(pid)

    def end(self) -> None:
        with self._process:
            self._process.send_signal(signal.SIGKILL)
            with suppress(ChildProcessError):  # somebody else has waited for it
                self._process.wait()
        os.close(self._pipe)
