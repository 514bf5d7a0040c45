"""A view that follows a namespace: events, overruns, bursts, asyncio, waiting."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from kernelproof.impl import netlink
from kernelproof.impl.netlink.errors import NetlinkError
from kernelproof.impl.netlink.monitor import Event, Monitor, Overrun, wait_until_link_up
from kernelproof.impl.netlink.neighbours import Neighbour
from kernelproof.impl.netlink.nexthops import NextHopObject
from kernelproof.impl.netlink.requests import Request
from kernelproof.impl.netlink.routes import Route
from kernelproof.impl.netlink.rtnl import Rtnl
from kernelproof.impl.netlink.rules import Rule


class Deaf(Monitor):
    """What peers did: after an overrun the monitor goes on with what it has."""

    def _ask_again(self) -> None:
        pass


@pytest.mark.rule("N2", ours=Monitor, wrong=Deaf)
def test_overrun_is_an_event(namespace: int, subject: type[Monitor]) -> None:
    """Notifications that were lost are told again, after one Overrun."""
    with Rtnl(namespace) as net, subject("address", netns=namespace, receive_buffer_bytes=4096) as monitor:
        net.batch(netlink_addresses(1000))
        events = list(monitor.events(timeout_seconds=0.1))
        fresh = {address.address for address in net.addresses()}
    assert any(isinstance(event, Overrun) for event in events)
    assert {address.address for address in monitor.view("address")} == fresh


def netlink_addresses(count: int) -> list[Request]:
    return [netlink.addresses.add_address(1, f"10.{each >> 8}.{each & 255}.1/24") for each in range(count)]


@pytest.mark.rule("N+1")
def test_events_make_the_view(namespace: int) -> None:
    """Events of five thousand flaps, folded over the first view, make a fresh dump, through overruns."""
    with Rtnl(namespace) as net, Monitor(netns=namespace, receive_buffer_bytes=4096) as monitor:
        kinds = ("link", "address", "route", "rule")
        folded = {kind: set(monitor.view(kind)) for kind in kinds}
        net.batch(netlink_addresses(200))
        flap = [netlink.links.set_link(1, up=up) for up in (True, False)]
        net.batch(flap * 2500 + flap[:1])
        net.rule_add(Rule(7, 7))
        for event in monitor.events(timeout_seconds=0.1):
            if isinstance(event, Event):
                here = folded[type(event.record).__name__.lower()]
                here.discard(event.before)
                if event.what != "removed":
                    here.add(event.record)
        assert monitor.overruns > 0
        with Monitor(netns=namespace) as fresh:
            assert {kind: set(fresh.view(kind)) for kind in kinds} == folded


@pytest.mark.rule("N+1")
def test_further_kinds_are_followed(namespace: int) -> None:
    """Next hop objects, settings of IP and forwarding entries of ports end in a fresh dump's view too."""
    kinds = ("nexthop", "netconf", "forwarding", "neighbour")
    with Rtnl(namespace) as net, Monitor(*kinds, netns=namespace) as monitor:
        net.link_set("lo", up=True)
        try:
            bridge = net.link_add("br0", "bridge", up=True)
        except NetlinkError as error:
            pytest.skip(f"no bridges here: {error}")
        port = net.link_add("p0", "veth", peer={"name": "q0"}, master="br0", up=True)
        net.link_set("q0", up=True)
        entry = Neighbour(port.ifindex, mac="02:00:00:00:00:99", flags=4, family=7)
        net.neighbour_add(entry)
        net.neighbour_add(Neighbour(bridge.ifindex, "10.0.0.7", "02:00:00:00:00:07"))
        net.nexthop_add(NextHopObject(5, oif=port.ifindex))
        net.nexthop_add(NextHopObject(6, oif=1))
        net.nexthop_add(NextHopObject(7, group=((5, 1), (6, 2))))
        seen = [event.record for event in monitor.events(timeout_seconds=0.1) if isinstance(event, Event)]
        assert {type(record).__name__ for record in seen} == {"NextHopObject", "NetConf", "Neighbour"}
        assert entry.mac in [each.mac for each in monitor.view("forwarding")]
        net.link_delete("p0")  # takes an object, and a member of the group, along without a word
        deadline = time.monotonic() + 60
        differ = list(kinds)
        while differ:  # ports and neighbours still change by themselves
            assert time.monotonic() < deadline, differ
            for _ in monitor.events(timeout_seconds=0.1):
                pass
            with Monitor(*kinds, netns=namespace) as fresh:
                differ = [kind for kind in kinds if set(monitor.view(kind)) != set(fresh.view(kind))]
        assert {each.id for each in monitor.view("nexthop")} == {6, 7}


