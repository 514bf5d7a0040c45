"""Killing all of a cgroup, and removing it: until nobody is left, and by a deadline.

Source: cgroup-v2.rst, cgroup.kill; Organizing Processes and Threads; cgroups(7).
"""

from __future__ import annotations

import errno
import os
import time

from kernelproof.impl._syscalls.suppressing import suppress
from kernelproof.impl.cgroups.directory import Directory, Path
from kernelproof.impl.cgroups.errors import StillBusyError
from kernelproof.impl.cgroups.freezing import freeze, thaw
from kernelproof.impl.cgroups.waiting import wait_until_event, wait_until_gone

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from collections.abc import Iterable

_SIGKILL = 9  # the module signal costs 4 ms


def kill(directory: Directory, timeout_seconds: float = 10.0, *, freezer: Directory | None = None) -> None:
    """Kill every process of a cgroup and of those below, those that are being forked too, and wait for their end.

    Args:
        directory: the cgroup.
        timeout_seconds: until an error is raised.
        freezer: on version 1 the same cgroup in the freezer hierarchy, if there is one: what is frozen can't fork.

    Raises:
        StillBusyError: processes are left, with their states; those in state D end when the device answers.
        OSError: EPERM: a process of another user.
    """
    deadline = time.monotonic() + timeout_seconds
    is_v2 = directory.version == 2
    done = _kill_v2(directory, deadline) if is_v2 else _kill_frozen(directory, freezer, deadline)
    if not done and (left := all_processes(directory)):
        raise StillBusyError(errno.EBUSY, directory.path, describe(left), timeout_seconds)


def _kill_v2(directory: Directory, deadline: float) -> bool:
    try:
        directory.write("cgroup.kill", "1")
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EOPNOTSUPP):  # before Linux 5.14; a threaded cgroup
            raise
        return _kill_frozen(directory, directory, deadline)
    return wait_until_event(directory, "populated", 0, deadline)


def _kill_frozen(directory: Directory, freezer: Directory | None, deadline: float) -> bool:
    # Frozen processes do not fork, so one round gets all. Without a freezer it takes as many rounds as there are forks
    # in flight: each round kills all that are there, and a fork that is in flight belongs to a process that is killed.
    while pids := all_processes(directory):
        if freezer is not None:
            with suppress(TimeoutError):
                freeze(freezer, max(deadline - time.monotonic(), 0))
            pids = all_processes(directory) or pids
        try:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, _SIGKILL)
        finally:
            if freezer is not None:
                thaw(freezer, max(deadline - time.monotonic(), 0.1))
        if not wait_until_gone(pids, deadline):
            return False
    return True


def all_processes(directory: Directory) -> tuple[int, ...]:
    """Processes of a cgroup and of all that are below it; what is removed meanwhile is left out.

    A threaded cgroup lists no processes but threads: who has one there counts.
    """
    found: set[int] = set()
    with suppress(OSError):
        found.update(_processes(directory))
    with suppress(FileNotFoundError):
        for parts in directory.descend():
            with suppress(OSError), directory.child("/".join(parts)) as below:
                found.update(_processes(below))
    return tuple(sorted(found - {0}))


def _processes(directory: Directory) -> Iterable[int]:
    try:
        return directory.processes()
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
    return [pid for tid in directory.threads() if (pid := process_of(tid))]


def process_of(tid: int, *, proc: Path = "/proc") -> int:
    """The process that a thread is of; 0 if it has ended."""
    try:
        with open(os.path.join(proc, str(tid), "status"), encoding="utf-8", errors="replace") as file:
            return int(next(line for line in file if line.startswith("Tgid:")).split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def remove(parent: Directory, name: str, timeout_seconds: float = 5.0) -> None:
    """Remove a cgroup with all that are below it, the lowest first; waits until their processes have ended.

    That somebody else removes one of them meanwhile is no error.

    Args:
        parent: the cgroup that it is in.
        name: its name there.
        timeout_seconds: until an error is raised.

    Raises:
        StillBusyError: processes are inside.
        OSError: EACCES, EROFS, and EBUSY for another reason than processes.
    """
    deadline = time.monotonic() + timeout_seconds
    try:
        return parent.remove_child(name)  # most have neither children nor processes any more
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOENT):
            raise
    try:
        cgroup = parent.child(name)
    except FileNotFoundError:
        return None
    with cgroup:
        for parts in list(cgroup.descend()):
            with (
                suppress(FileNotFoundError),
                cgroup.child("/".join(parts[:-1])) if parts[:-1] else cgroup.duplicate() as above,
            ):
                _remove_one(above, parts[-1], deadline, timeout_seconds)
    return _remove_one(parent, name, deadline, timeout_seconds)


def _remove_one(parent: Directory, name: str, deadline: float, timeout_seconds: float) -> None:
    while True:
        try:
            return parent.remove_child(name)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            busy = error
        with parent.child(name) as cgroup:
            pids = all_processes(cgroup)
            if cgroup.version == 2 and pids:
                ended = wait_until_event(cgroup, "populated", 0, deadline)
            else:
                ended = bool(pids) and wait_until_gone(pids, deadline)
            if not ended or time.monotonic() >= deadline:
                left = describe(all_processes(cgroup))
                if not left and not pids:
                    raise busy
                raise StillBusyError(errno.EBUSY, cgroup.path, left, timeout_seconds)


def describe(pids: tuple[int, ...], *, proc: Path = "/proc", most: int = 20) -> tuple[tuple[int, str, str], ...]:
    """State and name of processes, for messages; those that are gone are left out."""
    found = []
    for pid in pids[:most]:
        with suppress(OSError), open(os.path.join(proc, str(pid), "stat"), encoding="utf-8", errors="replace") as file:
            name, _, rest = file.read().partition(" (")[2].rpartition(") ")
            found.append((pid, rest[:1], name))
    return tuple(found)
