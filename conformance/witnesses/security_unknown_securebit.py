"""With which errno PR_SET_SECUREBITS refuses a bit that is none; prints EPERM. Run as root."""

import ctypes
import errno

libc = ctypes.CDLL(None, use_errno=True)
PR_SET_SECUREBITS = 28
if libc.prctl(PR_SET_SECUREBITS, ctypes.c_ulong(1 << 20), 0, 0, 0):
    print(errno.errorcode[ctypes.get_errno()])
else:
    print("no error")
