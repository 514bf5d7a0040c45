"""Where a process stands among files: chroot(2), umask(2) and the getcwd(2) of the kernel."""

from __future__ import annotations

import os

from kernelproof.impl._syscalls.libc import BUFFER, STRING, UINT, ULONG, Call, Path

_chroot = Call("chroot", path=STRING)
_umask = Call("umask", mask=UINT)
_getcwd = Call("getcwd", raw=True, buffer=BUFFER, size=ULONG)


def chroot(path: Path) -> None:
    """Change the root directory of the process; its working directory stays.

    Raises:
        OSError: EPERM without CAP_SYS_CHROOT; EACCES; ELOOP; ENAMETOOLONG; ENOENT; ENOTDIR.

    Source: chroot(2), ERRORS.
    """
    _chroot(path, path=path)


def umask(mask: int) -> int:
    """Set which permission bits new files never get, and return the mask before.

    Args:
        mask: mode bits, of which the kernel keeps 0o777.

    Source: umask(2).
    """
    return _umask(mask)


def getcwd(*, size: int = 4096) -> str:
    """Return the working directory as the kernel tells it: with (unreachable) before what is outside the root.

    Raises:
        OSError: ENOENT it was removed; ERANGE the path is longer than size bytes.

    Source: getcwd(3), VERSIONS.
    """
    buffer = bytearray(size)
    length = _getcwd(buffer, size)
    return os.fsdecode(bytes(buffer[: length - 1]))
