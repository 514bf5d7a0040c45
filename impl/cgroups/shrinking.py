"""Room for a memory limit below what is in use: taken back first, so that nobody is killed for it.

Source: cgroup-v2.rst, memory.high, memory.max.
"""

from __future__ import annotations

import select
import time

from kernelproof.impl.cgroups.controllers.memory import check_bytes, usage_v2
from kernelproof.impl.cgroups.directory import Directory
from kernelproof.impl.cgroups.errors import BelowUsageError, NoControllerError

_PAUSE_MILLISECONDS = 10


def make_room(directory: Directory, limit_bytes: int, timeout_seconds: float = 10.0) -> None:
    """Have the kernel take memory back by a lower memory.high until a limit fits; memory.high is put back then.

    Args:
        directory: of version 2, with the memory controller.
        limit_bytes: what usage has to come down to; -1 needs no room.
        timeout_seconds: until it is given up.

    Raises:
        LimitError: not a number of bytes.
        NoControllerError: version 1, or no memory controller.
        BelowUsageError: more stays in use until the deadline; memory.high is what it was.
        OSError: EACCES.
    """
    check_bytes("memory_max_bytes", limit_bytes)
    before = directory.read_or_none("memory.high")
    usage = usage_v2(directory.read_or_none)
    if before is None or usage is None:
        raise NoControllerError(f"{directory.path} has no memory.high")
    if limit_bytes < 0 or usage <= limit_bytes:
        return
    deadline = time.monotonic() + timeout_seconds
    try:
        while True:
            directory.write("memory.high", str(limit_bytes))  # the kernel takes back what it can before it returns
            usage = usage_v2(directory.read_or_none) or 0
            if usage <= limit_bytes:
                return
            if time.monotonic() >= deadline:
                raise BelowUsageError("memory_max_bytes", limit_bytes, usage)
            select.poll().poll(_PAUSE_MILLISECONDS)
    finally:
        directory.write("memory.high", before.strip())
