"""Mounting: mount(2), umount2(2), pivot_root(2), open_tree(2) and what came with it.

The functions take what the kernel takes. They do not parse options, follow no convention of mount(8) and retry
nothing; kernelproof.impl.mount does.
"""

from __future__ import annotations

import os
from errno import ENOSYS

from kernelproof.impl._syscalls.libc import (
    BYTES,
    INT,
    SECRET,
    STRING,
    UINT,
    ULONG,
    Call,
    Path,
    flag_names,
    is_secret,
    pack_unsigned64,
)

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from enum import IntEnum, IntFlag
else:
    from kernelproof.impl._syscalls.numbered import IntEnum, IntFlag

AT_FDCWD = -100


class MountFlag(IntFlag):
    """MS_ flags of mount(2)."""

    RDONLY = 1
    NOSUID = 2
    NODEV = 4
    NOEXEC = 8
    SYNCHRONOUS = 16
    REMOUNT = 32
    MANDLOCK = 64
    DIRSYNC = 128
    NOSYMFOLLOW = 256
    NOATIME = 1024
    NODIRATIME = 2048
    BIND = 4096
    MOVE = 8192
    REC = 16384
    SILENT = 32768
    POSIXACL = 1 << 16
    UNBINDABLE = 1 << 17
    PRIVATE = 1 << 18
    SLAVE = 1 << 19
    SHARED = 1 << 20
    RELATIME = 1 << 21
    I_VERSION = 1 << 23
    STRICTATIME = 1 << 24
    LAZYTIME = 1 << 25


_mount = Call("mount", source=STRING, target=STRING, fstype=STRING, flags=ULONG.of(MountFlag), data=SECRET)


def mount(
    source: Path | None, target: Path, fstype: str | bytes | None, flags: int = 0, data: Path | None = None
) -> None:
    """Mount a filesystem, or change a mount: mount(2).

    Raises:
        OSError: filename is the source, filename2 the target. EPERM without CAP_SYS_ADMIN or for a locked flag;
            ENOENT for a missing path; ENODEV for an unknown fstype; EINVAL for a bad superblock, option or
            combination of flags; EBUSY for a mount that is in use; further ones of the filesystem.

    Source: mount(2), ERRORS.
    """
    _mount(source, target, fstype, flags, data, path=source, path2=target)


class UnmountFlag(IntFlag):
    """MNT_ and UMOUNT_ flags of umount2(2)."""

    FORCE = 1
    DETACH = 2
    EXPIRE = 4
    NOFOLLOW = 8


_umount2 = Call("umount2", target=STRING, flags=INT.of(UnmountFlag))


def umount2(target: Path, flags: int = 0) -> None:
    """Take the topmost mount off a path: umount2(2).

    Raises:
        OSError: EBUSY in use; EINVAL no mount point, a locked mount or a bad combination of flags; EAGAIN marked
            as expired by this call; EPERM without CAP_SYS_ADMIN; ENOENT a missing path.

    Source: umount(2), ERRORS.
    """
    _umount2(target, flags, path=target)


_pivot_root = Call("pivot_root", new_root=STRING, put_old=STRING)


def pivot_root(new_root: Path, put_old: Path) -> None:
    """Make new_root the root mount of the caller's mount namespace and move the old one to put_old.

    Raises:
        OSError: EBUSY new_root is on the current root mount; EINVAL no mount point, put_old not below new_root, or
            a shared mount among those involved; ENOTDIR; EPERM.

    Source: pivot_root(2), ERRORS.
    """
    _pivot_root(new_root, put_old, path=new_root, path2=put_old)


class OpenTreeFlag(IntFlag):
    """OPEN_TREE_ and AT_ flags of open_tree(2)."""

    CLONE = 1
    NAMESPACE = 2
    SYMLINK_NOFOLLOW = 0x100
    NO_AUTOMOUNT = 0x800
    EMPTY_PATH = 0x1000
    RECURSIVE = 0x8000
    CLOEXEC = os.O_CLOEXEC


_open_tree = Call("open_tree", dir_fd=INT, path=STRING, flags=UINT.of(OpenTreeFlag))


