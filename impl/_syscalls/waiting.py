"""Waiting for children: waitid(2) and wait4(2), without the standard library's view of what may be asked."""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag
from typing import NamedTuple

from kernelproof.impl._syscalls.libc import BUFFER, BYTES, INT, UINT, Call


class IdType(IntEnum):
    """P_ constants of waitid(2)."""

    ALL = 0
    PID = 1
    PGID = 2
    PIDFD = 3  # Linux 5.4


class WaitOption(IntFlag):
    """Options of wait4(2), without W, and of waitid(2)."""

    NOHANG = 1
    STOPPED = 2  # WUNTRACED of wait4
    EXITED = 4
    CONTINUED = 8
    NOWAIT = 0x01000000
    NOTHREAD = 0x20000000
    ALL = 0x40000000
    CLONE = 0x80000000


class Change(NamedTuple):
    """What waitid tells of a child."""

    pid: int
    code: int  # CLD_EXITED 1, CLD_KILLED 2, CLD_DUMPED 3, CLD_TRAPPED 4, CLD_STOPPED 5, CLD_CONTINUED 6
    status: int  # exit status, or number of the signal


_waitid = Call("waitid", idtype=UINT.of(IdType), id=UINT, info=BUFFER, options=INT.of(WaitOption))
_wait4 = Call("wait4", pid=INT, status=BUFFER, options=INT.of(WaitOption), usage=BYTES)


def waitid(idtype: int, number: int, options: int) -> Change | None:
    """Wait until a child changes its state; None where NOHANG was given and none has.

    Args:
        idtype: IdType.
        number: a pid, a process group or a descriptor.
        options: WaitOption: at least one of EXITED, STOPPED and CONTINUED.

    Raises:
        OSError: ECHILD no such child; EINVAL wrong options; EAGAIN the descriptor is non-blocking and nothing has
            changed; EBADF no descriptor of a process; EINTR.

    Source: wait(2), ERRORS.
    """
    info = bytearray(128)
    _waitid(idtype, number, info, _signed(options))
    # siginfo_t: si_signo, si_errno, si_code, from 16 on si_pid, si_uid, si_status
    signo, _, code = struct.unpack_from("=3i", info)
    pid, _, status = struct.unpack_from("=3i", info, 16)
    return Change(pid, code, status) if signo else None


def wait4(pid: int, options: int = 0) -> tuple[int, int]:
    """Wait for a child to end, and return its pid and wait status; (0, 0) where NOHANG was given and none has.

    Args:
        pid: of the child; -1 any, 0 any of the caller's group, below -1 any of that group.
        options: WaitOption.

    Raises:
        OSError: ECHILD no such child; EINVAL wrong options; EINTR.

    Source: wait(2), ERRORS; wait4(2).
    """
    status = bytearray(4)
    found = _wait4(pid, status, _signed(options), None)
    return found, struct.unpack("=i", status)[0]


def _signed(options: int) -> int:
    # The parameter is an int, and CLONE its sign bit.
    return options - 2**32 if 2**31 <= options < 2**32 else options
