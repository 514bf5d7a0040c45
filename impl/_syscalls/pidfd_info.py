"""What a descriptor of a process tells of it without /proc: its IDs, its end, its namespaces (Linux 6.11 and later)."""

from __future__ import annotations

import fcntl
import struct
from enum import IntEnum, IntFlag
from typing import NamedTuple

SELF_THREAD, SELF_PROCESS = -10000, -10001  # in the place of a descriptor, Linux 6.15


class InfoMask(IntFlag):
    """PIDFD_INFO_ bits: what is wanted, and what was filled."""

    PID = 0x1
    CREDS = 0x2
    CGROUPID = 0x4
    EXIT = 0x8  # Linux 6.15
    COREDUMP = 0x10  # Linux 6.16
    SUPPORTED_MASK = 0x20  # Linux 7.0


class ProcessNamespace(IntEnum):
    """PIDFD_GET_ requests for a descriptor of a namespace."""

    CGROUP = 0xFF01
    IPC = 0xFF02
    MOUNT = 0xFF03
    NETWORK = 0xFF04
    PID = 0xFF05
    PID_FOR_CHILDREN = 0xFF06
    TIME = 0xFF07
    TIME_FOR_CHILDREN = 0xFF08
    USER = 0xFF09
    UTS = 0xFF0A


class ProcessInfo(NamedTuple):
    """struct pidfd_info; what `mask` has no bit for is 0. The IDs are those of the caller's namespaces."""

    mask: InfoMask
    cgroup_id: int
    pid: int
    tgid: int
    ppid: int
    uids: tuple[int, int, int, int]  # real, effective, saved, of the file system
    gids: tuple[int, int, int, int]
    exit_code: int  # a wait status, with EXIT


_INFO = struct.Struct("=QQ11Ii")
_LATEST = struct.Struct("=QQ11Ii4IQ")


def _request(size: int) -> int:
    return 3 << 30 | size << 16 | 0xFF << 8 | 11


def read_process_info(pidfd: int, wanted: int = InfoMask.PID | InfoMask.CREDS | InfoMask.CGROUPID) -> ProcessInfo:
    """Return what the kernel tells of a process.

    Args:
        pidfd: the process's descriptor.
        wanted: members of InfoMask; bits that the kernel does not know are not filled.

    Raises:
        OSError: ENOTTY no such descriptor, or Linux before 6.13; ESRCH the process was waited for, and EXIT was not
            wanted.

    Source: Linux kernel, include/uapi/linux/pidfd.h, PIDFD_GET_INFO.
    """
    buffer = bytearray(_INFO.size)
    struct.pack_into("=Q", buffer, 0, wanted)
    _ioctl(pidfd, _request(_INFO.size), buffer, "PIDFD_GET_INFO")
    mask, cgroup, pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid, code = _INFO.unpack(buffer)
    return ProcessInfo(
        InfoMask(mask), cgroup, pid, tgid, ppid, (ruid, euid, suid, fsuid), (rgid, egid, sgid, fsgid), code
    )


def supported_info(pidfd: int) -> int:
    """Return the bits of InfoMask that the kernel knows; 0 before it could tell.

    Raises:
        OSError: as read_process_info.

    Source: Linux kernel, include/uapi/linux/pidfd.h, PIDFD_INFO_SUPPORTED_MASK.
    """
    buffer = bytearray(_LATEST.size)
    struct.pack_into("=Q", buffer, 0, InfoMask.SUPPORTED_MASK)
    _ioctl(pidfd, _request(_LATEST.size), buffer, "PIDFD_GET_INFO")
    filled, *_, supported = _LATEST.unpack(buffer)
    return int(supported) if filled & InfoMask.SUPPORTED_MASK else 0


def open_namespace_of(pidfd: int, namespace: ProcessNamespace) -> int:
    """Return a descriptor of a namespace of a process, close-on-exec; the caller closes it.

    Raises:
        OSError: ENOTTY no descriptor of a process, or Linux before 6.11; ESRCH the process has ended; EPERM no
            PTRACE_MODE_READ access; EOPNOTSUPP a kind that the kernel lacks.

    Source: Linux kernel, include/uapi/linux/pidfd.h, PIDFD_GET_*_NAMESPACE.
    """
    return _ioctl(pidfd, namespace, 0, f"PIDFD_GET_{namespace.name}_NAMESPACE")


def _ioctl(fd: int, request: int, argument: int | bytearray, name: str) -> int:
    try:
        return fcntl.ioctl(fd, request, argument)
    except OSError as error:
        error.add_note(f"ioctl(fd={fd}, request={name})")
        raise
