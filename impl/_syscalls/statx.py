"""statx(2): mount IDs, and whether a path is the root of a mount. The standard library has it from Python 3.15 on."""

from __future__ import annotations

import os
import struct

from kernelproof.impl._syscalls.libc import BUFFER, INT, STRING, UINT, Call, Path

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from enum import IntFlag
    from typing import NamedTuple
else:
    from kernelproof.impl._syscalls.named import NamedTuple
    from kernelproof.impl._syscalls.numbered import IntFlag


class StatxFlag(IntFlag):
    """AT_ flags of statx(2)."""

    SYMLINK_NOFOLLOW = 0x100
    NO_AUTOMOUNT = 0x800
    EMPTY_PATH = 0x1000
    STATX_FORCE_SYNC = 0x2000
    STATX_DONT_SYNC = 0x4000


class StatxMask(IntFlag):
    """STATX_ bits that concern mounts."""

    BASIC_STATS = 0x7FF
    MNT_ID = 0x1000
    MNT_ID_UNIQUE = 0x4000


ATTRIBUTE_MOUNT_ROOT = 0x2000

_BYTES = 256  # of struct statx
_statx = Call("statx", dir_fd=INT, path=STRING, flags=INT.of(StatxFlag), mask=UINT.of(StatxMask), buffer=BUFFER)


class Statx(NamedTuple):
    """What concerns mounts of a file; None where the kernel did not say."""

    mount_id: int | None
    unique_mount_id: int | None
    is_mount_root: bool | None
    mode: int
    major: int
    minor: int
    inode: int


def statx(dir_fd: int, path: Path, flags: int, mask: int) -> Statx:
    """Describe a file.

    Args:
        dir_fd: where a relative path starts.
        path: the file; empty with EMPTY_PATH.
        flags: members of StatxFlag.
        mask: members of StatxMask; of MNT_ID and MNT_ID_UNIQUE a kernel that knows both gives the unique one.

    Raises:
        OSError: ENOENT, ENOTDIR, EACCES, ELOOP, ENAMETOOLONG of the path; EBADF; EINVAL a reserved bit; ENOSYS before
            Linux 4.11.

    Source: statx(2), ERRORS; stx_mnt_id since Linux 5.8, STATX_MNT_ID_UNIQUE since 6.8.
    """
    buffer = bytearray(_BYTES)
    _statx(dir_fd, path, flags, mask, buffer, path=path or dir_fd)
    got, _, attributes = struct.unpack_from("=IIQ", buffer)
    (mode,) = struct.unpack_from("=H", buffer, 28)
    (inode,) = struct.unpack_from("=Q", buffer, 32)
    (known,) = struct.unpack_from("=Q", buffer, 56)
    major, minor, mount_id = struct.unpack_from("=IIQ", buffer, 136)
    return Statx(
        mount_id if got & StatxMask.MNT_ID and not got & StatxMask.MNT_ID_UNIQUE else None,
        mount_id if got & StatxMask.MNT_ID_UNIQUE else None,
        bool(attributes & ATTRIBUTE_MOUNT_ROOT) if known & ATTRIBUTE_MOUNT_ROOT else None,
        mode,
        major,
        minor,
        inode,
    )


def statx_of(fd: int, mask: int = StatxMask.MNT_ID) -> Statx:
    """Describe an open file, without asking a server of it: what is in the cache does.

    Raises:
        OSError: EBADF.
    """
    return statx(fd, b"", StatxFlag.EMPTY_PATH | StatxFlag.NO_AUTOMOUNT | StatxFlag.STATX_DONT_SYNC, mask)


AT_FDCWD = -100


def statx_path(path: Path, mask: int = StatxMask.MNT_ID, *, dir_fd: int | None = None, follow: bool = False) -> Statx:
    """Describe what a path leads to, without triggering an automount and without asking a server.

    Raises:
        OSError: as statx.
    """
    flags = StatxFlag.NO_AUTOMOUNT | StatxFlag.STATX_DONT_SYNC
    flags |= StatxFlag(0) if follow else StatxFlag.SYMLINK_NOFOLLOW
    return statx(AT_FDCWD if dir_fd is None else dir_fd, os.fspath(path), flags, mask)
