"""What pytest writes by itself in a machine: kept in memory, for the case that it ends before anything ran."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from kernelproof.vm.guest.debugging import DebugTerminal, open_port

STREAMS = (1, 2)


@contextmanager
def kept_output() -> Iterator[tuple[int, int]]:
    """Let descriptors 1 and 2 write into memory; yields that memory's descriptor and the console's."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    output = os.memfd_create("pytest-output")
    try:
        for descriptor in STREAMS:
            os.dup2(output, descriptor)
        yield output, saved[1]
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, original in enumerate(saved, start=1):
            os.dup2(original, descriptor)
            os.close(original)
        os.close(output)


def open_terminal(output: int) -> DebugTerminal | None:
    """Let descriptors 0 to 2 be a terminal that debuggers can use; None in a machine without a port for it."""
    port = open_port()
    if port is None:
        return None
    terminal = DebugTerminal(port, output)
    for descriptor in (0, *STREAMS):
        os.dup2(terminal.slave, descriptor)
    return terminal


def read_output(output: int) -> str:
    """What was written so far."""
    sys.stdout.flush()
    sys.stderr.flush()
    size = os.fstat(output).st_size
    return os.pread(output, size, 0).decode("utf-8", "replace")
