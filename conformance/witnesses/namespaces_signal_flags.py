"""What pidfd_send_signal(2) says to the flags 1, 2, 4 and 8, for a process that leads a group; prints a list."""

import ctypes
import errno
import json
import os
import signal

libc = ctypes.CDLL(None, use_errno=True)
child = os.fork()
if child == 0:
    while True:
        signal.pause()
os.setpgid(child, child)
pidfd = os.pidfd_open(child)
answers = []
for flags in (1, 2, 4, 8):
    refused = libc.syscall(ctypes.c_long(424), pidfd, 0, None, ctypes.c_uint(flags))
    answers.append(errno.errorcode[ctypes.get_errno()] if refused else "no error")
os.kill(child, signal.SIGKILL)
os.waitpid(child, 0)
print(json.dumps(answers))
