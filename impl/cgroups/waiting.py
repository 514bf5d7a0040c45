"""Waiting for a cgroup on its own events: `cgroup.events` wakes poll(2) by POLLPRI when a line of it changes.

Version 1 has no such file. There a process is waited for by its pidfd, and the freezer is asked again and again.

Source: cgroup-v2.rst, Core Interface Files, cgroup.events; pidfd_open(2).
"""

from __future__ import annotations

import errno
import os
import select
import time

from kernelproof.impl.cgroups.directory import Directory
from kernelproof.impl.cgroups.formats import parse_flat

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from collections.abc import Iterable

_READ_BYTES = 4096


def read_events(directory: Directory) -> dict[str, int]:
    """The lines of `cgroup.events`: `populated`, and `frozen` from Linux 5.2 on.

    Raises:
        OSError: ENOENT: the root, or version 1; ENODEV: it was removed.
    """
    return parse_flat(directory.read("cgroup.events"), "cgroup.events")


def wait_until_event(directory: Directory, name: str, value: int, deadline: float) -> bool:
    """Wait until a line of `cgroup.events` has a value; a cgroup that was removed is neither populated nor frozen.

    Args:
        directory: of version 2.
        name: "populated" or "frozen".
        value: 0 or 1.
        deadline: by the monotonic clock.

    Returns:
        False if the deadline passed first.

    Raises:
        OSError: ENOENT: the root has no such file.
    """
    fd = directory.open_file("cgroup.events")
    try:
        changed = select.poll()
        changed.register(fd, select.POLLPRI)
        while True:
            try:
                events = parse_flat(os.pread(fd, _READ_BYTES, 0).decode(), "cgroup.events")
            except OSError as error:
                if error.errno != errno.ENODEV:
                    raise
                events = {}
            if events.get(name, 0) == value:
                return True
            if not events:
                return False
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            changed.poll(left * 1000)
    finally:
        os.close(fd)


def wait_until_gone(pids: Iterable[int], deadline: float) -> bool:
    """Wait until processes ended; zombies have.

    Args:
        pids: in this process's PID namespace.
        deadline: by the monotonic clock.

    Returns:
        False if the deadline passed first.

    Raises:
        OSError: EMFILE, ENFILE.
    """
    fds = []
    try:
        for pid in pids:
            try:
                fds.append(os.pidfd_open(pid))
            except ProcessLookupError:
                continue
            except OSError as error:
                if error.errno != errno.EINVAL:  # of a thread that is no process's first
                    raise
        for fd in fds:
            ended = select.poll()
            ended.register(fd, select.POLLIN)
            left = deadline - time.monotonic()
            if not ended.poll(max(left, 0) * 1000):
                return False
    finally:
        for fd in fds:
            os.close(fd)
    return True
