"""Devices on top of another: ipvlan, VLAN, VXLAN."""

from __future__ import annotations

import os
import select
import socket
import struct
from typing import TYPE_CHECKING, Any

from kernelproof import behaviour
from kernelproof.conformance.netlink import raw
from kernelproof.conformance.netlink.frames import BROADCAST, frame
from kernelproof.conformance.netlink.raw import CREATE, EXCL, U32
from kernelproof.conformance.netlink.shown import DEVICES, attribute_of, device_flags, ip_json, names, outcome
from kernelproof.impl.netlink import (
    Neighbour,
    NeighbourFlag,
    NeighbourState,
    Rtnl,
    create_namespace,
    links,
    open_namespace,
    run_in,
)

if TYPE_CHECKING:
    from kernelproof.conformance.netlink.conftest import OpenPort, Pairs, Settled
    from kernelproof.conformance.seen import Seen

A = "02:00:00:00:00:0a"
L2, L3 = 0, 1
PRIVATE = 1
UP = 0x1
QUIET_SECONDS = 0.5


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


def connected(net: Rtnl, number: int) -> socket.socket:
    """Make an ipvlan device with 10.9.0.NUMBER in a namespace of its own; return a socket of UDP there."""
    name = f"space{number}"
    create_namespace(name)
    where = open_namespace(name)
    options = {"mode": L2}
    net.request(links.add_link("i0", "ipvlan", parent=net.index_of("p0"), options=options, namespace_fd=where))
    os.close(where)
    with Rtnl(netns=name) as inside:
        inside.address_add("i0", f"10.9.0.{number}/24")
        inside.link_set("i0", up=True)
        mac = inside.link("i0").mac
        inside.neighbour_add(Neighbour(inside.index_of("i0"), f"10.9.0.{3 - number}", mac))
    with run_in(name) as call:
        own: socket.socket = call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    own.bind((f"10.9.0.{number}", 9))
    return own


@behaviour("ipvlan.mode.private-isolates", subject="impl")
def test_private_ipvlan_devices_are_apart(net: Rtnl, pairs: Pairs) -> None:
    """A packet passes between two ipvlan devices, and not once they are private."""
    pairs("p0")
    with connected(net, 1) as one, connected(net, 2) as other, Rtnl(netns="space1") as inside:
        for flags in (0, PRIVATE):
            inside.link_set("i0", kind="ipvlan", options={"flags": flags})
            one.sendto(b"x", ("10.9.0.2", 9))
            arrived, _, _ = select.select([other], [], [], QUIET_SECONDS)
            assert arrived == [other] * (1 - flags)
            if arrived:
                assert other.recv(9) == b"x"


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
