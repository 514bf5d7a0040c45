"""What cgroup.type says beside a threaded cgroup; prints "domain invalid". Run as root."""

import ctypes
import os
import tempfile

libc = ctypes.CDLL(None, use_errno=True)
with tempfile.TemporaryDirectory() as root:
    if libc.mount(b"cgroup2", root.encode(), b"cgroup2", 0, None):
        raise OSError(ctypes.get_errno(), "mount")
    try:
        for name in ("witness", "witness/threads", "witness/beside"):
            os.mkdir(f"{root}/{name}")
        with open(f"{root}/witness/threads/cgroup.type", "w") as file:
            file.write("threaded")
        with open(f"{root}/witness/beside/cgroup.type") as file:
            print(file.read().strip())
        for name in ("witness/beside", "witness/threads", "witness"):
            os.rmdir(f"{root}/{name}")
    finally:
        libc.umount2(root.encode(), 2)
