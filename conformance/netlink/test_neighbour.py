"""Neighbours: their states, what carrier does to them, and the limits of their tables."""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING

from kernelproof import behaviour
from kernelproof.conformance.netlink import heard, raw
from kernelproof.conformance.netlink.frames import Port
from kernelproof.conformance.netlink.raw import CREATE, REPLACE, U32
from kernelproof.conformance.netlink.shown import (
    DEVICES,
    NO_ERROR,
    PROC_IPV4,
    neighbour_states,
    neighbours4,
    outcome,
)
from kernelproof.impl.netlink import (
    Neighbour,
    NeighbourFlag,
    NeighbourState,
    Request,
    Rtnl,
    create_namespace,
    neighbours,
    open_namespace,
)

if TYPE_CHECKING:
    from pyroute2 import IPRoute

    from kernelproof.conformance.netlink.conftest import Settled
    from kernelproof.conformance.seen import Seen

MAC = "02:00:00:00:00:{:02x}"
ARP = 0x0806
REACHABLE, STALE, FAILED = NeighbourState.REACHABLE, NeighbourState.STALE, NeighbourState.FAILED
NOARP, PERMANENT, INCOMPLETE = NeighbourState.NOARP, NeighbourState.PERMANENT, NeighbourState.INCOMPLETE
GETNEIGHTBL = 66
NAME, CONFIG, PARAMETERS, IFINDEX = 1, 5, 6, 1  # NDTA_ and, inside, NDTPA_


def pair(net: Rtnl, settled: Settled) -> int:
    """Make the ends "left", with 10.9.0.1/24, and "right", with carrier; return the index of the first."""
    net.link_add("left", "veth", peer={"name": "right"})
    net.address_add("left", "10.9.0.1/24")
    for end in ("left", "right"):
        net.link_set(end, up=True)
    assert settled((DEVICES / "left/operstate").read_text, "up\n") == "up\n"
    return net.index_of("left")


def add(net: Rtnl, index: int, last: int, state: int, flags: int = 0) -> None:
    """Add 10.9.0.LAST."""
    net.neighbour_add(Neighbour(index, f"10.9.0.{last}", MAC.format(last), state, flags))


def lose_carrier(net: Rtnl, settled: Settled) -> None:
    """Take the carrier of "left", and wait until the kernel has told all its parts."""
    net.link_set("right", up=False)
    assert settled((DEVICES / "left/operstate").read_text, "lowerlayerdown\n") == "lowerlayerdown\n"
    net.link_set("left", group=1)  # waits for the lock that it holds meanwhile


@behaviour("neighbour.state.permanent-survives-carrier-loss", subject="impl")
def test_permanent_entry_survives(net: Rtnl, settled: Settled) -> None:
    """A device that loses its carrier keeps permanent entries and no reachable ones."""
    index = pair(net, settled)
    add(net, index, 2, PERMANENT)
    add(net, index, 3, REACHABLE)
    assert neighbours4().keys() == {"10.9.0.2", "10.9.0.3"}
    lose_carrier(net, settled)
    assert neighbours4().keys() == {"10.9.0.2"}


@behaviour("neighbour.state.extern-learned-flushed", subject="impl")
def test_entry_learned_elsewhere_does_not(net: Rtnl, settled: Settled) -> None:
    """A device that loses its carrier loses entries with NTF_EXT_LEARNED that are not permanent."""
    index = pair(net, settled)
    add(net, index, 2, PERMANENT, NeighbourFlag.EXT_LEARNED)
    add(net, index, 3, REACHABLE, NeighbourFlag.EXT_LEARNED)
    assert neighbours4().keys() == {"10.9.0.2", "10.9.0.3"}
    lose_carrier(net, settled)
    assert neighbours4().keys() == {"10.9.0.2"}


@behaviour("neighbour.state.evict-nocarrier-off", subject="impl")
def test_reachable_entry_survives_if_told(net: Rtnl, settled: Settled) -> None:
    """With arp_evict_nocarrier 0 a device that loses its carrier keeps reachable entries too."""
    index = pair(net, settled)
    (PROC_IPV4 / "conf/left/arp_evict_nocarrier").write_text("0")
    add(net, index, 3, REACHABLE)
    lose_carrier(net, settled)
    assert neighbours4() == {"10.9.0.3": MAC.format(3)}


