"""The functions of Docker's package `term` of 2014 and later, by their names, for code that is ported line by line.

What was a trap in them is not kept: no handler is installed for SIGINT, and none ends the process. Use the blocks of
kernelproof.impl.term.modes for that.
"""

from __future__ import annotations

import sys
from typing import TextIO

from kernelproof.impl.term.errors import InvalidStateError
from kernelproof.impl.term.states import TermState, make_no_echo_state, make_raw_state, restore, save

State = TermState
Termios = TermState
save_state = save


def restore_terminal(fd: int, state: TermState | None) -> None:
    """Set a saved state at once.

    Raises:
        InvalidStateError: there is none.
        OSError: as restore.
    """
    if state is None:
        raise InvalidStateError
    restore(fd, state)


def disable_echo(fd: int, state: TermState | None) -> None:
    """Set a saved state, which may be another than the present one, without echo. Raises as restore_terminal."""
    if state is None:
        raise InvalidStateError
    restore(fd, make_no_echo_state(state))


def make_raw(fd: int) -> TermState:
    """Put a terminal in raw mode and return the state that was. Raises as save."""
    state = save(fd)
    restore(fd, make_raw_state(state))
    return state


set_raw_terminal = make_raw


def set_raw_terminal_output(fd: int) -> TermState:
    """Return the state of a terminal: outside Windows raw output needs nothing. Raises as save."""
    return save(fd)


def std_streams() -> tuple[TextIO, TextIO, TextIO]:
    """Return the standard streams: input, output, errors."""
    return sys.stdin, sys.stdout, sys.stderr