def open_tree(dir_fd: int, path: Path, flags: int = OpenTreeFlag.CLOEXEC) -> int:
    """Open a mount, or with CLONE a detached copy of it, and return the descriptor, which the caller closes.

    Raises:
        OSError: ENOENT, EINVAL (unknown flags, RECURSIVE without CLONE, a mount that may not be copied), EPERM
            (CLONE without CAP_SYS_ADMIN), ENOSYS before Linux 5.2.

    Source: open_tree(2), ERRORS.
    """
    return _open_tree(dir_fd, path, flags, path=path)


class MoveMountFlag(IntFlag):
    """MOVE_MOUNT_ flags of move_mount(2)."""

    F_SYMLINKS = 0x1
    F_AUTOMOUNTS = 0x2
    F_EMPTY_PATH = 0x4
    T_SYMLINKS = 0x10
    T_AUTOMOUNTS = 0x20
    T_EMPTY_PATH = 0x40
    SET_GROUP = 0x100
    BENEATH = 0x200


_move_mount = Call(
    "move_mount", from_dir_fd=INT, from_path=STRING, to_dir_fd=INT, to_path=STRING, flags=UINT.of(MoveMountFlag)
)


def move_mount(from_dir_fd: int, from_path: Path, to_dir_fd: int, to_path: Path, flags: int = 0) -> None:
    """Move or attach a mount.

    Raises:
        OSError: filename is from_path, filename2 to_path. EINVAL (not a mount, a loop, a shared parent, a file on a
            directory), ENOENT, EPERM, ELOOP (into itself), EBUSY (BENEATH on what is in the way).

    Source: move_mount(2), ERRORS.
    """
    _move_mount(from_dir_fd, from_path, to_dir_fd, to_path, flags, path=from_path, path2=to_path)


class FsOpenFlag(IntFlag):
    """FSOPEN_ flags of fsopen(2)."""

    CLOEXEC = 1


_fsopen = Call("fsopen", fstype=STRING, flags=UINT.of(FsOpenFlag))


def fsopen(fstype: str | bytes, flags: int = FsOpenFlag.CLOEXEC) -> int:
    """Return a filesystem context for a new superblock, which the caller closes.

    Raises:
        OSError: ENODEV unknown fstype; EPERM without CAP_SYS_ADMIN; EINVAL unknown flags; ENOSYS before Linux 5.2.

    Source: fsopen(2), ERRORS.
    """
    return _fsopen(fstype, flags)


class FsPickFlag(IntFlag):
    """FSPICK_ flags of fspick(2)."""

    CLOEXEC = 1
    SYMLINK_NOFOLLOW = 2
    NO_AUTOMOUNT = 4
    EMPTY_PATH = 8


_fspick = Call("fspick", dir_fd=INT, path=STRING, flags=UINT.of(FsPickFlag))


def fspick(dir_fd: int, path: Path, flags: int = FsPickFlag.CLOEXEC) -> int:
    """Return a filesystem context for the superblock of a mount, which the caller closes.

    Raises:
        OSError: EINVAL no mount point or unknown flags; ENOENT; EPERM; ENOSYS before Linux 5.2.

    Source: fspick(2), ERRORS.
    """
    return _fspick(dir_fd, path, flags, path=path)


class FsConfig(IntEnum):
    """FSCONFIG_ commands of fsconfig(2)."""

    SET_FLAG = 0
    SET_STRING = 1
    SET_BINARY = 2
    SET_PATH = 3
    SET_PATH_EMPTY = 4
    SET_FD = 5
    CMD_CREATE = 6
    CMD_RECONFIGURE = 7
    CMD_CREATE_EXCL = 8


_fsconfig = Call("fsconfig", fs_fd=INT, command=UINT.of(FsConfig), key=STRING, value=BYTES, aux=INT)


def fsconfig(fs_fd: int, command: int, key: str | bytes | None = None, value: Path | None = None, aux: int = 0) -> None:
    """Set an option of a filesystem context, or make it create or reconfigure its superblock.

    Args:
        fs_fd: from fsopen or fspick.
        command: a member of FsConfig, or a number that the kernel is to refuse.
        key: the option.
        value: its value; for SET_BINARY with `aux` its length, for SET_PATH a path relative to `aux`.
        aux: a length or a descriptor, as the command says.

    Raises:
        OSError: EINVAL (an option the filesystem refuses, a bad combination of arguments), EBUSY (the context is
            not in the state for this command), EOPNOTSUPP (unknown command), EPERM. The context's own log, read
            from `fs_fd`, often says more.

    Source: fsconfig(2), ERRORS.
    """
    if command in (FsConfig.SET_STRING, FsConfig.SET_PATH, FsConfig.SET_PATH_EMPTY):
        # Here the kernel reads up to the NUL byte.
        if value is not None and b"\0" in os.fsencode(value):
            raise ValueError(f"fsconfig: value holds a NUL byte: {value!r}")
    elif command == FsConfig.SET_BINARY and value is not None and aux > len(os.fsencode(value)):
        raise ValueError(f"fsconfig: aux={aux} is more than the {len(os.fsencode(value))} bytes of value")
    _fsconfig(fs_fd, command, key, value, aux, hide="value" if is_secret(os.fsdecode(key or "")) else "")


