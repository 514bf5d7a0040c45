"""What a descriptor of a namespace tells since Linux 6.11: IDs, IDs of processes in another namespace, mounts.

The older requests are in `nsfs`.
"""

from __future__ import annotations

import fcntl
import struct
from enum import IntEnum
from typing import NamedTuple


class NsRequest(IntEnum):
    """NS_ requests of linux/nsfs.h."""

    GET_MNTNS_ID = 0x8008B705  # Linux 6.11
    GET_PID_FROM_PIDNS = 0x8004B706  # Linux 6.11
    GET_PID_IN_PIDNS = 0x8004B708  # Linux 6.11
    MNT_GET_INFO = 0x8010B70A  # Linux 6.12
    GET_ID = 0x8008B70D  # Linux 6.18


class MountNamespaceInfo(NamedTuple):
    """What NS_MNT_GET_INFO tells of a mount namespace."""

    mounts: int
    id: int


def _ask(fd: int, request: NsRequest, argument: int | bytearray = 0) -> int:
    try:
        return fcntl.ioctl(fd, request, argument)
    except OSError as error:
        error.add_note(f"ioctl(fd={fd}, request=NS_{request.name})")
        raise


def _ask_id(fd: int, request: NsRequest) -> int:
    buffer = bytearray(8)
    _ask(fd, request, buffer)
    (number,) = struct.unpack("=Q", buffer)
    return int(number)


def mount_namespace_id(fd: int) -> int:
    """Return the unique ID of a mount namespace.

    Raises:
        OSError: EINVAL a namespace of another kind; ENOTTY no descriptor of a namespace, or Linux before 6.11.

    Source: Linux kernel, include/uapi/linux/nsfs.h, NS_GET_MNTNS_ID.
    """
    return _ask_id(fd, NsRequest.GET_MNTNS_ID)


def namespace_id(fd: int) -> int:
    """Return the unique ID of a namespace of any kind.

    Raises:
        OSError: ENOTTY no descriptor of a namespace, or Linux before 6.18.

    Source: Linux kernel, include/uapi/linux/nsfs.h, NS_GET_ID.
    """
    return _ask_id(fd, NsRequest.GET_ID)


def mount_namespace_info(fd: int) -> MountNamespaceInfo:
    """Return how many mounts a mount namespace has, and its unique ID.

    Raises:
        OSError: EINVAL a namespace of another kind; ENOTTY no descriptor of a namespace, or Linux before 6.12.

    Source: Linux kernel, include/uapi/linux/nsfs.h, NS_MNT_GET_INFO.
    """
    buffer = bytearray(16)
    _ask(fd, NsRequest.MNT_GET_INFO, buffer)
    _, mounts, number = struct.unpack("=IIQ", buffer)
    return MountNamespaceInfo(mounts, number)


def pid_from(fd: int, pid: int) -> int:
    """Return the ID, in the caller's PID namespace, of a process that has the ID `pid` in the namespace of `fd`.

    Raises:
        OSError: ESRCH no such process there or here; EINVAL a namespace of another kind; ENOTTY no descriptor of a
            namespace, or Linux before 6.11.

    Source: Linux kernel, include/uapi/linux/nsfs.h, NS_GET_PID_FROM_PIDNS.
    """
    return _ask(fd, NsRequest.GET_PID_FROM_PIDNS, pid)


def pid_in(fd: int, pid: int) -> int:
    """Return the ID, in the PID namespace of `fd`, of a process that has the ID `pid` in the caller's namespace.

    Raises:
        OSError: as `pid_from`.

    Source: Linux kernel, include/uapi/linux/nsfs.h, NS_GET_PID_IN_PIDNS.
    """
    return _ask(fd, NsRequest.GET_PID_IN_PIDNS, pid)
