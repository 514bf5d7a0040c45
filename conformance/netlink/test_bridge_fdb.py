"""Forwarding entries and groups of bridges: learned, added, aged, flushed, limited."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.netlink import raw
from kernelproof.conformance.netlink.frames import BROADCAST, frame
from kernelproof.conformance.netlink.raw import U32
from kernelproof.conformance.netlink.shown import (
    NO_ERROR,
    attribute_of,
    forwarding_of,
    ip_json,
    outcome,
    port_option_of,
)
from kernelproof.impl.netlink import Neighbour, NeighbourFlag, NeighbourState
from kernelproof.impl.netlink.multicast import NEWMDB, MulticastEntry

if TYPE_CHECKING:
    from kernelproof.conformance.netlink.conftest import Pairs, Settled
    from kernelproof.conformance.seen import Seen
    from kernelproof.impl.netlink import Request, Rtnl

A, B, M = "02:00:00:00:00:0a", "02:00:00:00:00:0b", "02:00:00:00:00:0d"


@pytest.fixture(autouse=True)
def bridge(net: Rtnl) -> None:
    """A bridge br0 that is up."""
    net.link_add("br0", "bridge", up=True)


def set_bridge(net: Rtnl, **options: int) -> None:
    """Set options of br0."""
    net.link_set("br0", kind="bridge", options=options)


def entry(net: Rtnl, mac: str, state: int, flags: int = 0) -> Neighbour:
    """A forwarding entry of the port p0."""
    return Neighbour(net.index_of("p0"), mac=mac, state=state, flags=flags | NeighbourFlag.MASTER, family=7)


def known(*wanted: str) -> set[str]:
    """Return which addresses br0 has an entry for."""
    return forwarding_of("br0").keys() & set(wanted)


@behaviour("bridge.fdb.ageing", subject="impl")
def test_learned_entry_ages(net: Rtnl, pairs: Pairs, settled: Settled) -> None:
    """A learned entry is there, and gone some time after a second without a frame; a static one stays."""
    (far0,) = pairs("p0", master="br0")
    set_bridge(net, ageing_time=100)
    net.neighbour_add(entry(net, M, NeighbourState.NOARP))
    far0.send(frame(BROADCAST, A))
    assert settled(lambda: known(A, M), {A, M}) == {A, M}
    assert settled(lambda: known(A, M), {M}) == {M}


@behaviour("bridge.fdb.ageing-zero", subject="impl")
def test_learned_entry_stays_without_ageing(net: Rtnl, pairs: Pairs, settled: Settled, seen: Seen) -> None:
    """With an ageing time of 0 a learned entry is still there when one of another bridge has aged."""
    net.link_add("br1", "bridge", options={"ageing_time": 100}, up=True)
    (far0,) = pairs("p0", master="br0")
    (far1,) = pairs("p1", master="br1")
    far0.send(frame(BROADCAST, A))
    assert settled(lambda: known(A), {A}) == {A}
    set_bridge(net, ageing_time=0)
    far1.send(frame(BROADCAST, B))
    assert settled(lambda: B in forwarding_of("br1"), True)
    assert settled(lambda: B in forwarding_of("br1"), False) is False
    assert seen(sorted(known(A))) == [A]


@behaviour("bridge.fdb.extern-learn-not-aged", subject="impl")
def test_entry_learned_elsewhere_stays(net: Rtnl, pairs: Pairs, settled: Settled) -> None:
    """An entry with NTF_EXT_LEARNED is still there when a learned one has aged."""
    (far0,) = pairs("p0", master="br0")
    set_bridge(net, ageing_time=100)
    net.neighbour_add(entry(net, M, NeighbourState.REACHABLE, NeighbourFlag.EXT_LEARNED))
    far0.send(frame(BROADCAST, A))
    assert settled(lambda: known(A, M), {A, M}) == {A, M}
    assert settled(lambda: known(A, M), {M}) == {M}


@behaviour("bridge.fdb.replace-creates", subject="impl")
def test_replacing_adds_what_is_not_there(net: Rtnl) -> None:
    """An entry that is to be replaced is added where there is none."""
    net.link_add("p0", "dummy", master="br0")
    assert known(M) == set()
    net.neighbour_add(entry(net, M, NeighbourState.NOARP), replace=True)
    assert known(M) == {M}
    assert not forwarding_of("br0")[M].is_local


@behaviour("bridge.fdb.flush-keeps-permanent", subject="impl")
def test_flush_keeps_permanent_entries(net: Rtnl, pairs: Pairs, settled: Settled) -> None:
    """A flush removes learned entries and keeps permanent ones."""
    (far0,) = pairs("p0", master="br0")
    net.neighbour_add(entry(net, M, NeighbourState.PERMANENT))
    far0.send(frame(BROADCAST, A))
    assert settled(lambda: known(A, M), {A, M}) == {A, M}
    set_bridge(net, fdb_flush=1)
    assert known(A, M) == {M}


@behaviour("bridge.fdb.max-learned", subject="impl")
def test_learning_has_a_limit(net: Rtnl, pairs: Pairs) -> None:
    """With a limit of one learned entry a second address is forwarded and not learned."""
    set_bridge(net, fdb_max_learned=1)
    far0, far1 = pairs("p0", "p1", master="br0")
    for mac in (A, B):
        far0.send(frame(BROADCAST, mac))
    assert far1.received() == [frame(BROADCAST, A), frame(BROADCAST, B)]
    assert known(A, B) == {A}
    assert attribute_of("br0", 18, 2, 48) == U32(1)  # IFLA_BR_FDB_N_LEARNED


def group_request(net: Rtnl, group: str) -> Request:
    """Add a group to the port p0 by number."""
    header = bytes([7, 0, 0, 0]) + U32(net.index_of("br0"))
    address = socket.inet_aton(group).ljust(16, b"\0")
    data = U32(net.index_of("p0")) + b"\1\0\0\0" + address + b"\x08\0\0\0"
    return raw.whole(NEWMDB, raw.CREATE | raw.EXCL, header, (1, data))


def groups_of(port: str) -> set[str]:
    """Return the groups of a port as `bridge` shows them; those that br0 itself joins for IPv6 are none of it."""
    shown = ip_json("mdb", "show", "dev", "br0", command="bridge")
    return {found["grp"] for line in shown for found in line["mdb"] if found["port"] == port}


@behaviour("bridge.limit.mdb-entries-per-port", subject="impl")
def test_groups_of_a_port_have_a_limit(net: Rtnl, seen: Seen) -> None:
    """A port with a limit of one group takes no second one, until the limit is 0."""
    net.link_add("p0", "dummy", master="br0", up=True)
    net.port_set("p0", mcast_max_groups=1)
    assert port_option_of("p0", 42) == 1
    bridge, port = net.index_of("br0"), net.index_of("p0")
    net.multicast_add(MulticastEntry(bridge, port, "239.1.1.1"))
    answer = outcome(net.request, group_request(net, "239.1.1.2"))
    assert outcome(net.multicast_add, MulticastEntry(bridge, port, "239.1.1.2")) == answer
    assert port_option_of("p0", 41) == 1
    net.port_set("p0", mcast_max_groups=0)
    assert outcome(net.multicast_add, MulticastEntry(bridge, port, "239.1.1.2")) == NO_ERROR
    assert groups_of("p0") == {"239.1.1.1", "239.1.1.2"}
    assert seen(answer != NO_ERROR) is True
