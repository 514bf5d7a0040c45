"""Whether the NLMSG_DONE that ends a dump of devices has NLM_F_MULTI set; prints true."""

import json
import socket
import struct

GETLINK, REQUEST, DUMP, DONE, MULTI = 18, 1, 0x300, 3, 2
with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
    netlink.bind((0, 0))
    netlink.send(struct.pack("=IHHIIBxHiII", 32, GETLINK, REQUEST | DUMP, 1, 0, 0, 0, 0, 0, 0))
    kind = flags = 0
    while kind != DONE:
        data = netlink.recv(1 << 16)
        place = 0
        while place < len(data):
            length, kind, flags = struct.unpack_from("=IHH", data, place)
            place += (length + 3) & ~3
print(json.dumps(bool(flags & MULTI)))
