"""What setting a user.* attribute of a version 1 cgroup says; prints "no error". Run as root."""

import ctypes
import errno
import os
import tempfile

libc = ctypes.CDLL(None, use_errno=True)
with tempfile.TemporaryDirectory() as root:
    if libc.mount(b"cgroup", root.encode(), b"cgroup", 0, b"none,name=witness"):
        raise OSError(ctypes.get_errno(), "mount")
    try:
        os.mkdir(f"{root}/child")
        try:
            os.setxattr(f"{root}/child", "user.tried", b"value")
            print("no error")
        except OSError as error:
            print(errno.errorcode[error.errno])
        os.rmdir(f"{root}/child")
    finally:
        libc.umount2(root.encode(), 2)
