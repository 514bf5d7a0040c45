"""Whether the notifications of a bridge made and removed by another have nlmsg_seq 0; prints two truths. As root."""

import json
import socket
import struct

NEWLINK, DELLINK, REQUEST, ACK, CREATE, EXCL = 16, 17, 1, 4, 0x400, 0x200
NAME = struct.pack("=HH12s", 13, 3, b"witness0")  # IFLA_IFNAME
KIND = struct.pack("=HHHH8s", 16, 18 | 0x8000, 11, 1, b"bridge")  # IFLA_LINKINFO with IFLA_INFO_KIND


def ask(kind, flags, sequence, attributes):
    body = bytes(16) + attributes  # struct ifinfomsg
    netlink.send(struct.pack("=IHHII", 16 + len(body), kind, REQUEST | ACK | flags, sequence, 0) + body)
    netlink.recv(4096)


with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
    netlink.bind((0, 0))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as listener:
        listener.bind((0, 1))
        ask(NEWLINK, CREATE | EXCL, 5, NAME + KIND)
        ask(DELLINK, 0, 7, NAME)
        listener.setblocking(False)
        told = []
        try:
            while True:
                data = listener.recv(1 << 16)
                _, kind, _, sequence = struct.unpack_from("=IHHI", data)
                told += [sequence == 0] if b"witness0\0" in data else []
        except BlockingIOError:
            print(json.dumps([told[0], told[-1]]))
