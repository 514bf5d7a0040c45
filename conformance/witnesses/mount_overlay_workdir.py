"""What mount(2) of an overlay says to a work directory with a file in it; prints the errno's name. Run as root."""

import ctypes
import errno
import os
import tempfile

MNT_DETACH = 2
libc = ctypes.CDLL(None, use_errno=True)
with tempfile.TemporaryDirectory() as base:
    if libc.mount(b"x", base.encode(), b"tmpfs", 0, None):
        raise OSError(ctypes.get_errno(), "mount of tmpfs")
    try:
        for name in ("lower", "upper", "work", "merged"):
            os.mkdir(f"{base}/{name}")
        with open(f"{base}/work/file", "w"):
            pass
        data = f"lowerdir={base}/lower,upperdir={base}/upper,workdir={base}/work"
        refused = libc.mount(b"x", f"{base}/merged".encode(), b"overlay", 0, data.encode())
        print(errno.errorcode[ctypes.get_errno()] if refused else "no error")
    finally:
        libc.umount2(base.encode(), MNT_DETACH)
