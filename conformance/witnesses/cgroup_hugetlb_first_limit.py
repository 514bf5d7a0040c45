"""What hugetlb.2MB.max says in a new cgroup of version 2; prints it. Run as root."""

import ctypes
import os
import tempfile

libc = ctypes.CDLL(None, use_errno=True)
top = tempfile.mkdtemp()
if libc.mount(b"cgroup2", top.encode(), b"cgroup2", 0, None):
    raise OSError(ctypes.get_errno(), "mount")
with open(f"{top}/cgroup.subtree_control", "w") as control:
    control.write("+hugetlb")
os.mkdir(f"{top}/witness")
with open(f"{top}/witness/hugetlb.2MB.max") as limit:
    print(limit.read().strip())
os.rmdir(f"{top}/witness")
libc.umount2(top.encode(), 2)
