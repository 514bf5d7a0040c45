"""What clone(2) says to CLONE_NEWPID with CLONE_PARENT; prints the errno's name, or "no error". Run as root."""

import ctypes
import errno
import os
import platform

NUMBER = {"x86_64": 56}.get(platform.machine(), 220)
CLONE_PARENT, CLONE_NEWPID = 0x8000, 0x20000000
libc = ctypes.CDLL(None, use_errno=True)
pid = libc.syscall(ctypes.c_long(NUMBER), ctypes.c_ulong(CLONE_PARENT | CLONE_NEWPID), None, None, None, None)
if pid == 0:
    os._exit(0)
print("no error" if pid > 0 else errno.errorcode[ctypes.get_errno()])
