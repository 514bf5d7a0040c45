"""Bytes of messages and attributes, without a kernel."""

from __future__ import annotations

import random
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from struct import pack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelproof.impl.netlink.addresses import parse_address
from kernelproof.impl.netlink.bridges import parse_vlans
from kernelproof.impl.netlink.connection import Connection
from kernelproof.impl.netlink.errors import NetlinkError, WireError
from kernelproof.impl.netlink.ethtool import parse_bitset
from kernelproof.impl.netlink.generic import parse_family
from kernelproof.impl.netlink.links import add_link, parse_link
from kernelproof.impl.netlink.multicast import parse_multicast
from kernelproof.impl.netlink.namespace_ids import parse_namespace_id
from kernelproof.impl.netlink.neighbours import parse_neighbour
from kernelproof.impl.netlink.netconf import parse_netconf
from kernelproof.impl.netlink.nexthops import parse_nexthop
from kernelproof.impl.netlink.qdiscs import parse_qdisc
from kernelproof.impl.netlink.recorder import ReplayError, ReplaySocket, parse_recording
from kernelproof.impl.netlink.routes import parse_route
from kernelproof.impl.netlink.rtnl import Rtnl
from kernelproof.impl.netlink.rules import parse_rule
from kernelproof.impl.netlink.spaces import LINK, Space
from kernelproof.impl.netlink.wire import (
    LARGEST_PAYLOAD,
    Attribute,
    Message,
    Splitter,
    encode_attributes,
    encode_message,
    locate,
    parse_attributes,
    parse_list,
    parse_messages,
    text,
    walk_attributes,
)

PARSERS: tuple[Callable[[Message], object], ...] = (
    parse_link,
    parse_address,
    parse_route,
    parse_neighbour,
    parse_rule,
    parse_nexthop,
    parse_multicast,
    parse_qdisc,
    parse_vlans,
    parse_netconf,
    parse_family,
    parse_namespace_id,
)
SPLIT = (parse_link, parse_address, parse_route, parse_neighbour, parse_rule)
Walk = Callable[[bytes], Iterator[tuple[int, int, int]]]
raw_attributes = st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=40)), max_size=12)


def cast_to_16_bits(attributes: list[Attribute], space: Space) -> bytes:
    """What the peers did: the length is cut, and what follows is read as attributes."""
    parts = []
    for kind, payload in attributes:
        body = payload if isinstance(payload, bytes) else cast_to_16_bits(list(payload), space)
        parts.append(pack("=HH", (len(body) + 4) & 0xFFFF, kind) + body + bytes(-len(body) % 4))
    return b"".join(parts)


@pytest.mark.rule("N3", ours=encode_attributes, wrong=cast_to_16_bits, raises=pytest.fail.Exception)
@pytest.mark.parametrize(
    ("attributes", "path"),
    [
        ([(20, bytes(LARGEST_PAYLOAD + 1))], "IFLA_IFALIAS"),
        ([(18, [(1, b"bridge\0"), (2, [(4, bytes(65532))])])], r"IFLA_LINKINFO\.IFLA_INFO_DATA\.IFLA_BR_AGEING_TIME"),
        ([(18, [(1, b"veth\0"), *((9, bytes(30000)) for _ in range(3))])], "IFLA_LINKINFO"),
    ],
)
def test_too_long_attribute_is_refused_by_its_path(
    subject: Callable[..., bytes], attributes: list[Attribute], path: str
) -> None:
    """A payload that 16 bits cannot count is a ValueError which names the attribute, children summed."""
    with pytest.raises(ValueError, match=rf"^{path}: [0-9]+ bytes"):
        subject(attributes, LINK)


@pytest.mark.rule("N3")
def test_largest_attribute_fits() -> None:
    """65,531 bytes are taken."""
    assert parse_list(encode_attributes([(1, bytes(LARGEST_PAYLOAD))])) == ((1, bytes(LARGEST_PAYLOAD)),)


def believing_walk(buffer: bytes) -> Iterator[tuple[int, int, int]]:
    """What the peers did: lengths are believed."""
    position = 0
    while position + 4 <= len(buffer):
        length = max(4, int.from_bytes(buffer[position : position + 2], "little"))
        yield int.from_bytes(buffer[position + 2 : position + 4], "little"), position + 4, position + length
        position += (length + 3) & ~3


