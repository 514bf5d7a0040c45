"""Removes a container's cgroup when nothing is in it any more, on hosts that have version 2 of cgroups alone.

`impl.cgroups` removes any, with what is in it and below it, on any host; to load its modules takes longer than all else
that `delete` does. This is not for anything but the usual end: where it is not that, nothing is done.

Source: cgroup-v2, "Organizing Processes and Threads"; proc_pid_mountinfo(5).
"""

from __future__ import annotations

import os

from kernelproof.impl.libcontainer.frozen import unescape


def remove_empty(name: str, *, proc: str = "/proc") -> bool:
    """Removes a cgroup without processes and children; whether it did.

    Args:
        name: its path from the mount point.
        proc: where procfs is.

    Raises:
        OSError: no procfs.
    """
    with open(f"{proc}/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        place = only_hierarchy(file.read())
    if place is None or ".." in name.split("/"):
        return False
    point, device = place
    try:
        found = os.stat(point).st_dev
        if device != f"{os.major(found)}:{os.minor(found)}":  # something else is mounted above it
            return False
        os.rmdir(f"{point}/{name}")
    except OSError:  # who asked goes the long way, and is told there
        return False
    return True


def only_hierarchy(mountinfo: str) -> tuple[str, str] | None:
    """The mount point of the hierarchy of version 2, and its device; None if there are others, or several mounts of it.

    >>> only_hierarchy("31 2 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw")
    ('/sys/fs/cgroup', '0:28')
    """
    found = None
    for line in mountinfo.split("\n"):
        front, _, back = line.partition(" - ")
        if back.startswith("cgroup"):
            fields = front.split(" ")
            if found is not None or not back.startswith("cgroup2 ") or fields[3] != "/":
                return None
            found = (unescape(fields[4]), fields[2])
    return found
