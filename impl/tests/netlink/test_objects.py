"""Records of queueing disciplines, multicast groups, families and the rest, written and read again without a kernel."""

from __future__ import annotations

import os
from collections.abc import Callable
from struct import pack
from types import SimpleNamespace
from typing import ClassVar

import pytest

from kernelproof.impl import netlink
from kernelproof.impl.netlink import Ethtool, MulticastEntry, Vlan, WireError, classic, ethtool
from kernelproof.impl.netlink.bridges import change_vlans, parse_vlans
from kernelproof.impl.netlink.ethtool import encode_changes, parse_bitset
from kernelproof.impl.netlink.generic import Family, parse_family, parse_reply
from kernelproof.impl.netlink.links import parse_link
from kernelproof.impl.netlink.multicast import add_multicast, delete_multicast, parse_multicast
from kernelproof.impl.netlink.namespace_ids import ANY, parse_namespace_id, set_namespace_id
from kernelproof.impl.netlink.netconf import get_netconf, parse_netconf
from kernelproof.impl.netlink.qdiscs import (
    INGRESS,
    ROOT,
    add_class,
    add_qdisc,
    delete_qdisc,
    format_handle,
    parse_handle,
    parse_qdisc,
)
from kernelproof.impl.netlink.requests import Request
from kernelproof.impl.netlink.wire import Attribute, Message, encode_attributes, parse_attributes


def as_message(request: Request) -> Message:
    """The request as if the kernel had sent it."""
    return Message(request.type, 0, 0, 0, request.body)


QDISCS: dict[str, dict[str, int]] = {
    "fq_codel": {"target": 5120, "limit": 1000, "ecn": 1, "ce_threshold_mask": 3},
    "tbf": {"rate": 125_000, "burst": 5000, "limit": 10_000},
    "tbf ": {"rate": 12_500_000_000, "burst": 500_000, "limit": 1, "peakrate": 25_000_000_000, "mtu": 3200},
    "htb": {"default": 16, "rate2quantum": 20, "direct_qlen": 7},
}


@pytest.mark.rule("N9")
@pytest.mark.parametrize("kind", QDISCS)
def test_qdiscs_are_read_as_they_are_written(kind: str) -> None:
    """A discipline's kind, handle, parent and options, rates above 32 bits too, are the same after both ways."""
    options = QDISCS[kind]
    there = parse_qdisc(as_message(add_qdisc(7, kind.strip(), handle=0x10000, options=options)))
    assert (there.ifindex, there.kind, there.handle, there.parent) == (7, kind.strip(), 0x10000, ROOT)
    found = dict(there.options)
    assert {name: found[name] for name in options} == options


@pytest.mark.rule("N9")
def test_classes_are_read_as_they_are_written() -> None:
    """A class has a ceiling of its rate, and bursts that a timer of 100 Hz can send, unless it is told others."""
    request = add_class(7, 0x10010, parent=0x10000, options={"rate": 125_000})
    there = parse_qdisc(as_message(request))
    assert (there.name, format_handle(there.parent)) == ("1:10", "1:")
    assert dict(there.options).items() >= {"rate": 125_000, "ceil": 125_000, "burst": 2850, "prio": 0}.items()
    wide = {"rate": 5_000_000_000, "ceil": 6_000_000_000}
    assert dict(parse_qdisc(as_message(add_class(7, 2, parent=1, options=wide))).options).items() >= wide.items()


def test_ingress_and_clsact_stand_where_they_belong() -> None:
    """Both have the one handle and parent that they can have, and options of unknown kinds are sent raw."""
    for kind in ("ingress", "clsact"):
        there = parse_qdisc(as_message(add_qdisc(7, kind)))
        assert (there.handle, there.parent, there.options) == (0xFFFF0000, INGRESS, ())
    other = parse_qdisc(as_message(add_qdisc(7, "sfq", raw={1: b"1234"})))
    assert other.options == ((1, b"1234"),)
    assert delete_qdisc(7, parent=INGRESS).words == "delete qdisc ingress of link 7"


def test_a_discipline_whose_options_nobody_told_has_none() -> None:
    """Only a discipline that was given options is sent with some: pfifo refuses empty ones."""
    for kind in ("pfifo", "fq_codel"):
        assert 2 not in parse_attributes(add_qdisc(7, kind).body, 20)
    assert 2 not in parse_attributes(add_qdisc(7, "pfifo", options={}).body, 20)


@pytest.mark.parametrize("text", ["root", "ingress", "1:", "1:10", "ffff:", "8001:a"])
def test_handles_come_back(text: str) -> None:
    """A handle is written as tc(8) writes it."""
    assert format_handle(parse_handle(text)) == text


