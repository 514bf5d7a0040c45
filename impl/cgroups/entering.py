"""A process moved into a cgroup: in every hierarchy, and again while it is still being made.

A task that fork(2) has made and not yet woken can't be moved by some kernels: the cpu controller answers EINVAL. It is
over within milliseconds, so the write is done again until a deadline; a process that ends meanwhile ends the waiting.
Better than that is to be born in the cgroup (`birth`).

Source: opencontainers/cgroups, utils.go; kernel/sched/core.c, cpu_cgroup_can_attach, TASK_NEW.
"""

from __future__ import annotations

import errno
import os
import select
import time

from kernelproof.impl._syscalls.suppressing import suppress
from kernelproof.impl.cgroups import enabling
from kernelproof.impl.cgroups.directory import Directory
from kernelproof.impl.cgroups.errors import NoControllerError
from kernelproof.impl.cgroups.placing import TIMEOUT_SECONDS, Place

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import ExitStack
else:
    from kernelproof.impl._syscalls.unwinding import ExitStack

_PAUSE_MILLISECONDS = 5
_MOST_CPUS = 8192  # the most that Linux is built for (opencontainers/runc#5025); CPUs behind the end are forbidden


def enter(places: Iterable[Place], pid: int, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
    """Move a process into a cgroup, with all of its threads, in every hierarchy.

    Args:
        places: the cgroup.
        pid: 0 is the caller.
        timeout_seconds: how long EINVAL is taken for a task that is just being made.

    Raises:
        ValueError: a negative number.
        OSError: ESRCH: no such process; EACCES: not allowed, with a note of which directory; EBUSY: version 2, and the
            cgroup gives controllers on; EAGAIN; EINVAL until the deadline; EOPNOTSUPP: an invalid domain. Hierarchies
            that took it already keep it: a note names them.
    """
    if pid < 0:
        raise ValueError(f"process ID {pid} is negative")
    done: list[str] = []
    for place in places:
        try:
            write_pid(place.directory, pid, timeout_seconds)
        except OSError as error:
            _explain(error, pid, place, done)
            raise
        done.append(place.hierarchy.mount_point)


def write_pid(directory: Directory, pid: int, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
    """Write a process ID to cgroup.procs, again while it is refused with EINVAL; errors as `enter`."""
    try:
        return directory.write("cgroup.procs", str(pid))
    except OSError as error:
        if error.errno != errno.EINVAL or pid == 0:
            raise
        refused = error
    deadline = time.monotonic() + timeout_seconds
    with ExitStack() as opened:
        ended = select.poll()
        with suppress(OSError):  # of a thread, or one that is gone: the next write says so
            fd = os.pidfd_open(pid)
            opened.callback(os.close, fd)
            ended.register(fd, select.POLLIN)
        while time.monotonic() < deadline:
            ended.poll(_PAUSE_MILLISECONDS)
            try:
                return directory.write("cgroup.procs", str(pid))
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                refused = error
    refused.add_note(f"for {timeout_seconds} s, longer than a task is being made")
    raise refused


def widen_affinity(directory: Directory, pid: int) -> frozenset[int]:
    """Let a process use all CPUs of its cpuset.

    A process that was bound to some CPUs keeps to those of them that its new cpuset has, also when there are more.
    Afterwards it is bound to none: what its cpuset gets later is its too.

    Args:
        directory: the cpuset, of either version.
        pid: 0 is the caller.

    Returns:
        The CPUs that it may use now.

    Raises:
        NoControllerError: no cpuset there.
        OSError: ESRCH; EPERM: another user's process.

    Source: sched_setaffinity(2); cpuset(7); opencontainers/runc#4041.
    """
    text = directory.read_or_none("cpuset.cpus.effective") or directory.read_or_none("cpuset.effective_cpus")
    if text is None:
        raise NoControllerError(f"{directory.path} has no cpuset.cpus.effective")
    use_all_cpus(pid)
    return frozenset(os.sched_getaffinity(pid))


def use_all_cpus(pid: int) -> None:
    """Binds a process to no CPU: of all that it asks for, the kernel gives what its cpuset has.

    Raises:
        OSError: ESRCH; EPERM: another user's process.
    """
    os.sched_setaffinity(pid, range(_MOST_CPUS))


def _explain(error: OSError, pid: int, place: Place, done: list[str]) -> None:
    error.add_note(f"moving process {pid} into {place.directory.path}")
    if error.errno == errno.EBUSY and place.hierarchy.version == 2:
        given = ", ".join(enabling.enabled(place.directory))
        error.add_note(f"the cgroup gives {given} to those below it, so it may hold no processes: use one below it")
    elif error.errno == errno.ENOSPC:
        error.add_note("its cpuset.cpus or cpuset.mems is empty: write them first")
    elif error.errno == errno.EOPNOTSUPP:
        error.add_note("the cgroup is in a threaded subtree: only threads of its domain's processes can enter")
    elif error.errno == errno.ESRCH:
        error.add_note("the process has ended, or is in another PID namespace")
    elif error.errno in (errno.EACCES, errno.EPERM):
        error.add_note("cgroup.procs of the cgroup and of the nearest common ancestor must be this user's to write")
    if done:
        error.add_note(f"the process is in the cgroup already in {', '.join(done)}")
