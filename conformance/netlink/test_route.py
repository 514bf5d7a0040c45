"""Routes: their types, tables, metrics, gateways; looked up, deleted, expired, told of."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.netlink import heard, raw
from kernelproof.conformance.netlink.frames import Port
from kernelproof.conformance.netlink.raw import U32
from kernelproof.conformance.netlink.shown import (
    DEVICES,
    NO_ERROR,
    PROC_IPV4,
    PROC_IPV6,
    connect_to,
    ip_json,
    outcome,
    routes4,
    routes6,
    source_of,
)
from kernelproof.impl.netlink import Neighbour, NextHop, Route, RouteType, routes

if TYPE_CHECKING:
    from kernelproof.conformance.netlink.conftest import Open, Pairs, Settled
    from kernelproof.conformance.seen import Seen
    from kernelproof.impl.netlink import Rtnl

CLONED = 0x200
ONLINK = 4


def device(net: Rtnl, *more: str) -> int:
    """Make the device port0 with 10.9.0.1/24 and further addresses, up; return its index."""
    index = net.link_add("port0", "dummy", up=True).ifindex
    for address in ("10.9.0.1/24", *more):
        net.address_add(index, address)
    return index


def pair(net: Rtnl, settled: Settled) -> None:
    """Make the ends "left" and "right" with carrier."""
    net.link_add("left", "veth", peer={"name": "right"})
    for end in ("left", "right"):
        net.link_set(end, up=True)
    assert settled((DEVICES / "left/operstate").read_text, "up\n") == "up\n"


def ip(text: str) -> bytes:
    """Return the bytes of an address."""
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def refusing(statement: str, type: RouteType, errno: str) -> object:
    """A type of route, and what connect(2) ends with."""
    return pytest.param(type, errno, id=statement.rpartition(".")[2], marks=behaviour(statement, subject="impl"))


@pytest.mark.parametrize(
    ("type", "errno"),
    [
        refusing("route.type.blackhole", RouteType.BLACKHOLE, "EINVAL"),
        refusing("route.type.unreachable", RouteType.UNREACHABLE, "EHOSTUNREACH"),
        refusing("route.type.prohibit", RouteType.PROHIBIT, "EACCES"),
        refusing("route.type.throw", RouteType.THROW, "ENETUNREACH"),
    ],
)
def test_route_refuses(net: Rtnl, seen: Seen, type: RouteType, errno: str) -> None:
    """connect(2) to a destination of such a route is refused, and so is a lookup; one beside it goes through."""
    index = device(net)
    net.route_add(Route("0.0.0.0/0", "10.9.0.2", index))
    if type == RouteType.THROW:
        net.route_delete(Route("0.0.0.0/0", "10.9.0.2", index))
    net.route_add(Route("10.8.0.0/24", type=type))
    assert connect_to("10.9.0.9") == NO_ERROR
    assert outcome(net.route_get, "10.8.0.1") == errno
    assert seen(connect_to("10.8.0.1")) == errno


@behaviour("route.table.attribute-wins", subject="impl")
def test_table_of_the_attribute_counts(net: Rtnl) -> None:
    """RTA_TABLE says which table a route goes to, whatever the header says."""
    index = device(net)
    net.request(raw.route((1, ip("10.8.0.0")), (4, U32(index)), (15, U32(1000)), scope=253, how=raw.CREATE))
    assert [route["dst"] for route in ip_json("route", "show", "table", "1000")] == ["10.8.0.0/24"]
    assert [route.destination for route in routes4()] == ["10.9.0.0/24"]


@behaviour("route.table.local-automatic", subject="impl")
def test_address_makes_a_local_route(net: Rtnl) -> None:
    """An address of a device that is up makes a local route in table 255."""
    device(net)
    shown = ip_json("-N", "route", "show", "table", "255", "type", "local", "dev", "port0")
    assert [route["dst"] for route in shown] == ["10.9.0.1"]


@behaviour("route.metric.lower-preferred", subject="impl")
def test_lower_metric_is_used(net: Rtnl) -> None:
    """Of two routes to a prefix the one with the lower metric is used, and the other once it is gone."""
    index = device(net, "10.9.0.11/24", "10.9.0.12/24")
    first = Route("10.8.0.0/24", "10.9.0.2", index, priority=20, preferred_source="10.9.0.11")
    second = Route("10.8.0.0/24", "10.9.0.3", index, priority=10, preferred_source="10.9.0.12")
    for route in (first, second):
        net.route_add(route)
    assert source_of("10.8.0.1") == "10.9.0.12"
    net.route_delete(second)
    assert source_of("10.8.0.1") == "10.9.0.11"


@behaviour("route.protocol.opaque", subject="impl")
def test_protocol_is_kept(net: Rtnl) -> None:
    """A protocol above 4 comes back as it was given."""
    index = device(net)
    for number in (5, 77, 255):
        net.route_add(Route(f"10.8.{number}.0/24", oif=index, scope=253, protocol=number))
    shown = {route["dst"]: int(route["protocol"]) for route in ip_json("-N", "route", "show") if "protocol" in route}
    assert {shown[f"10.8.{number}.0/24"] for number in (5, 77, 255)} == {5, 77, 255}


@behaviour("route.gateway.onlink", subject="impl")
def test_gateway_outside_of_all_subnets(net: Rtnl, seen: Seen) -> None:
    """A gateway that no subnet has is refused, and taken with RTNH_F_ONLINK."""
    index = device(net)
    attributes = ((1, ip("10.8.0.0")), (5, ip("10.77.0.1")), (4, U32(index)))
    answer = outcome(net.request, raw.route(*attributes, how=raw.CREATE))
    assert outcome(net.route_add, Route("10.8.0.0/24", "10.77.0.1", index)) == answer
    assert [route.destination for route in routes4()] == ["10.9.0.0/24"]
    net.route_add(Route("10.8.0.0/24", "10.77.0.1", index, flags=ONLINK))
    assert {(route.destination, route.gateway) for route in routes4()} >= {("10.8.0.0/24", "10.77.0.1")}
    assert seen(answer) == "ENETUNREACH"


@behaviour("route.append.adds-alternative", subject="impl")
def test_appended_route_stands_behind(net: Rtnl) -> None:
    """A route that is appended stands behind the one of the same prefix."""
    index = device(net)
    net.route_add(Route("10.8.0.0/24", "10.9.0.2", index))
    for gateway in ("10.9.0.3", "10.9.0.4"):
        net.route_add(Route("10.8.0.0/24", gateway, index), append=True)
    gateways = [route.gateway for route in routes4() if route.destination == "10.8.0.0/24"]
    assert gateways == ["10.9.0.2", "10.9.0.3", "10.9.0.4"]


@behaviour("route.append.ipv6-makes-multipath", subject="impl")
def test_appended_ipv6_route_is_one_more_way(net: Rtnl) -> None:
    """An IPv6 route that is appended is a further next hop of the one that is there."""
    index = device(net)
    net.route_add(Route("2001:db8:1::/64", "fe80::2", index, family=10))
    net.route_add(Route("2001:db8:1::/64", "fe80::3", index, family=10), append=True)
    (route,) = ip_json("-6", "route", "show", "2001:db8:1::/64")
    assert {hop["gateway"] for hop in route["nexthops"]} == {"fe80::2", "fe80::3"}


@behaviour("route.delete.key-must-match", subject="impl")
def test_route_that_is_not_there_is_not_deleted(net: Rtnl, seen: Seen) -> None:
    """Neither a prefix without a route nor a gateway that the route does not have can be deleted."""
    index = device(net)
    net.route_add(Route("10.8.0.0/24", "10.9.0.2", index))
    answers = [
        outcome(net.request, raw.route((1, ip("10.7.0.0")), type=routes.DELROUTE, scope=255, kind=0)),
        outcome(net.request, raw.route((1, ip("10.8.0.0")), (5, ip("10.9.0.3")), type=routes.DELROUTE, scope=255)),
    ]
    typed = [
        outcome(net.route_delete, Route("10.7.0.0/24")),
        outcome(net.route_delete, Route("10.8.0.0/24", "10.9.0.3", index)),
    ]
    assert typed == answers
    assert {route.destination for route in routes4()} == {"10.8.0.0/24", "10.9.0.0/24"}
    net.route_delete(Route("10.8.0.0/24", "10.9.0.2", index))
    assert {route.destination for route in routes4()} == {"10.9.0.0/24"}
    assert seen(answers) == ["ESRCH", "ESRCH"]


def looked_up(net: Rtnl, *, fib_match: bool) -> tuple[int, int]:
    """Return prefix length and flags of the answer to a lookup of 10.8.0.1."""
    (found,) = net.request(routes.look_up_route("10.8.0.1", fib_match=fib_match)).messages
    length, flags = struct.unpack_from("=xB6xI", found.payload)
    assert heard.attributes(found.payload[12:])[1] == (ip("10.8.0.0") if fib_match else ip("10.8.0.1"))
    return length, flags


@behaviour("route.get.resolves-host", subject="impl")
def test_lookup_gives_a_route_to_the_host(net: Rtnl) -> None:
    """A lookup gives a cloned route of the full prefix length, by the gateway of the table."""
    index = device(net)
    net.route_add(Route("10.8.0.0/24", "10.9.0.2", index))
    length, flags = looked_up(net, fib_match=False)
    assert length == 32
    assert flags & CLONED
    assert net.route_get("10.8.0.1").gateway == "10.9.0.2"


@behaviour("route.get.fibmatch", subject="impl")
def test_lookup_gives_the_entry_of_the_table(net: Rtnl) -> None:
    """A lookup with RTM_F_FIB_MATCH gives the table's own route with its prefix length."""
    index = device(net)
    net.route_add(Route("10.8.0.0/24", "10.9.0.2", index))
    length, flags = looked_up(net, fib_match=True)
    assert length == 24
    assert not flags & CLONED