@pytest.mark.rule("N+1")
def test_replaced_route_goes_alone(namespace: int) -> None:
    """A route that is put in the place of another takes that one out of the view, and none beside it."""
    with Rtnl(namespace) as net:
        net.link_set("lo", up=True)
        there = [Route(f"10.{number}.0.0/16", oif=1, table=100, scope=253) for number in (1, 2, 3)]
        for route in there:
            net.route_add(route)
        with Monitor("route", netns=namespace) as monitor:
            before = {route.destination: route for route in monitor.view("route") if route.table == 100}
            net.route_replace(there[1]._replace(scope=0, type=7, oif=0))
            told = [event for event in monitor.events(timeout_seconds=0.1) if isinstance(event, Event)]
            after = {route.destination: route for route in monitor.view("route") if route.table == 100}
    assert [(event.what, event.before) for event in told] == [("removed", before["10.2.0.0/16"]), ("added", None)]
    assert after == before | {"10.2.0.0/16": told[1].record}


@pytest.mark.long
@pytest.mark.rule("N+1")
def test_burst_while_nobody_reads(namespace: int, full_number: Callable[[int], int]) -> None:
    """Changes in a burst, with a buffer as it is by default and a consumer that sleeps, end in a fresh dump's view."""
    count = full_number(50_000)
    with Rtnl(namespace) as net, Monitor(netns=namespace) as monitor:
        flap = [netlink.links.set_link(1, up=up) for up in (True, False)]
        net.batch(netlink_addresses(20))
        net.batch(flap * (count // 2))
        for _ in monitor.events(timeout_seconds=0.1):
            pass
        with Monitor(netns=namespace) as fresh:
            for kind in ("link", "address", "route"):
                assert set(monitor.view(kind)) == set(fresh.view(kind))


def test_events_in_asyncio(namespace: int) -> None:
    """The same events come to an asynchronous iterator, and closing ends it."""

    async def watch() -> list[str]:
        seen = []
        with Rtnl(namespace) as net, Monitor("link", netns=namespace) as monitor:
            loop = asyncio.get_running_loop()
            loop.call_later(0.01, lambda: net.link_set("lo", up=True))
            async for event in monitor:
                assert isinstance(event, Event)
                seen.append(f"{event.what} {event.record.is_up}")  # type: ignore[union-attr]
                monitor.close()
        return seen

    assert asyncio.run(asyncio.wait_for(watch(), 60)) == ["changed True"]


@pytest.mark.parametrize("loop_ends", [True, False], ids=["ended", "left"])
def test_a_monitor_is_closed_after_its_loop(
    namespace: int, loop_ends: bool, descriptors: Callable[[], list[str]]
) -> None:
    """Closing a monitor whose iterator was left behind, in an event loop that is closed, gives back all descriptors."""
    before = len(descriptors())
    kept = []

    async def take_one(monitor: Monitor) -> None:
        iterator = aiter(monitor)
        kept.append(iterator)
        with Rtnl(namespace) as net:
            net.link_set("lo", up=True)
        await anext(iterator)

    with Monitor("link", netns=namespace) as monitor:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(take_one(monitor))
        if loop_ends:
            loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
        assert len(monitor._on_close) == (0 if loop_ends else 1)
    assert len(descriptors()) == before


def test_a_monitor_that_cannot_list_leaves_nothing_open(namespace: int, descriptors: Callable[[], list[str]]) -> None:
    """An error in the first dump gives back the descriptors of both sockets."""

    def no_time() -> float:
        raise ZeroDivisionError

    before = descriptors()
    with pytest.raises(ZeroDivisionError) as caught:
        Monitor("link", netns=namespace, clock=no_time)
    assert descriptors() == before, caught  # whose traceback keeps the monitor from being collected


def test_waiting_for_a_link(namespace: int) -> None:
    """A link that comes up in time is returned, one that does not is a TimeoutError."""
    with pytest.raises(TimeoutError):
        wait_until_link_up("lo", timeout_seconds=0.05, netns=namespace)
    with Rtnl(namespace) as net:
        timer = threading.Timer(0.05, lambda: net.link_set("lo", up=True))
        timer.start()
        assert wait_until_link_up("lo", timeout_seconds=60, netns=namespace).name == "lo"
        timer.join()
