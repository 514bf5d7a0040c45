"""Resource limits: prlimit(2), by the system call, as resource has names for some of them only."""

from __future__ import annotations

import struct

from kernelproof.impl._syscalls.libc import BUFFER, BYTES, INT, UINT, Call

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from enum import IntEnum
else:
    from kernelproof.impl._syscalls.numbered import IntEnum

INFINITY = 2**64 - 1


class Resource(IntEnum):
    """RLIMIT_ constants of getrlimit(2); these are the numbers of x86-64, aarch64 and riscv64."""

    CPU = 0
    FSIZE = 1
    DATA = 2
    STACK = 3
    CORE = 4
    RSS = 5
    NPROC = 6
    NOFILE = 7
    MEMLOCK = 8
    AS = 9
    LOCKS = 10
    SIGPENDING = 11
    MSGQUEUE = 12
    NICE = 13
    RTPRIO = 14
    RTTIME = 15


_prlimit = Call("prlimit64", raw=True, pid=INT, resource=UINT.of(Resource), new=BYTES, old=BUFFER)


def prlimit(pid: int, resource: int, new: tuple[int, int] | None = None) -> tuple[int, int]:
    """Return the soft and the hard limit as they were, and set new ones.

    Args:
        pid: 0 the caller.
        resource: Resource.
        new: soft and hard limit, INFINITY for none; None changes nothing.

    Raises:
        OSError: EINVAL no such resource, or the soft limit is above the hard one; EPERM a higher hard limit without
            CAP_SYS_RESOURCE, another user's process, or NOFILE above fs.nr_open; ESRCH no such process.

    Source: getrlimit(2), ERRORS, which has prlimit too.
    """
    old = bytearray(16)
    _prlimit(pid, resource, None if new is None else struct.pack("=2Q", *new), old)
    soft, hard = struct.unpack("=2Q", old)
    return soft, hard
