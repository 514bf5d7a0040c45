"""The user's terminal, lent to pytest's debugger in a machine.

What the guest writes while it is debugged goes to the terminal as it is: who debugs a test trusts it. Otherwise nothing
of a guest reaches a terminal unescaped.
"""

from __future__ import annotations

import os
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kernelproof.vm.sessions import ItemMachine

_PLAIN = (24, 80)  # of what is no terminal


class DebuggerWanted(Exception):
    """A test asks for the debugger in a machine that has no terminal for it."""


class HostTerminal:
    """Standard input and output of this process.

    Args:
        config: pytest's: its capturing is put off while the debugger has the terminal.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def describe(self) -> dict[str, object]:
        """What the guest is told of it."""
        try:
            columns, rows = os.get_terminal_size(sys.__stdout__.fileno() if sys.__stdout__ is not None else 1)
        except OSError:
            rows, columns = _PLAIN
        return {"rows": rows, "columns": columns, "kind": os.environ.get("TERM", "dumb")}

    def lend(self, machine: ItemMachine) -> None:
        """Relay between the terminal and the machine until the machine has something to say.

        Raises:
            MachineLost: it was lost meanwhile.
            OSError: the terminal is gone.
        """
        capture = self._config.pluginmanager.getplugin("capturemanager")
        if capture is not None:
            capture.suspend(in_=True)
        try:
            sys.stdout.flush()
            with _raw(0):
                machine.relay_terminal(0, 1)
        finally:
            if capture is not None:
                capture.resume()


@contextmanager
def _raw(descriptor: int) -> Iterator[None]:
    if not os.isatty(descriptor):
        yield
        return
    before = termios.tcgetattr(descriptor)
    tty.setraw(descriptor, termios.TCSANOW)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
