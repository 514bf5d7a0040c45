"""What mkdir of a version 1 cgroup with a name of 256 bytes says; prints "no error". Run as root."""

import ctypes
import errno
import os
import tempfile

libc = ctypes.CDLL(None, use_errno=True)
with tempfile.TemporaryDirectory() as root:
    if libc.mount(b"cgroup", root.encode(), b"cgroup", 0, b"cpuset"):
        raise OSError(ctypes.get_errno(), "mount")
    try:
        os.mkdir(f"{root}/{'w' * 256}")
        print("no error")
        os.rmdir(f"{root}/{'w' * 256}")
    except OSError as error:
        print(errno.errorcode[error.errno])
    finally:
        libc.umount2(root.encode(), 2)
