"""What tcsetpgrp says to a group number that no process has; prints the errno's name."""

import errno
import fcntl
import os
import termios

master, slave = os.openpty()
if os.fork() == 0:
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    with open("/proc/sys/kernel/pid_max") as file:
        nobody = int(file.read()) - 1
    try:
        os.tcsetpgrp(slave, nobody)
    except OSError as error:
        print(errno.errorcode[error.errno], flush=True)
    os._exit(0)
os.wait()
