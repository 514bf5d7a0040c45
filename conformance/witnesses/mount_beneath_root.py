"""What move_mount(2) beneath the root says; prints the errno's name. Run as root."""

import ctypes
import errno

CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 1 << 14, 1 << 18
FSOPEN, FSCONFIG, FSMOUNT, MOVE_MOUNT, CMD_CREATE = 430, 431, 432, 429, 6
F_EMPTY_PATH, BENEATH, AT_FDCWD = 0x4, 0x200, -100
libc = ctypes.CDLL(None, use_errno=True)


def call(*arguments: object) -> int:
    """A system call that must succeed."""
    result = libc.syscall(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), str(arguments[0]))
    return int(result)


if libc.unshare(CLONE_NEWNS) or libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None):
    raise OSError(ctypes.get_errno(), "unshare")
context = call(FSOPEN, b"tmpfs", 1)
call(FSCONFIG, context, CMD_CREATE, None, None, 0)
mounted = call(FSMOUNT, context, 1, 0)
refused = libc.syscall(MOVE_MOUNT, mounted, b"", AT_FDCWD, b"/", F_EMPTY_PATH | BENEATH) < 0
print(errno.errorcode[ctypes.get_errno()] if refused else "no error")
