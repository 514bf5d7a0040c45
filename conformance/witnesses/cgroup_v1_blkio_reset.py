"""What blkio.throttle.io_service_bytes says of 1 MiB after blkio.reset_stats was written; prints 1048576. As root."""

import ctypes
import mmap
import os
import tempfile

DISC = "/dev/disc/scratch"
device = os.stat(DISC).st_rdev
libc = ctypes.CDLL(None, use_errno=True)
with tempfile.TemporaryDirectory() as root:
    if libc.mount(b"cgroup", root.encode(), b"cgroup", 0, b"blkio"):
        raise OSError(ctypes.get_errno(), "mount")
    try:
        os.mkdir(f"{root}/witness")
        with open(f"{root}/witness/blkio.throttle.read_bps_device", "w") as file:
            file.write(f"{os.major(device)}:{os.minor(device)} {1 << 30}")
        pid = os.fork()
        if pid == 0:
            with open(f"{root}/witness/cgroup.procs", "w") as file:
                file.write("0")
            disc = os.open(DISC, os.O_RDONLY | os.O_DIRECT)
            os.preadv(disc, [mmap.mmap(-1, 1 << 20)], 0)
            os._exit(0)
        os.waitpid(pid, 0)
        with open(f"{root}/witness/blkio.reset_stats", "w") as file:
            file.write("1")
        with open(f"{root}/witness/blkio.throttle.io_service_bytes") as file:
            print(sum(int(line.split()[-1]) for line in file if " Read " in line))
        os.rmdir(f"{root}/witness")
    finally:
        libc.umount2(root.encode(), 2)
