"""Descriptors of processes: pidfd_open(2), pidfd_send_signal(2) and pidfd_getfd(2).

os and signal have the first two; here they are without their checks, and errors name the call.
"""

from __future__ import annotations

import os
from enum import IntFlag

from kernelproof.impl._syscalls.libc import BYTES, INT, UINT, Call


class PidfdFlag(IntFlag):
    """PIDFD_ flags of pidfd_open(2)."""

    THREAD = os.O_EXCL  # Linux 6.9
    NONBLOCK = os.O_NONBLOCK  # Linux 5.10


class SignalScope(IntFlag):
    """PIDFD_SIGNAL_ flags of pidfd_send_signal(2), Linux 6.9."""

    THREAD = 1
    THREAD_GROUP = 2
    PROCESS_GROUP = 4


_pidfd_open = Call("pidfd_open", pid=INT, flags=UINT.of(PidfdFlag))
_pidfd_send_signal = Call("pidfd_send_signal", pidfd=INT, signal=INT, info=BYTES, flags=UINT.of(SignalScope))
_pidfd_getfd = Call("pidfd_getfd", pidfd=INT, target_fd=INT, flags=UINT)


def pidfd_open(pid: int, flags: int = 0) -> int:
    """Return a descriptor of a process, close-on-exec; the caller closes it.

    Raises:
        OSError: EINVAL (unknown flags; pid is 0 or negative; a thread that leads no group, without THREAD); ESRCH no
            such process; EMFILE; ENFILE; ENODEV; ENOMEM; ENOSYS before Linux 5.3.

    Source: pidfd_open(2), ERRORS.
    """
    return _pidfd_open(pid, flags)


def pidfd_send_signal(pidfd: int, signal: int, flags: int = 0) -> None:
    """Send a signal to the process of a descriptor; 0 only looks whether that could be done.

    Raises:
        OSError: EBADF no descriptor of a process; EINVAL no such signal, unknown flags, or the process is outside the
            caller's PID namespace; EPERM; ESRCH the process was waited for; ENOSYS before Linux 5.1.

    Source: pidfd_send_signal(2), ERRORS.
    """
    _pidfd_send_signal(pidfd, signal, None, flags)


def pidfd_getfd(pidfd: int, target_fd: int, flags: int = 0) -> int:
    """Return a copy of another process's descriptor, close-on-exec; the caller closes it.

    Raises:
        OSError: EBADF pidfd is none, or target_fd is not open there; EINVAL flags are not 0; EPERM no
            PTRACE_MODE_ATTACH_REALCREDS access; ESRCH the process was waited for; EMFILE; ENOSYS before Linux 5.6.

    Source: pidfd_getfd(2), ERRORS.
    """
    return _pidfd_getfd(pidfd, target_fd, flags)
