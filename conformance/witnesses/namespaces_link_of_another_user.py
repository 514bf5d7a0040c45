"""What readlink(2) of /proc/1/ns/net says to a user without capabilities; prints the errno's name, or "no error"."""

import errno
import os

os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
try:
    os.readlink("/proc/1/ns/net")
    print("no error")
except OSError as error:
    print(errno.errorcode[error.errno])