@pytest.mark.parametrize("place", range(1, 8))
def test_short_parts_of_qdiscs_are_refused(place: int) -> None:
    """Structures in options and statistics that end too soon are WireErrors."""
    header = pack("=BxxxiIII", 0, 1, 0, 0, 0)
    for kind in (b"tbf", b"htb", b"fq_codel", b"pfifo_fast"):
        attributes: list[Attribute] = [(1, kind + b"\0"), (2, encode_attributes([(place, b"\1\2\3")]))]
        message = Message(40 if place == 1 and kind == b"htb" else 36, 0, 0, 0, header + encode_attributes(attributes))
        try:
            assert isinstance(dict(parse_qdisc(message).options)[place], bytes)  # no attribute of that kind
        except WireError:
            continue
    statistics = encode_attributes([(1, b"tbf\0"), (7, encode_attributes([(1, b"\1\2")]))])
    with pytest.raises(WireError, match="TCA_STATS_BASIC"):
        parse_qdisc(Message(36, 0, 0, 0, header + statistics))


@pytest.mark.rule("N9")
@pytest.mark.parametrize("group", ["239.1.2.3", "ff0e::1", "33:33:00:00:00:01"], ids=["ipv4", "ipv6", "ethernet"])
def test_multicast_entries_are_read_as_they_are_written(group: str) -> None:
    """What a request says of an entry, the parser finds in the place where the kernel tells it."""
    entry = MulticastEntry(5, 6, group, vlan=7)
    request = add_multicast(entry)
    told = encode_attributes([(1, [(1, [(1, parse_attributes(request.body, 8)[1])])])])
    (groups,) = [parse_multicast(Message(84, 0, 0, 0, request.body[:8] + told))]
    assert groups.entries == (entry,)


def test_senders_of_a_group_go_out_nested() -> None:
    """Mode, senders and protocol stand below MDBA_SET_ENTRY_ATTRS, and are left out of a removal."""
    entry = MulticastEntry(5, 6, "239.1.2.3", mode=0, sources=("10.0.0.1", "10.0.0.2"), protocol=99)
    details = parse_attributes(parse_attributes(add_multicast(entry).body, 8)[2])
    assert details.keys() == {2, 3, 4}
    assert 2 not in parse_attributes(delete_multicast(entry).body, 8)
    single = parse_attributes(parse_attributes(delete_multicast(entry._replace(source="10.0.0.1")).body, 8)[2])
    assert single == {1: b"\x0a\0\0\1"}


def test_vlans_are_asked_of_the_bridge_above_a_port() -> None:
    """Ranges are written with their ends, for a port by BRIDGE_FLAGS_MASTER and for a bridge by BRIDGE_FLAGS_SELF."""
    wanted = (Vlan(5, 5, pvid=True, untagged=True), Vlan(10, 19))
    request = change_vlans(3, *wanted, add=True)
    assert parse_vlans(as_message(request)) == (3, wanted)
    both = request, change_vlans(3, *wanted, add=True, of_bridge=True)
    flags = [parse_attributes(parse_attributes(each.body, 16)[26])[0] for each in both]
    assert flags == [b"\1\0", b"\2\0"]


def test_a_port_without_vlans_has_none() -> None:
    """A message that ends with its structure is a port with no VLANs."""
    assert parse_vlans(Message(16, 0, 0, 0, pack("=BxHiII", 7, 0, 3, 0, 0))) == (3, ())


def test_bitsets_name_what_is_listed_and_what_is_set() -> None:
    """A change lists bits and sets some; a set without mask has all that it lists."""
    data = encode_attributes(encode_changes({"a": True, "b": False}))
    assert parse_bitset(data) == (frozenset("ab"), frozenset("a"))
    assert parse_bitset(encode_attributes([(1, b"")]) + data) == (frozenset("ab"), frozenset("ab"))
    with pytest.raises(WireError, match="BIT_NAME"):
        parse_bitset(encode_attributes([(3, [(1, [(1, b"\0\0\0\0")])])]))


def test_families_have_operations_and_groups() -> None:
    """A family's operations and groups come as numbered lists of attributes."""
    told: list[Attribute] = [
        (1, pack("=H", 21)),
        (2, b"thing\0"),
        (3, pack("=I", 2)),
        (6, [(1, [(1, pack("=I", 1)), (2, pack("=I", 11))])]),
        (7, [(1, [(1, b"news\0"), (2, pack("=I", 9))])]),
    ]
    family = parse_family(Message(16, 0, 0, 0, b"\1\2\0\0" + encode_attributes(told)))
    assert family == Family(21, "thing", 2, 0, 0, ((1, 11),), (("news", 9),))
    assert family.group("news") == 9
    assert parse_reply(Message(21, 0, 0, 0, b"\5\1\0\0")).command == 5
    with pytest.raises(WireError, match="CTRL_ATTR_FAMILY_ID"):
        parse_family(Message(16, 0, 0, 0, b"\1\2\0\0"))


def test_netconf_and_namespace_ids_are_read_as_they_are_written() -> None:
    """A question names the link or the namespace where the answer does."""
    assert parse_netconf(as_message(get_netconf(2, -2)))[:2] == (2, -2)
    assert parse_namespace_id(as_message(set_namespace_id(17, fd=3))) == 17
    assert parse_namespace_id(as_message(set_namespace_id(pid=3))) == ANY
    with pytest.raises(WireError, match="NETNSA_NSID"):
        parse_namespace_id(Message(88, 0, 0, 0, bytes(4)))


