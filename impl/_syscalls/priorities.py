"""Nice values, static priorities and CPUs of threads: setpriority(2), sched_setscheduler(2), sched_setaffinity(2).

os has all three; here the kernel alone refuses, and errors name the call. `scheduling` has the newer calls.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from kernelproof.impl._syscalls.libc import BYTES, INT, UINT, ULONG, Call

SCHED_OTHER, SCHED_FIFO, SCHED_RR = 0, 1, 2
SCHED_RESET_ON_FORK = 0x40000000  # a bit of the policy
PRIO_PROCESS = 0

_setpriority = Call("setpriority", which=UINT, who=UINT, priority=INT)
_sched_setscheduler = Call("sched_setscheduler", raw=True, pid=INT, policy=INT, parameters=BYTES)
_sched_setaffinity = Call("sched_setaffinity", raw=True, pid=INT, size=ULONG, mask=BYTES)


def setpriority(priority: int, who: int = 0, which: int = PRIO_PROCESS) -> None:
    """Set the nice value, which the kernel brings into -20 to 19.

    Raises:
        OSError: EACCES a lower one without CAP_SYS_NICE or RLIMIT_NICE; EINVAL no such which; EPERM another user's
            process; ESRCH nobody.

    Source: setpriority(2), ERRORS.
    """
    _setpriority(which, who, priority)


def sched_setscheduler(policy: int, priority: int, pid: int = 0) -> None:
    """Set policy and static priority of a thread.

    Args:
        policy: a SCHED_ number, and SCHED_RESET_ON_FORK.
        priority: 1 to 99 for SCHED_FIFO and SCHED_RR, 0 for the others.
        pid: 0 the calling thread.

    Raises:
        OSError: EINVAL no such policy, or the priority does not fit it; EPERM; ESRCH no such thread.

    Source: sched_setscheduler(2), ERRORS.
    """
    _sched_setscheduler(pid, policy, struct.pack("=i", priority))


def sched_setaffinity(cpus: Iterable[int], pid: int = 0) -> None:
    """Set on which CPUs a thread may run.

    Raises:
        OSError: EINVAL none of them can be used; EPERM another user's thread; ESRCH no such thread.

    Source: sched_setaffinity(2), ERRORS.
    """
    bits = sum({1 << cpu for cpu in cpus})
    size = -(-max(bits.bit_length(), 1) // 64) * 8
    _sched_setaffinity(pid, size, bits.to_bytes(size, "little"))
