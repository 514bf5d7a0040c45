"""What a bridge does with frames, and what spanning tree makes of its ports."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.netlink.frames import BROADCAST, frame
from kernelproof.conformance.netlink.shown import DEVICES, NO_ERROR, forwarding_of, number_of, outcome
from kernelproof.impl.netlink import Neighbour, NeighbourFlag, NeighbourState

if TYPE_CHECKING:
    from kernelproof.conformance.netlink.conftest import OpenPort, Pairs, Settled
    from kernelproof.conformance.seen import Seen
    from kernelproof.impl.netlink import Rtnl

A, B, M = "02:00:00:00:00:0a", "02:00:00:00:00:0b", "02:00:00:00:00:0d"
GROUP, LINK_LOCAL = "01:00:5e:01:02:03", "01:80:c2:00:00:0e"
DISABLED, LISTENING, LEARNING, FORWARDING, BLOCKING = range(5)


@pytest.fixture(autouse=True)
def bridge(net: Rtnl) -> None:
    """A bridge br0 that is up."""
    net.link_add("br0", "bridge", up=True)


@behaviour("bridge.forward.unknown-unicast-floods", subject="impl")
def test_unknown_address_is_flooded(net: Rtnl, pairs: Pairs) -> None:
    """A frame to an address that nobody has been seen with leaves through all ports that flood unicast."""
    far0, far1, far2 = pairs("p0", "p1", "p2", master="br0")
    net.port_set("p2", unicast_flood=0)
    data = frame(M, A)
    far0.send(data)
    assert [far.received() for far in (far0, far1, far2)] == [[], [data], []]
    net.port_set("p2", unicast_flood=1)
    far0.send(data)
    assert [far.received() for far in (far0, far1, far2)] == [[], [data], [data]]


@behaviour("bridge.forward.learned-address", subject="impl")
def test_learned_address_has_one_port(pairs: Pairs) -> None:
    """A frame to an address that a port received frames from leaves through that port alone."""
    far0, far1, far2 = pairs("p0", "p1", "p2", master="br0")
    hello, data = frame(BROADCAST, M), frame(M, A)
    far1.send(hello)
    assert [far.received() for far in (far0, far1, far2)] == [[hello], [], [hello]]
    far0.send(data)
    assert [far.received() for far in (far0, far1, far2)] == [[], [data], []]


@behaviour("bridge.forward.learning-off", subject="impl")
def test_port_that_does_not_learn(net: Rtnl, pairs: Pairs) -> None:
    """A frame on a port with learning off makes no entry, one on its like does."""
    far0, far1 = pairs("p0", "p1", master="br0")
    net.port_set("p0", learning=0)
    far0.send(frame(BROADCAST, A))
    far1.send(frame(BROADCAST, B))
    assert far1.received() == [frame(BROADCAST, A)]
    assert far0.received() == [frame(BROADCAST, B)]
    learned = forwarding_of("br0").keys() & {A, B}
    assert learned == {B}


def check_flooding(net: Rtnl, pairs: Pairs, option: str, destination: str) -> None:
    """Frames to a destination leave through p1 while the option is on, and not while it is off."""
    far0, far1 = pairs("p0", "p1", master="br0")
    data = frame(destination, A)
    for on in (1, 0):
        net.port_set("p1", **{option: on})
        far0.send(data)
        assert far1.received() == [data] * on


@behaviour("bridge.forward.broadcast-flood-off", subject="impl")
def test_broadcast_is_not_flooded(net: Rtnl, pairs: Pairs) -> None:
    """A broadcast frame does not leave through a port with broadcast flooding off."""
    check_flooding(net, pairs, "bcast_flood", BROADCAST)


@behaviour("bridge.forward.multicast-flood-off", subject="impl")
def test_multicast_is_not_flooded(net: Rtnl, pairs: Pairs) -> None:
    """A frame to a group that nobody joined does not leave through a port with multicast flooding off."""
    check_flooding(net, pairs, "mcast_flood", GROUP)


@behaviour("bridge.forward.hairpin", subject="impl")
def test_frame_goes_back_with_hairpin(net: Rtnl, pairs: Pairs) -> None:
    """A frame to an address behind the port it came in by goes back there with hairpin only."""
    far0, _ = pairs("p0", "p1", master="br0")
    far0.send(frame(BROADCAST, M))
    data = frame(M, A)
    for on in (0, 1, 0):
        net.port_set("p0", mode=on)
        far0.send(data)
        assert far0.received() == [data] * on


@behaviour("bridge.forward.isolated-ports", subject="impl")
def test_isolated_ports_reach_others_alone(net: Rtnl, pairs: Pairs) -> None:
    """Nothing passes between two isolated ports; each reaches a port that is not, and is reached from there."""
    far0, far1, far2 = pairs("p0", "p1", "p2", master="br0")
    for port in ("p0", "p1"):
        net.port_set(port, isolated=1)
    for sender, others in ((far0, ([], [1])), (far1, ([], [1])), (far2, ([1], [1]))):
        data = frame(BROADCAST, A)
        sender.send(data)
        receivers = [far for far in (far0, far1, far2) if far is not sender]
        assert [[1] * len(far.received()) for far in receivers] == list(others)


@behaviour("bridge.forward.link-local-dropped", subject="impl")
def test_link_local_group_is_forwarded_if_told(net: Rtnl, pairs: Pairs) -> None:
    """A frame to 01:80:c2:00:00:0e is forwarded once bit 14 of the bridge's mask is set, and not before."""
    far0, far1 = pairs("p0", "p1", master="br0")
    data = frame(LINK_LOCAL, A)
    for on in (0, 1):
        net.link_set("br0", kind="bridge", options={"group_fwd_mask": on << 14})
        far0.send(data)
        assert far1.received() == [data] * on


