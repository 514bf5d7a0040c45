"""What setxattr(2) of a user attribute says on a tmpfs; prints the errno's name. Run as root."""

import ctypes
import errno
import os
import tempfile

MNT_DETACH = 2
libc = ctypes.CDLL(None, use_errno=True)
with tempfile.TemporaryDirectory() as target:
    if libc.mount(b"x", target.encode(), b"tmpfs", 0, None):
        raise OSError(ctypes.get_errno(), "mount")
    try:
        with open(f"{target}/file", "w"):
            pass
        try:
            os.setxattr(f"{target}/file", "user.a", b"x")
        except OSError as error:
            print(errno.errorcode[error.errno])
        else:
            print("no error")
    finally:
        libc.umount2(target.encode(), MNT_DETACH)
