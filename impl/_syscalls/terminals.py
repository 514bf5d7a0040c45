"""Pseudoterminals as libc has them, and the hang-up of one's terminal.

os has posix_openpt, grantpt, unlockpt and ptsname from Python 3.13 only. What the kernel has besides are ioctls, and
those are in kernelproof.impl.term.
"""

from __future__ import annotations

import os
import struct

from kernelproof.impl._syscalls.libc import BUFFER, INT, STRING, ULONG, Call

_grantpt = Call("grantpt", fd=INT)
_unlockpt = Call("unlockpt", fd=INT)
_ptsname_r = Call("ptsname_r", fd=INT, buffer=BUFFER, size=ULONG)
_vhangup = Call("vhangup")
_openpty = Call("openpty", master=BUFFER, slave=BUFFER, name=STRING, attributes=STRING, size=STRING)


def grantpt(master: int) -> None:
    """Give the peer of a master to the real user, as libc understands that: on Linux the mount of devpts decides.

    Raises:
        OSError: EINVAL no master; EBADF no open descriptor; EACCES.

    Source: grantpt(3), ERRORS.
    """
    _grantpt(master)


def unlockpt(master: int) -> None:
    """Let the peer of a master be opened.

    Raises:
        OSError: EINVAL no master; EBADF no open descriptor.

    Source: unlockpt(3), ERRORS.
    """
    _unlockpt(master)


def ptsname(master: int, *, size: int = 64) -> str:
    """Return the path of the peer of a master.

    Args:
        master: its descriptor.
        size: of the buffer that libc gets, in bytes.

    Raises:
        OSError: ENOTTY no master; EBADF no open descriptor; ERANGE the buffer is too small.

    Source: ptsname(3), ERRORS, ptsname_r.
    """
    buffer = bytearray(size)
    number = _ptsname_r(master, buffer, size)
    if number:  # it returns the error, and -1 in no case that is documented
        error = OSError(number, os.strerror(number))
        error.add_note(_ptsname_r.describe(master, buffer, size))
        raise error
    return os.fsdecode(bytes(buffer).partition(b"\0")[0])


def openpty() -> tuple[int, int]:
    """Return the descriptors of a master and of its slave, neither close-on-exec; the caller closes both.

    Raises:
        OSError: ENOENT by the page, ENOSPC by Linux with glibc, when no pseudoterminal is left.

    Source: openpty(3), ERRORS.
    """
    master, slave = bytearray(4), bytearray(4)
    _openpty(master, slave, None, None, None)
    return struct.unpack("=i", master)[0], struct.unpack("=i", slave)[0]


def vhangup() -> None:
    """Hang up the caller's terminal, for who comes next on it.

    Raises:
        OSError: EPERM without CAP_SYS_TTY_CONFIG.

    Source: vhangup(2), ERRORS.
    """
    _vhangup()
