"""Ctrl-C for commands that wait without end and have nothing to undo.

Python runs a handler between two instructions: a signal that comes right before poll(2) is told only when something
else ends that wait. The kernel's own way to end a process does not wait.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def deadly_interrupts() -> Iterator[None]:
    """While the block runs SIGINT ends this process at once, where Python would raise KeyboardInterrupt for it.

    A shell says 130, as it does for a command that is asked to end and exits with that. One that is ignored, or has a
    handler of somebody's own, stays as it is. For the main thread.

    Raises:
        ValueError: not the main thread.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
