"""How mountinfo shows a colon in a layer given by "lowerdir+"; prints it. Run as root."""

import ctypes
import os
import re
import tempfile

MNT_DETACH = 2
FSOPEN, FSCONFIG, FSMOUNT, MOVE_MOUNT, SET_STRING, CMD_CREATE, F_EMPTY_PATH = 430, 431, 432, 429, 1, 6, 4
libc = ctypes.CDLL(None, use_errno=True)


def call(*arguments: object) -> int:
    """A system call that must succeed."""
    result = libc.syscall(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), str(arguments[0]))
    return int(result)


with tempfile.TemporaryDirectory() as base:
    if libc.mount(b"x", base.encode(), b"tmpfs", 0, None):
        raise OSError(ctypes.get_errno(), "mount")
    try:
        context = call(FSOPEN, b"overlay", 1)
        for name in ("a:b", "second"):
            os.mkdir(f"{base}/{name}")
            call(FSCONFIG, context, SET_STRING, b"lowerdir+", f"{base}/{name}".encode(), 0)
        call(FSCONFIG, context, CMD_CREATE, None, None, 0)
        os.mkdir(f"{base}/merged")
        call(MOVE_MOUNT, call(FSMOUNT, context, 1, 0), b"", -100, f"{base}/merged".encode(), F_EMPTY_PATH)
        with open("/proc/self/mountinfo") as file:
            (line,) = [line for line in file if f" {base}/merged " in line]
        print(re.search(r"/a([^a-z/]+)b", line.split(" - ")[1])[1])
    finally:
        libc.umount2(base.encode(), MNT_DETACH)