@pytest.mark.rule("N4")
def test_many_virtual_functions_are_kept_raw() -> None:
    """252 virtual functions, in an attribute of nearly 64 KiB, are listed each with its attributes."""
    each: list[Attribute] = [(1, pack("=I", 5) + bytes(32)), (2, bytes(200))]
    listed = encode_attributes([(1, each) for _ in range(252)])
    assert 60_000 < len(listed) < 65_532
    link = parse_link(Message(16, 0, 0, 0, bytes(16) + encode_attributes([(3, b"eth0\0"), (22, listed)])))
    assert len(link.virtual_functions) == 252
    assert dict(link.virtual_functions[0])[1][:4] == pack("=I", 5)
    assert parse_link(Message(16, 0, 0, 0, bytes(16))).virtual_functions == ()


# What ethtool says of a link, and names.


class Answers:
    """Generic netlink that answers with attributes."""

    replies: ClassVar[list[dict[int, bytes]]] = []

    def __init__(self, netns: object, *, connection: object) -> None:
        self.closed = False

    def ask(self, family: str, command: int, attributes: list[Attribute], *, space: object) -> list[SimpleNamespace]:
        """Whatever is asked."""
        assert (family, attributes) == ("ethtool", [(1, [(2, b"eth0\0")])])
        return [SimpleNamespace(attributes=reply) for reply in self.replies]

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def ethtool_says(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ethtool]:
    """Has the kernel say something."""
    monkeypatch.setattr(ethtool, "Generic", Answers)

    def say(*replies: dict[int, bytes]) -> Ethtool:
        monkeypatch.setattr(Answers, "replies", list(replies))
        return Ethtool()

    return say


@pytest.mark.parametrize(
    ("reply", "state"),
    [({}, (False, None)), ({2: b"\1"}, (True, None)), ({2: b"\0", 5: b"\4"}, (False, 4))],
    ids=["unknown", "up", "down"],
)
def test_carrier_of_a_link(
    ethtool_says: Callable[..., Ethtool], reply: dict[int, bytes], state: tuple[bool, int | None]
) -> None:
    """A link whose carrier the driver does not tell has none; why it has none is a number, where it is told."""
    assert ethtool_says(reply).link_state("eth0") == state


@pytest.mark.parametrize(
    ("reply", "info"),
    [({2: b"\3", 3: b"\7", 6: b"\1"}, ("fibre", 1, 7)), ({2: b"\x63"}, ("other", 0, 0))],
    ids=["fibre", "unknown"],
)
def test_connector_of_a_link(
    ethtool_says: Callable[..., Ethtool], reply: dict[int, bytes], info: tuple[str, int, int]
) -> None:
    """A port that has no word here is another one; transceiver and PHY are 0 where they are not told."""
    assert ethtool_says(reply).link_info("eth0") == info


@pytest.mark.parametrize(
    ("reply", "modes"),
    [
        ({}, (None, "", None)),
        ({5: pack("=I", 1000), 6: b"\1", 2: b"\1"}, (1000, "full", True)),
        ({5: pack("=I", 10), 6: b"\0", 2: b"\0"}, (10, "half", False)),
        ({5: pack("=I", 0xFFFFFFFF), 6: b"\xff"}, (None, "", None)),
    ],
    ids=["nothing", "full", "half", "no carrier"],
)
def test_speed_of_a_link(
    ethtool_says: Callable[..., Ethtool], reply: dict[int, bytes], modes: tuple[int | None, str, bool | None]
) -> None:
    """A speed and a duplex that the kernel does not know are not told as numbers."""
    assert ethtool_says(reply).link_modes("eth0")[:3] == modes


def test_no_answer_of_ethtool(ethtool_says: Callable[..., Ethtool]) -> None:
    """An answer without a message is an error, not a link that is down."""
    with ethtool_says() as tool, pytest.raises(WireError, match="no answer to command"):
        tool.link_state("eth0")


def test_names_of_the_package() -> None:
    """All names that are looked up on first use are listed, and each is there."""
    names = dir(netlink)
    assert names == sorted(set(names))
    assert {"Rtnl", "Ethtool", "create_bridge", "Monitor"} <= set(names)
    assert all(hasattr(netlink, name) for name in names)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = netlink.Nothing
    everything: dict[str, object] = {}
    exec("from kernelproof.impl.netlink import *", everything)
    assert everything.keys() - {"__builtins__"} == set(names)


@pytest.mark.parametrize(
    ("random", "mac"),
    [(b"\0" * 6, "02:00:00:00:00:00"), (b"\xff" * 6, "fe:ff:ff:ff:ff:ff"), (bytes(range(1, 7)), "02:02:03:04:05:06")],
    ids=["zeros", "ones", "numbers"],
)
def test_address_of_a_bridge(monkeypatch: pytest.MonkeyPatch, random: bytes, mac: str) -> None:
    """A bridge's own address is random but for two bits: it is local, and no group's."""
    monkeypatch.setattr(os, "urandom", lambda count: random[:count])
    assert classic._random_mac() == mac
