"""statmount(2) by other roads than an ID of this namespace: by a descriptor on the mount, or of its mount namespace.

The call by ID is in `mount`.
"""

from __future__ import annotations

import struct
from enum import IntFlag

from kernelproof.impl._syscalls.libc import BUFFER, BYTES, UINT, ULONG, Call
from kernelproof.impl._syscalls.mount import StatmountMask


class StatmountFlag(IntFlag):
    """STATMOUNT_ flags of statmount(2)."""

    BY_FD = 1  # Linux 7.0


_statmount = Call("statmount", request=BYTES, buffer=BUFFER, size=ULONG, flags=UINT.of(StatmountFlag))
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
