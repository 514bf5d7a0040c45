"""What mount(2) says to MS_BIND with an empty source; prints the errno's name. Run as root."""

import ctypes
import errno
import tempfile

MS_BIND = 4096
libc = ctypes.CDLL(None, use_errno=True)
with tempfile.TemporaryDirectory() as target:
    refused = libc.mount(b"", target.encode(), None, MS_BIND, None)
    print(errno.errorcode[ctypes.get_errno()] if refused else "no error")
