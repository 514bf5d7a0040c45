"""Where and when a process runs: sched_setattr(2), ioprio_set(2), set_mempolicy(2)."""

from __future__ import annotations

import struct

from kernelproof.impl._syscalls.libc import BUFFER, INT, UINT, ULONG, Call

SCHED_ATTR_BYTES = 56  # with the utilisation clamps of Linux 5.3
_ATTR_ROOM = 64

_sched_setattr = Call("sched_setattr", pid=INT, attributes=BUFFER, flags=UINT)
_sched_getattr = Call("sched_getattr", pid=INT, attributes=BUFFER, size=UINT, flags=UINT)
_ioprio_set = Call("ioprio_set", which=INT, who=INT, ioprio=INT)
_ioprio_get = Call("ioprio_get", which=INT, who=INT)
_set_mempolicy = Call("set_mempolicy", mode=INT, nodemask=BUFFER, maxnode=ULONG)
_get_mempolicy = Call("get_mempolicy", mode=BUFFER, nodemask=BUFFER, maxnode=ULONG, address=ULONG, flags=ULONG)

IOPRIO_WHO_PROCESS = 1
_CLASS_SHIFT = 13
_NODE_BITS = 1024
_MAXNODE = _NODE_BITS + 1  # the kernel looks at one bit less than it is told (mm/mempolicy.c, get_nodes)


def sched_setattr(
    pid: int,
    policy: int,
    *,
    flags: int = 0,
    nice: int = 0,
    priority: int = 0,
    deadline: tuple[int, int, int] = (0, 0, 0),
) -> None:
    """Set the scheduling policy of a thread; 0 is the caller.

    Args:
        policy: a SCHED_ number.
        flags: SCHED_FLAG_ bits.
        nice: -20 to 19, of SCHED_OTHER and SCHED_BATCH.
        priority: 1 to 99, of SCHED_FIFO and SCHED_RR.
        deadline: runtime, deadline and period in nanoseconds, of SCHED_DEADLINE.

    Raises:
        OSError: EPERM (no CAP_SYS_NICE, or a cpuset), EINVAL, EBUSY (admission of SCHED_DEADLINE), ESRCH.
        OverflowError: a number does not fit.

    Source: sched_setattr(2), ERRORS.
    """
    try:
        attributes = struct.pack("=IIQiI3QII", SCHED_ATTR_BYTES, policy, flags, nice, priority, *deadline, 0, 0)
    except struct.error as error:
        raise OverflowError(f"sched_setattr: {error}") from None
    try:
        _sched_setattr(pid, bytearray(attributes), 0)
    except OSError as error:
        error.add_note(f"policy={policy}, flags={flags:#x}, nice={nice}, priority={priority}, deadline={deadline}")
        raise


def sched_getattr(pid: int = 0) -> tuple[int, int, int, int, tuple[int, int, int]]:
    """Return policy, flags, nice, priority and deadline of a thread.

    Raises:
        OSError: ESRCH, EINVAL.

    Source: sched_setattr(2).
    """
    data = bytearray(_ATTR_ROOM)
    _sched_getattr(pid, data, SCHED_ATTR_BYTES, 0)
    _, policy, flags, nice, priority, *deadline = struct.unpack_from("=IIQiI3Q", data)
    return policy, flags, nice, priority, (deadline[0], deadline[1], deadline[2])


def ioprio_set(pid: int, ioclass: int, level: int) -> None:
    """Set class (1 real time, 2 best effort, 3 idle) and level (0 to 7) of a thread's I/O; 0 is the caller.

    Raises:
        OSError: EPERM (real time without CAP_SYS_ADMIN or CAP_SYS_NICE), EINVAL, ESRCH.

    Source: ioprio_set(2), ERRORS.
    """
    _ioprio_set(IOPRIO_WHO_PROCESS, pid, ioclass << _CLASS_SHIFT | level)


def ioprio_get(pid: int = 0) -> tuple[int, int]:
    """Return class and level of a thread's I/O.

    Raises:
        OSError: ESRCH.

    Source: ioprio_set(2).
    """
    value = _ioprio_get(IOPRIO_WHO_PROCESS, pid)
    return value >> _CLASS_SHIFT, value & (1 << _CLASS_SHIFT) - 1


def set_mempolicy(mode: int, nodes: tuple[int, ...] = ()) -> None:
    """Set the NUMA memory policy of the calling thread.

    Args:
        mode: an MPOL_ number, with MPOL_F_ flags.
        nodes: numbers of memory nodes, below 1024.

    Raises:
        OSError: EINVAL (no such node, or nodes where the mode takes none), ENOSYS (a kernel without NUMA).
        OverflowError: a node above 1023.

    Source: set_mempolicy(2), ERRORS.
    """
    if any(not 0 <= node < _NODE_BITS for node in nodes):
        raise OverflowError(f"set_mempolicy: a node of {nodes} is not 0 to {_NODE_BITS - 1}")
    mask = bytearray(sum({1 << node for node in nodes}).to_bytes(_NODE_BITS // 8, "little")) if nodes else None
    _set_mempolicy(mode, mask, _MAXNODE if nodes else 0)


def get_mempolicy() -> tuple[int, tuple[int, ...]]:
    """Return mode and nodes of the calling thread's memory policy.

    Raises:
        OSError: EINVAL, ENOSYS.

    Source: get_mempolicy(2).
    """
    mode, mask = bytearray(4), bytearray(_NODE_BITS // 8)
    _get_mempolicy(mode, mask, _NODE_BITS, 0, 0)
    bits = int.from_bytes(mask, "little")
    return struct.unpack("=i", mode)[0], tuple(node for node in range(_NODE_BITS) if bits >> node & 1)
