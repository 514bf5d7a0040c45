"""What kind of filesystem an open file is on: fstatfs(2), of which the standard library leaves out the type."""

from __future__ import annotations

import sys

from kernelproof.impl._syscalls.libc import BUFFER, INT, Call

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from collections.abc import Callable
    from functools import cache
    from typing import Any
else:
    from kernelproof.impl._syscalls.unwinding import cache

DEVPTS_SUPER_MAGIC = 0x1CD1
PROC_SUPER_MAGIC = 0x9FA0

_BYTES = 512  # struct statfs has 120 bytes on 64-bit machines; its first member is a long, the type

_fstatfs = Call("fstatfs", fd=INT, buffer=BUFFER)


def filesystem_type(fd: int) -> int:
    """Return the magic number of the filesystem that an open file is on.

    Raises:
        OSError: EBADF; ENOSYS the filesystem does not tell.

    Source: statfs(2).
    """
    function, kind = _prepared()
    found: bytes | bytearray
    if 0 <= fd < 2**31 and function(fd, buffer := kind()) == 0:
        found = buffer.raw
    else:  # refused: by way of the call that tells why
        found = bytearray(_BYTES)
        _fstatfs(fd, found)
    return int.from_bytes(found[: (sys.maxsize.bit_length() + 1) // 8], sys.byteorder)


@cache
def _prepared() -> tuple[Callable[..., int], Any]:
    # Measured: a Call, which looks at each argument, takes three times as long, and every cgroup that is made asks.
    from kernelproof.impl._syscalls import foreign

    function = foreign.find("fstatfs", [foreign.c_int, foreign.c_void_p])
    assert function is not None
    return function, foreign.c_char * _BYTES
