"""What kind of filesystem an open file is on: fstatfs(2), of which the standard library leaves out the type."""

from __future__ import annotations

import sys

from kernelproof.impl._syscalls.libc import BUFFER, INT, Call

DEVPTS_SUPER_MAGIC = 0x1CD1
PROC_SUPER_MAGIC = 0x9FA0

_fstatfs = Call("fstatfs", fd=INT, buffer=BUFFER)


def filesystem_type(fd: int) -> int:
    """Return the magic number of the filesystem that an open file is on.

    Raises:
        OSError: EBADF; ENOSYS the filesystem does not tell.

    Source: statfs(2).
    """
    buffer = bytearray(512)  # struct statfs has 120 bytes on 64-bit machines; its first member is a long, the type
    _fstatfs(fd, buffer)
    return int.from_bytes(buffer[: (sys.maxsize.bit_length() + 1) // 8], sys.byteorder)
