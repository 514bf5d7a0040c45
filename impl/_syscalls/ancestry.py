"""What becomes of a process and of its descendants when a parent ends: two attributes of prctl(2)."""

from __future__ import annotations

import struct

from kernelproof.impl._syscalls.libc import BUFFER, INT, ULONG, Call
from kernelproof.impl._syscalls.prctl import PR_SET_PDEATHSIG, prctl

PR_GET_PDEATHSIG = 2
PR_SET_CHILD_SUBREAPER = 36
PR_GET_CHILD_SUBREAPER = 37

_get = Call("prctl", option=INT, value=BUFFER, arg3=ULONG, arg4=ULONG, arg5=ULONG)


def _read(option: int) -> int:
    buffer = bytearray(4)
    _get(option, buffer, 0, 0, 0)
    return int(struct.unpack("=i", buffer)[0])


def set_parent_death_signal(number: int) -> None:
    """Set which signal the process gets when the thread that made it ends; 0 for none.

    Raises:
        OSError: EINVAL no such signal.

    Source: PR_SET_PDEATHSIG(2const).
    """
    prctl(PR_SET_PDEATHSIG, number)


def parent_death_signal() -> int:
    """Return which signal the process gets when the thread that made it ends; 0 for none.

    Source: PR_GET_PDEATHSIG(2const).
    """
    return _read(PR_GET_PDEATHSIG)


def set_child_subreaper(is_subreaper: bool) -> None:
    """Make the process the one that orphans among its descendants go to, or end that.

    Source: PR_SET_CHILD_SUBREAPER(2const).
    """
    prctl(PR_SET_CHILD_SUBREAPER, int(is_subreaper))


def is_child_subreaper() -> bool:
    """Return whether orphans among the process's descendants go to it. Source: PR_GET_CHILD_SUBREAPER(2const)."""
    return bool(_read(PR_GET_CHILD_SUBREAPER))
