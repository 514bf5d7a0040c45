"""capget(2), capset(2) and the prctl(2) operations on the bounding and the ambient set, of the calling thread.

A set is an int: bit N stands for the capability of number N.
"""

from __future__ import annotations

import struct

from kernelproof.impl._syscalls.libc import BUFFER, BYTES, Call
from kernelproof.impl._syscalls.prctl import (
    AMBIENT_CLEAR_ALL,
    AMBIENT_IS_SET,
    AMBIENT_LOWER,
    AMBIENT_RAISE,
    PR_CAP_AMBIENT,
    PR_CAPBSET_DROP,
    PR_CAPBSET_READ,
    prctl,
)

VERSION_3 = 0x20080522  # 64-bit sets

_capget = Call("capget", raw=True, header=BUFFER, data=BUFFER)
_capset = Call("capset", raw=True, header=BUFFER, data=BYTES)

_LOW = 0xFFFFFFFF
_MOST = 64  # of a set


def capget(pid: int = 0, *, version: int = VERSION_3) -> tuple[int, int, int]:
    """Return the effective, permitted and inheritable set of a thread; 0 is the caller.

    Args:
        pid: a thread's number in the caller's PID namespace.
        version: of the header; the kernel writes the one it prefers into it where it does not know this one.

    Raises:
        OSError: ESRCH (no such thread), EINVAL (unknown version, which a note tells with the preferred one; or a
            negative pid).

    Source: capget(2), DESCRIPTION and ERRORS.
    """
    header, data = bytearray(struct.pack("=Ii", version, pid)), bytearray(24)
    try:
        _capget(header, data)
    except OSError as error:
        (preferred,) = struct.unpack_from("=I", header)
        error.add_note(f"capget: version {version:#x} for thread {pid}; the kernel's version is {preferred:#x}")
        raise
    return _joined(struct.unpack("=6I", data))


def preferred_version(asked: int) -> int:
    """Return what the kernel leaves in a header of version `asked` when it is called without a data pointer.

    Raises:
        OSError: never for a version that is unknown; the kernel answers it.

    Source: capget(2), DESCRIPTION.
    """
    header = bytearray(struct.pack("=Ii", asked, 0))
    _capget(header, None)
    return int(struct.unpack_from("=I", header)[0])


def _joined(words: tuple[int, ...]) -> tuple[int, int, int]:
    effective, permitted, inheritable = (words[place] | words[place + 3] << 32 for place in range(3))
    return effective, permitted, inheritable


def capset(effective: int, permitted: int, inheritable: int, *, pid: int = 0) -> None:
    """Set the three sets of the calling thread.

    Args:
        effective: within `permitted`.
        permitted: within the present permitted set.
        inheritable: within the present inheritable set joined with the bounding set, and without CAP_SETPCAP within
            it joined with the permitted set.
        pid: 0 or the caller's own; the kernel changes no other thread.

    Raises:
        OSError: EPERM (a set is not within its bounds, or the pid is another thread's).
        OverflowError: a set does not fit 64 bits.

    Source: capget(2), ERRORS; capabilities(7), Programmatically adjusting capability sets.
    """
    sets = (effective, permitted, inheritable)
    if any(not 0 <= each < 1 << 64 for each in sets):
        raise OverflowError(f"capset: a set of {', '.join(map(hex, sets))} does not fit 64 bits")
    header = bytearray(struct.pack("=Ii", VERSION_3, pid))
    data = struct.pack("=6I", *(each & _LOW for each in sets), *(each >> 32 for each in sets))
    try:
        _capset(header, data)
    except OSError as error:
        error.add_note(f"effective={effective:#x}, permitted={permitted:#x}, inheritable={inheritable:#x}")
        raise


def bounding_has(capability: int) -> bool:
    """Return whether the bounding set has a capability.

    Raises:
        OSError: EINVAL (the kernel knows no such number).

    Source: PR_CAPBSET_READ(2const).
    """
    return prctl(PR_CAPBSET_READ, capability) == 1


def drop_bounding(capability: int) -> None:
    """Take a capability out of the bounding set, for good.

    Raises:
        OSError: EPERM (no CAP_SETPCAP), EINVAL (the kernel knows no such number).

    Source: PR_CAPBSET_DROP(2const).
    """
    prctl(PR_CAPBSET_DROP, capability)


def limit_bounding(kept: int) -> int:
    """Take all capabilities but some out of the bounding set, for good.

    Measured: two of the calls above for each of forty capabilities take a tenth of a container's start.

    Returns:
        Those of `kept` that were in the set, and are.

    Raises:
        OSError: EPERM (no CAP_SETPCAP).

    Source: PR_CAPBSET_READ(2const), PR_CAPBSET_DROP(2const).
    """
    from kernelproof.impl._syscalls import foreign  # measured: see libc

    call = foreign.find("prctl", [foreign.c_int, *(foreign.c_ulong,) * 4])
    assert call is not None
    present = 0
    for number in range(_MOST):
        found = call(PR_CAPBSET_READ, number, 0, 0, 0)
        if found < 0:  # the kernel knows no such number
            break
        if found and kept >> number & 1:
            present |= 1 << number
        elif found and call(PR_CAPBSET_DROP, number, 0, 0, 0):
            drop_bounding(number)  # refused: by way of the call that tells why
    return present


def ambient_has(capability: int) -> bool:
    """Return whether the ambient set has a capability; raises as `raise_ambient`."""
    return prctl(PR_CAP_AMBIENT, AMBIENT_IS_SET, capability) == 1


def raise_ambient(capability: int) -> None:
    """Put a capability into the ambient set.

    Raises:
        OSError: EPERM (it is not both permitted and inheritable, or a securebit forbids it), EINVAL (no such number).

    Source: PR_CAP_AMBIENT_RAISE(2const).
    """
    prctl(PR_CAP_AMBIENT, AMBIENT_RAISE, capability)


def lower_ambient(capability: int) -> None:
    """Take a capability out of the ambient set; EINVAL as above."""
    prctl(PR_CAP_AMBIENT, AMBIENT_LOWER, capability)


def clear_ambient() -> None:
    """Empty the ambient set.

    Raises:
        OSError: EINVAL (a kernel before 4.3).

    Source: PR_CAP_AMBIENT_CLEAR_ALL(2const).
    """
    prctl(PR_CAP_AMBIENT, AMBIENT_CLEAR_ALL)
