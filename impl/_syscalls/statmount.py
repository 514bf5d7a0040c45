"""The mount table as records: statmount(2) and listmount(2), by unique IDs or descriptors."""

from __future__ import annotations

import struct

from kernelproof.impl._syscalls.libc import BUFFER, BYTES, UINT, ULONG, Call, pack_unsigned64

TYPE_CHECKING = False  # typing would cost 6 ms at every import
if TYPE_CHECKING:
    from enum import IntFlag
else:
    from kernelproof.impl._syscalls.numbered import IntFlag


class StatmountMask(IntFlag):
    """STATMOUNT_ bits: which fields statmount(2) is to fill, and which it did."""

    SB_BASIC = 0x1
    MNT_BASIC = 0x2
    PROPAGATE_FROM = 0x4
    MNT_ROOT = 0x8
    MNT_POINT = 0x10
    FS_TYPE = 0x20
    MNT_NS_ID = 0x40
    MNT_OPTS = 0x80
    FS_SUBTYPE = 0x100
    SB_SOURCE = 0x200
    OPT_ARRAY = 0x400
    OPT_SEC_ARRAY = 0x800
    SUPPORTED_MASK = 0x1000
    MNT_UIDMAP = 0x2000
    MNT_GIDMAP = 0x4000


class StatmountFlag(IntFlag):
    """STATMOUNT_ flags of statmount(2)."""

    BY_FD = 1  # Linux 7.0


LSMT_ROOT = 0xFFFFFFFFFFFFFFFF  # listmount: start at the root of the namespace

_statmount = Call("statmount", request=BYTES, buffer=BUFFER, size=ULONG, flags=UINT.of(StatmountFlag))
_listmount = Call("listmount", request=BYTES, ids=BUFFER, count=ULONG, flags=UINT)


def _mount_id_request(call: str, mount_id: int, parameter: int, namespace_id: int) -> bytes:
    # struct mnt_id_req: its first version is 24 bytes; the namespace came as the second (6.10).
    numbers = pack_unsigned64(call, mount_id, parameter, *([namespace_id] if namespace_id else []))
    return struct.pack("=II", len(numbers) + 8, 0) + numbers


def statmount(mount_id: int, mask: int, buffer: bytearray, *, namespace_id: int = 0, flags: int = 0) -> None:
    """Describe a mount by its unique ID.

    Args:
        mount_id: from statx with STATX_MNT_ID_UNIQUE, or from listmount.
        mask: members of StatmountMask that are wanted.
        buffer: takes struct statmount and the strings after it.
        namespace_id: mount namespace to look in; 0 is the caller's.
        flags: none are defined.

    Raises:
        OSError: ENOENT no such mount; EOVERFLOW the buffer is too small; EPERM; EINVAL; ENOSYS before Linux 6.8.
        OverflowError: a number does not fit 64 bits.

    Source: Linux kernel, include/uapi/linux/mount.h; statmount(2).
    """
    request = _mount_id_request("statmount", mount_id, mask, namespace_id)
    _statmount(request, buffer, len(buffer), flags)


def listmount(mount_id: int, count: int, *, after: int = 0, namespace_id: int = 0, flags: int = 0) -> tuple[int, ...]:
    """List the unique IDs of the mounts below a mount, at most `count` of them.

    Args:
        mount_id: the mount, or LSMT_ROOT.
        count: how many to ask for.
        after: the last ID of the part before; 0 starts at the beginning.
        namespace_id: mount namespace to look in; 0 is the caller's.
        flags: 1 (LISTMOUNT_REVERSE) lists the latest first.

    Raises:
        OSError: ENOENT no such mount; EPERM; EINVAL; ENOSYS before Linux 6.8.
        OverflowError: a number does not fit 64 bits.

    Source: Linux kernel, include/uapi/linux/mount.h; listmount(2).
    """
    request = _mount_id_request("listmount", mount_id, after, namespace_id)
    buffer = bytearray(8 * count)
    got = _listmount(request, buffer, count, flags)
    return struct.unpack_from(f"={got}Q", buffer)


_REQUEST = struct.Struct("=IIQQQ")  # struct mnt_id_req, second version


def statmount_of_fd(fd: int, mask: int, buffer: bytearray, *, mount_id: int = 0) -> None:
    """Describe the mount that a descriptor is on, attached or not.

    Args:
        fd: of any file on the mount; O_PATH is enough.
        mask: members of StatmountMask that are wanted.
        buffer: takes struct statmount and the strings after it.
        mount_id: must be 0.

    Raises:
        OSError: EBADF; EINVAL (mount_id is not 0, or Linux before 7.0); EOVERFLOW the buffer is too small; EPERM;
            ENOSYS before Linux 6.8.

    Source: statmount(2), STATMOUNT_BY_FD.
    """
    request = _REQUEST.pack(_REQUEST.size, fd, mount_id, StatmountMask(mask), 0)
    _statmount(request, buffer, len(buffer), StatmountFlag.BY_FD)


def statmount_in(namespace_fd: int, mount_id: int, mask: int, buffer: bytearray, *, namespace_id: int = 0) -> None:
    """Describe a mount of another mount namespace by its unique ID.

    Args:
        namespace_fd: of the mount namespace, as /proc/PID/ns/mnt.
        mount_id: unique ID of the mount.
        mask: members of StatmountMask that are wanted.
        buffer: takes struct statmount and the strings after it.
        namespace_id: must be 0.

    Raises:
        OSError: EBADF; EINVAL (namespace_id is not 0 or the descriptor is of something else); ENOENT no such mount;
            EOVERFLOW the buffer is too small; EPERM; ENOSYS before Linux 6.8.

    Source: statmount(2), req.mnt_ns_fd, since Linux 6.18.
    """
    request = _REQUEST.pack(_REQUEST.size, namespace_fd, mount_id, StatmountMask(mask), namespace_id)
    _statmount(request, buffer, len(buffer), 0)
