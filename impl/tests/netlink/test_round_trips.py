"""Rules, routes and neighbours: what a request says, the parser reads from it; nothing is lost on the way."""

from __future__ import annotations

from collections.abc import Callable
from struct import pack, unpack_from

import pytest

from kernelproof.impl.netlink import (
    Neighbour,
    Route,
    Rule,
    WireError,
    addresses,
    link_records,
    neighbours,
    netconf,
    routes,
    rules,
)
from kernelproof.impl.netlink.links import add_link, parse_link
from kernelproof.impl.netlink.multicast import MulticastEntry, add_multicast, parse_multicast
from kernelproof.impl.netlink.neighbours import NeighbourFlag, NeighbourState, add_neighbour, parse_neighbour
from kernelproof.impl.netlink.qdiscs import parse_qdisc
from kernelproof.impl.netlink.requests import Request
from kernelproof.impl.netlink.routes import NextHop, add_route, parse_route
from kernelproof.impl.netlink.rules import GOTO, add_rule, parse_rule
from kernelproof.impl.netlink.shown_links import shown_link
from kernelproof.impl.netlink.spaces import RULE
from kernelproof.impl.netlink.watched import _settled_neighbour, route_key
from kernelproof.impl.netlink.wire import Message, encode_attributes, parse_attributes, parse_list


def as_message(request: Request) -> Message:
    """The request as if the kernel had sent it."""
    return Message(request.type, 0, 0, 0, request.body)


RULES = {
    "table": Rule(1000, table=100, source="10.0.0.0/8", destination="192.168.0.0/16"),
    "large table": Rule(1, table=70_000),
    "interfaces and mark": Rule(2, iif="lo", oif="eth0", mark=0x10, mask=0xFF, tos=8),
    "goto": Rule(3, action=GOTO, target=4000, table=0),
    "ports": Rule(4, protocol=99, ip_protocol=17, source_ports=(1, 2), destination_ports=(53, 53), uids=(1000, 2000)),
    "limits": Rule(5, suppress_prefix_length=0, suppress_group=7, realms=0x10002),
    "l3mdev": Rule(6, l3mdev=True, table=0),
    "IPv6": Rule(7, source="fd00::/8", family=10),
    "tunnel": Rule(8, table=100, tun_id=2**40 + 42),
}


@pytest.mark.parametrize("name", RULES)
def test_rules_are_read_as_they_are_written(name: str) -> None:
    """Every field of a rule is the same after both ways."""
    assert parse_rule(as_message(add_rule(RULES[name]))) == RULES[name]


def test_attributes_of_rules_are_called_as_the_kernel_calls_them() -> None:
    """The names of include/uapi/linux/fib_rules.h stand at its numbers."""
    names = {4: "GOTO", 6: "PRIORITY", 10: "FWMARK", 12: "TUN_ID", 15: "TABLE", 19: "L3MDEV", 24: "DPORT_RANGE"}
    assert {number: RULE.name(number) for number in names} == {key: f"FRA_{name}" for key, name in names.items()}


ROUTES = {
    "gateway": Route("10.0.0.0/8", "192.0.2.1", 3, priority=7, preferred_source="192.0.2.9", tos=8),
    "default": Route("::/0", "fe80::1", 3, preference=1, family=10),
    "source": Route("fd00::/8", oif=2, source="fd01::/16", family=10),
    "large table": Route("10.0.0.0/8", oif=2, table=70_000, protocol=99, scope=253),
    "unreachable": Route("10.1.0.0/16", type=7, realms=3, mark=5),
    "two ways": Route("10.0.0.0/8", nexthops=(NextHop("192.0.2.1", 3), NextHop("192.0.2.2", 4, weight=9))),
    "object": Route("10.0.0.0/8", nexthop_id=17),
    "metrics": Route("10.0.0.0/8", oif=2, metrics=((2, 1400), (16, b"cubic\0"))),
}


@pytest.mark.parametrize("name", ROUTES)
def test_routes_are_read_as_they_are_written(name: str) -> None:
    """Every field of a route that a request can carry is the same after both ways."""
    assert parse_route(as_message(add_route(ROUTES[name]))) == ROUTES[name]