@behaviour("neighbour.state.incomplete-then-failed", subject="impl")
def test_address_that_nobody_has(net: Rtnl, settled: Settled, observer: IPRoute) -> None:
    """An address that nobody has is asked for three times, incomplete meanwhile, and failed afterwards."""
    index = pair(net, settled)
    far = Port("right", ARP)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.sendto(b"x", ("10.9.0.2", 9))
    assert neighbour_states(observer, index) == {"10.9.0.2": INCOMPLETE}
    assert settled(lambda: neighbour_states(observer, index), {"10.9.0.2": FAILED}) == {"10.9.0.2": FAILED}
    asked = [data for data in far.received() if data[38:42] == socket.inet_aton("10.9.0.2")]
    far.close()
    assert len(asked) == 3
    assert (PROC_IPV4 / "neigh/left/mcast_solicit").read_text() == "3\n"


@behaviour("neighbour.state.stale-keeps-valid", subject="impl")
def test_stale_does_not_spoil_a_valid_entry(net: Rtnl, settled: Settled, observer: IPRoute, seen: Seen) -> None:
    """A reachable entry that is replaced by a stale one of the same address is still reachable."""
    index = pair(net, settled)
    add(net, index, 2, REACHABLE)
    net.neighbour_add(Neighbour(index, "10.9.0.2", MAC.format(2), STALE), replace=True)
    assert seen(int(neighbour_states(observer, index)["10.9.0.2"])) == REACHABLE


@behaviour("neighbour.state.set-and-read", subject="impl")
def test_states_are_read_back(net: Rtnl, settled: Settled, observer: IPRoute, seen: Seen) -> None:
    """Entries that are added stale, without ARP, and permanent are so."""
    index = pair(net, settled)
    for last, state in ((2, STALE), (3, NOARP), (4, PERMANENT)):
        add(net, index, last, state)
    states = neighbour_states(observer, index)
    assert seen([states[f"10.9.0.{last}"] for last in (2, 3, 4)]) == [0x04, 0x40, 0x80]


@behaviour("neighbour.managed.stays-reachable", subject="impl")
def test_managed_entry_becomes_reachable_again(net: Rtnl, settled: Settled, observer: IPRoute) -> None:
    """A managed entry whose neighbour answers is reachable again by itself, its like is not."""
    create_namespace("other")
    where = open_namespace("other")
    net.link_add("left", "veth", peer={"name": "right", "namespace_fd": where})
    with os.fdopen(where, "rb"), Rtnl(netns=where) as other:
        for last in (2, 3):
            other.address_add("right", f"10.9.0.{last}/24")
        other.link_set("right", up=True)
        mac = other.link("right").mac
    net.address_add("left", "10.9.0.1/24")
    net.link_set("left", up=True)
    assert settled((DEVICES / "left/operstate").read_text, "up\n") == "up\n"
    index = net.index_of("left")
    managed = Neighbour(index, "10.9.0.2", mac, STALE, rest=((15, U32(1)),))  # NDA_FLAGS_EXT, NTF_EXT_MANAGED
    for neighbour in (managed, managed._replace(address="10.9.0.3", rest=())):
        net.neighbour_add(neighbour)
    wanted = {"10.9.0.2": REACHABLE, "10.9.0.3": STALE}
    assert settled(lambda: neighbour_states(observer, index), wanted, seconds=60) == wanted


@behaviour("neighbour.get.single", subject="impl")
def test_one_entry_is_asked_for(net: Rtnl, settled: Settled, seen: Seen) -> None:
    """RTM_GETNEIGH of an address and a device gives that entry, or ENOENT where there is none."""
    index = pair(net, settled)
    for last in (2, 3):
        add(net, index, last, PERMANENT)
    (found,) = net.request(neighbours.look_up_neighbour(index, "10.9.0.2")).messages
    mac = heard.attributes(found.payload[12:])[2]
    assert {"10.9.0.2": mac.hex(":")} == {"10.9.0.2": neighbours4()["10.9.0.2"]}
    nobody = (1, socket.inet_aton("10.9.0.9"))
    answer = outcome(net.request, raw.neighbour(index, nobody, type=neighbours.GETNEIGH, state=0))
    assert outcome(net.request, neighbours.look_up_neighbour(index, "10.9.0.9")) == answer
    assert seen(answer) == "ENOENT"


