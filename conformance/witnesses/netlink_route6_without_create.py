"""Whether an IPv6 route is there after RTM_NEWROUTE without NLM_F_CREATE; prints true. Needs CAP_NET_ADMIN."""

import json
import socket
import struct

PREFIX = socket.inet_pton(socket.AF_INET6, "2001:db8:77::")
REQUEST, ACK, NEWROUTE, DELROUTE = 1, 4, 24, 25


def change(kind):
    # struct rtmsg (main table, static, unreachable), RTA_DST
    body = struct.pack("=BBBBBBBBI", 10, 64, 0, 0, 254, 3, 0, 7, 0) + struct.pack("=HH", 20, 1) + PREFIX
    netlink.send(struct.pack("=IHHII", 16 + len(body), kind, REQUEST | ACK, 1, 0) + body)
    netlink.recv(4096)


def is_there():
    with open("/proc/net/ipv6_route") as file:
        return any(line.split()[:2] == [PREFIX.hex(), "40"] for line in file)


with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
    netlink.bind((0, 0))
    before = is_there()
    change(NEWROUTE)
    print(json.dumps(is_there() and not before))
    change(DELROUTE)
