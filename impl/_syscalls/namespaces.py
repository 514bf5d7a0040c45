"""Namespaces: unshare(2), setns(2) and clone3(2)."""

from __future__ import annotations

import os
import struct

from kernelproof.impl._syscalls.libc import BYTES, INT, ULONG, Call, Path, address_of, flag_names

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from enum import IntFlag
    from typing import NamedTuple
else:
    from kernelproof.impl._syscalls.named import NamedTuple
    from kernelproof.impl._syscalls.numbered import IntFlag


class CloneFlag(IntFlag):
    """CLONE_ flags of unshare(2), setns(2) and clone3(2)."""

    NEWTIME = 0x80
    VM = 0x100
    FS = 0x200
    FILES = 0x400
    SIGHAND = 0x800
    PIDFD = 0x1000
    PTRACE = 0x2000
    VFORK = 0x4000
    PARENT = 0x8000
    THREAD = 0x10000
    NEWNS = 0x20000
    SYSVSEM = 0x40000
    SETTLS = 0x80000
    PARENT_SETTID = 0x100000
    CHILD_CLEARTID = 0x200000
    DETACHED = 0x400000
    UNTRACED = 0x800000
    CHILD_SETTID = 0x1000000
    NEWCGROUP = 0x2000000
    NEWUTS = 0x4000000
    NEWIPC = 0x8000000
    NEWUSER = 0x10000000
    NEWPID = 0x20000000
    NEWNET = 0x40000000
    IO = 0x80000000
    CLEAR_SIGHAND = 0x100000000
    INTO_CGROUP = 0x200000000


_unshare = Call("unshare", flags=INT.of(CloneFlag))


def unshare(flags: int) -> None:
    """Move the calling thread (for NEWUSER, FS and so on: process) into new namespaces.

    Raises:
        OSError: EPERM without CAP_SYS_ADMIN, or NEWUSER in a chroot; EINVAL unknown flags, or NEWUSER, VM, SIGHAND
            or THREAD with more than one thread; ENOSPC or EUSERS for a limit on namespaces; ENOMEM.

    Source: unshare(2), ERRORS.
    """
    _unshare(_signed(flags))


def _signed(flags: int) -> int:
    # The parameter is an int, and CLONE_IO its sign bit. What does not fit 32 bits, Call refuses.
    return flags - 2**32 if 2**31 <= flags < 2**32 else flags


_setns = Call("setns", fd=INT, nstype=INT.of(CloneFlag))


def setns(fd: int, nstype: int = 0) -> None:
    """Join the namespace that a /proc/PID/ns file stands for, or with a pidfd those of the process.

    Raises:
        OSError: EBADF; EINVAL (the descriptor is none of a namespace or not of this type; NEWUSER with threads, or
            the namespace the caller is in already; NEWNS or NEWUSER while the file system state is shared); EPERM;
            ESRCH (the process of the pidfd is gone).

    Source: setns(2), ERRORS.
    """
    _setns(fd, _signed(nstype))


class Cloned(NamedTuple):
    """What clone3 returned in the parent (pid > 0) or in the child (pid 0)."""

    pid: int
    pidfd: int | None


_SIGCHLD = 17  # signal would cost 4 ms at every import
_clone3 = Call("clone3", arguments=BYTES, size=ULONG)
_SHARED_WITH_CHILD = CloneFlag.VM | CloneFlag.THREAD | CloneFlag.SIGHAND | CloneFlag.SETTLS


def clone3(
    flags: int,
    *,
    exit_signal: int = _SIGCHLD,
    cgroup_fd: int = 0,
    set_tid: tuple[int, ...] = (),
    tasks: Path | None = "/proc/self/task",
) -> Cloned:
    """Make a child process as fork does, in new namespaces or another cgroup.

    No handler of os.register_at_fork runs, and the C library does not hear of the child either. So the child may do
    no more than os.exec* or os._exit, with system calls between; and the caller must have a single thread, else a
    lock that another thread held stays locked in the child for ever.

    Args:
        flags: CloneFlag. PIDFD gives a pidfd, close-on-exec, which the caller closes.
        exit_signal: number of the signal the parent gets; 0 for none.
        cgroup_fd: with INTO_CGROUP, an open directory of a v2 hierarchy.
        set_tid: PIDs for the child, innermost PID namespace first.
        tasks: directory with an entry for each thread of this process; None: it is such a child itself, with one.

    Raises:
        OSError: EAGAIN (a limit on processes), EBUSY and EOPNOTSUPP (the cgroup cannot take processes), EEXIST and
            EINVAL (set_tid), EPERM, ENOSPC (a limit on namespaces), ENOSYS before Linux 5.3.
        ValueError: VM, THREAD, SIGHAND or SETTLS: Python cannot run in such a child.
        RuntimeError: the process has more than one thread.

    Source: clone(2), ERRORS.
    """
    if flags & _SHARED_WITH_CHILD:
        shared = flag_names(CloneFlag, flags & _SHARED_WITH_CHILD)
        raise ValueError(f"clone3: {shared} would share memory or signal handlers of this Python with the child")
    if tasks is not None and len(os.listdir(tasks)) != 1:
        raise RuntimeError("clone3: the process has more than one thread, so its child could deadlock")
    return _clone3_single_threaded(flags, exit_signal, cgroup_fd, set_tid)


def _clone3_single_threaded(flags: int, exit_signal: int, cgroup_fd: int, set_tid: tuple[int, ...]) -> Cloned:
    pidfd = bytearray(4)
    tids = bytearray(struct.pack(f"={len(set_tid)}i", *set_tid))
    arguments = struct.pack(
        "=11Q",
        flags,
        address_of(pidfd) if flags & CloneFlag.PIDFD else 0,
        0,  # child_tid
        0,  # parent_tid
        exit_signal,
        0,  # stack: a copy of the caller's, as after fork
        0,  # stack_size
        0,  # tls
        address_of(tids) if set_tid else 0,
        len(set_tid),
        cgroup_fd,
    )
    try:
        pid = _clone3(arguments, len(arguments))
    except OSError as error:
        error.add_note(f"flags={flag_names(CloneFlag, flags)}, exit_signal={exit_signal}, set_tid={set_tid}")
        raise
    return Cloned(pid, struct.unpack("=i", pidfd)[0] if pid and flags & CloneFlag.PIDFD else None)
