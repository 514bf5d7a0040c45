"""mount(2), umount2(2) and unshare(2), for what runs in a machine before and beside the tests."""

from __future__ import annotations

import ctypes
import os

DETACH = 2
BIND, RECURSIVE, PRIVATE = 0x1000, 0x4000, 0x40000  # MS_BIND, MS_REC, MS_PRIVATE
NEW_NAMESPACES = 0x00020000 | 0x04000000 | 0x08000000 | 0x40000000  # CLONE_NEWNS, NEWUTS, NEWIPC, NEWNET

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)


def mount(source: str, target: str, fstype: str | None, flags: int = 0, data: str | None = None) -> None:
    """mount(2).

    Raises:
        OSError: as mount(2) refuses, with both paths.
    """
    encoded = [None if text is None else text.encode() for text in (source, target, fstype, data)]
    if _libc.mount(encoded[0], encoded[1], encoded[2], flags, encoded[3]) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), source, None, target)


def unmount(target: str, flags: int = 0) -> None:
    """umount2(2).

    Raises:
        OSError: as umount2(2) refuses.
    """
    if _libc.umount2(target.encode(), flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


def unshare(flags: int) -> None:
    """unshare(2).

    Raises:
        OSError: as unshare(2) refuses.
    """
    if _libc.unshare(flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
