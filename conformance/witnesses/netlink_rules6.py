"""Priorities and tables of the IPv6 rules of a new network namespace; prints pairs. Run as root, Python 3.12."""

import json
import os
import socket
import struct

GETRULE, REQUEST, DUMP, DONE, PRIORITY = 34, 1, 0x300, 3, 6
os.unshare(os.CLONE_NEWNET)
rules = []
with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
    netlink.bind((0, 0))
    netlink.send(struct.pack("=IHHIIB11x", 28, GETRULE, REQUEST | DUMP, 1, 0, socket.AF_INET6))
    kind = 0
    while kind != DONE:
        data = netlink.recv(1 << 16)
        while data:
            length, kind = struct.unpack_from("=IH", data)
            # struct fib_rule_hdr, then attributes; a rule without a priority has 0
            place, priority = 28, 0
            while kind != DONE and place < length:
                size, number = struct.unpack_from("=HH", data, place)
                if number == PRIORITY:
                    priority = struct.unpack_from("=I", data, place + 4)[0]
                place += (size + 3) & ~3
            rules += [[priority, data[20]]] if kind != DONE else []
            data = data[(length + 3) & ~3 :]
print(json.dumps(rules))