@behaviour("bridge.forward.locked-port", subject="impl")
def test_locked_port_wants_an_entry(net: Rtnl, pairs: Pairs) -> None:
    """A locked port drops frames of an address without an entry, and forwards them once there is one."""
    far0, far1 = pairs("p0", "p1", master="br0")
    net.port_set("p0", locked=1)
    data = frame(BROADCAST, A)
    far0.send(data)
    assert far1.received() == []
    net.neighbour_add(
        Neighbour(net.index_of("p0"), mac=A, state=NeighbourState.NOARP, flags=NeighbourFlag.MASTER, family=7)
    )
    far0.send(data)
    assert far1.received() == [data]


@behaviour("bridge.forward.backup-port", subject="impl")
def test_backup_port_takes_over(net: Rtnl, pairs: Pairs, settled: Settled) -> None:
    """Frames for a port without carrier leave through its backup port."""
    far0, far1, far2 = pairs("p0", "p1", "p2", master="br0")
    net.port_set("p1", backup_port=net.index_of("p2"))
    far1.send(frame(BROADCAST, M))
    assert far0.received() == far2.received() == [frame(BROADCAST, M)]
    data = frame(M, A)
    far0.send(data)
    assert (far1.received(), far2.received()) == ([data], [])
    net.link_set("p1-far", up=False)
    assert settled((DEVICES / "p1/carrier").read_text, "0\n") == "0\n"
    far0.send(data)
    assert far2.received() == [data]


@behaviour("bridge.stp.disabled-port-forwards-nothing", subject="impl")
def test_disabled_port_forwards_nothing(net: Rtnl, pairs: Pairs) -> None:
    """A frame that comes in by a disabled port goes nowhere."""
    far0, far1 = pairs("p0", "p1", master="br0")
    data = frame(BROADCAST, A)
    for state, passes in ((DISABLED, 0), (FORWARDING, 1)):
        net.port_set("p0", state=state)
        far0.send(data)
        assert far1.received() == [data] * passes


@behaviour("bridge.stp.port-state-without-stp", subject="impl")
def test_states_of_spanning_tree_are_refused_without_it(net: Rtnl, pairs: Pairs, seen: Seen) -> None:
    """Without spanning tree a port can't be set to listening, learning or blocking."""
    pairs("p0", master="br0")
    refused = [outcome(net.port_set, "p0", state=state) != NO_ERROR for state in (LISTENING, LEARNING, BLOCKING)]
    net.port_set("p0", state=FORWARDING)
    assert number_of("p0/brport/state") == FORWARDING
    assert seen(refused) == [True, True, True]


@behaviour("bridge.stp.forwarding-after-two-delays", subject="impl")
def test_port_listens_and_learns_first(net: Rtnl, settled: Settled, silent: None) -> None:
    """With a forward delay of 2 seconds a port is listening for 2 seconds, learning for 2, and then forwards."""
    net.link_set("br0", kind="bridge", options={"stp_state": 1, "forward_delay": 200})
    net.link_add("p0", "veth", peer={"name": "far"}, master="br0")
    for end in ("far", "p0"):
        net.link_set(end, up=True)
    began = []
    for state in (LISTENING, LEARNING, FORWARDING):
        assert settled(lambda: number_of("p0/brport/state"), state) == state
        began.append(time.monotonic())
    listened, learned = began[1] - began[0], began[2] - began[1]
    assert 1.8 < listened < 2.8
    assert 1.8 < learned < 2.8


@behaviour("bridge.stp.lowest-id-is-root", subject="impl")
def test_lower_priority_is_root(net: Rtnl, settled: Settled, silent: None) -> None:
    """Of two bridges that are connected the one with the lower priority value is the root."""
    options = {"stp_state": 1, "forward_delay": 200}
    net.link_set("br0", kind="bridge", options={**options, "priority": 8192})
    net.link_add("br1", "bridge", options={**options, "priority": 4096}, up=True)
    net.link_add("left", "veth", peer={"name": "right"}, master="br0")
    net.link_set("right", master="br1")
    for end in ("left", "right"):
        net.link_set(end, up=True)
    root = (DEVICES / "br1/bridge/bridge_id").read_text()
    assert root.startswith("1000.")
    assert settled((DEVICES / "br0/bridge/root_id").read_text, root) == root
    assert (DEVICES / "br1/bridge/root_id").read_text() == root
    assert (number_of("br0/bridge/root_port"), number_of("br1/bridge/root_port")) == (1, 0)


@behaviour("bridge.fdb.local-terminates", subject="impl")
def test_local_entry_is_the_bridge_s_own(net: Rtnl, pairs: Pairs, port: OpenPort) -> None:
    """Frames to the address of a local entry are delivered to the bridge, and not forwarded."""
    far0, far1 = pairs("p0", "p1", master="br0")
    own = port("br0")
    net.neighbour_add(
        Neighbour(net.index_of("p1"), mac=M, state=NeighbourState.PERMANENT, flags=NeighbourFlag.MASTER, family=7)
    )
    data = frame(M, A)
    far0.send(data)
    assert (own.received(), far1.received()) == ([data], [])