@behaviour("route.ipv6.expires", subject="impl")
def test_ipv6_route_expires(net: Rtnl, settled: Settled) -> None:
    """An IPv6 route that expires after a second is gone some time later, and one without an end stays."""
    index = device(net)
    net.route_add(Route("2001:db8:1::/64", oif=index, expires_ticks=100, family=10))
    net.route_add(Route("2001:db8:2::/64", oif=index, family=10))
    mine = {"2001:db8:1::/64", "2001:db8:2::/64"}
    assert routes6() >= mine
    assert settled(lambda: routes6() & mine, {"2001:db8:2::/64"}, seconds=120) == {"2001:db8:2::/64"}


@behaviour("route.ipv4.expires-unsupported", subject="impl")
def test_ipv4_route_does_not_expire(net: Rtnl, settled: Settled) -> None:
    """An IPv4 route with RTA_EXPIRES is still there when an IPv6 route of the same time is gone."""
    index = device(net)
    expires = (23, U32(1))
    net.request(raw.route((1, ip("10.8.0.0")), (4, U32(index)), expires, scope=253, how=raw.CREATE))
    net.route_add(Route("2001:db8:1::/64", oif=index, expires_ticks=100, family=10))
    assert "2001:db8:1::/64" in routes6()
    assert settled(lambda: "2001:db8:1::/64" in routes6(), False, seconds=120) is False
    assert "10.8.0.0/24" in {route.destination for route in routes4()}


