"""Parts of the scripts that run on a pair, and a wait for what they do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from kernelproof.impl.tests.term.programs import Program

Run = Callable[[str], Program]
IMPORTS = """
import os, select, signal, sys, time, termios
from kernelproof.impl import term
from kernelproof.impl.term import cbreak, make_raw, raw, save, set_foreground_group

reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

def wait_for_signals():
    while True:
        select.select([reading], [], [])
        os.read(reading, 100)
"""
READY = "print('ready', flush=True)"
# A handler runs between two instructions: of a signal that comes right before a wait, only the descriptor would tell.
SLEEP = "signal.set_wakeup_fd(writing); wait_for_signals()"


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until something is so, looking again each time a millisecond has gone by."""
    deadline = time.monotonic() + seconds
    event = threading.Event()
    while not condition():
        assert time.monotonic() < deadline
        event.wait(0.001)
