"""In which time namespace a process is that unshared its own and then called execve(2); prints it. Run as root."""

import os
import sys

before = os.readlink("/proc/self/ns/time")
child = os.fork()
if child == 0:
    os.unshare(os.CLONE_NEWTIME)
    told = (
        f"import os; n = os.readlink('/proc/self/ns/time'); print('the', ['new', 'old'][n == {before!r}], 'namespace')"
    )
    os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", told])
os.waitpid(child, 0)
