"""What mount(2) of bpf says to root of a user namespace that owns the mount namespace; prints the errno's name."""

import ctypes
import errno
import os
import tempfile

CLONE_NEWUSER, CLONE_NEWNS = 0x10000000, 0x20000
libc = ctypes.CDLL(None, use_errno=True)
with tempfile.TemporaryDirectory() as target:
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    with open("/proc/self/uid_map", "w") as file:
        file.write("0 0 1")
    assert os.getuid() == 0
    refused = libc.mount(b"bpf", target.encode(), b"bpf", 0, None)
    print(errno.errorcode[ctypes.get_errno()] if refused else "no error", flush=True)
