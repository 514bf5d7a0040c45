"""Parts of the scripts that run on a pair, and a wait for what they do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from kernelproof.impl.tests.term.programs import Program

Run = Callable[[str], Program]
IMPORTS = """
import os, signal, sys, time, termios
from kernelproof.impl import term
from kernelproof.impl.term import cbreak, make_raw, raw, save, set_foreground_group
"""
READY = "print('ready', flush=True)"
SLEEP = "while True: time.sleep(60)"


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until something is so, looking again each time a millisecond has gone by."""
    deadline = time.monotonic() + seconds
    event = threading.Event()
    while not condition():
        assert time.monotonic() < deadline
        event.wait(0.001)
