"""Flags of requests that change something, dumps, and strict checking."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

from kernelproof import behaviour
from kernelproof.conformance.netlink import heard, raw
from kernelproof.conformance.netlink.heard import ACK, DONE, DUMP, FILTERED, INTERRUPTED, MULTI, answers
from kernelproof.conformance.netlink.raw import CREATE, ECHO, EXCL, REPLACE, U32
from kernelproof.conformance.netlink.shown import (
    addresses4,
    addresses6,
    attribute_of,
    names,
    neighbours4,
    outcome,
    routes4,
    routes6,
)
from kernelproof.impl.netlink import Neighbour, Request, Route, Rtnl, addresses, links

if TYPE_CHECKING:
    from kernelproof.conformance.netlink.conftest import Open
    from kernelproof.conformance.seen import Seen
    from kernelproof.impl.netlink import Connection

HOME = "10.9.0.1/24"


def device(net: Rtnl) -> int:
    """Make a device with an address, up; return its index."""
    index = net.link_add("port0", "dummy", up=True).ifindex
    net.address_add(index, HOME)
    return index


def ip(text: str) -> bytes:
    """Return the bytes of an address."""
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


@behaviour("netlink.flags.excl-existing", subject="impl")
def test_exclusive_creation(net: Rtnl, seen: Seen) -> None:
    """NLM_F_CREATE with NLM_F_EXCL of an address or a route that is there is refused with EEXIST."""
    index = device(net)
    net.route_add(Route("10.8.0.0/24", oif=index, scope=253))
    home, how = ip("10.9.0.1"), CREATE | EXCL
    answers = [
        outcome(net.request, raw.address(index, (2, home), (1, home), how=how)),
        outcome(net.request, raw.route((1, ip("10.8.0.0")), (4, U32(index)), scope=253, how=how)),
    ]
    typed = [
        outcome(net.address_add, index, HOME),
        outcome(net.route_add, Route("10.8.0.0/24", oif=index, scope=253)),
    ]
    assert typed == answers
    assert [route.destination for route in routes4()] == ["10.8.0.0/24", "10.9.0.0/24"]
    assert seen(answers) == ["EEXIST", "EEXIST"]


@behaviour("netlink.flags.create-needed-route4", subject="impl")
def test_route_is_not_made_without_being_told(net: Rtnl, seen: Seen) -> None:
    """An IPv4 route that is not there is refused with ENOENT without NLM_F_CREATE, and made with it."""
    index = device(net)
    request = raw.route((1, ip("10.8.0.0")), (4, U32(index)), scope=253)
    answer = outcome(net.request, request)
    assert [route.destination for route in routes4()] == ["10.9.0.0/24"]
    net.request(request._replace(flags=CREATE))
    assert [route.destination for route in routes4()] == ["10.8.0.0/24", "10.9.0.0/24"]
    assert seen(answer) == "ENOENT"


@behaviour("netlink.flags.create-needed-route6", subject="impl")
def test_ipv6_route_is_not_made_without_being_told(net: Rtnl, seen: Seen) -> None:
    """An IPv6 route that is not there is not made without NLM_F_CREATE."""
    index = device(net)
    request = raw.route((1, ip("2001:db8::")), (4, U32(index)), length=64, family=10)
    outcome(net.request, request)
    without = "2001:db8::/64" in routes6()
    outcome(net.request, request._replace(flags=CREATE | EXCL))
    assert "2001:db8::/64" in routes6()
    assert seen(without) is False


@behaviour("netlink.flags.create-needed-address", subject="impl")
def test_address_is_not_made_without_being_told(net: Rtnl, seen: Seen) -> None:
    """An address that is not there is not added without NLM_F_CREATE."""
    index = device(net)
    outcome(net.request, raw.address(index, (2, ip("10.8.0.1")), (1, ip("10.8.0.1"))))
    without = "10.8.0.1/24" in addresses4("port0")
    outcome(net.request, raw.address(index, (2, ip("10.8.0.1")), (1, ip("10.8.0.1")), how=CREATE))
    assert "10.8.0.1/24" in addresses4("port0")
    assert seen(without) is False


@behaviour("netlink.flags.replace-missing-route", subject="impl")
def test_route_that_is_to_be_replaced_is_there(net: Rtnl, seen: Seen) -> None:
    """NLM_F_REPLACE alone of a route that is not there is refused with ENOENT, for both families."""
    index = device(net)
    answers = [
        outcome(net.request, raw.route((1, ip("10.8.0.0")), (4, U32(index)), scope=253, how=REPLACE)),
        outcome(net.request, raw.route((1, ip("2001:db8::")), (4, U32(index)), length=64, family=10, how=REPLACE)),
    ]
    assert [route.destination for route in routes4()] == ["10.9.0.0/24"]
    assert "2001:db8::/64" not in routes6()
    assert seen(answers) == ["ENOENT", "ENOENT"]


@behaviour("netlink.flags.replace-missing-address", subject="impl")
def test_address_that_is_to_be_replaced_is_there(net: Rtnl, seen: Seen) -> None:
    """NLM_F_REPLACE alone of an address that is not there adds none."""
    index = device(net)
    outcome(net.request, raw.address(index, (2, ip("10.8.0.1")), (1, ip("10.8.0.1")), how=REPLACE))
    assert HOME in addresses4("port0")
    assert seen("10.8.0.1/24" in addresses4("port0")) is False


@behaviour("netlink.flags.replace-missing-neighbour", subject="impl")
def test_neighbour_that_is_to_be_replaced_is_there(net: Rtnl, seen: Seen) -> None:
    """NLM_F_REPLACE alone of a neighbour that is not there is refused with ENOENT."""
    index = device(net)
    mac = bytes.fromhex("020000000001")
    answer = outcome(net.request, raw.neighbour(index, (1, ip("10.9.0.2")), (2, mac), how=REPLACE))
    assert neighbours4() == {}
    net.neighbour_add(Neighbour(index, "10.9.0.2", "02:00:00:00:00:02"), replace=True)
    net.request(raw.neighbour(index, (1, ip("10.9.0.2")), (2, mac), how=REPLACE))
    assert neighbours4() == {"10.9.0.2": "02:00:00:00:00:01"}
    assert seen(answer) == "ENOENT"


@behaviour("netlink.flags.create-replace", subject="impl")
def test_route_is_made_or_replaced(net: Rtnl) -> None:
    """NLM_F_CREATE with NLM_F_REPLACE makes a route that is not there, and replaces the one that is."""
    index = device(net)
    for gateway in ("10.9.0.2", "10.9.0.3"):
        net.route_replace(Route("10.8.0.0/24", gateway, index))
        assert [route.gateway for route in routes4() if route.destination == "10.8.0.0/24"] == [gateway]


@behaviour("netlink.flags.echo", subject="impl")
def test_new_link_is_echoed(opened: Open) -> None:
    """RTM_NEWLINK with NLM_F_ECHO returns the new device to who asked, under the number of the request."""
    own = opened()
    how = CREATE | EXCL | ECHO
    request = raw.link((3, b"br0\0"), raw.kind("bridge"), how=how)
    found = [message for message in answers(own, request.encode(77, ACK)) if message.type == links.NEWLINK]
    assert [message.sequence for message in found] == [77]
    assert struct.unpack_from("=i", found[0].payload, 4)[0] == socket.if_nametoindex("br0")
    assert heard.attributes(found[0].payload[16:])[3] == b"br0\0"


@behaviour("netlink.dump.multi-flag", subject="impl")
def test_messages_of_a_dump_are_flagged(net: Rtnl, opened: Open) -> None:
    """Every message of a dump that carries a device has NLM_F_MULTI set."""
    device(net)
    found = answers(opened(), links.list_links().encode(1, DUMP))
    objects = [message for message in found if message.type == links.NEWLINK]
    assert len(objects) == len(names())
    assert all(message.flags & MULTI for message in objects)
    assert not answers(opened(), links.get_link("port0").encode(1))[0].flags & MULTI


@behaviour("netlink.dump.ends-with-done", subject="impl")
def test_dump_ends(net: Rtnl, opened: Open) -> None:
    """The last message of a dump, and none before, is NLMSG_DONE."""
    device(net)
    found = [message.type for message in answers(opened(), links.list_links().encode(1, DUMP))]
    assert found == [links.NEWLINK] * len(names()) + [DONE]


@behaviour("netlink.dump.done-without-multi", subject="impl")
def test_end_of_a_dump_is_not_flagged(opened: Open, seen: Seen) -> None:
    """The NLMSG_DONE of a dump is the one message without NLM_F_MULTI."""
    *objects, done = answers(opened(), links.list_links().encode(1, DUMP))
    assert all(message.flags & MULTI for message in objects)
    assert done.type == DONE
    assert seen(bool(done.flags & MULTI)) is False


@behaviour("netlink.dump.done-carries-error", subject="impl")
def test_end_of_a_dump_says_how_it_went(net: Rtnl, opened: Open) -> None:
    """NLMSG_DONE holds 0 for a dump that went well, and a negative errno for one that the kernel refused."""
    *_, done = answers(opened(), links.list_links().encode(1, DUMP))
    assert (done.type, done.code) == (DONE, 0)
    assert len(done.payload) >= 4
    wrong = addresses.list_addresses()._replace(body=b"\2\x18\0\0\0\0\0\0")  # a prefix length
    (refused,) = answers(opened(strict=True), wrong.encode(1, DUMP))
    assert (refused.type, refused.code) == (DONE, -22)
    assert outcome(net.connection.messages, wrong) == "EINVAL"


@behaviour("netlink.dump.several-datagrams", subject="impl")
def test_long_dump_is_whole(net: Rtnl, opened: Open) -> None:
    """A dump of many datagrams has every device once."""
    net.batch(links.add_link(f"d{number}", "dummy") for number in range(120))
    own = opened()
    own.send(links.list_links().encode(1, DUMP))
    datagrams = heard.datagrams(own)
    assert len(datagrams) > 2
    found = [message for datagram in datagrams for message in heard.take_apart(datagram)][:-1]
    read = [heard.attributes(message.payload[16:])[3][:-1].decode() for message in found]
    assert len(read) == len(set(read))
    assert set(read) == names()
    assert [link.name for link in net.links()] == read


@behaviour("netlink.dump.interrupted-flag", subject="impl")
def test_change_during_a_dump_is_told(net: Rtnl, opened: Open) -> None:
    """A device that is made between two reads of a dump makes the kernel set NLM_F_DUMP_INTR on a later message."""
    net.batch(links.add_link(f"d{number}", "dummy") for number in range(120))
    own = opened()
    own.send(links.list_links().encode(1, DUMP))
    first = heard.take_apart(own.receive()[0])
    net.link_add("another", "dummy")
    later = [message for datagram in heard.datagrams(own) for message in heard.take_apart(datagram)]
    assert not any(message.flags & INTERRUPTED for message in first)
    assert any(message.flags & INTERRUPTED for message in later)


@behaviour("netlink.dump.filtered-flag", subject="impl")
def test_filtered_dump_says_so(net: Rtnl, opened: Open) -> None:
    """A dump of the devices of one kind, or of one master, says on each message that it is filtered."""
    bridge = net.link_add("br0", "bridge").ifindex
    net.link_add("port0", "dummy", master="br0")
    net.link_add("port1", "dummy")
    for request, wanted in (
        (links.list_links(kind="dummy"), {"port0", "port1"}),
        (links.list_links(master=bridge), {"port0"}),
    ):
        *found, _ = answers(opened(), request.encode(1, DUMP))
        assert {heard.attributes(each.payload[16:])[3][:-1].decode() for each in found} == wanted
        assert all(each.flags & FILTERED for each in found)
    *found, _ = answers(opened(), links.list_links().encode(1, DUMP))
    assert not any(each.flags & FILTERED for each in found)


@behaviour("netlink.strict.option-accepted", subject="impl")
def test_strict_checking_is_switched_on(opened: Open) -> None:
    """NETLINK_GET_STRICT_CHK reads back 1 where it was set, and 0 where it was not."""
    read = []
    for strict in (True, False):
        with heard.options_of(opened(strict=strict)) as same:
            read.append(same.getsockopt(heard.SOL_NETLINK, heard.STRICT))
    assert read == [1, 0]


@behaviour("netlink.strict.unknown-attribute", subject="impl")
def test_unknown_attribute_is_refused(net: Rtnl, plain: Connection, seen: Seen) -> None:
    """RTM_GETLINK with an attribute that the kernel does not know is refused with strict checking, and only then."""
    index = net.link_add("port0", "dummy").ifindex
    request = raw.link((1000, U32(1)), type=links.GETLINK, index=index)
    (found,) = plain.request(request).messages
    assert heard.attributes(found.payload[16:])[3] == attribute_of("port0", 3)
    assert seen.errno_of(net.request, request) == "EINVAL"


@behaviour("netlink.strict.trailing-bytes", subject="impl")
def test_bytes_left_over_are_refused(net: Rtnl, plain: Connection, seen: Seen) -> None:
    """A dump request with bytes behind its last attribute is refused with strict checking, and only then."""
    device(net)
    request = addresses.list_addresses()
    request = request._replace(body=request.body + b"\1\2\3")
    found = plain.dump(request, addresses.parse_address)
    assert HOME in [address.cidr for address in found]
    assert HOME in addresses4("port0")
    assert seen.errno_of(net.connection.messages, request) == "EINVAL"


@behaviour("netlink.strict.header-fields-checked", subject="impl")
def test_fields_of_the_header_are_checked(net: Rtnl, plain: Connection, seen: Seen) -> None:
    """A dump of addresses with a prefix length is refused with strict checking, and without it the field is ignored."""
    device(net)
    request = Request.of(addresses.GETADDR, 0, struct.pack("=BBBBI", 0, 24, 0, 0, 0), (), None)
    assert HOME in [address.cidr for address in plain.dump(request, addresses.parse_address)]
    assert HOME in addresses4("port0")
    assert seen.errno_of(net.connection.messages, request) == "EINVAL"


@behaviour("netlink.strict.enables-kernel-filter", subject="impl")
def test_kernel_filters_addresses(net: Rtnl, opened: Open) -> None:
    """With strict checking a dump of addresses with an index returns those of that device alone."""
    index = device(net)
    net.link_set("lo", up=True)
    request = addresses.list_addresses(index=index).encode(1, DUMP)
    *all_of_them, _ = answers(opened(), request)
    *found, _ = answers(opened(strict=True), request)
    assert {struct.unpack_from("=I", each.payload, 4)[0] for each in all_of_them} == {1, index}
    assert {struct.unpack_from("=I", each.payload, 4)[0] for each in found} == {index}
    assert len(found) == len(addresses4("port0")) + len(addresses6("port0"))
    assert len(net.addresses(index)) == len(found)
