"""What mount(2) says to MS_MOVE of the root onto a directory; prints the errno's name. Run as root."""

import ctypes
import errno
import tempfile

MS_MOVE = 8192
libc = ctypes.CDLL(None, use_errno=True)
with tempfile.TemporaryDirectory() as target:
    refused = libc.mount(b"/", target.encode(), None, MS_MOVE, None)
    print(errno.errorcode[ctypes.get_errno()] if refused else "no error")
