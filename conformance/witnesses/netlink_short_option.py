"""What NETLINK_EXT_ACK answers to a value of one byte; prints "no error"."""

import errno
import socket

SOL_NETLINK, EXT_ACK = 270, 11
with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
    try:
        netlink.setsockopt(SOL_NETLINK, EXT_ACK, b"\1")
        print("no error")
    except OSError as error:
        print(errno.errorcode[error.errno])
