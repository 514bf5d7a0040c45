"""What connect(2) by the main table ends with once its rule is deleted; prints "no error". As root, Python 3.12."""

import errno
import fcntl
import os
import socket
import struct

SIOCSIFFLAGS, SIOCSIFADDR, SIOCBRADDBR = 0x8914, 0x8916, 0x89A0
DELRULE, REQUEST, ACK, MAIN, PRIORITY = 33, 1, 4, 254, 6
BRIDGE = b"witness0"
os.unshare(os.CLONE_NEWNET)
with socket.socket() as control, socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
    netlink.bind((0, 0))
    fcntl.ioctl(control, SIOCBRADDBR, BRIDGE + b"\0")
    fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH22x", BRIDGE, 1))
    address = struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton("192.168.77.1"))
    fcntl.ioctl(control, SIOCSIFADDR, struct.pack("16s16s8x", BRIDGE, address))
    # struct fib_rule_hdr, FRA_PRIORITY
    body = struct.pack("=BBBBBxxBIHHI", socket.AF_INET, 0, 0, 0, MAIN, 1, 0, 8, PRIORITY, 32766)
    netlink.send(struct.pack("=IHHII", 16 + len(body), DELRULE, REQUEST | ACK, 1, 0) + body)
    assert struct.unpack_from("=i", netlink.recv(4096), 16)[0] == 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        try:
            sender.connect(("192.168.77.9", 9))
            print("no error")
        except OSError as error:
            print(errno.errorcode[error.errno])
