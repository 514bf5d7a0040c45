"""ptrace(2), as far as one process attaches to another and leaves it again."""

from __future__ import annotations

from kernelproof.impl._syscalls.libc import INT, LONG, ULONG, Call

PTRACE_ATTACH = 16
PTRACE_DETACH = 17

_ptrace = Call("ptrace", raw=True, request=LONG, pid=INT, address=ULONG, data=ULONG)


def attach(pid: int) -> None:
    """Become a process's tracer; it stops, which the caller waits for.

    Raises:
        OSError: EPERM (another tracer, or a security module forbids it), ESRCH.

    Source: ptrace(2), PTRACE_ATTACH and ERRORS.
    """
    _ptrace(PTRACE_ATTACH, pid, 0, 0)


def detach(pid: int) -> None:
    """Let a stopped process that the caller traces go on without it.

    Raises:
        OSError: ESRCH: it is not stopped, or the caller is not its tracer.

    Source: ptrace(2), PTRACE_DETACH and ERRORS.
    """
    _ptrace(PTRACE_DETACH, pid, 0, 0)
