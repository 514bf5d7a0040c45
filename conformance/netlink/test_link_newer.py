"""netkit pairs, sizes of offloaded packets above 64 KiB, and rules by DSCP and masked ports."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from kernelproof import behaviour
from kernelproof.conformance.netlink import raw
from kernelproof.conformance.netlink.raw import CREATE, EXCL, U8, U16, U32
from kernelproof.conformance.netlink.shown import ip_json, names, outcome
from kernelproof.impl.netlink import Route

if TYPE_CHECKING:
    from kernelproof.conformance.seen import Seen
    from kernelproof.impl.netlink import Rtnl
    from kernelproof.impl.netlink.wire import Attribute

MODE, L2 = 5, 0  # IFLA_NETKIT_MODE and NETKIT_L2 of linux/if_link.h
GRO_MAX_SIZE, GSO_IPV4_MAX_SIZE = 58, 63  # IFLA_
# FRA_ of linux/fib_rules.h
PRIORITY, TABLE, DPORT_RANGE, DSCP, DPORT_MASK = 6, 15, 24, 25, 29
FIRST, SECOND, FAR = "10.9.0.1", "10.9.0.2", "10.8.0.1"


def add_netkit(net: Rtnl, *options: Attribute) -> list[dict[str, object]]:
    """Make a netkit device and return what `ip` says of both ends."""
    before = names()
    net.request(raw.link((3, b"port0\0"), raw.kind("netkit", *options), how=CREATE | EXCL))
    assert len(names() - before) == 2
    return [shown["linkinfo"]["info_data"] for shown in ip_json("link", "show", "type", "netkit")]


@behaviour("link.netkit.pair")
def test_pair(net: Rtnl, seen: Seen) -> None:
    """A netkit device comes with a peer, both of mode l3, of which one is the primary."""
    ends = add_netkit(net)
    assert sorted(str(end["type"]) for end in ends) == ["peer", "primary"]
    assert seen([end["mode"] for end in ends]) == ["l3", "l3"]


@behaviour("link.netkit.mode-l2")
def test_mode(net: Rtnl, seen: Seen) -> None:
    """A netkit device that is made with mode l2 has it at both ends."""
    assert seen([end["mode"] for end in add_netkit(net, (MODE, U32(L2)))]) == ["l2", "l2"]


@behaviour("link.limit.gro-above-64k")
def test_large_packets_built(net: Rtnl, seen: Seen) -> None:
    """IFLA_GRO_MAX_SIZE takes more than 65536."""
    index = net.link_add("port0", "dummy").ifindex
    net.request(raw.link((GRO_MAX_SIZE, U32(100000)), index=index))
    assert seen(ip_json("link", "show", "port0")[0]["gro_max_size"]) == 100000


@behaviour("link.limit.gso-ipv4-above-64k")
def test_large_packets_of_ipv4(net: Rtnl, seen: Seen) -> None:
    """IFLA_GSO_IPV4_MAX_SIZE takes more than 65536, and the size for IPv6 stays as it was."""
    index = net.link_add("port0", "veth", peer={"name": "port1"}).ifindex
    before = ip_json("link", "show", "port0")[0]["gso_max_size"]
    net.request(raw.link((GSO_IPV4_MAX_SIZE, U32(100000)), index=index))
    (shown,) = ip_json("link", "show", "port0")
    assert shown["gso_max_size"] == before
    assert seen(shown["gso_ipv4_max_size"]) == 100000


def two_tables(net: Rtnl) -> None:
    """A device with two addresses; the main table gives the first, table 100 the second."""
    index = net.link_add("port0", "dummy", up=True).ifindex
    for address in (FIRST, SECOND):
        net.address_add(index, f"{address}/24")
    for table, source in ((254, FIRST), (100, SECOND)):
        net.route_add(Route("10.8.0.0/24", oif=index, scope=253, table=table, preferred_source=source))


def source_with(*, tos: int = 0, port: int = 9) -> str:
    """The source address that a UDP socket gets for a destination."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)
        one.connect((FAR, port))
        return str(one.getsockname()[0])


@behaviour("rule.match.dscp")
def test_rule_by_dscp(net: Rtnl, seen: Seen) -> None:
    """A rule with a DSCP holds for packets of that value alone, whatever their ECN bits; 64 is refused."""
    two_tables(net)
    assert outcome(net.request, raw.rule((DSCP, U8(64)), (TABLE, U32(100)), how=CREATE | EXCL)) != "no error"
    net.request(raw.rule((PRIORITY, U32(10)), (DSCP, U8(46)), (TABLE, U32(100)), how=CREATE | EXCL))
    assert seen([source_with(tos=tos) for tos in (46 << 2, 46 << 2 | 2, 45 << 2, 0)]) == [SECOND, SECOND, FIRST, FIRST]


@behaviour("rule.match.port-mask")
def test_rule_by_masked_port(net: Rtnl, seen: Seen) -> None:
    """A rule with a port and a mask holds for the ports that agree in the bits of the mask."""
    two_tables(net)
    port = (DPORT_RANGE, U16(0x1200) + U16(0x1200))
    net.request(raw.rule((PRIORITY, U32(10)), port, (DPORT_MASK, U16(0xFF00)), (TABLE, U32(100)), how=CREATE | EXCL))
    assert seen([source_with(port=port) for port in (0x1200, 0x12FF, 0x1300)]) == [SECOND, SECOND, FIRST]
