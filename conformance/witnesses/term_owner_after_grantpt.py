"""Who owns a slave after grantpt when the real uid is 1000 and the effective one 0; prints 0. Run as root."""

import ctypes
import os

os.setresuid(1000, 0, 0)
libc = ctypes.CDLL(None, use_errno=True)
libc.ptsname.restype = ctypes.c_char_p
master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
if libc.grantpt(master):
    raise OSError(ctypes.get_errno(), "grantpt")
print(os.stat(libc.ptsname(master)).st_uid)