def test_user_of_a_looked_up_route() -> None:
    """RTA_UID, which only answers have, is the field uid; without it there is none."""
    route = Route("10.1.0.0/16", type=7)
    plain = add_route(route)
    assert parse_route(Message(24, 0, 0, 0, plain.body + encode_attributes([(25, pack("=I", 1000))]))).uid == 1000
    assert parse_route(as_message(plain)).uid is None


NEIGHBOURS = {
    "permanent": Neighbour(2, "192.0.2.1", "02:00:00:00:00:01", family=2),
    "proxy": Neighbour(2, "fe80::1", state=0, flags=NeighbourFlag.PROXY, family=10),
    "bridge": Neighbour(2, mac="02:00:00:00:00:02", vlan=7, flags=NeighbourFlag.MASTER, protocol=99, family=7),
    "VXLAN": Neighbour(2, "192.0.2.7", "02:00:00:00:00:03", vni=5, port=4789, via=3, flags=2, family=7),
}


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_neighbours_are_read_as_they_are_written(name: str) -> None:
    """Every field of a neighbour or forwarding entry is the same after both ways."""
    assert parse_neighbour(as_message(add_neighbour(NEIGHBOURS[name]))) == NEIGHBOURS[name]


@pytest.mark.parametrize(("family", "is_kept"), [(2, True), (10, True), (7, False), (3, False)])
def test_watched_neighbours_are_those_of_ip(family: int, is_kept: bool) -> None:
    """A topology has neighbours of IPv4 and IPv6, without what is not a field, and no forwarding entries."""
    neighbour = Neighbour(1, "192.0.2.1", state=NeighbourState.STALE, family=family, rest=((99, b"x"),))
    assert _settled_neighbour(neighbour) == (neighbour._replace(rest=()) if is_kept else None)


def test_other_end_of_a_veth() -> None:
    """The peer's header has the ifindex that was asked for, 0 if none was, and its name and settings."""
    for index in (0, 9):
        peer = {"name": "p", "mtu": 1400} | ({"index": index} if index else {})
        info = parse_attributes(parse_attributes(add_link("v", "veth", peer=peer).body, 16)[18])
        told = parse_attributes(info[2])[1]
        assert unpack_from("=i", told, 4) == (index,)
        assert parse_attributes(told, 16) == {3: b"p\0", 4: pack("=I", 1400)}


def test_ports_of_a_tunnel_are_a_range() -> None:
    """IFLA_VXLAN_PORT_RANGE (10) holds the lowest and the highest port, both in the order of the network."""
    request = add_link("v", "vxlan", options={"id": 7, "port_range": "32768-61000"})
    data = parse_attributes(parse_attributes(parse_attributes(request.body, 16)[18])[2])
    assert data[10] == pack("!HH", 32768, 61000)
    assert dict(parse_link(as_message(request)).options)["port_range"] == "32768-61000"


def test_senders_are_a_list_of_addresses() -> None:
    """MDBE_ATTR_SRC_LIST holds an MDBE_SRC_LIST_ENTRY (1) for each, with its MDBE_SRCATTR_ADDRESS (1)."""
    entry = MulticastEntry(5, 6, "239.1.2.3", mode=0, sources=("10.0.0.1", "10.0.0.2"))
    details = parse_attributes(parse_attributes(add_multicast(entry).body, 8)[2])
    assert [(place, parse_attributes(data)) for place, data in parse_list(details[2])] == [
        (1, {1: b"\x0a\0\0\1"}),
        (1, {1: b"\x0a\0\0\2"}),
    ]


def test_senders_are_read_as_the_kernel_tells_them() -> None:
    """MDBA_MDB_EATTR_SRC_LIST (2) of a dumped entry holds an entry (1) for each, with its address (1)."""
    senders = [(1, [(1, bytes(address))]) for address in ((10, 0, 0, 1), (10, 0, 0, 2))]
    group = pack("=IBBH16sH2x", 6, 1, 0, 0, bytes((239, 1, 2, 3)), 0x0008)  # struct br_mdb_entry; the protocol's order
    told = encode_attributes([(1, [(1, [(1, group + encode_attributes([(2, senders)]))])])])
    (entry,) = parse_multicast(Message(84, 0, 0, 0, pack("=BxxxI", 7, 5) + told)).entries
    assert (entry.group, entry.sources) == ("239.1.2.3", ("10.0.0.1", "10.0.0.2"))


