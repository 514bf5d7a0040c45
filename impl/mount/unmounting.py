"""Taking mounts off: one, or a tree in the right order, at once or until a deadline.

Nothing is looked up before: the call is made, and its errno read. Lazy is only what is asked to be lazy, since a mount
that is merely out of sight keeps its device, its server and its files.
"""

from __future__ import annotations

import errno
import os
import select
import threading
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress

from kernelproof.impl._syscalls.mount import UnmountFlag, umount2
from kernelproof.impl.mount.classic import mounted
from kernelproof.impl.mount.errors import OptionError, StillMountedError
from kernelproof.impl.mount.holders import Holder, find_holders, find_holders_by_name
from kernelproof.impl.mount.point import MISSING
from kernelproof.impl.mount.records import Mount
from kernelproof.impl.mount.table import MountTable, Path

_SHORTEST_WAIT_SECONDS = 0.02  # a file that is closed tells nobody: what can't be waited for is looked at again
_LONGEST_WAIT_SECONDS = 0.5
_HOLDERS_SECONDS = 1.0  # of a search after the deadline: that of a machine with thousands of processes


def unmount(
    target: Path,
    *,
    lazy: bool = False,
    force: bool = False,
    expire: bool = False,
    follow: bool = False,
    timeout_seconds: float | None = None,
) -> bool:
    """Take the topmost mount off a path; a path that is no mount point is left alone.

    Args:
        target: the mount point.
        lazy: out of sight now, gone when nobody uses it any more (MNT_DETACH).
        force: break off what a server does not answer (MNT_FORCE); few filesystems know it.
        expire: only if it was marked by such a call before and not used since; else mark it.
        follow: take a symbolic link for what it leads to.
        timeout_seconds: how long to try while it is busy, and to wait for a call that does not return; None: once,
            and as long as the call takes.

    Returns:
        Whether something was unmounted.

    Raises:
        StillMountedError: EBUSY at the deadline, or ETIMEDOUT if the call did not return by then; with the holders,
            which are looked for a second at most where the call did not return.
        OSError: EBUSY in use; EAGAIN marked as expired now; EINVAL a mount that is locked; EPERM; ELOOP.
        OptionError: expire together with lazy or force.

    Source: umount(2).
    """
    try:
        force_unmount(target, lazy=lazy, force=force, expire=expire, follow=follow, timeout_seconds=timeout_seconds)
    except OSError as error:
        gone = error.errno in MISSING or (error.errno == errno.EINVAL and not _is_mounted(target, follow))
        if gone:
            return False
        raise
    return True


def _is_mounted(target: Path, follow: bool) -> bool:
    return mounted(os.path.realpath(target) if follow else target)


def force_unmount(
    target: Path,
    *,
    lazy: bool = False,
    force: bool = False,
    expire: bool = False,
    follow: bool = False,
    timeout_seconds: float | None = 1.0,
) -> None:
    """Take the topmost mount off a path, and fail if there is none.

    Args:
        target, lazy, force, expire, follow: as for unmount.
        timeout_seconds: as for unmount; one second, as in 2014.

    Raises:
        StillMountedError: as unmount.
        OSError: as unmount; and EINVAL no mount point; ENOENT, ENOTDIR no such path.
        OptionError: as unmount.
    """
    if expire and (lazy or force):
        raise OptionError(
            "expire marks a mount that nobody uses; it goes with neither lazy nor force (umount(2), EINVAL)"
        )
    flags = UnmountFlag(0) if follow else UnmountFlag.NOFOLLOW
    for wanted, flag in ((lazy, UnmountFlag.DETACH), (force, UnmountFlag.FORCE), (expire, UnmountFlag.EXPIRE)):
        flags |= flag if wanted else UnmountFlag(0)
    if timeout_seconds is None:
        _unmount_once(target, flags)
    else:
        _unmount_until(target, flags, timeout_seconds)


def _unmount_once(target: Path, flags: UnmountFlag) -> None:
    try:
        umount2(target, flags)
    except OSError as error:
        if error.errno == errno.EINVAL:
            error.add_note("no mount point, or a mount that came from another user namespace and is locked here")
        raise


def _unmount_until(target: Path, flags: UnmountFlag, timeout_seconds: float) -> None:
    start = time.monotonic()
    deadline = start + timeout_seconds
    holders: tuple[Holder, ...] | None = None
    wait = _SHORTEST_WAIT_SECONDS
    while True:
        error = _call_within(target, flags, start, deadline)
        if error is None:
            return
        if error.errno != errno.EBUSY:
            raise error
        now = time.monotonic()
        if now >= deadline:
            raise StillMountedError(
                errno.EBUSY, os.fspath(target), find_holders(target), waited_seconds=now - start
            ) from error
        holders = find_holders(target) if holders is None else holders
        _wait_until_released(holders, min(wait, deadline - now))
        wait = min(2 * wait, _LONGEST_WAIT_SECONDS)


