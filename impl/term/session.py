"""A terminal and its session: who has it as controlling terminal, and which of its process groups is in front.

A process that leads a session and has no controlling terminal can take one. Keys that make signals, a hang-up and a
change of the window size reach the foreground group; the others are stopped when they read.
"""

from __future__ import annotations

import termios

from kernelproof.impl.term.calls import control, get_foreground_group, put_foreground_group, sigttou_blocked


def set_controlling_terminal(fd: int, *, steal: bool = False) -> None:
    """Make a terminal the controlling terminal of this process, which leads a session and has none.

    Args:
        fd: a descriptor of it.
        steal: take it from another session that has it, whose processes lose it.

    Raises:
        OSError: EPERM no session leader, another controlling terminal, or another session's terminal (which can be
            stolen with CAP_SYS_ADMIN only); ENOTTY no terminal; EIO hung up.

    Source: TIOCSCTTY(2const).
    """
    control(fd, "TIOCSCTTY", termios.TIOCSCTTY, int(steal))


def leave_controlling_terminal(fd: int) -> None:
    """Have no controlling terminal any more. If the leader of the session does so, the whole session has none.

    The foreground group of a leader gets SIGHUP and SIGCONT then.

    Args:
        fd: a descriptor of it.

    Raises:
        OSError: ENOTTY not this process's controlling terminal.

    Source: TIOCNOTTY(2const).
    """
    control(fd, "TIOCNOTTY", termios.TIOCNOTTY)


def read_foreground_group(fd: int) -> int:
    """Return the foreground process group of a terminal; on Linux also by the master.

    Raises:
        OSError: ENOTTY no terminal, or not this process's controlling one; EBADF.

    Source: tcgetpgrp(3).
    """
    return get_foreground_group(fd)


def set_foreground_group(fd: int, group: int) -> None:
    """Make a process group of this session the foreground group of its terminal, from the background too.

    Raises:
        OSError: ENOTTY not the controlling terminal; EPERM or ESRCH no such group in this session; EINVAL; EBADF.

    Source: tcsetpgrp(3).
    """
    with sigttou_blocked():
        put_foreground_group(fd, group)
