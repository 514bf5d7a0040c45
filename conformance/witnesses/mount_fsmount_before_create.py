"""What fsmount(2) says before FSCONFIG_CMD_CREATE; prints the errno's name. Run as root."""

import ctypes
import errno

FSOPEN, FSMOUNT = 430, 432
libc = ctypes.CDLL(None, use_errno=True)
fd = libc.syscall(FSOPEN, b"tmpfs", 1)
if fd < 0:
    raise OSError(ctypes.get_errno(), "fsopen")
refused = libc.syscall(FSMOUNT, fd, 1, 0) < 0
print(errno.errorcode[ctypes.get_errno()] if refused else "no error")
