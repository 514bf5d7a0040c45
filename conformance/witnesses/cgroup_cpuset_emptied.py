"""What a write of an empty list to cpuset.cpus says while a process is inside; prints "ENOSPC". Run as root."""

import ctypes
import errno
import os
import tempfile

libc = ctypes.CDLL(None, use_errno=True)
with tempfile.TemporaryDirectory() as root:
    if libc.mount(b"cgroup2", root.encode(), b"cgroup2", 0, None):
        raise OSError(ctypes.get_errno(), "mount")
    try:
        with open(f"{root}/cgroup.subtree_control", "w") as file:
            file.write("+cpuset")
        os.mkdir(f"{root}/witness")
        for name, text in (("cpuset.cpus", "0"), ("cgroup.procs", str(os.getpid()))):
            with open(f"{root}/witness/{name}", "w") as file:
                file.write(text)
        try:
            fd = os.open(f"{root}/witness/cpuset.cpus", os.O_WRONLY)
            os.write(fd, b"\n")
            print("no error")
        except OSError as error:
            print(errno.errorcode[error.errno])
        with open(f"{root}/cgroup.procs", "w") as file:
            file.write(str(os.getpid()))
        os.rmdir(f"{root}/witness")
    finally:
        libc.umount2(root.encode(), 2)
