"""What a bridge answers to a maximum of its multicast hash that is no power of two; needs CAP_NET_ADMIN."""

import errno
import fcntl
import socket

SIOCBRADDBR, SIOCBRDELBR = 0x89A0, 0x89A1
NAME = b"witness0\0"
with socket.socket() as control:
    fcntl.ioctl(control, SIOCBRADDBR, NAME)
    try:
        with open("/sys/class/net/witness0/bridge/hash_max", "w") as file:
            file.write("1000")
        print("no error")
    except OSError as error:
        print(errno.errorcode[error.errno])
    fcntl.ioctl(control, SIOCBRDELBR, NAME)
