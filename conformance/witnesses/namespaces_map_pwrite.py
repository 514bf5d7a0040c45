"""What pwrite(2) to a uid_map at offset 1 says; prints the errno's name. Run as root."""

import errno
import os

asks, tell = os.pipe()
child = os.fork()
if child == 0:
    os.unshare(os.CLONE_NEWUSER)
    os.write(tell, b"!")
    os.read(os.pipe()[0], 1)
os.read(asks, 1)
fd = os.open(f"/proc/{child}/uid_map", os.O_WRONLY)
try:
    os.pwrite(fd, b"0 0 1\n", 1)
    print("no error")
except OSError as error:
    print(errno.errorcode[error.errno])
os.kill(child, 9)
