"""The few system calls that probes need and Python lacks.

The conformance plugin judges `kernelproof.impl`, so it must not lean on it: this is its own door to libc, with five
prototypes. What it is not for: tests; they act through `impl`.
"""

from __future__ import annotations

import ctypes
import os

FSCONFIG_SET_FLAG, FSCONFIG_CMD_CREATE = 0, 6
FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
AT_EMPTY_PATH = 0x1000
MOUNT_ATTR_IDMAP = 0x00100000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fsopen.argtypes = (ctypes.c_char_p, ctypes.c_uint)
_libc.fsconfig.argtypes = (ctypes.c_int, ctypes.c_uint, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int)
_libc.fsmount.argtypes = (ctypes.c_int, ctypes.c_uint, ctypes.c_uint)
_libc.mount_setattr.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint, ctypes.c_void_p, ctypes.c_size_t)
_libc.init_module.argtypes = (ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def open_filesystem(fstype: str) -> int:
    """Return a descriptor of a new filesystem context, fsopen(2); the caller closes it.

    Raises:
        OSError: ENODEV: the kernel has no such type. EPERM: no CAP_SYS_ADMIN.
    """
    return _checked(_libc.fsopen(fstype.encode(), FSOPEN_CLOEXEC), "fsopen", fstype)


def set_flag(context: int, name: str) -> None:
    """Give a flag to a filesystem context, fsconfig(2).

    Raises:
        OSError: EINVAL: the filesystem does not take it.
    """
    _checked(_libc.fsconfig(context, FSCONFIG_SET_FLAG, name.encode(), None, 0), "fsconfig", name)


def detached_mount(context: int) -> int:
    """Create the filesystem and return a descriptor of a mount of it that is attached nowhere; the caller closes it.

    Raises:
        OSError: What the filesystem refuses creation with: EBUSY, EINVAL, EPERM.
    """
    _checked(_libc.fsconfig(context, FSCONFIG_CMD_CREATE, None, None, 0), "fsconfig", "create")
    return _checked(_libc.fsmount(context, FSMOUNT_CLOEXEC, 0), "fsmount", "")


def map_ids(mount: int, userns: int) -> None:
    """Map the IDs of a detached mount by a user namespace, mount_setattr(2) with MOUNT_ATTR_IDMAP.

    Raises:
        OSError: EINVAL: the filesystem can't be mapped. EPERM: it is mapped already.
    """
    attributes = _MountAttr(attr_set=MOUNT_ATTR_IDMAP, userns_fd=userns)
    size = ctypes.sizeof(attributes)
    _checked(_libc.mount_setattr(mount, b"", AT_EMPTY_PATH, ctypes.byref(attributes), size), "mount_setattr", "")


def load_module(image: bytes) -> None:
    """Load a kernel module from its uncompressed image, init_module(2).

    Raises:
        OSError: EEXIST: it is loaded. ENOEXEC, EPERM, ENOMEM, EBUSY: it can't be.
    """
    _checked(_libc.init_module(image, len(image), b""), "init_module", "")


def _checked(result: int, call: str, subject: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}", subject)
    return result
