"""How a process ends that asks for its mode under a filter without prctl: it lives, and exits with 7; prints 7."""

import ctypes
import os
import struct

libc = ctypes.CDLL(None, use_errno=True)
PRCTL = {"x86_64": 157, "aarch64": 167}[os.uname().machine]
PR_GET_SECCOMP, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, PR_SET_NO_NEW_PRIVS = 21, 22, 2, 38
code = struct.pack("=HBBI", 0x20, 0, 0, 0)  # load the call's number
code += struct.pack("=HBBI", 0x15, 0, 1, PRCTL)
code += struct.pack("=HBBI", 0x06, 0, 0, 0x00050012)  # SECCOMP_RET_ERRNO | EXDEV
code += struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000)  # SECCOMP_RET_ALLOW
instructions = ctypes.create_string_buffer(code)


class Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


program = Program(len(code) // 8, ctypes.addressof(instructions))
pid = os.fork()
if pid == 0:
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0):
        os._exit(1)
    os._exit(7 if libc.prctl(PR_GET_SECCOMP, 0, 0, 0, 0) == -1 else 2)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
