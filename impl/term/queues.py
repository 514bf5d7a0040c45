"""What is under way on a terminal: input that nobody read, output that is not out, and whether either may move.

All functions work from the background too: without that a process that changes the terminal there is stopped.
"""

from __future__ import annotations

import struct
import termios

from kernelproof.impl.term.calls import break_line, control, control_flow, drain_output, flush_queue, sigttou_blocked

# Which queue.
INPUT = termios.TCIFLUSH
OUTPUT = termios.TCOFLUSH
BOTH = termios.TCIOFLUSH

# What is to happen to the flow.
SUSPEND_OUTPUT = termios.TCOOFF
RESUME_OUTPUT = termios.TCOON
SEND_STOP = termios.TCIOFF
SEND_START = termios.TCION


def flush(fd: int, queue: int = INPUT) -> None:
    """Throw away input that nobody read, or output that is not out yet.

    Args:
        fd: a descriptor of the terminal.
        queue: INPUT, OUTPUT or BOTH.

    Raises:
        OSError: EINVAL another queue; ENOTTY no terminal; EBADF; EIO hung up.

    Source: tcflush(3).
    """
    with sigttou_blocked():
        flush_queue(fd, queue)


def drain(fd: int) -> None:
    """Wait until what was written is out. A pseudoterminal's is as soon as it is written, whoever reads it.

    Raises:
        OSError: ENOTTY no terminal; EBADF; EIO hung up; EINTR is not given: the call is made again.

    Source: tcdrain(3).
    """
    with sigttou_blocked():
        drain_output(fd)


def flow(fd: int, action: int) -> None:
    """Suspend output or let it go on, or tell the other side to.

    Args:
        fd: a descriptor of the terminal.
        action: SUSPEND_OUTPUT, RESUME_OUTPUT, SEND_STOP or SEND_START.

    Raises:
        OSError: EINVAL another action; ENOTTY no terminal; EBADF; EIO hung up.

    Source: tcflow(3).
    """
    with sigttou_blocked():
        control_flow(fd, action)


def send_break(fd: int, duration: int = 0) -> None:
    """Send a break, which a pseudoterminal does not carry.

    Args:
        fd: a descriptor of the terminal.
        duration: 0 is a quarter to half a second; any other number means what the system likes.

    Raises:
        OSError: ENOTTY no terminal; EBADF; EIO hung up.

    Source: tcsendbreak(3).
    """
    with sigttou_blocked():
        break_line(fd, duration)


def input_waiting(fd: int) -> int:
    """Return how many bytes can be read at once, in canonical mode those of finished lines.

    Raises:
        OSError: ENOTTY no terminal; EBADF; EIO hung up.

    Source: FIONREAD(2const).
    """
    return _count(control(fd, "FIONREAD", termios.FIONREAD, bytes(struct.calcsize("i"))))


def output_waiting(fd: int) -> int:
    """Return how many bytes were written and are not out yet; raises as input_waiting. Source: TIOCOUTQ(2const)."""
    return _count(control(fd, "TIOCOUTQ", termios.TIOCOUTQ, bytes(struct.calcsize("i"))))


def _count(stored: int | bytes) -> int:
    assert isinstance(stored, bytes)
    (count,) = struct.unpack("i", stored)
    return int(count)


def push_input(fd: int, byte: int) -> None:
    """Put a byte into the input of a terminal, as if it had been typed.

    Args:
        fd: a descriptor of it, open for reading.
        byte: 0 to 255.

    Raises:
        ValueError: it is no byte.
        OSError: EPERM not the controlling terminal, without CAP_SYS_ADMIN; EIO, on Linux since 6.2 where
            dev.tty.legacy_tiocsti is 0, likewise; ENOTTY no terminal.

    Source: TIOCSTI(2const).
    """
    control(fd, "TIOCSTI", termios.TIOCSTI, bytes([byte]))
