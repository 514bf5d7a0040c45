"""The mode of a slave after grantpt, in a devpts that was mounted without options; prints 384. Run as root."""

import ctypes
import os
import stat
import tempfile

libc = ctypes.CDLL(None, use_errno=True)
with tempfile.TemporaryDirectory() as directory:
    if libc.mount(b"devpts", directory.encode(), b"devpts", 0, None):
        raise OSError(ctypes.get_errno(), "mount")
    master = os.open(f"{directory}/ptmx", os.O_RDWR | os.O_NOCTTY)
    if libc.grantpt(master):
        raise OSError(ctypes.get_errno(), "grantpt")
    print(stat.S_IMODE(os.stat(f"{directory}/0").st_mode))
    os.close(master)
    libc.umount2(directory.encode(), 2)