@behaviour("neighbour.table.dump-starts-with-config", subject="impl")
def test_tables_are_told_first(net: Rtnl, settled: Settled) -> None:
    """A dump of tables has one message with the settings of each, and then those of devices, with an index."""
    index = pair(net, settled)
    request = Request.of(GETNEIGHTBL, 0, b"\0\0\0\0", (), None)
    tables: dict[bytes, list[dict[int, bytes]]] = {}
    for message in net.connection.messages(request):
        found = heard.attributes(message.payload[4:])
        tables.setdefault(found[NAME], []).append(found)
    assert tables.keys() >= {b"arp_cache\0"}
    for first, *rest in tables.values():
        assert CONFIG in first
        assert IFINDEX not in heard.attributes(first[PARAMETERS])
        indexes = [heard.attributes(each[PARAMETERS])[IFINDEX] for each in rest]
        assert len(set(indexes)) == len(indexes)
        assert not any(CONFIG in each for each in rest)
    devices = [heard.attributes(each[PARAMETERS]).get(IFINDEX) for each in tables[b"arp_cache\0"]]
    assert struct.pack("=I", index) in devices


def check_setting(net: Rtnl, seen: Seen, name: str, refused: str, taken: str) -> None:
    """A setting of all neighbours, and that of a device, refuse a value and take another."""
    net.link_add("port0", "dummy")
    answers = []
    for scope in ("default", "port0"):
        file = PROC_IPV4 / "neigh" / scope / name
        answers.append(outcome(file.write_text, refused))
        file.write_text(taken)
        assert file.read_text() == f"{taken}\n"
    assert seen(answers) == ["EINVAL", "EINVAL"]


@behaviour("neighbour.sysctl.negative-queue", subject="impl")
def test_queue_is_not_negative(net: Rtnl, seen: Seen) -> None:
    """The size of the queue of frames that wait for an address can't be negative."""
    check_setting(net, seen, "unres_qlen_bytes", "-1", "4096")


@behaviour("neighbour.sysctl.probe-interval-minimum", subject="impl")
def test_interval_of_probes_is_not_zero(net: Rtnl, seen: Seen) -> None:
    """The interval of probes of managed entries can't be 0."""
    check_setting(net, seen, "interval_probe_time_ms", "0", "1000")


@behaviour("neighbour.limit.gc-thresh3", subject="impl")
def test_table_has_a_limit(net: Rtnl, settled: Settled, seen: Seen) -> None:
    """No more entries than gc_thresh3 are added, permanent ones excepted."""
    index = pair(net, settled)
    limit = 8
    for name in ("gc_thresh1", "gc_thresh2", "gc_thresh3"):
        (PROC_IPV4 / "neigh/default" / name).write_text(str(limit))
    answers = [outcome(add, net, index, last, REACHABLE) for last in range(2, 10)]
    mac = bytes.fromhex(MAC.format(9).replace(":", ""))
    by_number = raw.neighbour(index, (1, socket.inet_aton("10.9.0.99")), (2, mac), state=REACHABLE, how=CREATE)
    answers += [outcome(add, net, index, last, REACHABLE) for last in (10, 11)]
    refused = [outcome(net.request, by_number), outcome(net.request, by_number._replace(flags=CREATE | REPLACE))]
    for last in (2, 3, 4):
        address = f"10.9.0.{100 + last}"
        net.neighbour_add(Neighbour(index, address, MAC.format(last), PERMANENT))
        assert address in neighbours4()
    added = answers.count(NO_ERROR)
    assert 0 < added <= limit
    assert len(neighbours4()) == added + 3
    assert answers[added:] == ["ENOBUFS"] * (len(answers) - added)
    assert seen(refused) == ["ENOBUFS", "ENOBUFS"]
