"""A monitor's view beside what the kernel lists: routes side by side, ways of a route, and what changes unheard."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator

import pytest

from kernelproof.impl.netlink.errors import NetlinkError
from kernelproof.impl.netlink.monitor import Event, Monitor, wait_until_link
from kernelproof.impl.netlink.netns import call_in
from kernelproof.impl.netlink.routes import NextHop, Route, add_route
from kernelproof.impl.netlink.rtnl import Rtnl
from kernelproof.impl.netlink.watched import KINDS

METRIC = ((2, 1400),)


def wait_until_in_use(name: str, namespace: int) -> None:
    """The kernel notices a carrier a moment after the request."""
    wait_until_link(name, lambda link: link is not None and link.operstate == "UP", timeout_seconds=60, netns=namespace)


@pytest.fixture
def net(namespace: int) -> Iterator[Rtnl]:
    """A namespace with two pairs of links, which are up and have addresses of both families."""
    with Rtnl(namespace) as net:
        try:
            links = [net.link_add(f"v{each}", "veth", peer={"name": f"w{each}"}, up=True) for each in (0, 1)]
        except NetlinkError as error:
            pytest.skip(f"no pairs of links here: {error}")
        for each, link in enumerate(links):
            net.link_set(f"w{each}", up=True)
            net.address_add(link, f"10.{each}.0.1/24")
            net.address_add(link, f"fd0{each}::1/64", flags=2)
        for name in ("v0", "v1", "w0", "w1"):
            wait_until_in_use(name, namespace)
        yield net


def settle(monitor: Monitor) -> list[Event]:
    """The events until nothing comes and nothing is to be asked again."""
    return [event for event in monitor.events(timeout_seconds=0.1) if isinstance(event, Event)]


def listed(net: Rtnl, kind: str) -> list[object]:
    """What the kernel lists, settled; not by key."""
    watched = KINDS[kind]
    found = [watched.settled(record) for record in net.connection.dump(watched.request(), watched.parse)]
    return sorted((each for each in found if each is not None), key=repr)


def of_tests(routes: Iterable[object]) -> list[Route]:
    """Those that a test made: the kernel still makes some when a link has come into use."""
    found = [each for each in routes if isinstance(each, Route) and each.destination in {"10.9.0.0/16", "fd99::/64"}]
    return sorted(found, key=repr)


def add(net: Rtnl, route: Route, **how: bool) -> None:
    net.request(add_route(route, **how))


def add_two_with_other_tos(net: Rtnl) -> None:
    for tos in (0, 16):
        add(net, Route("10.9.0.0/16", "10.0.0.9", tos=tos))


def append_another_pair_of_ways(net: Rtnl) -> None:
    for last in (2, 3):
        ways = NextHop(f"10.0.0.{last}"), NextHop(f"10.1.0.{last}")
        add(net, Route("10.9.0.0/16", nexthops=ways), append=True)


def append_the_same_with_another_mtu(net: Rtnl) -> None:
    for metrics in ((), METRIC):
        add(net, Route("10.9.0.0/16", "10.0.0.9", metrics=metrics), append=True)


def replace_one_of_three(net: Rtnl) -> None:
    for last in (2, 3, 4):
        add(net, Route("10.9.0.0/16", f"10.0.0.{last}"), append=True)
    for last in (5, 6):
        add(net, Route("10.9.0.0/16", f"10.0.0.{last}"), replace=True)


def append_a_way_of_ipv6(net: Rtnl) -> None:
    for each in (0, 1):
        add(net, Route("fd99::/64", f"fd0{each}::9", family=10), append=True)


def take_a_way_of_ipv6(net: Rtnl) -> None:
    ways = NextHop("fd00::9"), NextHop("fd01::9")
    add(net, Route("fd99::/64", nexthops=ways, family=10))
    net.route_delete(Route("fd99::/64", "fd01::9", family=10))


def replace_ways_of_ipv6(net: Rtnl) -> None:
    for last in (8, 9):
        ways = NextHop(f"fd00::{last}"), NextHop(f"fd01::{last}")
        add(net, Route("fd99::/64", nexthops=ways, family=10), replace=True)


@pytest.mark.rule("N+1")
@pytest.mark.parametrize(
    "change",
    [
        add_two_with_other_tos,
        append_another_pair_of_ways,
        append_the_same_with_another_mtu,
        replace_one_of_three,
        append_a_way_of_ipv6,
        take_a_way_of_ipv6,
        replace_ways_of_ipv6,
    ],
)
def test_view_of_routes_is_what_the_kernel_lists(net: Rtnl, namespace: int, change: Callable[[Rtnl], None]) -> None:
    """Routes that differ in what the kernel compares are all in the view, and no way that has gone."""
    with Monitor("route", netns=namespace) as monitor:
        before = set(monitor.view("route"))
        change(net)
        for event in settle(monitor):
            before.discard(event.before)
            before |= {event.record} if event.what != "removed" else set()
        there = of_tests(listed(net, "route"))
        assert of_tests(monitor.view("route")) == there
        assert of_tests(before) == there
    with Monitor("route", netns=namespace) as monitor:
        assert of_tests(monitor.view("route")) == there


@pytest.mark.rule("N+1")
def test_another_mtu_changes_a_route(net: Rtnl, namespace: int) -> None:
    """A route that is replaced by one with the same ways is told as one that changed."""
    route = Route("10.9.0.0/16", "10.0.0.9")
    add(net, route)
    with Monitor("route", netns=namespace) as monitor:
        add(net, route._replace(metrics=METRIC), replace=True)
        told = [(each.what, each.before, each.record) for each in settle(monitor)]
    (before, after) = (each._replace(oif=net.index_of("v0")) for each in (route, route._replace(metrics=METRIC)))
    assert [each for each in told if each[2][0] == route.destination] == [("changed", before, after)]


@pytest.mark.rule("N+1")
def test_what_changes_unheard_is_not_in_the_view(net: Rtnl, namespace: int) -> None:
    """A link's discipline and how many addresses a bridge learned are in no view: no message tells of them."""
    net.link_add("br0", "bridge", up=True)
    net.link_set("w0", master="br0")
    net.link_set("v0", mac="02:00:00:00:00:01")
    wait_until_in_use("br0", namespace)
    with Monitor("link", netns=namespace) as monitor:
        settle(monitor)

        def send() -> None:
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
                sender.bind(("v0", 0))
                for last in range(3):
                    sender.send(b"\xff" * 6 + bytes([2, 0, 0, 0, 1, last]) + b"\x88\xb5" + bytes(50))

        call_in(namespace, send)
        net.qdisc_add("v1", "pfifo_fast", replace=True)
        settle(monitor)
        learned = net.link("br0").option("fdb_n_learned")
        assert learned is None or int(learned) >= 3  # older kernels do not tell it
        assert {link.qdisc for link in net.links()} > {"pfifo_fast"}
        assert sorted(monitor.view("link"), key=repr) == listed(net, "link")
        assert {link.qdisc for link in monitor.view("link")} == {""}
        (bridge,) = [link for link in monitor.view("link") if link.name == "br0"]
        assert bridge.option("fdb_n_learned") is None
        assert bridge.option("forward_delay") is not None


@pytest.mark.rule("N+1")
def test_lifetimes_run_unheard(net: Rtnl, namespace: int) -> None:
    """An address that is not for ever has lifetimes of 0 in a view, however often it is listed; for ever stays."""
    net.address_add("v0", "10.7.0.1/24", valid_seconds=3600, preferred_seconds=1800)
    settled = KINDS["address"].settled
    (told,) = [each for each in net.addresses() if each.address == "10.7.0.1"]
    later = told._replace(valid_seconds=told.valid_seconds - 7, preferred_seconds=told.preferred_seconds - 7)
    assert settled(later) == settled(told)
    with Monitor("address", netns=namespace) as monitor:
        lifetimes = {each.address: (each.valid_seconds, each.preferred_seconds) for each in monitor.view("address")}
    assert (lifetimes["10.7.0.1"], lifetimes["10.0.0.1"]) == ((0, 0), (0xFFFFFFFF, 0xFFFFFFFF))
