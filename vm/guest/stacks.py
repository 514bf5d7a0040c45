"""Writes the Python stacks of all threads to the console when the host asks for them in the middle of a test.

In virtual time no watchdog in the guest can do it: its clock leaps whenever the guest idles, and it would bark at every
sleep. So while a test runs, anything that comes from the host raises a signal, and faulthandler's handler, which is C,
writes the stacks whatever Python does. The host sends something only when the deadline of a test has passed.

Source: fcntl(2), "Managing signals", O_ASYNC and F_SETSIG; Linux, drivers/char/virtio_console.c, `port_fops_fasync`.
"""

from __future__ import annotations

import faulthandler
import fcntl
import os
import signal

SIGNAL = signal.SIGRTMAX - 3  # one that nothing else uses


class StackSignal:
    """The signal of one descriptor. Made before the snapshot.

    Args:
        descriptor: What the host's bytes come in by.
        console: Descriptor that the stacks are written to; open as long as this is used.

    Raises:
        OSError: as fcntl(2) refuses.
    """

    def __init__(self, descriptor: int, console: int) -> None:
        faulthandler.register(SIGNAL, file=console, all_threads=True)
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, SIGNAL)
        fcntl.fcntl(descriptor, fcntl.F_SETOWN, os.getpid())
        self._descriptor = descriptor
        self._flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)

    def arm(self) -> None:
        """Let bytes that come from now on raise the signal."""
        fcntl.fcntl(self._descriptor, fcntl.F_SETFL, self._flags | os.O_ASYNC)

    def disarm(self) -> None:
        """Let bytes be read in peace again."""
        fcntl.fcntl(self._descriptor, fcntl.F_SETFL, self._flags)