def test_a_tunnel_s_address_is_that_of_its_end() -> None:
    """Where it has one: of 4 bytes over IPv4, of 16 over IPv6; else it is shown as it is, or not at all."""
    ends = [(768, bytes((10, 0, 0, 1))), (769, b"\xfe\x80" + bytes(13) + b"\1"), (769, b""), (768, b""), (1, bytes(16))]
    told = [encode_attributes([(3, b"t0\0"), *([(1, address)] if address else [])]) for _, address in ends]
    links = [
        parse_link(Message(16, 0, 0, 0, pack("=BxHiII", 0, kind, 1, 0, 0) + attributes))
        for (kind, _), attributes in zip(ends, told, strict=True)
    ]
    shown = [shown_link(link, {}).get("address") for link in links]
    assert shown == ["10.0.0.1", "fe80::1", None, None, ":".join(["00"] * 16)]


def test_routes_are_told_apart_by_what_the_kernel_compares() -> None:
    """Another destination, table, priority, TOS or way is another route, of IPv4 other metrics too; a flag is not."""
    route = Route("10.0.0.0/8", "10.9.9.9", 3)
    ways = (NextHop("10.9.9.9", 3), NextHop("10.9.9.8", 3))
    others = (
        *(route._replace(destination="10.0.0.0/9"), route._replace(table=7), route._replace(priority=9)),
        *(route._replace(tos=8), route._replace(nexthop_id=1), route._replace(metrics=((2, 1400),))),
        *(route._replace(nexthops=ways), route._replace(nexthops=ways[::-1])),
    )
    assert len({route_key(each) for each in (route, *others)}) == 9
    down = (ways[0]._replace(flags=0x11), ways[1])
    assert route_key(route._replace(nexthops=down)) == route_key(route._replace(nexthops=ways))
    route = Route("fd00::/8", "fe80::9", 3, family=10)
    assert route_key(route._replace(metrics=((2, 1400),))) == route_key(route)
    assert route_key(route._replace(source="fd01::/16")) != route_key(route)


@pytest.mark.rule("N+7")
@pytest.mark.parametrize(
    ("parse", "family", "header_bytes", "fields"),
    [
        (addresses.parse_address, 2, 8, addresses._FIELDS),
        (link_records.parse_link, 0, 16, link_records._FIELDS - {7}),  # IFLA_STATS repeats 23 in 32 bits
        (neighbours.parse_neighbour, 2, 12, neighbours._FIELDS),
        (netconf.parse_netconf, 2, 4, netconf._FIELDS),
        (routes.parse_route, 2, 12, routes._FIELDS - {22}),  # RTA_ENCAP counts with its type, 21
        (rules.parse_rule, 2, 12, rules._FIELDS),
    ],
    ids=["address", "link", "neighbour", "netconf", "route", "rule"],
)
def test_what_is_not_in_the_rest_has_a_field(
    parse: Callable[[Message], object], family: int, header_bytes: int, fields: frozenset[int]
) -> None:
    """An attribute that is left out of the rest is read: what it holds makes another record, or is refused."""
    header = bytes([family]) + bytes(header_bytes - 1)
    nothing = parse(Message(0, 0, 0, 0, header))
    for place in fields:
        try:
            assert parse(Message(0, 0, 0, 0, header + encode_attributes([(place, b"\1\2\3\4")]))) != nothing, place
        except WireError:
            continue


def test_what_has_a_field_is_not_in_the_rest() -> None:
    """The rest of a discipline is what no field tells: neither kind, options nor statistics."""
    header = bytes(20)
    statistics = encode_attributes([(1, bytes(16))])
    body = header + encode_attributes([(1, b"pfifo\0"), (7, statistics), (12, b"\1\0\0\0")])
    assert parse_qdisc(Message(36, 0, 0, 0, body)).rest == ((12, b"\1\0\0\0"),)
