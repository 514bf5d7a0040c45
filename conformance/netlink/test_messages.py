"""Messages: their frame, and how a request is acknowledged."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

from kernelproof import behaviour
from kernelproof.conformance.netlink import heard, raw
from kernelproof.conformance.netlink.heard import ACK, CAPPED, DUMP, ERROR, answers, take_apart
from kernelproof.conformance.netlink.raw import CREATE, EXCL
from kernelproof.conformance.netlink.shown import names, outcome
from kernelproof.impl.netlink import links
from kernelproof.impl.netlink.wire import Message, encode_message, parse_attributes, parse_messages

if TYPE_CHECKING:
    from kernelproof.conformance.netlink.conftest import Open
    from kernelproof.conformance.seen import Seen
    from kernelproof.impl.netlink import Request, Rtnl

NOBODYS = 999_999  # an index that no device has


def new_bridge(name: str) -> Request:
    """Ask for a bridge."""
    return raw.link((3, name.encode() + b"\0"), raw.kind("bridge"), how=CREATE | EXCL)


def missing() -> Request:
    """Set a device that is not there."""
    return raw.link((4, raw.U32(1400)), type=links.SETLINK, index=NOBODYS)


@behaviour("netlink.frame.length-includes-header", subject="impl")
def test_lengths_add_up(net: Rtnl, opened: Open) -> None:
    """The lengths of a datagram's messages, each rounded up to 4, add up to its size."""
    net.link_add("br0", "bridge", alias="x")
    socket = opened()
    socket.send(links.list_links().encode(7, DUMP))
    datagrams = heard.datagrams(socket)
    for datagram in datagrams:
        lengths = [heard.rounded(message.length) for message in take_apart(datagram)]
        assert min(lengths) >= 16
        assert sum(lengths) == len(datagram)
        assert [len(message.payload) + 16 for message in parse_messages(datagram)] == [
            message.length for message in take_apart(datagram)
        ]
    assert sum(len(take_apart(datagram)) for datagram in datagrams) == len(names()) + 1


@behaviour("netlink.frame.attributes-aligned-to-four", subject="impl")
def test_attributes_are_aligned(net: Rtnl, opened: Open) -> None:
    """Every attribute begins at a multiple of 4, and its length leaves the padding out."""
    net.link_add("ab", "bridge")
    (reply, _) = answers(opened(), links.get_link("ab").encode(1, ACK))
    places = {}
    place = 32
    while place < reply.length:
        length, number = struct.unpack_from("=HH", reply.payload, place - 16)
        places[number] = (place, length)
        place += heard.rounded(length)
    assert [place % 4 for place, _ in places.values()] == [0] * len(places)
    assert places[3][1] == 4 + len(b"ab\0")
    assert parse_attributes(reply.payload, 16)[3] == b"ab\0"


@behaviour("netlink.frame.sequence-echoed", subject="impl")
def test_sequence_number_comes_back(opened: Open) -> None:
    """Replies and acknowledgements carry the sequence number of the request."""
    socket = opened()
    for sequence in (1, 0xABCDEF01):
        found = answers(socket, links.get_link("lo").encode(sequence, ACK))
        assert [(message.type, message.sequence) for message in found] == [(16, sequence), (ERROR, sequence)]


@behaviour("netlink.frame.several-requests-in-one-send", subject="impl")
def test_two_requests_in_one_datagram(net: Rtnl, opened: Open) -> None:
    """Two requests of one datagram are answered in order, each under its number."""
    index = net.link_add("br0", "bridge").ifindex
    both = links.get_link("br0").encode(9) + links.get_link("lo").encode(5)
    found = answers(opened(), both)
    assert [(message.sequence, struct.unpack_from("=i", message.payload, 4)[0]) for message in found] == [
        (9, index),
        (5, 1),
    ]


@behaviour("netlink.frame.request-flag-required", subject="impl")
def test_request_without_its_flag(opened: Open) -> None:
    """A message without NLM_F_REQUEST makes nothing; with it, it makes the device."""
    before = names()
    socket = opened()
    request = new_bridge("br0")
    socket.send(encode_message(Message(request.type, request.flags | ACK, 1, 0, request.body)))
    assert names() == before
    socket.send(request.encode(2))
    assert names() == before | {"br0"}


@behaviour("netlink.frame.control-types-reserved", subject="impl")
def test_types_of_control_change_nothing(opened: Open) -> None:
    """A request of a type below 16 changes nothing, whatever it holds."""
    before = names()
    socket = opened()
    for kind in range(16):
        socket.send(new_bridge("br0")._replace(type=kind).encode(kind + 1))
        assert names() == before
    socket.send(new_bridge("br0").encode(99))
    assert names() == before | {"br0"}


