"""What memory.max reads after 4097 was written, one byte more than a page; prints 4096. Run as root."""

import ctypes
import os
import tempfile

libc = ctypes.CDLL(None, use_errno=True)
with tempfile.TemporaryDirectory() as root:
    if libc.mount(b"cgroup2", root.encode(), b"cgroup2", 0, None):
        raise OSError(ctypes.get_errno(), "mount")
    try:
        with open(f"{root}/cgroup.subtree_control", "w") as file:
            file.write("+memory")
        os.mkdir(f"{root}/witness")
        with open(f"{root}/witness/memory.max", "w") as file:
            file.write("4097")
        with open(f"{root}/witness/memory.max") as file:
            print(int(file.read()))
        os.rmdir(f"{root}/witness")
    finally:
        libc.umount2(root.encode(), 2)
