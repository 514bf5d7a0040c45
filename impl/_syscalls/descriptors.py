"""close_range(2): all descriptors from one number on, closed or marked close-on-exec, in one call."""

from __future__ import annotations

from kernelproof.impl._syscalls.libc import INT, UINT, Call

CLOSE_RANGE_UNSHARE = 2
CLOSE_RANGE_CLOEXEC = 4
LAST = 0xFFFFFFFF

_close_range = Call("close_range", first=UINT, last=UINT, flags=INT)


def close_range(first: int, last: int = LAST, flags: int = 0) -> None:
    """Close the descriptors first to last, or with CLOSE_RANGE_CLOEXEC have execve(2) close them.

    Raises:
        OSError: EINVAL (last below first, or a flag that the kernel does not know: CLOEXEC came with Linux 5.11),
            ENOSYS (before 5.9).
        OverflowError: a number does not fit an unsigned int.

    Source: close_range(2), ERRORS.
    """
    _close_range(first, last, flags)