@pytest.mark.rule("N5", ours=walk_attributes, wrong=believing_walk, raises=pytest.fail.Exception)
@pytest.mark.parametrize(
    ("buffer", "offset"),
    [
        (pack("=HH", 3, 1), 0),
        (pack("=HH", 0, 1), 0),
        (pack("=HHI", 8, 1, 5) + pack("=HH", 9, 1) + b"1234", 8),
        (pack("=HHI", 8, 1, 5) + b"\0\0", 8),
    ],
)
def test_walk_ends_where_its_parent_ends(subject: Walk, buffer: bytes, offset: int) -> None:
    """A length that lies, or bytes left over, are an error at their offset."""
    with pytest.raises(WireError) as caught:
        list(subject(buffer))
    assert caught.value.offset == offset


@pytest.mark.rule("N5")
def test_values_of_wrong_width_are_refused() -> None:
    """Text without NUL and a number of another width are errors, whatever record they stand in."""
    with pytest.raises(WireError, match="without a NUL"):
        text(b"eth0")
    header = bytes(16)
    for attribute in ((3, b"lo"), (4, b"\1\2"), (18, b"\3\0\0\0"), (52, b"\1")):
        with pytest.raises(WireError):
            parse_link(Message(16, 0, 0, 0, header + encode_attributes([attribute])))


@pytest.mark.rule("N5")
@pytest.mark.parametrize("length", range(0, 12))
def test_short_structures_are_refused(length: int) -> None:
    """No parser reads beyond a message that ends within its structure."""
    for parse in PARSERS:
        shorter = (parse_address, parse_nexthop, parse_multicast, parse_netconf, parse_family, parse_namespace_id)
        if length < 4 or (length < 8 and parse in shorter[:3]) or parse not in shorter:
            with pytest.raises(WireError):
                parse(Message(16, 0, 0, 0, bytes(length)))


@pytest.mark.rule("N+7")
@given(raw_attributes)
def test_codec_loses_nothing(attributes: list[tuple[int, bytes]]) -> None:
    """Attributes decoded after encoding are equal, whatever their types."""
    data = encode_attributes(attributes)
    assert list(parse_list(data)) == attributes
    assert len(data) % 4 == 0
    assert Splitter().split(data, 0) == dict(attributes) == parse_attributes(data)


@given(st.lists(raw_attributes, min_size=2, max_size=8))
def test_splitter_equals_walk(several: list[list[tuple[int, bytes]]]) -> None:
    """What a splitter learnt from one message never changes what it says of another."""
    splitter = Splitter()
    for attributes in several * 2:
        data = encode_attributes(attributes)
        assert splitter.split(data, 0) == parse_attributes(data)


def test_splitter_compares_headers() -> None:
    """A message of a known size with other lengths inside is walked, and refused if they lie."""
    splitter = Splitter()
    splitter.split(encode_attributes([(1, b"1234"), (2, b"5678")]), 0)
    assert splitter.split(encode_attributes([(1, b"123456789012")]), 0) == {1: b"123456789012"}
    with pytest.raises(WireError):
        splitter.split(pack("=HHIHHI", 8, 1, 1, 99, 2, 2), 0)


messages = st.builds(
    Message, st.integers(0, 65535), st.integers(0, 65535), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1),
    st.binary(max_size=60),
)  # fmt: skip


@given(st.lists(messages, max_size=6))
def test_messages_round_trip(several: list[Message]) -> None:
    """The messages of a datagram are those that were put in."""
    assert list(parse_messages(b"".join(map(encode_message, several)))) == several


@pytest.mark.parametrize("datagram", [b"1", pack("=IHHII", 15, 1, 0, 0, 0), pack("=IHHII", 17, 1, 0, 0, 0)])
def test_lying_message_is_refused(datagram: bytes) -> None:
    """A length below the header or beyond the datagram is an error."""
    with pytest.raises(WireError):
        list(parse_messages(datagram))


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_parsers_take_any_bytes(data: bytes) -> None:
    """Any bytes are a record or a WireError."""
    parse_all(data)
    with suppress(WireError):
        parse_bitset(data)


