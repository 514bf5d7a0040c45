"""Sending signals and saying what becomes of them: kill(2), sigqueue(3), sigprocmask(2), signalfd(2), setitimer(2).

os and signal have most of these; here they are without their checks, and errors name the call. A Python function can
be a handler by signal.signal alone: what is here sets none.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from enum import IntEnum, IntFlag

from kernelproof.impl._syscalls.libc import BUFFER, BYTES, INT, ULONG, Call

_SIGNAL_SET_BYTES = 128  # sigset_t of glibc and of musl on 64-bit machines


class Disposition(IntEnum):
    """SIG_ constants of signal(2)."""

    DFL = 0
    IGN = 1


class MaskChange(IntEnum):
    """SIG_ constants of sigprocmask(2)."""

    BLOCK = 0
    UNBLOCK = 1
    SETMASK = 2


class SignalFdFlag(IntFlag):
    """SFD_ flags of signalfd(2)."""

    NONBLOCK = 0o4000
    CLOEXEC = 0o2000000


class Timer(IntEnum):
    """ITIMER_ constants of setitimer(2)."""

    REAL = 0
    VIRTUAL = 1
    PROF = 2


_kill = Call("kill", pid=INT, signal=INT)
_sigqueue = Call("sigqueue", pid=INT, signal=INT, value=ULONG)
_signal = Call("signal", signal=INT, handler=ULONG)
_sigprocmask = Call("sigprocmask", how=INT.of(MaskChange), signals=BYTES, before=BUFFER)
_signalfd = Call("signalfd", fd=INT, signals=BYTES, flags=INT.of(SignalFdFlag))
_setitimer = Call("setitimer", which=INT.of(Timer), value=BYTES, before=BUFFER)


def kill(pid: int, number: int) -> None:
    """Send a signal to a process, or to a process group; 0 only looks whether that could be done.

    Args:
        pid: of the process; 0 the caller's group, -1 everybody, below -1 that group.
        number: of the signal.

    Raises:
        OSError: EINVAL no such signal; EPERM none of them may be signalled; ESRCH there is none.

    Source: kill(2), ERRORS.
    """
    _kill(pid, number)


def sigqueue(pid: int, number: int, value: int = 0) -> None:
    """Send a signal that carries a number.

    Raises:
        OSError: EAGAIN RLIMIT_SIGPENDING; EINVAL no such signal; EPERM; ESRCH.

    Source: sigqueue(3), ERRORS.
    """
    _sigqueue(pid, number, value)


def set_disposition(number: int, disposition: int) -> None:
    """Ignore a signal or give it its default action.

    Raises:
        OSError: EINVAL no such signal, or SIGKILL or SIGSTOP.

    Source: signal(2), ERRORS; sigaction(2), ERRORS.
    """
    _signal(number, disposition)


def change_signal_mask(how: int, numbers: Iterable[int]) -> None:
    """Change which signals the calling thread blocks.

    Raises:
        OSError: EINVAL how is no MaskChange.

    Source: sigprocmask(2), ERRORS.
    """
    _sigprocmask(how, _signal_set(numbers), bytearray(_SIGNAL_SET_BYTES))


def signalfd(numbers: Iterable[int], flags: int = SignalFdFlag.CLOEXEC, *, fd: int = -1) -> int:
    """Return a descriptor that pending signals are read from, 128 bytes each; the caller closes it.

    Args:
        numbers: which signals; SIGKILL and SIGSTOP are passed over.
        flags: SignalFdFlag.
        fd: a descriptor of this kind whose signals are replaced; -1 for a new one.

    Raises:
        OSError: EBADF; EINVAL unknown flags, or fd is none of this kind; EMFILE; ENFILE; ENODEV; ENOMEM.

    Source: signalfd(2), ERRORS.
    """
    return _signalfd(fd, _signal_set(numbers), flags)


def set_timer(which: int, microseconds: int) -> None:
    """Let a timer send its signal (SIGALRM, SIGVTALRM or SIGPROF) once, after a time; 0 stops it.

    Raises:
        OSError: EINVAL which is no Timer.

    Source: setitimer(2), ERRORS.
    """
    _setitimer(which, struct.pack("=4q", 0, 0, *divmod(microseconds, 1_000_000)), bytearray(32))


def _signal_set(numbers: Iterable[int]) -> bytes:
    return sum({1 << number - 1 for number in numbers}).to_bytes(_SIGNAL_SET_BYTES, "little")
