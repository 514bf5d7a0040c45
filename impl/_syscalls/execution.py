"""Running a program in place of this one: execve(2) and execveat(2), which the standard library has not.

os.execve searches, checks and copies; here the kernel alone refuses.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from enum import IntFlag

from kernelproof.impl._syscalls.libc import BUFFER, INT, STRING, Call, Path, address_of

AT_FDCWD = -100


class ExecFlag(IntFlag):
    """AT_ flags of execveat(2)."""

    SYMLINK_NOFOLLOW = 0x100
    EMPTY_PATH = 0x1000
    EXECVE_CHECK = 0x10000  # Linux 6.14


_execve = Call("execve", path=STRING, arguments=BUFFER, environment=BUFFER)
_execveat = Call("execveat", directory=INT, path=STRING, arguments=BUFFER, environment=BUFFER, flags=INT.of(ExecFlag))


def execve(path: Path, argv: Iterable[Path], env: Iterable[Path] = ()) -> None:
    """Run a program in place of this one; returns only with an error.

    Args:
        path: of the program; it is not searched for.
        argv: its arguments, the name first.
        env: words name=value.

    Raises:
        OSError: E2BIG; EACCES no permission, no regular file, or mounted noexec; ELOOP; ENOENT it or its interpreter;
            ENOEXEC; ENOTDIR; ETXTBSY it is open for writing; EAGAIN, ENOMEM and others.
        ValueError: a word holds a NUL byte.

    Source: execve(2), ERRORS.
    """
    arguments, environment = _Words(argv), _Words(env)
    _execve(path, arguments.table, environment.table, path=path)


def execveat(directory: int, path: Path, argv: Iterable[Path], env: Iterable[Path] = (), flags: int = 0) -> None:
    """Run a program that is named from a directory, or with EMPTY_PATH is the descriptor's file.

    Returns only with an error, or with EXECVE_CHECK.

    Args:
        directory: a descriptor, or AT_FDCWD.
        path: of the program; "" with EMPTY_PATH.
        argv: its arguments, the name first.
        env: words name=value.
        flags: ExecFlag.

    Raises:
        OSError: as execve; EBADF; EINVAL unknown flags; ELOOP a symbolic link with SYMLINK_NOFOLLOW; ENOENT a script
            behind a close-on-exec descriptor.
        ValueError: a word holds a NUL byte.

    Source: execveat(2), ERRORS.
    """
    arguments, environment = _Words(argv), _Words(env)
    _execveat(directory, path, arguments.table, environment.table, flags, path=path)


class _Words:
    # A table of pointers that ends with a null pointer, and what they point to.
    def __init__(self, words: Iterable[Path]) -> None:
        self.words = [bytearray(os.fsencode(word) + b"\0") for word in words]
        for word in self.words:
            if word.index(0) != len(word) - 1:
                raise ValueError(f"execve: {bytes(word[:-1])!r} holds a NUL byte")
        self.table = bytearray(struct.pack(f"={len(self.words) + 1}Q", *map(address_of, self.words), 0))
