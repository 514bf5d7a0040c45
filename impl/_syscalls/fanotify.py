"""fanotify(7), as far as mounts are concerned: fanotify_init(2) and fanotify_mark(2)."""

from __future__ import annotations

import os
import struct
from enum import IntFlag
from typing import NamedTuple

from kernelproof.impl._syscalls.libc import INT, STRING, UINT, ULONG, Call


class InitFlag(IntFlag):
    """FAN_ flags of fanotify_init(2)."""

    CLOEXEC = 0x1
    NONBLOCK = 0x2
    UNLIMITED_QUEUE = 0x10
    REPORT_MNT = 0x4000


class MarkFlag(IntFlag):
    """FAN_MARK_ flags of fanotify_mark(2); MNTNS is a type of mark, and not a bit."""

    ADD = 0x1
    REMOVE = 0x2
    MNTNS = 0x110


class MountEvent(IntFlag):
    """FAN_ bits of events about mounts."""

    Q_OVERFLOW = 0x4000
    MNT_ATTACH = 0x1000000
    MNT_DETACH = 0x2000000


class MountNotice(NamedTuple):
    """One event: what happened to which mount, by its unique ID; None for an overflow."""

    mask: MountEvent
    mount_id: int | None


_fanotify_init = Call("fanotify_init", flags=UINT.of(InitFlag), event_flags=UINT)
_fanotify_mark = Call(
    "fanotify_mark", fd=INT, flags=UINT.of(MarkFlag), mask=ULONG.of(MountEvent), dir_fd=INT, path=STRING
)
_METADATA = struct.Struct("=IBBHQii")
_INFO_TYPE_MNT = 7


def fanotify_init(flags: int, event_flags: int = 0) -> int:
    """Make a fanotify group; return its descriptor, which the caller closes.

    Args:
        flags: members of InitFlag; CLOEXEC is added.
        event_flags: of the descriptors that come with events.

    Raises:
        OSError: EINVAL unknown flags (REPORT_MNT came with Linux 6.15); EPERM without CAP_SYS_ADMIN; EMFILE; ENOSYS a
            kernel without it.

    Source: fanotify_init(2), ERRORS.
    """
    return _fanotify_init(flags | InitFlag.CLOEXEC, event_flags)


def fanotify_mark(fd: int, flags: int, mask: int, dir_fd: int, path: str | None = None) -> None:
    """Add or remove a mark; for MNTNS `dir_fd` is a mount namespace, and `path` None.

    Raises:
        OSError: EINVAL unknown flags, or no mount namespace; EBADF; EPERM; ENOSPC the limit on marks.

    Source: fanotify_mark(2), ERRORS.
    """
    _fanotify_mark(fd, flags, mask, dir_fd, path)


def read_mount_notices(fd: int) -> tuple[MountNotice, ...]:
    """Read what there is, at least one event, or wait for it.

    Raises:
        OSError: EAGAIN nothing there, with NONBLOCK.
    """
    return parse_mount_notices(os.read(fd, 65536))


def parse_mount_notices(data: bytes) -> tuple[MountNotice, ...]:
    """Take the bytes of events apart."""
    notices = []
    place = 0
    while place + _METADATA.size <= len(data):
        length, _, _, header, mask, _, _ = _METADATA.unpack_from(data, place)
        end = min(place + length, len(data))
        mount_id = None
        info = place + header
        while info + 4 <= end:
            kind, _, size = struct.unpack_from("=BBH", data, info)
            if kind == _INFO_TYPE_MNT and size >= 16 and info + 16 <= end:
                (mount_id,) = struct.unpack_from("=Q", data, info + 8)
            info += max(size, 4)
        notices.append(MountNotice(MountEvent(mask), mount_id))
        place += max(length, _METADATA.size)
    return tuple(notices)
