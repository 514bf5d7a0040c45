"""What cpu.weight says of a cgroup with cpu.idle 1; prints 1. Run as root."""

import ctypes
import os
import tempfile

libc = ctypes.CDLL(None, use_errno=True)
with tempfile.TemporaryDirectory() as root:
    if libc.mount(b"cgroup2", root.encode(), b"cgroup2", 0, None):
        raise OSError(ctypes.get_errno(), "mount")
    try:
        with open(f"{root}/cgroup.subtree_control", "w") as file:
            file.write("+cpu")
        os.mkdir(f"{root}/witness")
        with open(f"{root}/witness/cpu.idle", "w") as file:
            file.write("1")
        with open(f"{root}/witness/cpu.weight") as file:
            print(int(file.read()))
        os.rmdir(f"{root}/witness")
    finally:
        libc.umount2(root.encode(), 2)
