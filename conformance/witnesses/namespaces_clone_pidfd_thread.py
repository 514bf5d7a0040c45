"""What clone3(2) says to CLONE_PIDFD with CLONE_THREAD; prints the errno's name, or "no error". Run as root.

The thread is asked to have the id of process 1, so that flags which the kernel likes are answered with EEXIST.
"""

import ctypes
import errno
import struct

CLONE_VM, CLONE_SIGHAND, CLONE_PIDFD, CLONE_THREAD = 0x100, 0x800, 0x1000, 0x10000
libc = ctypes.CDLL(None, use_errno=True)
pidfd, stack, ids = ctypes.c_int(), ctypes.create_string_buffer(4096), (ctypes.c_int * 1)(1)
flags = CLONE_VM | CLONE_SIGHAND | CLONE_PIDFD | CLONE_THREAD
places = [ctypes.addressof(each) for each in (pidfd, stack, ids)]
arguments = struct.pack("=11Q", flags, places[0], 0, 0, 0, places[1], 4096, 0, places[2], 1, 0)
libc.syscall(ctypes.c_long(435), arguments, ctypes.c_size_t(len(arguments)))
number = ctypes.get_errno()
print("no error" if number == errno.EEXIST else errno.errorcode[number])
