"""Message queues of System V and of POSIX, which an IPC namespace holds: msgget(2), mq_open(3), mq_unlink(3)."""

from __future__ import annotations

import os
import struct
from enum import IntFlag

from kernelproof.impl._syscalls.libc import BYTES, INT, STRING, UINT, Call


class IpcFlag(IntFlag):
    """IPC_ flags of msgget(2)."""

    CREAT = 0o1000
    EXCL = 0o2000


_msgget = Call("msgget", key=INT, flags=INT)
_mq_open = Call("mq_open", raw=True, name=STRING, flags=INT, mode=UINT, attributes=BYTES)


def msgget(key: int, flags: int = 0) -> int:
    """Return the id of the System V message queue with a key.

    Args:
        key: of the queue.
        flags: IpcFlag, and permission bits where it is made.

    Raises:
        OSError: EACCES; EEXIST with EXCL; ENOENT there is none; ENOMEM; ENOSPC a limit.

    Source: msgget(2), ERRORS.
    """
    return _msgget(key, flags)


def mq_open(name: str, flags: int, mode: int = 0o600) -> int:
    """Return a descriptor of a POSIX message queue, close-on-exec; the caller closes it.

    Args:
        name: without the slash that mq_open(3) wants: the system call takes none.
        flags: O_ flags.
        mode: of a new queue, which holds one message of 64 bytes.

    Raises:
        OSError: EACCES; EEXIST; EINVAL; EMFILE; ENAMETOOLONG; ENFILE; ENOENT; ENOMEM; ENOSPC.

    Source: mq_open(3), ERRORS and VERSIONS.
    """
    return _mq_open(name, flags | os.O_CLOEXEC, mode, struct.pack("=8q", 0, 1, 64, 0, 0, 0, 0, 0), path=name)
