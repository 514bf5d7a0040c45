"""Devices on top of another by hardware address: macvlan."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from kernelproof import behaviour
from kernelproof.conformance.netlink import raw
from kernelproof.conformance.netlink.frames import BROADCAST, Port, frame
from kernelproof.conformance.netlink.raw import CREATE, EXCL, U32
from kernelproof.conformance.netlink.shown import attribute_of, names, outcome

if TYPE_CHECKING:
    from kernelproof.conformance.netlink.conftest import OpenPort, Pairs
    from kernelproof.conformance.seen import Seen
    from kernelproof.impl.netlink import Rtnl

ONE, TWO = "02:00:00:00:00:01", "02:00:00:00:00:02"
VEPA, PRIVATE, BRIDGE, PASSTHRU = 2, 1, 4, 8
MODE, QUEUE_USED, QUEUE = 1, 8, 7
PROMISCUITY = 30


def macvlan(net: Rtnl, name: str, **options: Any) -> None:
    """Make a macvlan device on p0, up."""
    net.link_add(name, "macvlan", parent="p0", options=options, up=True)


def option(name: str, number: int) -> int:
    """Return a number of IFLA_INFO_DATA."""
    return int(struct.unpack("=I", attribute_of(name, 18, 2, number))[0])


def promiscuity(name: str) -> int:
    """Return how many want all frames of a device."""
    return int(struct.unpack("=I", attribute_of(name, PROMISCUITY))[0])


@behaviour("macvlan.mode.default-vepa", subject="impl")
def test_default_mode(net: Rtnl, pairs: Pairs, seen: Seen) -> None:
    """A macvlan device without a mode is in the mode VEPA."""
    pairs("p0")
    macvlan(net, "m0")
    assert seen(option("m0", MODE)) == VEPA


def two(net: Rtnl, pairs: Pairs, port: OpenPort, mode: int) -> tuple[Port, Port, Port]:
    """Make two macvlan devices in a mode; return the far end of their lower device and packet sockets on them."""
    (far,) = pairs("p0")
    for name, mac in (("m1", ONE), ("m2", TWO)):
        net.link_add(name, "macvlan", parent="p0", options={"mode": mode}, mac=mac, up=True)
    return far, port("m1"), port("m2")


@behaviour("macvlan.mode.private-isolates", subject="impl")
def test_private_devices_are_apart(net: Rtnl, pairs: Pairs, port: OpenPort) -> None:
    """Two private devices don't reach each other, even where the far end sends their frames back."""
    far, one, other = two(net, pairs, port, PRIVATE)
    for destination in (TWO, BROADCAST):
        data = frame(destination, ONE)
        one.send(data)
        assert (other.received(), far.received()) == ([], [data])
    far.send(frame(BROADCAST, ONE))
    assert other.received() == []
    outside = frame(TWO, "02:00:00:00:00:03")
    far.send(outside)
    assert other.received() == [outside]


@behaviour("macvlan.mode.bridge-connects", subject="impl")
def test_bridged_devices_reach_each_other(net: Rtnl, pairs: Pairs, port: OpenPort) -> None:
    """Unicast frames pass between two devices in the mode bridge, and the far end does not see them."""
    far, one, other = two(net, pairs, port, BRIDGE)
    for sender, receiver, data in ((one, other, frame(TWO, ONE)), (other, one, frame(ONE, TWO))):
        sender.send(data)
        assert (receiver.received(), far.received()) == ([data], [])


@behaviour("macvlan.mode.passthru-single", subject="impl")
def test_passthru_device_is_alone(net: Rtnl, pairs: Pairs, seen: Seen) -> None:
    """No second device is made on a device that has one in the mode passthru."""
    pairs("p0")
    macvlan(net, "m1", mode=PASSTHRU)
    before = names()
    lower = (5, U32(net.index_of("p0")))
    request = raw.link((3, b"m2\0"), lower, raw.kind("macvlan", (MODE, U32(BRIDGE))), how=CREATE | EXCL)
    answer = outcome(net.request, request)
    assert outcome(macvlan, net, "m2", mode=BRIDGE) == answer
    assert names() == before
    assert seen(answer) == "EINVAL"


@behaviour("macvlan.mode.passthru-promisc", subject="impl")
def test_passthru_device_wants_all_frames(net: Rtnl, pairs: Pairs) -> None:
    """A device in the mode passthru that is up makes its lower device promiscuous, and not while it is down."""
    pairs("p0")
    before = promiscuity("p0")
    macvlan(net, "m1", mode=PASSTHRU)
    assert promiscuity("p0") == before + 1
    net.link_set("m1", up=False)
    assert promiscuity("p0") == before


@behaviour("macvlan.mode.passthru-nopromisc", subject="impl")
def test_passthru_device_can_do_without(net: Rtnl, pairs: Pairs) -> None:
    """A device in the mode passthru with MACVLAN_FLAG_NOPROMISC leaves its lower device as it was."""
    pairs("p0")
    before = promiscuity("p0")
    macvlan(net, "m1", mode=PASSTHRU, flags=1)
    assert option("m1", MODE) == PASSTHRU
    assert promiscuity("p0") == before


@behaviour("macvlan.queue.bc-default", subject="impl")
def test_default_queue_of_broadcasts(net: Rtnl, pairs: Pairs, seen: Seen) -> None:
    """A device that asks for no queue of broadcasts has one of 1000."""
    pairs("p0")
    macvlan(net, "m1")
    assert seen(option("m1", QUEUE)) == 1000


@behaviour("macvlan.queue.bc-largest-wins", subject="impl")
def test_largest_queue_is_used(net: Rtnl, pairs: Pairs) -> None:
    """The queue that is used is the largest that a device on the same lower device asked for."""
    pairs("p0")
    macvlan(net, "m1", mode=BRIDGE, bc_queue_len=500)
    macvlan(net, "m2", mode=BRIDGE, bc_queue_len=2000)
    assert [option(name, QUEUE) for name in ("m1", "m2")] == [500, 2000]
    assert [option(name, QUEUE_USED) for name in ("m1", "m2")] == [2000, 2000]
    net.link_delete("m2")
    assert option("m1", QUEUE_USED) == 500
