"""What TIOCGPTPEER on a slave says; prints the errno's name."""

import errno
import fcntl
import os

TIOCGPTPEER = 0x5441
master, slave = os.openpty()
try:
    fcntl.ioctl(slave, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY)
except OSError as error:
    print(errno.errorcode[error.errno])
