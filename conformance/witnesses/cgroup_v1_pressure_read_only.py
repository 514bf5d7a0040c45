"""What writing to cpuset.memory_pressure says; prints "EINVAL". Run as root."""

import ctypes
import errno
import os
import tempfile

libc = ctypes.CDLL(None, use_errno=True)
with tempfile.TemporaryDirectory() as root:
    if libc.mount(b"cgroup", root.encode(), b"cgroup", 0, b"cpuset"):
        raise OSError(ctypes.get_errno(), "mount")
    try:
        os.mkdir(f"{root}/child")
        try:
            fd = os.open(f"{root}/child/cpuset.memory_pressure", os.O_WRONLY)
            os.write(fd, b"1")
            print("no error")
        except OSError as error:
            print(errno.errorcode[error.errno])
        os.rmdir(f"{root}/child")
    finally:
        libc.umount2(root.encode(), 2)
