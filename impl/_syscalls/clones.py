"""What the kernel says to clone3(2), asked with a child that can't come to be.

A child that shares memory or signal handlers with this Python would wreck it, so namespaces.clone3 makes none. The
kernel looks at a call's flags before it gives out ids, and one of the ids asked for is taken: so flags it likes are
answered with EEXIST, and flags it dislikes with another error. Not for making processes.
"""

from __future__ import annotations

import errno
import os
import struct

from kernelproof.impl._syscalls.libc import BYTES, ULONG, Call, address_of, flag_names
from kernelproof.impl._syscalls.namespaces import CloneFlag

_clone3 = Call("clone3", arguments=BYTES, size=ULONG)


def check_clone(flags: int, *, exit_signal: int = 0, taken: tuple[int, ...] = (1,)) -> None:
    """Ask whether the kernel takes flags of clone3; nothing is made.

    Args:
        flags: CloneFlag.
        exit_signal: number of the signal the parent would get.
        taken: ids for the child, innermost PID namespace first, one of which a process has in its namespace.

    Raises:
        OSError: what the kernel refuses the flags with: EINVAL, EPERM, ENOSPC …

    Source: clone(2), ERRORS and The set_tid array.
    """
    pidfd, stack = bytearray(4), bytearray(4096)
    tids = bytearray(struct.pack(f"={len(taken)}i", *taken))
    shared = flags & (CloneFlag.VM | CloneFlag.THREAD)
    arguments = struct.pack(
        "=11Q",
        flags,
        address_of(pidfd) if flags & CloneFlag.PIDFD else 0,
        0,  # child_tid
        0,  # parent_tid
        exit_signal,
        address_of(stack) if shared else 0,
        len(stack) if shared else 0,
        0,  # tls
        address_of(tids),
        len(taken),
        0,  # cgroup
    )
    answer = -_clone3.attempt(arguments, len(arguments))
    if answer == 0:  # the child, which should not be
        os._exit(1)
    if answer < 0:
        raise RuntimeError(f"clone3: no process had any of the ids {taken}, so there is a child {-answer} now")
    if answer != errno.EEXIST:
        error = OSError(answer, os.strerror(answer))
        error.add_note(f"clone3(flags={flag_names(CloneFlag, flags)}, exit_signal={exit_signal}, set_tid={taken})")
        raise error
