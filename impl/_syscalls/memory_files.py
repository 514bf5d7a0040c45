"""Files in memory and their seals: memfd_create(2), F_ADD_SEALS(2const).

os and fcntl have them; here they are without their checks, and errors name the call.
"""

from __future__ import annotations

import os
from enum import IntFlag

from kernelproof.impl._syscalls.libc import INT, STRING, UINT, ULONG, Call, Path


class MemfdFlag(IntFlag):
    """MFD_ flags of memfd_create(2)."""

    CLOEXEC = 1
    ALLOW_SEALING = 2
    HUGETLB = 4
    NOEXEC_SEAL = 8  # Linux 6.3
    EXEC = 16  # Linux 6.3


class Seal(IntFlag):
    """F_SEAL_ flags of F_ADD_SEALS(2const)."""

    SEAL = 1
    SHRINK = 2
    GROW = 4
    WRITE = 8
    FUTURE_WRITE = 16
    EXEC = 32  # Linux 6.3


_ADD_SEALS, _GET_SEALS = 1033, 1034
_memfd_create = Call("memfd_create", name=STRING, flags=UINT.of(MemfdFlag))
_fcntl = Call("fcntl", fd=INT, command=INT, seals=ULONG.of(Seal))


def memfd_create(name: Path, flags: int = MemfdFlag.CLOEXEC) -> int:
    """Return a descriptor of a new file in memory; the caller closes it.

    Raises:
        OSError: EINVAL unknown flags, or a name above 249 bytes; EMFILE; ENFILE; ENOMEM; EPERM.

    Source: memfd_create(2), ERRORS.
    """
    return _memfd_create(os.fsencode(name), flags)


def add_seals(fd: int, seals: int) -> None:
    """Add seals to a file in memory, for good.

    Raises:
        OSError: EBUSY WRITE while the file is mapped writable and shared; EINVAL unknown seals, or no file of this
            kind; EPERM it is sealed against seals, or not open for writing.

    Source: F_ADD_SEALS(2const), ERRORS.
    """
    _fcntl(fd, _ADD_SEALS, seals)


def get_seals(fd: int) -> Seal:
    """Return the seals of a file in memory.

    Raises:
        OSError: EINVAL no file of this kind.

    Source: F_GET_SEALS(2const), ERRORS.
    """
    return Seal(_fcntl(fd, _GET_SEALS, 0))
