"""Mounts that are attached nowhere yet: open_tree(2), mount_setattr(2), move_mount(2).

    with DetachedMount.copy("/srv/data", recursive=True) as mounted:
        mounted.set_attributes(set=MountAttribute.RDONLY, recursive=True)
        mounted.attach("/mnt/data")

Until the last step nobody else can reach it, and if that step is never done it vanishes: nothing is left behind by a
program that fails or is killed.
"""

from __future__ import annotations

import os
from errno import EINVAL

from kernelproof.impl._syscalls.mount import (
    MOUNT_ATTRIBUTE_ATIME,
    MountAttribute,
    MountFlag,
    MoveMountFlag,
    OpenTreeFlag,
    SetAttributeFlag,
    has_mount_setattr,
    mount_setattr,
    move_mount,
    open_tree,
)
from kernelproof.impl._syscalls.suppressing import suppress

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from kernelproof.impl.mount.table import Path

_AT_FDCWD = -100
_ATIME = MountAttribute(MOUNT_ATTRIBUTE_ATIME)
_NOTHING = MountAttribute(0)
_NO_FLAGS = MountFlag(0)


class DetachedMount:
    """A mount by its descriptor; a context manager that closes it. Attached, it stays.

    Attributes:
        fd: of the mount's root; as with O_PATH.
        road: the call that made it: "fsopen" or "open_tree".
        is_attached: whether `attach` was done.
    """

    def __init__(self, fd: int, *, road: str) -> None:
        self.fd = fd
        self.road = road
        self.is_attached = False

    @classmethod
    def copy(cls, path: Path | int, *, recursive: bool = False, follow: bool = True) -> Self:
        """Copy the mount that a path is on, with the path as its root: what a bind mount is before it is attached.

        Args:
            path: a directory or file, or a descriptor of one.
            recursive: with what is mounted below it, but for unbindable mounts.
            follow: a link at the path's end.

        Raises:
            OSError: ENOENT; EINVAL an unbindable mount, or one with locked mounts below it and not recursive; EPERM;
                ENOSYS before Linux 5.2.

        Source: open_tree(2), OPEN_TREE_CLONE.
        """
        flags = OpenTreeFlag.CLONE | OpenTreeFlag.CLOEXEC
        flags |= OpenTreeFlag.RECURSIVE if recursive else OpenTreeFlag(0)
        flags |= OpenTreeFlag(0) if follow else OpenTreeFlag.SYMLINK_NOFOLLOW
        try:
            if isinstance(path, int):
                return cls(open_tree(path, b"", flags | OpenTreeFlag.EMPTY_PATH), road="open_tree")
            return cls(open_tree(_AT_FDCWD, path, flags), road="open_tree")
        except OSError as error:
            if error.errno == EINVAL and not recursive:
                with suppress(ImportError, OSError):
                    from kernelproof.impl.mount.locked import explain_copy  # for the note alone: 4 ms at import

                    for note in explain_copy(path):
                        error.add_note(note)
            raise

    def set_attributes(
        self,
        *,
        set: MountAttribute = _NOTHING,
        clear: MountAttribute = _NOTHING,
        propagation: MountFlag = _NO_FLAGS,
        recursive: bool = False,
        userns_fd: int | None = None,
    ) -> Self:
        """Change attributes; see the function `set_attributes`.

        Raises:
            OSError: as there.
        """
        change_attributes(
            self.fd, "", set=set, clear=clear, propagation=propagation, recursive=recursive, userns_fd=userns_fd
        )
        return self

    def attach(self, target: Path | int, *, follow: bool = False, beneath: bool = False) -> None:
        """Attach the mount, at once and whole.

        Args:
            target: where; or a descriptor of it, so that no path is looked up any more.
            follow: a link at the path's end.
            beneath: below what is mounted there, which is then unmounted to show it: nobody sees the place between
                (Linux 6.5).

        Raises:
            OSError: ENOENT; ENOTDIR, EINVAL a file on a directory or the reverse; EINVAL beneath something that is no
                mount point, or the root; EPERM.

        Source: move_mount(2).
        """
        flags = MoveMountFlag.F_EMPTY_PATH
        flags |= MoveMountFlag.BENEATH if beneath else MoveMountFlag(0)
        if isinstance(target, int):
            move_mount(self.fd, b"", target, b"", flags | MoveMountFlag.T_EMPTY_PATH)
        else:
            flags |= MoveMountFlag.T_SYMLINKS if follow else MoveMountFlag(0)
            move_mount(self.fd, b"", _AT_FDCWD, target, flags)
        self.is_attached = True

    def open(self, path: str = ".", flags: int = os.O_PATH | os.O_DIRECTORY) -> int:
        """Open what is in it, relative to its root; the caller closes the descriptor.

        Raises:
            OSError: ENOENT, EACCES, EROFS.
        """
        return os.open(path, flags | os.O_CLOEXEC, dir_fd=self.fd)

    def fileno(self) -> int:
        """The descriptor of the mount's root."""
        return self.fd

    def detach_fd(self) -> int:
        """Give the descriptor to the caller, who closes it."""
        fd, self.fd = self.fd, -1
        return fd

    def close(self) -> None:
        """Close it: a mount that is attached nowhere vanishes."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def set_attributes(
    target: Path | int,
    *,
    set: MountAttribute = _NOTHING,
    clear: MountAttribute = _NOTHING,
    propagation: MountFlag = _NO_FLAGS,
    recursive: bool = False,
    userns_fd: int | None = None,
) -> None:
    """Change attributes of a mount, or of a whole tree at once: only the bits that are named.

    The time of access is one of three values; naming NOATIME or STRICTATIME replaces what there is, and
    clear=NOATIME or STRICTATIME goes back to relatime.

    Args:
        target: a mount point, links followed, or a descriptor of a mount's root.
        set: attributes to set.
        clear: attributes to clear.
        propagation: one of SHARED, PRIVATE, SLAVE, UNBINDABLE, or 0.
        recursive: all mounts below too: all of them or none.
        userns_fd: an open user namespace, whose ID maps the mount takes; the mount must not have been attached yet.

    Raises:
        OSError: EINVAL no mount point, or a filesystem that can't be ID-mapped; EPERM a locked attribute; EBUSY a file
            is open for writing, of one of the mounts; EBADF; ENOSYS before Linux 5.12.

    Source: mount_setattr(2).
    """
    if isinstance(target, int):
        change_attributes(
            target, "", set=set, clear=clear, propagation=propagation, recursive=recursive, userns_fd=userns_fd
        )
    else:
        change_attributes(
            _AT_FDCWD, target, set=set, clear=clear, propagation=propagation, recursive=recursive, userns_fd=userns_fd
        )


def can_set_attributes() -> bool:
    """Return whether the kernel has mount_setattr(2): Linux 5.12."""
    return has_mount_setattr()


def change_attributes(
    dir_fd: int,
    path: Path,
    *,
    set: MountAttribute,
    clear: MountAttribute,
    propagation: MountFlag,
    recursive: bool,
    userns_fd: int | None,
) -> None:
    """mount_setattr(2) with the time of access put right, and notes on locked attributes."""
    if (set | clear) & _ATIME:
        clear |= _ATIME
    flags = SetAttributeFlag.RECURSIVE if recursive else SetAttributeFlag(0)
    flags |= SetAttributeFlag(0) if os.fspath(path) else SetAttributeFlag.EMPTY_PATH
    if userns_fd is not None:
        set |= MountAttribute.IDMAP
    try:
        mount_setattr(
            dir_fd, path, flags, attr_set=set, attr_clr=clear, propagation=propagation, userns_fd=userns_fd or 0
        )
    except PermissionError as error:
        with suppress(ImportError, LookupError, OSError):
            from kernelproof.impl.mount.locked import find_locked  # for the notes alone: 4 ms at import

            for note in find_locked(path if os.fspath(path) else dir_fd, set, clear, recursive=recursive):
                error.add_note(note)
        raise
