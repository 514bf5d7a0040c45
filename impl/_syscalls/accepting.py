"""accept4(2): take a connection, with flags for the new socket that are set in the same step.

socket.accept has no flags: it makes the new socket close-on-exec always, and non-blocking never.
"""

from __future__ import annotations

import os
from enum import IntFlag

from kernelproof.impl._syscalls.libc import BUFFER, INT, Call


class SocketFlag(IntFlag):
    """SOCK_ flags of accept4(2)."""

    NONBLOCK = os.O_NONBLOCK  # the same bits on every machine of ours
    CLOEXEC = os.O_CLOEXEC


_accept4 = Call("accept4", fd=INT, address=BUFFER, length=BUFFER, flags=INT.of(SocketFlag))


def accept4(fd: int, flags: int = SocketFlag.CLOEXEC) -> int:
    """Take a connection of a listening socket and return the new socket, which the caller closes.

    Raises:
        OSError: EINVAL (unknown flags, or the socket does not listen); EAGAIN nothing there, of a non-blocking socket;
            EBADF; ENOTSOCK; EOPNOTSUPP; ECONNABORTED; EMFILE; ENFILE.

    Source: accept4(2), ERRORS.
    """
    return _accept4(fd, None, None, flags)