@behaviour("netlink.frame.socket-types", subject="impl")
def test_raw_sockets_and_datagram_sockets(net: Rtnl) -> None:
    """Sockets of the types SOCK_RAW and SOCK_DGRAM get the same answer."""
    net.link_add("br0", "bridge")
    replies = []
    for kind in (socket.SOCK_RAW, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_NETLINK, kind | socket.SOCK_CLOEXEC, 0) as asked:
            asked.bind((0, 0))
            asked.send(links.get_link("br0", statistics=False).encode(1))
            replies.append(asked.recv(1 << 16))
    first, second = (take_apart(reply)[0]._replace(port=0) for reply in replies)
    assert b"br0\0" in first.payload
    assert first == second


@behaviour("netlink.frame.truncated-message-lost", subject="impl")
def test_rest_of_a_cut_message_is_lost(opened: Open) -> None:
    """A message read with too small a buffer comes cut, says so, and its rest never comes."""
    own = opened()
    own.send(links.get_link("lo").encode(1))
    with heard.options_of(own) as same:
        data, _, flags, _ = same.recvmsg(20)
    assert len(data) == 20
    assert flags & socket.MSG_TRUNC
    assert heard.datagrams(own) == []


@behaviour("netlink.frame.peek-real-length", subject="impl")
def test_peeking_tells_the_whole_length(opened: Open) -> None:
    """MSG_PEEK with MSG_TRUNC tells a message's whole length and leaves it to be read."""
    own = opened()
    own.send(links.get_link("lo").encode(1))
    with heard.options_of(own) as same:
        length = same.recv_into(bytearray(16), 16, socket.MSG_PEEK | socket.MSG_TRUNC)
    (datagram,) = heard.datagrams(own)
    assert length == len(datagram)
    assert length > 16


@behaviour("netlink.ack.only-when-asked", subject="impl")
def test_success_is_silent(opened: Open) -> None:
    """A request that is carried out and has nothing to return gets no reply unless it asks for one."""
    own = opened()
    assert answers(own, new_bridge("br0").encode(1)) == []
    assert "br0" in names()
    assert [message.type for message in answers(own, new_bridge("br1").encode(2, ACK))] == [ERROR]


@behaviour("netlink.ack.error-unasked", subject="impl")
def test_refusal_is_told_unasked(net: Rtnl, opened: Open) -> None:
    """A request that is refused gets NLMSG_ERROR also where it asked for no acknowledgement."""
    (reply,) = answers(opened(), missing().encode(1))
    assert reply.type == ERROR
    assert reply.code == -19
    assert outcome(net.link_set, NOBODYS, mtu=1400) == "ENODEV"


@behaviour("netlink.ack.success-is-error-zero", subject="impl")
def test_acknowledgement_is_an_error_of_zero(opened: Open) -> None:
    """An acknowledgement is an NLMSG_ERROR with error 0."""
    (reply,) = answers(opened(), new_bridge("br0").encode(1, ACK))
    assert (reply.type, reply.code) == (ERROR, 0)
    assert "br0" in names()


@behaviour("netlink.ack.success-is-capped", subject="impl")
def test_acknowledgement_has_the_header_alone(opened: Open) -> None:
    """An acknowledgement of success is 36 bytes long, echoes the header and says that it is capped."""
    request = new_bridge("br0").encode(1, ACK)
    (reply,) = answers(opened(), request)
    assert reply.length == 36
    assert reply.payload[4:] == request[:16]
    assert reply.flags & CAPPED


@behaviour("netlink.ack.error-echoes-request", subject="impl")
def test_refusal_echoes_the_request(opened: Open) -> None:
    """A refusal contains the whole request, and does not say that it is capped."""
    request = missing().encode(1, ACK)
    (reply,) = answers(opened(), request)
    assert reply.code == -19
    assert reply.payload[4:] == request
    assert not reply.flags & CAPPED


@behaviour("netlink.ack.cap-ack-trims-errors", subject="impl")
def test_refusal_can_be_capped(opened: Open) -> None:
    """With NETLINK_CAP_ACK a refusal contains the request's header alone, and says so."""
    own = opened()
    heard.set_option(own, heard.CAP_ACK)
    request = missing().encode(1, ACK)
    (reply,) = answers(own, request)
    assert reply.code == -19
    assert reply.payload[4:] == request[:16]
    assert reply.flags & CAPPED


@behaviour("netlink.ack.errors-are-negative-errnos", subject="impl")
def test_error_is_a_negative_errno(net: Rtnl, opened: Open, seen: Seen) -> None:
    """The error of a refusal is the negated errno: -19, ENODEV, for an index that no device has."""
    (reply,) = answers(opened(), missing().encode(1, ACK))
    assert outcome(net.request, missing()) == "ENODEV"
    assert outcome(net.link_set, NOBODYS, mtu=1400) == "ENODEV"
    assert seen(reply.code) == -19
