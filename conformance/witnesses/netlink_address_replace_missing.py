"""Whether an IPv4 address is there after RTM_NEWADDR with NLM_F_REPLACE alone; prints true. Needs CAP_NET_ADMIN."""

import json
import socket
import struct

ADDRESS = socket.inet_aton("192.0.2.77")
REQUEST, ACK, REPLACE, NEWADDR, DELADDR = 1, 4, 0x100, 20, 21


def change(kind, flags):
    # struct ifaddrmsg of lo, IFA_LOCAL, IFA_ADDRESS
    body = struct.pack("=BBBBI", 2, 32, 0, 0, 1)
    body += struct.pack("=HH", 8, 2) + ADDRESS + struct.pack("=HH", 8, 1) + ADDRESS
    netlink.send(struct.pack("=IHHII", 16 + len(body), kind, REQUEST | ACK | flags, 1, 0) + body)
    netlink.recv(4096)


def is_there():
    with open("/proc/net/fib_trie") as file:
        return "192.0.2.77" in file.read()


with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
    netlink.bind((0, 0))
    before = is_there()
    change(NEWADDR, REPLACE)
    print(json.dumps(is_there() and not before))
    change(DELADDR, 0)
