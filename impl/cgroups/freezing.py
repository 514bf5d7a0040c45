"""Freezing and thawing: every process of a cgroup and of those below stops, and goes on.

Version 2 says by an event when all have stopped. On version 1 a state of FREEZING may last while processes fork or are
being traced: the state is written again until it is FROZEN. What could not be frozen in time is thawed.

Source: cgroup-v2.rst, cgroup.freeze; cgroup-v1/freezer-subsystem.rst.
"""

from __future__ import annotations

import errno
import os
import select
import time

from kernelproof.impl.cgroups.directory import Directory
from kernelproof.impl.cgroups.thawing import thawed_at_death
from kernelproof.impl.cgroups.waiting import wait_until_event

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import contextmanager, nullcontext
else:
    from kernelproof.impl._syscalls.unwinding import contextmanager, nullcontext

FROZEN, FREEZING, THAWED = "FROZEN", "FREEZING", "THAWED"

_LEAST_WAIT_MILLISECONDS = 1
_MOST_WAIT_MILLISECONDS = 20


def is_frozen(directory: Directory) -> bool:
    """Whether all processes have stopped.

    Raises:
        OSError: ENOENT: the root, or no freezer.
    """
    if directory.version == 2:
        words = dict(line.split() for line in directory.read("cgroup.events").splitlines())
        return words.get("frozen") == "1"
    return directory.read("freezer.state").strip() == FROZEN


def freeze(directory: Directory, timeout_seconds: float = 10.0) -> None:
    """Freeze a cgroup with all that is below it, and wait until it is.

    Args:
        directory: of version 2, or of the freezer hierarchy.
        timeout_seconds: until it is thawed again and an error raised.

    Raises:
        OSError: ETIMEDOUT: not all processes stopped in time; ENOENT: the root can't be frozen.
    """
    deadline = time.monotonic() + timeout_seconds
    try:
        done = _freeze_v2(directory, deadline) if directory.version == 2 else _freeze_v1(directory, deadline)
    except BaseException:
        _write_thaw(directory)
        raise
    if not done:
        _write_thaw(directory)
        error = TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT), directory.path)
        error.add_note(f"not all processes were frozen within {timeout_seconds} s; the cgroup is thawed again")
        raise error


def thaw(directory: Directory, timeout_seconds: float = 10.0) -> None:
    """Let a cgroup go on, and wait until it does.

    Raises:
        OSError: ETIMEDOUT: an ancestor is frozen, so that it does not; ENOENT: the root.
    """
    _write_thaw(directory)
    deadline = time.monotonic() + timeout_seconds
    if directory.version == 2:
        done = wait_until_event(directory, "frozen", 0, deadline)
    else:
        done = _ask_until(directory, THAWED, deadline)
    if not done:
        error = TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT), directory.path)
        error.add_note("still frozen: an ancestor is")
        raise error


@contextmanager
def frozen(directory: Directory, timeout_seconds: float = 10.0, *, survives: bool = False) -> Iterator[None]:
    """Freeze for the block of a `with`; whatever happens in it, the cgroup is thawed after.

    Args:
        directory: of version 2, or of the freezer hierarchy.
        timeout_seconds: for freezing, and again for thawing.
        survives: it is thawed too should this process be killed in the block: a small process of its own sees to it,
            which takes some 20 ms to start.

    Raises:
        OSError: as `freeze` and `thaw`, and what `thawing.thawed_at_death` needs.
    """
    with thawed_at_death(directory) if survives else nullcontext():
        freeze(directory, timeout_seconds)
        try:
            yield
        finally:
            thaw(directory, timeout_seconds)


def _freeze_v2(directory: Directory, deadline: float) -> bool:
    directory.write("cgroup.freeze", "1")
    return wait_until_event(directory, "frozen", 1, deadline)


def _freeze_v1(directory: Directory, deadline: float) -> bool:
    return _ask_until(directory, FROZEN, deadline, write=FROZEN)


def _ask_until(directory: Directory, wanted: str, deadline: float, write: str | None = None) -> bool:
    # The kernel has no event for it: asked in growing intervals, until the deadline.
    nothing, wait = select.poll(), _LEAST_WAIT_MILLISECONDS
    while True:
        if write is not None:
            directory.write("freezer.state", write)
        if directory.read("freezer.state").strip() == wanted:
            return True
        left = (deadline - time.monotonic()) * 1000
        if left <= 0:
            return False
        nothing.poll(min(wait, left))
        wait = min(2 * wait, _MOST_WAIT_MILLISECONDS)


def _write_thaw(directory: Directory) -> None:
    if directory.version == 2:
        directory.write("cgroup.freeze", "0")
    else:
        directory.write("freezer.state", THAWED)
