"""What the user nobody gets for a dump of devices with NLM_F_ATOMIC; prints "no error". Run as root."""

import errno
import os
import socket
import struct

GETLINK, REQUEST, DUMP, ATOMIC, NEWLINK = 18, 1, 0x300, 0x400, 16
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
    netlink.bind((0, 0))
    netlink.send(struct.pack("=IHHIIBxHiII", 32, GETLINK, REQUEST | DUMP | ATOMIC, 1, 0, 0, 0, 0, 0, 0))
    data = netlink.recv(1 << 16)
    code = struct.unpack_from("=i", data, 16)[0]
    print("no error" if struct.unpack_from("=H", data, 4)[0] == NEWLINK else errno.errorcode[-code])
