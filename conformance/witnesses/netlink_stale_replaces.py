"""The state of a reachable neighbour that was replaced by a stale one with its address; prints 4. Run as root."""

import fcntl
import socket
import struct

SIOCSIFFLAGS, SIOCBRADDBR, SIOCBRDELBR = 0x8914, 0x89A0, 0x89A1
NEWNEIGH, GETNEIGH, REQUEST, ACK, REPLACE, CREATE = 28, 30, 1, 4, 0x100, 0x400
BRIDGE, REACHABLE, STALE = b"witness0", 2, 4


def ask(kind, flags, state, attributes):
    # struct ndmsg
    body = struct.pack("=BxxxiHBB", socket.AF_INET, index, state, 0, 0) + attributes
    netlink.send(struct.pack("=IHHII", 16 + len(body), kind, REQUEST | flags, 1, 0) + body)
    return netlink.recv(4096)


with socket.socket() as control, socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
    netlink.bind((0, 0))
    fcntl.ioctl(control, SIOCBRADDBR, BRIDGE + b"\0")
    fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH22x", BRIDGE, 1))
    index = socket.if_nametoindex(BRIDGE.decode())
    address = struct.pack("=HH4s", 8, 1, socket.inet_aton("192.0.2.7"))
    hardware = struct.pack("=HH6sxx", 10, 2, bytes.fromhex("020000000007"))
    for state in (REACHABLE, STALE):
        ask(NEWNEIGH, ACK | CREATE | REPLACE, state, address + hardware)
    print(struct.unpack_from("=H", ask(GETNEIGH, 0, 0, address), 24)[0])
    fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH22x", BRIDGE, 0))
    fcntl.ioctl(control, SIOCBRDELBR, BRIDGE + b"\0")
