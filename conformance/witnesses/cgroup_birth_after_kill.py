"""How a child ends that is born in a cgroup after cgroup.kill was used there; prints -9 (SIGKILL) or 7. Run as root."""

import ctypes
import os
import tempfile

libc = ctypes.CDLL(None, use_errno=True)
CLONE3, INTO_CGROUP, SIGCHLD = 435, 0x200000000, 17
with tempfile.TemporaryDirectory() as root:
    if libc.mount(b"cgroup2", root.encode(), b"cgroup2", 0, None):
        raise OSError(ctypes.get_errno(), "mount")
    try:
        os.mkdir(f"{root}/witness")
        with open(f"{root}/witness/cgroup.kill", "w") as file:
            file.write("1")
        cgroup = os.open(f"{root}/witness", os.O_PATH)
        words = (ctypes.c_uint64 * 11)(INTO_CGROUP, 0, 0, 0, SIGCHLD, 0, 0, 0, 0, 0, cgroup)
        pid = libc.syscall(CLONE3, words, ctypes.sizeof(words))
        if pid == 0:
            os._exit(7)
        if pid < 0:
            raise OSError(ctypes.get_errno(), "clone3")
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        os.close(cgroup)
        os.rmdir(f"{root}/witness")
    finally:
        libc.umount2(root.encode(), 2)
