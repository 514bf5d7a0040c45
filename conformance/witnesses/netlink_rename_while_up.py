"""What a device that is up answers to a new name by ioctl(2) and by netlink; prints both. Needs CAP_NET_ADMIN."""

import errno
import fcntl
import json
import socket
import struct

SIOCGIFFLAGS, SIOCSIFFLAGS, SIOCSIFNAME, SIOCBRADDBR, SIOCBRDELBR = 0x8913, 0x8914, 0x8923, 0x89A0, 0x89A1
NEWLINK, REQUEST, ACK = 16, 1, 4


def name(code):
    return errno.errorcode[code] if code else "no error"


answers = []
with socket.socket() as control, socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
    netlink.bind((0, 0))
    fcntl.ioctl(control, SIOCBRADDBR, b"witness0\0")
    now = "witness0"
    fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH22x", now.encode(), 1))
    try:
        fcntl.ioctl(control, SIOCSIFNAME, struct.pack("16s16s8x", now.encode(), b"witness1"))
        now = "witness1"
        answers.append(name(0))
    except OSError as error:
        answers.append(name(error.errno))
    # struct ifinfomsg, IFLA_IFNAME
    body = struct.pack("=BxHiIIHH12s", 0, 0, socket.if_nametoindex(now), 0, 0, 13, 3, b"witness2")
    netlink.send(struct.pack("=IHHII", 16 + len(body), NEWLINK, REQUEST | ACK, 1, 0) + body)
    answers.append(name(-struct.unpack_from("=i", netlink.recv(4096), 16)[0]))
    now = now if answers[1] != "no error" else "witness2"
    fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH22x", now.encode(), 0))
    fcntl.ioctl(control, SIOCBRDELBR, now.encode().ljust(16, b"\0"))
print(json.dumps(answers))
