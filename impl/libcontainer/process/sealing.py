"""A copy of the interpreter that nobody can write to: what a container may reach as /proc/PID/exe is that one.

A process that is on its way into a container still runs the host's interpreter. Whoever is in the container, or the
program itself if it is /proc/self/exe, can get hold of that file and overwrite it. A sealed memory file has no name on
the host, can't be written by anybody, and even the page cache of the host's file is not reached through it.

The copy is made once, by who starts helpers or by the command before anything else: its memory is no container's.

Source: CVE-2019-5736; memfd_create(2), "File sealing"; fcntl(2), F_ADD_SEALS.
"""

from __future__ import annotations

import fcntl
import os
import sys

_ADD_SEALS = 1033
_SEALS = 0x1 | 0x2 | 0x4 | 0x8  # of sealing, shrinking, growing, writing
_EXECUTABLE = 0x10  # MFD_EXEC, Linux 6.3; where the flag is not known files are executable anyway
_NAME = "interpreter"
_PIECE = 1 << 20


def copy_sealed(path: str = "") -> int:
    """A sealed copy of a file, by default of the interpreter; close-on-exec, and the caller's to close.

    Raises:
        OSError: the file can't be read, or there is no memory.
    """
    source = os.open(path or "/proc/self/exe", os.O_RDONLY | os.O_CLOEXEC)
    try:
        copy = _open_memory()
        left = os.fstat(source).st_size
        while left > 0:
            done = os.sendfile(copy, source, None, min(left, _PIECE * 64))
            if not done:
                break
            left -= done
        fcntl.fcntl(copy, _ADD_SEALS, _SEALS)
    finally:
        os.close(source)
    return copy


def _open_memory() -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create(_NAME, flags | _EXECUTABLE)
    except OSError:
        return os.memfd_create(_NAME, flags)


def is_sealed() -> bool:
    """Whether this process runs from such a copy, or from a read-only mount of its own (see nsinit.scripts.first)."""
    exe = "/proc/self/exe"
    found = os.readlink(exe)
    return found.startswith(f"/memfd:{_NAME}") or (found == "/" and bool(os.statvfs(exe).f_flag & os.ST_RDONLY))


def run_sealed(argv: list[str]) -> None:
    """Begins this program again from a sealed copy of its interpreter, unless it is one already.

    Args:
        argv: the interpreter's arguments, from its own options on.

    Raises:
        OSError: the copy can't be made or executed.
    """
    if is_sealed():
        return
    copy = copy_sealed()
    os.execve(copy, [sys.executable, *argv], os.environ)
