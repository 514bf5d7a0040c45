"""What a read of a filesystem context says after one that was too short; prints the errno's name. Run as root."""

import ctypes
import errno
import os

FSOPEN, FSCONFIG, SET_STRING = 430, 431, 1
libc = ctypes.CDLL(None, use_errno=True)
fd = libc.syscall(FSOPEN, b"tmpfs", 1)
if fd < 0:
    raise OSError(ctypes.get_errno(), "fsopen")
assert libc.syscall(FSCONFIG, fd, SET_STRING, b"frobnicate", b"1", 0) == -1
answers = []
for length in (4, 1000):
    try:
        os.read(fd, length)
    except OSError as error:
        answers.append(errno.errorcode[error.errno])
    else:
        answers.append("no error")
assert answers[0] == "EMSGSIZE"
print(answers[1])
