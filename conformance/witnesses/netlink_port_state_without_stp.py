"""Whether a port without spanning tree refuses listening, learning, blocking; prints three truths. Run as root."""

import fcntl
import json
import os
import socket
import struct

SIOCSIFFLAGS, SIOCBRADDBR, SIOCBRDELBR, SIOCBRADDIF, TUNSETIFF = 0x8914, 0x89A0, 0x89A1, 0x89A2, 0x400454CA
SETLINK, REQUEST, ACK, AF_BRIDGE, TAP = 19, 1, 4, 7, 2
BRIDGE, PORT = b"witness0", b"witness1"

tap = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", PORT, TAP))
refused = []
with socket.socket() as control, socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
    netlink.bind((0, 0))
    fcntl.ioctl(control, SIOCBRADDBR, BRIDGE + b"\0")
    index = socket.if_nametoindex(PORT.decode())
    fcntl.ioctl(control, SIOCBRADDIF, struct.pack("16si20x", BRIDGE, index))
    for name in (BRIDGE, PORT):
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH22x", name, 1))
    for state in (1, 2, 4):
        # struct ifinfomsg, IFLA_PROTINFO with IFLA_BRPORT_STATE
        body = struct.pack("=BxHiIIHHHHB3x", AF_BRIDGE, 0, index, 0, 0, 12, 12 | 0x8000, 5, 1, state)
        netlink.send(struct.pack("=IHHII", 16 + len(body), SETLINK, REQUEST | ACK, 1, 0) + body)
        refused.append(struct.unpack_from("=i", netlink.recv(4096), 16)[0] != 0)
    os.close(tap)
    fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH22x", BRIDGE, 0))
    fcntl.ioctl(control, SIOCBRDELBR, BRIDGE + b"\0")
print(json.dumps(refused))