def parse_all(data: bytes) -> None:
    """Give bytes to all parsers."""
    for parse in PARSERS:
        for payload in (data, bytes(12) + data, b"\2" + bytes(15) + data):
            with suppress(WireError):
                parse(Message(16, 0, 0, 0, payload))


RECORDED: dict[str, Callable[[Message], object]] = {
    "links": parse_link,
    "addresses": parse_address,
    "routes": parse_route,
    "rules": parse_rule,
    "neighbours": parse_neighbour,
    "forwarding": parse_neighbour,
    "nexthops": parse_nexthop,
    "vlans": parse_vlans,
    "multicast": parse_multicast,
    "qdiscs": parse_qdisc,
    "netconf": parse_netconf,
    "families": parse_family,
}


def recorded_messages() -> list[tuple[Callable[[Message], object], bytes]]:
    """Messages of real kernels, the oldest and the newest, with the parser of each."""
    fixtures = Path(__file__).resolve().parents[3] / "fixtures" / "netlink"
    found = []
    for kernel in ("5.10", "7.3"):
        for name, parse in RECORDED.items():
            for datagram in parse_recording((fixtures / kernel / f"{name}.jsonl").read_text()):
                payloads = [] if datagram.out else [message.payload for message in parse_messages(datagram.data)]
                found += [(parse, payload) for payload in payloads if len(payload) > 16]
    return found


def mutate(chance: random.Random, payload: bytes) -> bytes:
    """Change some bytes, cut the end, or put a piece of it elsewhere."""
    data = bytearray(payload)
    for _ in range(chance.randrange(1, 6)):
        data[chance.randrange(len(data))] = chance.choice((0, 1, 4, 255, chance.randrange(256)))
    if chance.random() < 0.2:
        del data[chance.randrange(1, len(data)) :]
    if chance.random() < 0.1:
        piece, place = chance.randrange(len(data)), chance.randrange(len(data))
        data[place : place + 8] = data[piece : piece + 8]
    return bytes(data)


@pytest.mark.long
@pytest.mark.rule("N5")
def test_parsers_take_mutated_messages(full_number: Callable[[int], int]) -> None:
    """Real messages with bytes changed are records or WireErrors, in bounded time and memory."""
    chance = random.Random(1)
    seeds = recorded_messages()
    assert {parse for parse, _ in seeds} == set(RECORDED.values())
    splitters = {parse: Splitter() for parse in SPLIT}
    outcomes = {True: 0, False: 0}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(full_number(1_000_000)):
        parse, payload = chance.choice(seeds)
        message = Message(16, 0, 0, 0, mutate(chance, payload))
        begun = time.process_time()
        refused = False
        try:
            parse(message)
            if parse in splitters:
                parse(message, splitters[parse])
        except WireError:
            refused = True
        outcomes[refused] += 1
        assert time.process_time() - begun < 5
    assert min(outcomes.values()) > sum(outcomes.values()) / 50  # not all die at the first byte
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB


@pytest.mark.long
def test_datagrams_with_changed_bytes_are_answers_or_errors(full_number: Callable[[int], int]) -> None:
    """A connection that gets changed datagrams returns records, asks again, or raises its errors; it never hangs."""
    chance = random.Random(2)
    fixtures = Path(__file__).resolve().parents[3] / "fixtures" / "netlink" / "6.12"
    datagrams = parse_recording((fixtures / "addresses.jsonl").read_text())
    for _ in range(full_number(20_000)):
        changed = [each if each.out else each._replace(data=mutate(chance, each.data)) for each in datagrams]
        with (
            suppress(WireError, NetlinkError, ReplayError),
            Connection(socket=ReplaySocket(changed), timeout_seconds=0) as connection,
        ):
            Rtnl(connection=connection).addresses()


def test_offset_is_found_in_what_was_sent() -> None:
    """An offset leads to a path, also into the attributes of a veth's other end."""
    request = add_link("here", "veth", peer={"name": "there", "mtu": 1400})
    sent = request.encode(1)
    assert locate(sent, request.attributes_at, LINK, sent.index(b"there\0") - 4)[0] == (
        "IFLA_LINKINFO.IFLA_INFO_DATA.VETH_INFO_PEER.IFLA_IFNAME"
    )
    assert locate(sent, request.attributes_at, LINK, 5) == ("", LINK)
