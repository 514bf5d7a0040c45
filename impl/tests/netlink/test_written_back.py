"""Routes and next hop objects that the kernel listed, written back as they were read."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from struct import pack

import pytest

from kernelproof.impl.netlink.errors import NetlinkError
from kernelproof.impl.netlink.hops import Encapsulation, NextHop, encode_nexthops, parse_nexthops
from kernelproof.impl.netlink.monitor import wait_until_link
from kernelproof.impl.netlink.nexthops import NextHopObject, add_nexthop, parse_nexthop
from kernelproof.impl.netlink.requests import Request
from kernelproof.impl.netlink.routes import Route, add_route, parse_route
from kernelproof.impl.netlink.rtnl import Rtnl
from kernelproof.impl.netlink.wire import Message, encode_attributes, parse_attributes, walk_attributes

AROUND = encode_attributes([(1, pack("!Q", 7)), (2, bytes((192, 0, 2, 9)))])  # LWTUNNEL_IP_ID and _DST


def as_message(request: Request) -> Message:
    """The request as if the kernel had sent it."""
    return Message(request.type, 0, 0, 0, request.body)


@pytest.mark.rule("N9")
def test_flags_that_the_kernel_sets_are_not_sent() -> None:
    """Of a way's flags ONLINK goes out; DEAD and LINKDOWN, which the kernel refuses, do not."""
    (hop,) = parse_nexthops(encode_nexthops([NextHop("10.0.0.1", 3, flags=0x1 | 0x4 | 0x10)], 2))
    assert hop == NextHop("10.0.0.1", 3, flags=0x4)


@pytest.mark.rule("N9")
def test_one_way_keeps_what_goes_with_it() -> None:
    """The only next hop of a route makes an ordinary one with its flag ONLINK, encapsulation and further attributes."""
    hop = NextHop("10.0.0.1", 3, flags=4, encapsulation=Encapsulation(2, AROUND), rest=((26, b"\1"),))
    there = parse_route(as_message(add_route(Route("10.9.0.0/16", nexthops=(hop,)))))
    assert there == Route("10.9.0.0/16", "10.0.0.1", 3, flags=4, encapsulation=hop.encapsulation, rest=hop.rest)


@pytest.mark.rule("N9")
def test_an_object_is_sent_without_its_ways() -> None:
    """A route of a next hop object, which the kernel lists with the object's ways, names the object alone."""
    ways = (
        Route("10.9.0.0/16", "10.0.0.1", 3, nexthop_id=5),
        Route("10.9.0.0/16", nexthops=(NextHop(),) * 2, nexthop_id=5),
    )
    for route in ways:
        assert parse_route(as_message(add_route(route))) == Route("10.9.0.0/16", nexthop_id=5)


@pytest.mark.rule("N9")
@pytest.mark.parametrize("weight", [1, 255, 256, 257, 300, 65535])
def test_weights_of_a_group_have_two_bytes(weight: int) -> None:
    """A member's weight less one stands in a low and a high byte."""
    group = NextHopObject(7, group=((5, weight), (6, 1)), group_type=1, family=0)
    request = add_nexthop(group)
    member = parse_attributes(request.body, 8)[2][:8]
    assert member == pack("=IBBH", 5, (weight - 1) % 256, (weight - 1) // 256, 0)
    assert parse_nexthop(as_message(request)) == group


@pytest.mark.rule("N9")
def test_what_the_kernel_alone_tells_is_not_sent() -> None:
    """Nested attributes go out as such, statistics and the time of being unbalanced do not."""
    told = encode_attributes([(1, b"\x20\0"), (2, pack("=I", 6000)), (4, bytes(8))])
    rest = ((12, told), (14, pack("=I", 1 << 31)), (15, b""), (17, bytes(4)), (8, AROUND), (7, b"\2\0"))
    body = add_nexthop(NextHopObject(7, group=((5, 1),), rest=rest)).body
    kinds = [int.from_bytes(body[first - 2 : first], sys.byteorder) for _, first, _ in walk_attributes(body, 8)]
    assert {12 | 0x8000, 8 | 0x8000, 7} <= set(kinds)
    assert parse_attributes(body, 8).keys() == {1, 2, 7, 8, 12}
    assert parse_attributes(parse_attributes(body, 8)[12]).keys() == {1, 2}


@pytest.fixture
def net(namespace: int) -> Iterator[Rtnl]:
    """A namespace with two pairs of links: v0 and w0 are up, v1 is up beside w1, which is down."""
    with Rtnl(namespace) as net:
        try:
            links = [net.link_add(f"v{each}", "veth", peer={"name": f"w{each}"}, up=True) for each in (0, 1)]
        except NetlinkError as error:
            pytest.skip(f"no pairs of links here: {error}")
        for each, link in enumerate(links):
            net.address_add(link, f"10.{each}.0.1/24")
            net.link_set(f"w{each}", up=True)
            wait_until_link(
                f"v{each}",
                lambda link: link is not None and link.operstate == "UP",
                timeout_seconds=60,
                netns=namespace,
            )
        yield net


@pytest.mark.rule("N9")
def test_a_route_comes_back_without_a_carrier(net: Rtnl, namespace: int) -> None:
    """A multipath route of which one link lost its carrier is removed and added again as it was listed."""
    net.route_add(Route("10.9.0.0/16", nexthops=(NextHop("10.0.0.2"), NextHop("10.1.0.2"))))
    net.link_set("w1", up=False)
    wait_until_link("v1", lambda link: link is not None and link.operstate != "UP", timeout_seconds=60, netns=namespace)
    (there,) = [route for route in net.routes(table=254) if route.destination == "10.9.0.0/16"]
    assert [hop.flags for hop in there.nexthops] == [0, 0x10]
    net.route_delete(there)
    net.route_add(there)
    assert there in net.routes(table=254)


OBJECTS = {
    "way": (NextHopObject(9, "10.0.0.2", flags=4),),
    "encapsulation": (NextHopObject(9, "10.0.0.2", rest=((7, pack("=H", 2)), (8, AROUND))),),
    "group": (NextHopObject(1, "10.0.0.2"), NextHopObject(2, "10.1.0.2"), NextHopObject(9, group=((1, 1), (2, 200)))),
    "resilient": (
        *(NextHopObject(1, "10.0.0.2"), NextHopObject(2, "10.1.0.2")),
        NextHopObject(
            *(9, "", 0, ((1, 1), (2, 1))),
            group_type=1,
            rest=((12, encode_attributes([(1, pack("=H", 32)), (2, pack("=I", 6000))])),),
        ),
    ),
}


@pytest.mark.rule("N9")
@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_comes_back(net: Rtnl, name: str) -> None:
    """An object, its route too, is removed and added again as it was listed."""
    for each in OBJECTS[name]:
        oif = 0 if each.group else net.index_of("v1" if each.gateway == "10.1.0.2" else "v0")
        try:
            net.nexthop_add(each._replace(oif=oif))
        except NetlinkError as error:
            pytest.skip(f"no such next hop object here: {error}")
    net.route_add(Route("10.9.0.0/16", nexthop_id=9))
    (there,) = [each for each in net.nexthops() if each.id == 9]
    (route,) = [each for each in net.routes(table=254) if each.nexthop_id == 9]
    net.route_delete(route)
    net.nexthop_delete(9)
    net.nexthop_add(there)
    net.route_add(route)
    assert there in net.nexthops()
    assert route in net.routes(table=254)
