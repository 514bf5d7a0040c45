"""Carrier and operational state of devices, and what a veth pair carries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernelproof import behaviour
from kernelproof.conformance.netlink import heard, raw
from kernelproof.conformance.netlink.frames import BROADCAST, frame
from kernelproof.conformance.netlink.shown import attribute_of, device_flags, number_of
from kernelproof.impl.netlink import links

if TYPE_CHECKING:
    from kernelproof.conformance.netlink.conftest import Open, OpenPort, Pairs, Settled
    from kernelproof.conformance.seen import Seen
    from kernelproof.impl.netlink import Rtnl

UP, RUNNING, LOWER_UP = 0x1, 0x40, 0x10000
UNKNOWN, DOWN, LOWERLAYERDOWN, DORMANT, IS_UP = 0, 2, 3, 5, 6


def state(name: str) -> int:
    """Return IFLA_OPERSTATE."""
    return attribute_of(name, 16)[0]


def pair(net: Rtnl, *up: str) -> None:
    """Make the two ends "left" and "right", and set up those named."""
    net.link_add("left", "veth", peer={"name": "right"})
    for name in up:
        net.link_set(name, up=True)


@behaviour("link.veth.down-end-takes-carrier", subject="impl")
def test_both_ends_make_the_carrier(net: Rtnl, settled: Settled) -> None:
    """Neither end of a veth pair has carrier while one of them is down."""
    pair(net, "left")

    def carriers() -> list[bool]:
        return [bool(device_flags(name) & LOWER_UP) for name in ("left", "right")]

    assert carriers() == [False, False]
    net.link_set("right", up=True)
    assert settled(carriers, [True, True]) == [True, True]
    net.link_set("left", up=False)
    assert settled(carriers, [False, False]) == [False, False]


@behaviour("link.veth.frames-cross", subject="impl")
def test_frame_crosses_unchanged(pairs: Pairs, port: OpenPort) -> None:
    """A frame that is sent on one end is received on the other, each byte the same."""
    (far,) = pairs("left")
    near = port("left")
    for sender, receiver in ((near, far), (far, near)):
        data = frame(BROADCAST, "02:00:00:00:00:01", bytes(range(256)))
        sender.send(data)
        assert receiver.received() == [data]


@behaviour("link.oper.running-means-up-or-unknown", subject="impl")
def test_running_is_up_or_unknown(net: Rtnl, settled: Settled) -> None:
    """IFF_RUNNING is set while the operational state is up or unknown, and not while it is another."""
    pair(net, "left")
    net.link_add("port0", "dummy", up=True)
    net.link_set("lo", up=True)
    assert settled(lambda: state("left"), LOWERLAYERDOWN) == LOWERLAYERDOWN
    shown = {name: (state(name), bool(device_flags(name) & RUNNING)) for name in ("lo", "port0", "left", "right")}
    assert {name: (number in {UNKNOWN, IS_UP}) for name, (number, _) in shown.items()} == {
        name: running for name, (_, running) in shown.items()
    }
    assert {number for number, _ in shown.values()} >= {UNKNOWN, DOWN, LOWERLAYERDOWN}
    net.link_set("right", up=True)
    assert settled(lambda: (state("left"), bool(device_flags("left") & RUNNING)), (IS_UP, True)) == (IS_UP, True)


@behaviour("link.oper.admin-down-is-down", subject="impl")
def test_device_set_down_is_down(net: Rtnl, settled: Settled) -> None:
    """A device that somebody set down has the operational state down."""
    pair(net, "left", "right")
    assert settled(lambda: state("left"), IS_UP) == IS_UP
    net.link_set("left", up=False)
    assert settled(lambda: state("left"), DOWN) == DOWN


@behaviour("link.oper.stacked-lower-down", subject="impl")
def test_far_end_is_the_lower_layer(net: Rtnl, settled: Settled) -> None:
    """A veth end that is up and whose far end is down has the state lowerlayerdown."""
    pair(net, "left", "right")
    assert settled(lambda: state("left"), IS_UP) == IS_UP
    net.link_set("right", up=False)
    assert settled(lambda: state("left"), LOWERLAYERDOWN) == LOWERLAYERDOWN
    assert device_flags("left") & UP


@behaviour("link.oper.vlan-over-down", subject="impl")
def test_vlan_without_carrier_below(net: Rtnl, settled: Settled) -> None:
    """A VLAN device that is up on a device without carrier has the state lowerlayerdown."""
    pair(net, "left", "right")
    net.link_add("vlan7", "vlan", parent="left", options={"id": 7}, up=True)
    assert settled(lambda: state("vlan7"), IS_UP) == IS_UP
    net.link_set("right", up=False)
    assert settled(lambda: state("vlan7"), LOWERLAYERDOWN) == LOWERLAYERDOWN
    assert device_flags("vlan7") & UP


def dormant(net: Rtnl, settled: Settled) -> None:
    """Make "left" a device that waits for somebody when it gains carrier, and let it."""
    pair(net, "left")
    net.link_set("left", linkmode=1)
    net.link_set("right", up=True)
    assert settled(lambda: state("left"), DORMANT) == DORMANT


@behaviour("link.oper.linkmode-dormant", subject="impl")
def test_device_that_waits_is_dormant(net: Rtnl, settled: Settled) -> None:
    """A device in link mode 1 that gains carrier is dormant and not running; its like in mode 0 is up."""
    dormant(net, settled)
    assert not device_flags("left") & RUNNING
    assert settled(lambda: state("right"), IS_UP) == IS_UP
    assert device_flags("right") & RUNNING


def set_state(net: Rtnl, name: str, number: int) -> None:
    """Set the operational state of a device."""
    net.request(raw.link((16, raw.U8(number)), index=net.index_of(name)))


@behaviour("link.oper.set-up-from-dormant", subject="impl")
def test_program_ends_the_wait(net: Rtnl, settled: Settled) -> None:
    """A dormant device is up and running when a program says so, and dormant again when it says that."""
    dormant(net, settled)
    for number, running in ((IS_UP, True), (DORMANT, False)):
        set_state(net, "left", number)
        assert state("left") == number
        assert bool(device_flags("left") & RUNNING) is running


@behaviour("link.oper.change-multicast", subject="impl")
def test_state_set_by_a_program_is_told(net: Rtnl, settled: Settled, opened: Open) -> None:
    """A state that a program sets is told to the group of links."""
    dormant(net, settled)
    own = opened(groups=(1,))
    set_state(net, "left", IS_UP)
    messages = [message for datagram in heard.datagrams(own) for message in heard.take_apart(datagram)]
    told = [heard.attributes(message.payload[16:]) for message in messages if message.type == links.NEWLINK]
    assert [found[16][0] for found in told if found[3] == b"left\0"][-1:] == [IS_UP]


@behaviour("link.oper.carrier-from-userspace", subject="impl")
def test_carrier_is_taken_and_given(net: Rtnl) -> None:
    """IFLA_CARRIER 0 takes the carrier of a dummy device, and 1 gives it back."""
    net.link_add("port0", "dummy", up=True)
    for carrier in (False, True):
        net.link_set("port0", carrier=carrier)
        assert bool(device_flags("port0") & LOWER_UP) is carrier
        assert number_of("port0/carrier") == carrier


@behaviour("link.sysfs.carrier-changes-count", subject="impl")
def test_changes_of_carrier_are_counted(net: Rtnl, seen: Seen) -> None:
    """The number of changes of the carrier is that of gains and losses together."""
    net.link_add("port0", "dummy", up=True)
    files = ("carrier_changes", "carrier_up_count", "carrier_down_count")
    before = [number_of(f"port0/{file}") for file in files]
    for carrier in (0, 1, 0):
        net.link_set("port0", carrier=carrier)
    changes, gains, losses = (number_of(f"port0/{file}") for file in files)
    assert before[0] == before[1] + before[2]
    assert seen(changes) == gains + losses
    assert (changes - before[0], gains - before[1], losses - before[2]) == (3, 1, 2)
