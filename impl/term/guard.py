"""Start and end the watcher that puts a terminal back after the program was killed."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import suppress

from kernelproof.impl.term import watcher
from kernelproof.impl.term.process import Process
from kernelproof.impl.term.states import TermState

# Ends what full-screen programs switch on: mouse reports, bracketed paste, the alternate screen, a hidden cursor.
LEAVE = b"\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[?1049l\x1b[?25h"


class Guard:
    """A watcher on duty.

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
        """End the watcher: the terminal is as it should be."""
        with self._process:
            self._process.send_signal(signal.SIGKILL)
            with suppress(ChildProcessError):  # somebody else has waited for it
                self._process.wait()
        os.close(self._pipe)
