"""What memory.soft_limit_in_bytes reads after 1048576 was written; prints that as text. Run as root."""

import ctypes
import os
import tempfile

libc = ctypes.CDLL(None, use_errno=True)
with tempfile.TemporaryDirectory() as root:
    if libc.mount(b"cgroup", root.encode(), b"cgroup", 0, b"memory"):
        raise OSError(ctypes.get_errno(), "mount")
    try:
        os.mkdir(f"{root}/child")
        with open(f"{root}/child/memory.soft_limit_in_bytes", "w") as file:
            file.write("1048576")
        with open(f"{root}/child/memory.soft_limit_in_bytes") as file:
            print(file.read().strip())
        os.rmdir(f"{root}/child")
    finally:
        libc.umount2(root.encode(), 2)