def deleted(messages: list[bytes]) -> int:
    """Return how many RTM_DELROUTE there are."""
    return sum(found.type == routes.DELROUTE for datagram in messages for found in heard.take_apart(datagram))


@behaviour("route.notify.ipv4-silent-on-down", subject="impl")
def test_ipv4_routes_go_silently(net: Rtnl, opened: Open) -> None:
    """The IPv4 routes of a device that is set down go without a notification."""
    index = device(net)
    net.route_add(Route("10.8.0.0/24", "10.9.0.2", index))
    own = opened(groups=(7,))
    net.link_set("port0", up=False)
    assert routes4() == []
    assert deleted(heard.datagrams(own)) == 0
    net.link_set("port0", up=True)
    net.route_add(Route("10.8.0.0/24", "10.9.0.2", index))
    net.route_delete(Route("10.8.0.0/24", "10.9.0.2", index))
    assert deleted(heard.datagrams(own)) == 1


@behaviour("route.notify.ipv6-on-down", subject="impl")
def test_ipv6_routes_go_with_a_word_unless_told(net: Rtnl, opened: Open) -> None:
    """The IPv6 routes of a device that is set down are told of, and not with skip_notify_on_dev_down."""
    index = device(net)
    own = opened(groups=(11,))
    for skip in (False, True):
        (PROC_IPV6 / "route/skip_notify_on_dev_down").write_text(str(int(skip)))
        net.link_set("port0", up=True)
        net.route_add(Route("2001:db8:1::/64", oif=index, family=10))
        heard.datagrams(own)
        net.link_set("port0", up=False)
        assert "2001:db8:1::/64" not in routes6()
        assert (deleted(heard.datagrams(own)) == 0) is skip


