"""Devices on top of another: ipvlan, VLAN, VXLAN."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import pytest

from kernelproof import behaviour
from kernelproof.conformance.netlink import raw
from kernelproof.conformance.netlink.frames import BROADCAST, Port, frame
from kernelproof.conformance.netlink.raw import CREATE, EXCL, U32
from kernelproof.conformance.netlink.shown import DEVICES, attribute_of, device_flags, ip_json, names, outcome
from kernelproof.impl.netlink import Neighbour, NeighbourFlag, NeighbourState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernelproof.conformance.netlink.conftest import OpenPort, Pairs, Settled
    from kernelproof.conformance.seen import Seen
    from kernelproof.impl.netlink import Rtnl

A = "02:00:00:00:00:0a"
IPV4 = 0x0800
L2, L3 = 0, 1
PRIVATE = 1
UP = 0x1


def ipvlan(net: Rtnl, name: str, **options: Any) -> None:
    """Make an ipvlan device on p0, up."""
    net.link_add(name, "ipvlan", parent="p0", options=options, up=True)


def short_option(name: str, number: int) -> int:
    """Return a number of 16 bits of IFLA_INFO_DATA."""
    return int(struct.unpack("=H", attribute_of(name, 18, 2, number))[0])


@behaviour("ipvlan.mode.default-l3", subject="impl")
def test_default_mode_of_ipvlan(net: Rtnl, pairs: Pairs, seen: Seen) -> None:
    """An ipvlan device without a mode is in the mode L3 and a bridge: neither private nor VEPA."""
    pairs("p0")
    ipvlan(net, "i0")
    assert seen([short_option("i0", 1), short_option("i0", 2)]) == [L3, 0]


@behaviour("ipvlan.mode.shared-by-all", subject="impl")
def test_mode_is_that_of_the_lower_device(net: Rtnl, pairs: Pairs) -> None:
    """The mode that one ipvlan device gets is that of all on the same lower device."""
    pairs("p0")
    for name in ("i0", "i1"):
        ipvlan(net, name, mode=L3)
    net.link_set("i0", kind="ipvlan", options={"mode": L2})
    assert [short_option(name, 1) for name in ("i0", "i1")] == [L2, L2]


@behaviour("ipvlan.mode.mac-of-master", subject="impl")
def test_address_is_that_of_the_lower_device(net: Rtnl, pairs: Pairs) -> None:
    """An ipvlan device has the hardware address of its lower device."""
    pairs("p0")
    for name in ("i0", "i1"):
        ipvlan(net, name)
    addresses = {(DEVICES / name / "address").read_text() for name in ("p0", "i0", "i1")}
    assert len(addresses) == 1
    assert (DEVICES / "p0-far/address").read_text() not in addresses


@pytest.fixture
def two(net: Rtnl, pairs: Pairs) -> Iterator[tuple[Port, Port]]:
    """Packet sockets for IPv4 on two ipvlan devices of the mode L2, with 10.9.0.1 and 10.9.0.2."""
    pairs("p0")
    for number in (1, 2):
        ipvlan(net, f"i{number}", mode=L2)
        net.address_add(f"i{number}", f"10.9.0.{number}/24")
    ports = Port("i1", IPV4), Port("i2", IPV4)
    yield ports
    for each in ports:
        each.close()


def packet(mac: str) -> bytes:
    """A packet of UDP without a payload from 10.9.0.1 to 10.9.0.2, in a frame from an address to itself."""
    header = struct.pack("!BBHHHBBH4B4B", 0x45, 0, 28, 0, 0, 64, 17, 0, 10, 9, 0, 1, 10, 9, 0, 2)
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    header = header[:10] + struct.pack("!H", ~total & 0xFFFF) + header[12:]
    return frame(mac, mac, header + struct.pack("!HHHH", 1000, 9, 8, 0), type=IPV4)


@behaviour("ipvlan.mode.private-isolates", subject="impl")
def test_private_ipvlan_devices_are_apart(net: Rtnl, two: tuple[Port, Port]) -> None:
    """A packet passes between two ipvlan devices, and not once they are private."""
    one, other = two
    data = packet((DEVICES / "p0/address").read_text().strip())
    for flags in (0, PRIVATE):
        net.link_set("i1", kind="ipvlan", options={"flags": flags})
        assert short_option("i2", 2) == flags
        outcome(one.send, data)  # a frame that is dropped within send(2) makes it fail
        assert [found[26:34] for found in other.received()] == [data[26:34]] * (1 - flags)


@behaviour("ipvlan.mode.l3-no-broadcast", subject="impl")
def test_no_broadcast_in_mode_l3(net: Rtnl, pairs: Pairs, port: OpenPort) -> None:
    """A broadcast frame that the lower device receives comes to an ipvlan device in the mode L2, not in L3."""
    (far,) = pairs("p0")
    ipvlan(net, "i0", mode=L2)
    lower, upper = port("p0"), port("i0")
    data = frame(BROADCAST, A)
    for mode in (L2, L3):
        net.link_set("i0", kind="ipvlan", options={"mode": mode})
        far.send(data)
        assert lower.received() == [data]
        assert upper.received() == [data] * (1 - mode)


def vlan(net: Rtnl, flags: str = "") -> None:
    """Make the device vlan7 on p0, up."""
    options: dict[str, Any] = {"id": 7, "flags": flags} if flags else {"id": 7}
    net.link_add("vlan7", "vlan", parent="p0", options=options, up=True)


@behaviour("vlan.header.reorder-default", subject="impl")
def test_headers_are_put_in_order(net: Rtnl, pairs: Pairs, seen: Seen) -> None:
    """A VLAN device has VLAN_FLAG_REORDER_HDR, and no other flag, unless told."""
    pairs("p0")
    vlan(net)
    assert seen(struct.unpack("=II", attribute_of("vlan7", 18, 2, 2))[0]) == 1


@behaviour("vlan.header.reorder-strips-tag", subject="impl")
def test_tag_is_taken_out_of_the_frame(net: Rtnl, pairs: Pairs, port: OpenPort) -> None:
    """A VLAN device receives frames without their tag, and with it once VLAN_FLAG_REORDER_HDR is cleared."""
    (far,) = pairs("p0")
    vlan(net)
    upper = port("vlan7")
    tagged = frame(BROADCAST, A, vlan=7)
    far.send(tagged)
    assert upper.received() == [frame(BROADCAST, A)]
    net.link_set("vlan7", kind="vlan", options={"id": 7, "flags": "0/1"})
    far.send(tagged)
    assert upper.received() == [tagged]


@behaviour("vlan.state.loose-binding", subject="impl")
def test_loose_device_stays_up(net: Rtnl, pairs: Pairs, settled: Settled) -> None:
    """A VLAN device is set down with its lower device, and stays up with loose binding."""
    pairs("p0")
    vlan(net)
    net.link_add("vlan8", "vlan", parent="p0", options={"id": 8, "flags": "4/4"}, up=True)
    net.link_set("p0", up=False)

    def up() -> list[bool]:
        return [bool(device_flags(name) & UP) for name in ("p0", "vlan7", "vlan8")]

    assert settled(up, [False, False, True]) == [False, False, True]


@behaviour("vxlan.id.range", subject="impl")
def test_identifier_has_24_bits(net: Rtnl, seen: Seen) -> None:
    """The identifier 16777215 is taken, and 16777216 refused."""
    net.link_add("vx0", "vxlan", options={"id": 16777215, "port": 4789})
    assert struct.unpack("=I", attribute_of("vx0", 18, 2, 1)) == (16777215,)
    before = names()
    request = raw.link((3, b"vx1\0"), raw.kind("vxlan", (1, U32(16777216)), (15, b"\x12\xb5")), how=CREATE | EXCL)
    answer = outcome(net.request, request)
    assert outcome(net.link_add, "vx1", "vxlan", options={"id": 16777216, "port": 4789}) == answer
    assert names() == before
    assert seen(answer) == "ERANGE"


@behaviour("vxlan.port.default", subject="impl")
def test_default_port_of_vxlan(net: Rtnl, seen: Seen) -> None:
    """A VXLAN device without a port uses 8472."""
    net.link_add("vx0", "vxlan", options={"id": 7})
    assert seen(int.from_bytes(attribute_of("vx0", 18, 2, 15), "big")) == 8472


@behaviour("vxlan.fdb.append-needs-multicast", subject="impl")
def test_second_destination_is_for_groups(net: Rtnl, seen: Seen) -> None:
    """A second destination is added to the entry of a multicast address, and not to that of a unicast one."""
    index = net.link_add("vx0", "vxlan", options={"id": 7, "port": 4789}, up=True).ifindex
    unicast, multicast = "02:00:00:00:00:01", "01:00:5e:01:02:03"
    for mac in (unicast, multicast):
        for last in (1, 2):
            net.neighbour_add(
                Neighbour(
                    index,
                    f"192.0.2.{last}",
                    mac,
                    NeighbourState.NOARP | NeighbourState.PERMANENT,
                    NeighbourFlag.SELF,
                    family=7,
                ),
                append=True,
            )
    shown = ip_json("fdb", "show", "dev", "vx0", command="bridge")
    found = {mac: sorted(entry["dst"] for entry in shown if entry["mac"] == mac) for mac in (unicast, multicast)}
    assert found[multicast] == ["192.0.2.1", "192.0.2.2"]
    assert seen(found[unicast]) == ["192.0.2.1"]
