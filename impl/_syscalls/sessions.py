"""Sessions and process groups: setsid(2) and setpgid(2). os has both; here errors name the call."""

from __future__ import annotations

from kernelproof.impl._syscalls.libc import INT, Call

_setsid = Call("setsid")
_setpgid = Call("setpgid", pid=INT, pgid=INT)


def setsid() -> int:
    """Make the process leader of a new session and of a new process group, and return its id.

    Raises:
        OSError: EPERM it leads a process group already.

    Source: setsid(2), ERRORS.
    """
    return _setsid()


def setpgid(pid: int, pgid: int) -> None:
    """Move a process to a process group.

    Args:
        pid: of the caller or of a child; 0 the caller.
        pgid: the group; 0 one of its own.

    Raises:
        OSError: EACCES the child has called execve; EINVAL pgid is negative; EPERM the process leads a session or is
            in another one, or there is no such group in the session; ESRCH neither the caller nor a child.

    Source: setpgid(2), ERRORS.
    """
    _setpgid(pid, pgid)
