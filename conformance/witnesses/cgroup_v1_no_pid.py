"""What writing a letter to tasks of a version 1 cpuset says; prints "EINVAL". Run as root."""

import ctypes
import errno
import os
import tempfile

libc = ctypes.CDLL(None, use_errno=True)
with tempfile.TemporaryDirectory() as root:
    if libc.mount(b"cgroup", root.encode(), b"cgroup", 0, b"cpuset"):
        raise OSError(ctypes.get_errno(), "mount")
    try:
        fd = os.open(f"{root}/tasks", os.O_WRONLY)
        try:
            os.write(fd, b"x")
            print("no error")
        except OSError as error:
            print(errno.errorcode[error.errno])
    finally:
        libc.umount2(root.encode(), 2)
