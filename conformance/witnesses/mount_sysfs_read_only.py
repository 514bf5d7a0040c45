"""What FSCONFIG_CMD_CREATE with "ro" says for sysfs, which is read-write; prints the errno's name. Run as root."""

import ctypes
import errno

FSOPEN, FSCONFIG, SET_FLAG, CMD_CREATE = 430, 431, 0, 6
libc = ctypes.CDLL(None, use_errno=True)
for option in (b"rw", b"ro"):
    fd = libc.syscall(FSOPEN, b"sysfs", 1)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "fsopen")
    if libc.syscall(FSCONFIG, fd, SET_FLAG, option, None, 0):
        raise OSError(ctypes.get_errno(), "fsconfig")
    refused = libc.syscall(FSCONFIG, fd, CMD_CREATE, None, None, 0)
print(errno.errorcode[ctypes.get_errno()] if refused else "no error")
