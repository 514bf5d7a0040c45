"""Which errno a call gets when a filter returns SECCOMP_RET_ERRNO with data 65535; prints 4095. x86-64 and aarch64."""

import ctypes
import os
import struct

libc = ctypes.CDLL(None, use_errno=True)
SCHED_YIELD = {"x86_64": 24, "aarch64": 124}[os.uname().machine]
code = struct.pack("=HBBI", 0x20, 0, 0, 0)  # load the call's number
code += struct.pack("=HBBI", 0x15, 0, 1, SCHED_YIELD)
code += struct.pack("=HBBI", 0x06, 0, 0, 0x0005FFFF)  # SECCOMP_RET_ERRNO | 65535
code += struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000)  # SECCOMP_RET_ALLOW
instructions = ctypes.create_string_buffer(code)


class Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


program = Program(len(code) // 8, ctypes.addressof(instructions))
PR_SET_SECCOMP, SECCOMP_MODE_FILTER, PR_SET_NO_NEW_PRIVS = 22, 2, 38
if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
    raise OSError(ctypes.get_errno(), "no_new_privs")
if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0):
    raise OSError(ctypes.get_errno(), "seccomp")
libc.syscall(SCHED_YIELD)
print(ctypes.get_errno())
