"""Who a process is, so that another one that was given its pid later is never taken for it.

pid and start time name a process for one boot; the inode of its pidfd (since Linux 6.9, where each process has its own)
says the same without the clock's coarseness. All three are in a container's state, and all are compared.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Sequence

_START_TIME = 22  # field of proc_pid_stat(5)
_STATE = 3
_GONE = frozenset("ZXx")


class Identity:
    """A process: its pid in the runtime's PID namespace, its start time in ticks, the inode of its pidfd."""

    __slots__ = ("inode", "pid", "start_time")

    def __init__(self, pid: int, start_time: int, inode: int) -> None:
        self.pid = pid
        self.start_time = start_time
        self.inode = inode

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and self.values() == other.values()

    def __hash__(self) -> int:
        return hash(self.values())

    def __repr__(self) -> str:
        return f"Identity(pid={self.pid}, start_time={self.start_time}, inode={self.inode})"

    def values(self) -> tuple[int, int, int]:
        """The three numbers."""
        return self.pid, self.start_time, self.inode


def parse_stat(text: str) -> Sequence[str]:
    """The fields of /proc/PID/stat, the first two as one: a name may hold blanks and parentheses.

    >>> parse_stat("7 (a) b) S 1 7")[0], parse_stat("7 (a) b) S 1 7")[1]
    ('7 (a) b', 'S')
    """
    name, _, rest = text.rpartition(")")
    return [name, *rest.split()]


def read_identity(pid: int, pidfd: int, *, proc: str = "/proc") -> Identity:
    """The identity of a process that is alive or not yet waited for.

    Raises:
        OSError: ENOENT, ESRCH: it is gone.
    """
    with open(f"{proc}/{pid}/stat", encoding="utf-8", errors="replace") as file:
        fields = parse_stat(file.read())
    return Identity(pid, int(fields[_START_TIME - 2]), os.fstat(pidfd).st_ino)


def open_process(identity: Identity, *, proc: str = "/proc") -> int | None:
    """A pidfd of the process, which the caller closes; None if it has ended, or its pid is another process's by now.

    A process that ended but was not waited for has ended.
    """
    if identity.pid <= 0:
        return None
    try:
        pidfd = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return None
    try:
        # In this order: what is read belongs to the process of the pidfd, or that one is dead and found to be.
        with open(f"{proc}/{identity.pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = parse_stat(file.read())
    except (FileNotFoundError, ProcessLookupError):
        os.close(pidfd)
        return None
    same = int(fields[_START_TIME - 2]) == identity.start_time and os.fstat(pidfd).st_ino == identity.inode
    if same and fields[_STATE - 2] not in _GONE:
        return pidfd
    os.close(pidfd)
    return None
