"""What ns/pid_for_children is between unshare(2) of the PID namespace and the first fork; prints it. Run as root."""

import errno
import os

before = os.readlink("/proc/self/ns/pid")
os.unshare(os.CLONE_NEWPID)
try:
    text = os.readlink("/proc/self/ns/pid_for_children")
    print(text and ("the old namespace" if text == before else "a new namespace"))
except OSError as error:
    print(errno.errorcode[error.errno])
