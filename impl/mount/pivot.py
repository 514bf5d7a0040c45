"""Changing the root of a mount namespace: pivot_root(2) in the three manners that are known.

    "dot"       pivot_root(".", "."): the old root ends up below the new one at the same place, and is detached there.
                No extra directory, so a read-only root will do.
    "put_old"   pivot_root(new, new/put_old), the directory made and removed again: for who must reach the old root.
    "move"      the new root is moved onto "/" and chroot(2) entered: on the initial ramfs, which can't be pivoted.

Each acts on the mount namespace of the calling thread, and on the root of all its processes that have the old one.
"""

from __future__ import annotations

import os
from errno import EINVAL, EPERM

from kernelproof.impl._syscalls.mount import MountFlag, UnmountFlag, mount, pivot_root, umount2
from kernelproof.impl.mount.errors import OptionError

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from kernelproof.impl.mount.table import Path

MANNERS = ("dot", "put_old", "move")


def change_root(new_root: Path | int, manner: str = "auto", *, keep_old: str | None = None) -> str:
    """Make a mount the root of the caller's mount namespace, and enter it.

    Args:
        new_root: a mount point, or with manner "dot" and "move" a descriptor of a mount's root; with "dot" and
            "put_old" its parent must not be shared.
        manner: one of MANNERS, or "auto": "put_old" if the old root is kept, "move" on the initial ramfs, else "dot".
        keep_old: name below the new root where the old one stays mounted; only with "put_old".

    Returns:
        The manner that was used.

    Raises:
        OSError: EINVAL new_root is no mount point, a shared mount is involved, or the root is the initial ramfs;
            EBUSY new_root is on the root mount; ENOTDIR, ENOENT, EPERM.
        OptionError: an unknown manner, or keep_old with another one than "put_old".

    Source: pivot_root(2), NOTES; ramfs-rootfs-initramfs.rst of the kernel.
    """
    chosen = choose_manner(keep_old) if manner == "auto" else manner
    if chosen not in MANNERS:
        raise OptionError(f"no manner {manner!r} to change the root: {', '.join(MANNERS)}")
    if keep_old is not None and chosen != "put_old":
        raise OptionError(f"the old root can be kept with manner 'put_old' only, not with {chosen!r}")
    if chosen == "dot":
        pivot_in_place(new_root)
    elif chosen == "move":
        move_root(new_root)
    elif isinstance(new_root, int):
        raise OptionError("manner 'put_old' takes the new root by its path")
    else:
        pivot_to_directory(new_root, keep_old)
    return chosen


def choose_manner(keep_old: str | None) -> str:
    """Choose the manner that will do here."""
    if keep_old is not None:
        return "put_old"
    return "move" if is_initial_ramfs() else "dot"


def is_initial_ramfs() -> bool:
    """Return whether the root is a mount that is on no other, as the initial ramfs is: it can't be pivoted.

    Source: pivot_root(2), ERRORS EINVAL and NOTES.
    """
    from kernelproof.impl.mount.lookup import mount_of  # 4 ms at import: not for who knows the manner

    root = mount_of("/")
    return root.parent_id == root.id


def pivot_in_place(new_root: Path | int) -> None:
    """pivot_root(".", "."), and the old root detached.

    Raises:
        OSError: as change_root.
    """
    old = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.chdir(new_root)
        _pivot(".", ".", new_root)
        # The old root lies on the new one now; reached by its descriptor it is certainly the one.
        os.fchdir(old)
    finally:
        os.close(old)
    # Without this its detaching would reach the mount namespace that it came from.
    mount(None, ".", None, MountFlag.SLAVE | MountFlag.REC)
    umount2(".", UnmountFlag.DETACH)
    os.chdir("/")


def pivot_to_directory(new_root: Path, keep_old: str | None) -> None:
    """pivot_root(new_root, new_root/put_old); the old root is detached unless it is kept.

    Raises:
        OSError: as change_root; EROFS the directory can't be made.
    """
    name = keep_old or f".old-root-{os.getpid()}"
    put_old = os.path.join(new_root, name.lstrip("/"))
    is_made = not os.path.isdir(put_old)
    if is_made:
        os.mkdir(put_old, 0o700)
    try:
        _pivot(new_root, put_old, new_root)
    except BaseException:
        if is_made:
            os.rmdir(put_old)
        raise
    os.chdir("/")
    if keep_old is None:
        inside = "/" + name
        mount(None, inside, None, MountFlag.SLAVE | MountFlag.REC)
        umount2(inside, UnmountFlag.DETACH)
        if is_made:
            os.rmdir(inside)


def move_root(new_root: Path | int) -> None:
    """Move a mount onto "/" and enter it by chroot(2).

    What is mounted elsewhere in the old root stays there, out of sight; procfs and sysfs are detached first, as a
    process in a user namespace could mount fresh ones else. Where they are locked, a tmpfs hides them.

    Raises:
        OSError: EINVAL new_root is no mount point, or on a shared mount.
    """
    path = os.readlink(f"/proc/thread-self/fd/{new_root}") if isinstance(new_root, int) else os.path.realpath(new_root)
    inside = os.path.join(path, "")
    from kernelproof.impl.mount.table import MountTable  # as above

    for each in reversed(MountTable.read().by_fstype("proc", "sysfs")):
        if not (each.mount_point + "/").startswith(inside):
            _take_away(each.mount_point)
    os.chdir(new_root)
    mount(".", "/", None, MountFlag.MOVE)
    os.chroot(".")
    os.chdir("/")


def _take_away(mount_point: str) -> None:
    mount(None, mount_point, None, MountFlag.SLAVE | MountFlag.REC)
    try:
        umount2(mount_point, UnmountFlag.DETACH)
    except OSError as error:
        # Locked: it came from the mount namespace of another user namespace.
        if error.errno not in (EINVAL, EPERM):
            raise
        mount("tmpfs", mount_point, "tmpfs")


def _pivot(new_root: Path, put_old: Path, shown: Path | int) -> None:
    try:
        pivot_root(new_root, put_old)
    except OSError as error:
        if error.errno == EINVAL:
            error.add_note(
                f"{shown!r} must be a mount point, neither it nor the mounts that it and the root are on "
                f"may be shared, and the root must not be the initial ramfs"
            )
        raise