class MountAttribute(IntFlag):
    """MOUNT_ATTR_ flags of fsmount(2) and mount_setattr(2)."""

    RDONLY = 0x1
    NOSUID = 0x2
    NODEV = 0x4
    NOEXEC = 0x8
    NOATIME = 0x10
    STRICTATIME = 0x20
    NODIRATIME = 0x80
    IDMAP = 0x100000
    NOSYMFOLLOW = 0x200000


MOUNT_ATTRIBUTE_ATIME = 0x70  # mask of the three values of atime; RELATIME is 0


class FsMountFlag(IntFlag):
    """FSMOUNT_ flags of fsmount(2)."""

    CLOEXEC = 1


_fsmount = Call("fsmount", fs_fd=INT, flags=UINT.of(FsMountFlag), attributes=UINT.of(MountAttribute))


def fsmount(fs_fd: int, flags: int = FsMountFlag.CLOEXEC, attributes: int = 0) -> int:
    """Return a detached mount of the context's superblock, which the caller closes.

    Raises:
        OSError: EBUSY the context has no superblock yet, or one that may not be mounted again; EINVAL unknown
            flags; EPERM.

    Source: fsmount(2), ERRORS.
    """
    return _fsmount(fs_fd, flags, attributes)


class SetAttributeFlag(IntFlag):
    """AT_ flags of mount_setattr(2)."""

    SYMLINK_NOFOLLOW = 0x100
    NO_AUTOMOUNT = 0x800
    EMPTY_PATH = 0x1000
    RECURSIVE = 0x8000


_mount_setattr = Call(
    "mount_setattr", dir_fd=INT, path=STRING, flags=UINT.of(SetAttributeFlag), attributes=BYTES, size=ULONG
)


def mount_setattr(
    dir_fd: int,
    path: Path,
    flags: int = 0,
    *,
    attr_set: int = 0,
    attr_clr: int = 0,
    propagation: int = 0,
    userns_fd: int = 0,
) -> None:
    """Change attributes of a mount, or with RECURSIVE of a whole tree.

    Args:
        dir_fd: directory that a relative path starts at.
        path: the mount.
        flags: members of SetAttributeFlag.
        attr_set: MountAttribute bits to set.
        attr_clr: bits to clear; MOUNT_ATTRIBUTE_ATIME when a value of atime is set.
        propagation: one of MountFlag's four types of propagation, or 0.
        userns_fd: with IDMAP in attr_set, the user namespace whose maps the mount takes.

    Raises:
        OSError: EINVAL (unknown bits, not a mount, a filesystem without ID-mapped mounts, two types of
            propagation), EPERM (locked bits, CAP_SYS_ADMIN), EBUSY (open for writing), EBADF, ENOSYS before 5.12.
        OverflowError: a number does not fit 64 bits.

    Source: mount_setattr(2), ERRORS.
    """
    record = pack_unsigned64("mount_setattr", attr_set, attr_clr, propagation, userns_fd)
    try:
        _mount_setattr(dir_fd, path, flags, record, len(record), path=path)
    except OSError as error:
        error.add_note(_describe_attributes(attr_set, attr_clr, propagation, userns_fd))
        raise


def has_mount_setattr() -> bool:
    """Return whether the kernel has mount_setattr(2), by a call that can do nothing: its record is too short."""
    return _mount_setattr.attempt(-1, b"", 0, b"", 0) != -ENOSYS


def _describe_attributes(attr_set: int, attr_clr: int, propagation: int, userns_fd: int) -> str:
    return (
        f"attributes: attr_set={flag_names(MountAttribute, attr_set)}, "
        f"attr_clr={flag_names(MountAttribute, attr_clr)}, propagation={flag_names(MountFlag, propagation)}, "
        f"userns_fd={userns_fd}"
    )