def _call_within(target: Path, flags: UnmountFlag, start: float, deadline: float) -> OSError | None:
    """Unmount on a thread of its own: a server that does not answer holds that one, and not the caller."""
    refusals: list[OSError] = []
    done = os.eventfd(0, os.EFD_CLOEXEC)

    def work() -> None:
        try:
            _unmount_once(target, flags)
        except OSError as error:
            refusals.append(error)
        finally:
            os.eventfd_write(done, 1)

    thread = threading.Thread(target=work, daemon=True, name=f"unmount {os.fspath(target)}")
    thread.start()
    poll = select.poll()
    poll.register(done, select.POLLIN)
    # A deadline that has passed leaves the call a moment: most answer at once.
    ready = poll.poll(max(deadline - time.monotonic(), 0.1) * 1000)
    if not ready:
        # The descriptor stays open: the thread still writes to it.
        waited = time.monotonic() - start
        holders = _holders_within(target, flags)
        raise StillMountedError(errno.ETIMEDOUT, os.fspath(target), holders, waited_seconds=waited) from None
    thread.join()
    os.close(done)
    return refusals[0] if refusals else None


def _holders_within(target: Path, flags: UnmountFlag) -> tuple[Holder, ...]:
    """Look for holders on a thread too: what holds the call may hold whoever looks at the mount's files."""
    found: list[tuple[Holder, ...]] = []

    def work() -> None:
        path = os.path.abspath(target)
        above, name = os.path.split(path)
        with suppress(OSError):
            is_followed = not flags & UnmountFlag.NOFOLLOW
            path = os.path.realpath(path) if is_followed else os.path.join(os.path.realpath(above), name)
            found.append(find_holders_by_name(path))

    thread = threading.Thread(target=work, daemon=True, name=f"holders of {os.fspath(target)}")
    thread.start()
    thread.join(_HOLDERS_SECONDS)
    return found[0] if found else ()


def _wait_until_released(holders: Iterable[Holder], seconds: float) -> None:
    """Wait until a holder ends or the mount table changes, but not longer than that."""
    with ExitStack() as opened:
        poll = select.poll()
        table = opened.enter_context(open("/proc/thread-self/mountinfo", "rb"))
        poll.register(table, select.POLLPRI)
        for pid in {holder.pid for holder in holders if holder.pid not in (None, os.getpid())}:
            with suppress(OSError):
                pidfd = os.pidfd_open(pid or 0)
                opened.callback(os.close, pidfd)
                poll.register(pidfd, select.POLLIN)
        poll.poll(seconds * 1000)


def unmount_recursive(
    target: Path, *, lazy: bool = False, force: bool = False, timeout_seconds: float | None = None
) -> tuple[str, ...]:
    """Unmount all that is mounted at a path and below it, the last first.

    Args:
        target: a path; it need not be a mount point.
        lazy, force: as for unmount.
        timeout_seconds: for all of it together.

    Returns:
        The mount points, in the order in which they were unmounted.

    Raises:
        StillMountedError: as unmount.
        OSError: as unmount. A note says what was unmounted before.
    """
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    done: list[str] = []
    for mount in plan_unmounts(MountTable.read(), os.path.realpath(target)):
        left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
        try:
            if unmount(mount.mount_point, lazy=lazy, force=force, timeout_seconds=left):
                done.append(mount.mount_point)
        except OSError as error:
            error.add_note(f"unmounted before that: {', '.join(done) or 'nothing'}")
            raise
    return tuple(done)


recursive_unmount = unmount_recursive  # the name of 2015


def plan_unmounts(table: MountTable, path: Path) -> tuple[Mount, ...]:
    """Return the mounts at a path and below it in an order in which each can be unmounted.

    What is on a mount comes before it; and of the mounts on one mount those with the shorter path first, as they may
    hide others.
    """
    chosen = table.below(path)
    ids = {mount.id for mount in chosen}
    waiting = [mount for mount in chosen if mount.parent_id not in ids or mount.parent_id == mount.id]
    waiting.sort(key=lambda mount: len(mount.mount_point))
    order: list[Mount] = []
    # Depth first without recursion: a mount is put down a second time below its children.
    stack: list[tuple[Mount, bool]] = [(mount, False) for mount in reversed(waiting)]
    while stack:
        mount, is_done = stack.pop()
        if is_done:
            order.append(mount)
            continue
        stack.append((mount, True))
        children = sorted(table.children(mount.id), key=lambda child: len(child.mount_point))
        stack += [(child, False) for child in reversed(children)]
    return tuple(order)