@behaviour("route.multipath.linkdown-flag", subject="impl")
def test_next_hop_without_carrier_is_flagged(net: Rtnl, settled: Settled) -> None:
    """A next hop of a multipath route has RTNH_F_LINKDOWN while its device has no carrier."""
    pair(net, settled)
    net.link_add("port0", "dummy", up=True)
    for name, address in (("left", "10.9.0.1/24"), ("port0", "10.7.0.1/24")):
        net.address_add(name, address)
    hops = (NextHop("10.9.0.2", net.index_of("left")), NextHop("10.7.0.2", net.index_of("port0")))
    net.route_add(Route("10.8.0.0/24", nexthops=hops))

    def flagged() -> dict[str, bool]:
        (route,) = ip_json("route", "show", "10.8.0.0/24")
        return {hop["dev"]: "linkdown" in hop["flags"] for hop in route["nexthops"]}

    assert flagged() == {"left": False, "port0": False}
    net.link_set("right", up=False)
    assert settled(flagged, {"left": True, "port0": False}) == {"left": True, "port0": False}


@behaviour("route.lookup.linkdown-enetunreach", subject="impl")
def test_route_without_carrier_can_be_ignored(net: Rtnl, settled: Settled, seen: Seen) -> None:
    """With ignore_routes_with_linkdown a route by a device without carrier leads nowhere; without it, it does."""
    pair(net, settled)
    net.address_add("left", "10.9.0.1/24")
    net.link_set("right", up=False)
    assert settled((DEVICES / "left/operstate").read_text, "lowerlayerdown\n") == "lowerlayerdown\n"
    net.link_set("left", group=1)  # waits for the lock that the kernel holds until all its parts were told
    answers = []
    for ignore in ("0", "1"):
        for scope in ("all", "left"):
            (PROC_IPV4 / "conf" / scope / "ignore_routes_with_linkdown").write_text(ignore)
        answers.append(connect_to("10.9.0.2"))
    assert seen(answers) == [NO_ERROR, "ENETUNREACH"]


@behaviour("route.sysctl.default-ttl-range", subject="impl")
def test_time_to_live_has_bounds(net: Rtnl, pairs: Pairs, seen: Seen) -> None:
    """Packets have the default TTL, which is 1 to 255; 0 and 256 are refused."""
    pairs("p0")
    net.address_add("p0", "10.9.0.1/24")
    net.neighbour_add(Neighbour(net.index_of("p0"), "10.9.0.2", "02:00:00:00:00:02"))
    file = PROC_IPV4 / "ip_default_ttl"
    far = Port("p0-far", 0x0800)
    for ttl in (1, 255):
        file.write_text(str(ttl))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.sendto(b"x", ("10.9.0.2", 9))
        assert [data[22] for data in far.received()] == [ttl]
    far.close()
    answers = [outcome(file.write_text, str(ttl)) for ttl in (0, 256)]
    assert file.read_text() == "255\n"
    assert seen(answers) == ["EINVAL", "EINVAL"]
