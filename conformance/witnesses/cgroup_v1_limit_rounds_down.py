"""What memory.limit_in_bytes reads after 1 was written; prints 0. Run as root."""

import ctypes
import os
import tempfile

libc = ctypes.CDLL(None, use_errno=True)
with tempfile.TemporaryDirectory() as root:
    if libc.mount(b"cgroup", root.encode(), b"cgroup", 0, b"memory"):
        raise OSError(ctypes.get_errno(), "mount")
    try:
        os.mkdir(f"{root}/child")
        with open(f"{root}/child/memory.limit_in_bytes", "w") as file:
            file.write("1")
        with open(f"{root}/child/memory.limit_in_bytes") as file:
            print(int(file.read()))
        os.rmdir(f"{root}/child")
    finally:
        libc.umount2(root.encode(), 2)
