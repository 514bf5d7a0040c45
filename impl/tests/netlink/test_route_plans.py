"""Plans of routes: what is added, replaced, removed and left alone; and batches of them, done and undone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kernelproof.impl.netlink.connection import Connection
from kernelproof.impl.netlink.errors import NetlinkError
from kernelproof.impl.netlink.hops import NextHop
from kernelproof.impl.netlink.recorder import Recorder
from kernelproof.impl.netlink.requests import Request
from kernelproof.impl.netlink.route_plans import plan_routes
from kernelproof.impl.netlink.routes import Route, add_route
from kernelproof.impl.netlink.rtnl import Rtnl
from kernelproof.impl.netlink.steps import Step, apply, undo
from kernelproof.impl.netlink.topology import Topology, applied, plan, read_current

OLD = Route("10.9.0.0/16", "10.0.0.2", 3)
WAYS = (NextHop("10.0.0.2", 3), NextHop("10.1.0.2", 4, weight=2))
SIXTH = Route("fd09::/64", "fd00::2", 3, priority=1024, preference=0, family=10)


def words(steps: tuple[Step, ...]) -> list[str]:
    return [step.describe().partition(" table")[0] for step in steps]


AS_WANTED = {
    "link left open": (OLD, Route("10.9.0.0/16", "10.0.0.2")),
    "protocol of another": (OLD._replace(protocol=99), OLD),
    "priority of IPv6": (SIXTH, Route("fd09:0::/64", "fd00:0::2")),
    "ways in another order": (
        OLD._replace(gateway="", oif=0, nexthops=WAYS),
        Route("10.9.0.0/16", nexthops=WAYS[::-1]),
    ),
    "one way": (OLD, Route("10.9.0.0/16", nexthops=(NextHop("10.0.0.2", weight=7),))),
    "object": (OLD._replace(nexthop_id=5), Route("10.9.0.0/16", nexthop_id=5)),
    "MTU": (OLD._replace(metrics=((2, 1300),)), Route("10.9.0.0/16", "10.0.0.2", metrics=((2, 1300), (8, 0)))),
    "source": (OLD._replace(preferred_source="10.0.0.1"), OLD),
}


@pytest.mark.rule("N+3")
@pytest.mark.parametrize("name", AS_WANTED)
def test_what_is_as_wanted_needs_no_step(name: str) -> None:
    """What a wanted route leaves open, or says in another way, is as it is."""
    there, wanted = AS_WANTED[name]
    assert plan_routes([there], [wanted]) == ()


OTHERWISE = {
    "gateway": (OLD, Route("10.9.0.0/16", "10.0.0.9")),
    "link": (OLD, OLD._replace(oif=4)),
    "MTU": (OLD, OLD._replace(metrics=((2, 1300),))),
    "MTU no more": (OLD._replace(metrics=((2, 1300),)), OLD),
    "type": (OLD, Route("10.9.0.0/16", type=7)),
    "way": (OLD, Route("10.9.0.0/16", nexthops=WAYS)),
    "weight": (OLD._replace(nexthops=WAYS), Route("10.9.0.0/16", nexthops=(WAYS[0], WAYS[1]._replace(weight=3)))),
    "object": (OLD, Route("10.9.0.0/16", nexthop_id=5)),
    "source": (OLD, OLD._replace(preferred_source="10.0.0.1")),
    "preference": (SIXTH, SIXTH._replace(preference=1)),
    "realm": (OLD, OLD._replace(realms=5)),
}


@pytest.mark.rule("N+3")
@pytest.mark.parametrize("name", OTHERWISE)
def test_what_is_otherwise_is_replaced(name: str) -> None:
    """A route with other values in the place of a wanted one is replaced by it, and comes back when that is undone."""
    there, wanted = OTHERWISE[name]
    (step,) = plan_routes([there], [wanted])
    assert (step.do, step.arguments, step.undo, step.undo_arguments) == (
        *("route_replace", (wanted,)),
        *("route_replace", (there,)),
    )
    assert step.reversed().reversed() == step


@pytest.mark.rule("N+3")
def test_another_place_is_another_route() -> None:
    """Table, TOS, priority and source are of the place: what stands elsewhere is not replaced."""
    others = [OLD._replace(table=7), OLD._replace(tos=8), OLD._replace(priority=9), SIXTH._replace(source="fd01::/64")]
    assert words(plan_routes(others, [OLD, SIXTH])) == [
        "route add 10.9.0.0/16 via 10.0.0.2 dev 3",
        "route add fd09::/64 via fd00::2 dev 3",
    ]


@pytest.mark.rule("N+3")
def test_only_the_owner_s_routes_are_removed() -> None:
    """Where nobody wants them, routes of the owner's protocol go last; those of others stay, and the kernel's too."""
    mine, second = OLD._replace(protocol=99), OLD._replace(protocol=99, gateway="10.0.0.3")
    there = [mine, second, OLD._replace(destination="10.8.0.0/16"), mine._replace(destination="10.7.0.0/16", table=7)]
    wanted = [mine, Route("10.6.0.0/16", "10.0.0.2", protocol=99)]
    steps = plan_routes(there, wanted, owner=99, namespace="blue")
    assert words(steps) == [
        "in blue: route add 10.6.0.0/16 via 10.0.0.2",
        "in blue: route delete 10.9.0.0/16 via 10.0.0.3 dev 3",
        "in blue: route delete 10.7.0.0/16 via 10.0.0.2 dev 3",
    ]
    assert words(plan_routes(there, wanted)) == ["route add 10.6.0.0/16 via 10.0.0.2"]
    with pytest.raises(ValueError, match="kernel makes"):
        plan_routes(there, wanted, owner=2)
    with pytest.raises(ValueError, match="two routes are wanted"):
        plan_routes([], [OLD, OLD._replace(gateway="10.0.0.3")])


# In a namespace.


@pytest.fixture
def net(namespace: int) -> Iterator[Rtnl]:
    """A namespace whose loopback link is up."""
    with Rtnl(namespace) as net:
        net.link_set("lo", up=True)
        yield net


def ours(net: Rtnl) -> dict[str, tuple[int, object]]:
    """Routes of the main table, their type and metrics."""
    return {each.destination: (each.type, each.metrics) for each in net.routes(table=254, family=2)}


@pytest.mark.rule("N+3")
def test_routes_become_as_wanted_and_come_back(net: Rtnl) -> None:
    """Inside the with statement routes are added, replaced and removed; after it all is as before."""
    for route in (
        Route("10.1.0.0/16", oif=1, scope=253, protocol=99, metrics=((2, 1300),)),
        Route("10.2.0.0/16", type=7, protocol=99),
        Route("10.3.0.0/16", type=7),
    ):
        net.route_add(route)
    before = ours(net)
    wanted = Topology(
        routes=(Route("10.1.0.0/16", oif=1, scope=253, protocol=99), Route("10.4.0.0/16", type=6, protocol=99)),
        routes_of=99,
    )
    with applied(net, wanted) as steps:
        assert [step.do for step in steps] == ["route_replace", "route_add", "route_delete"]
        assert ours(net) == {"10.1.0.0/16": (1, ()), "10.3.0.0/16": (7, ()), "10.4.0.0/16": (6, ())}
        assert plan(read_current(net, wanted), wanted) == ()
    assert ours(net) == before


class Datagrams(Recorder):
    """Counts what goes out."""

    @property
    def out(self) -> int:
        return sum(datagram.out for datagram in self.datagrams)


@pytest.mark.rule("N11")
@pytest.mark.rule("N+3")
def test_many_routes_are_few_datagrams(net: Rtnl, namespace: int) -> None:
    """A thousand routes are added, and removed again, in a handful of datagrams."""
    wanted = Topology(routes=tuple(Route(f"10.{each >> 8}.{each & 255}.0/24", type=7) for each in range(1000)))
    recorder = Datagrams()
    with Connection(netns=namespace, recorder=recorder) as connection:
        other = Rtnl(connection=connection)
        steps = apply(other, plan(read_current(other, wanted), wanted))
        assert (len(steps), len(ours(net))) == (1000, 1000)
        assert undo(other, steps) == ()
    assert ours(net) == {}
    assert recorder.out < 20


@pytest.mark.rule("N+3")
def test_a_refusal_in_a_batch_undoes_it_all(net: Rtnl) -> None:
    """Of a batch with refusals nothing is left, the first is the error, and the others are told with it."""
    net.route_add(Route("10.200.0.0/24", type=8))
    before = ours(net)
    routes = [Route(f"10.{each >> 8}.{each & 255}.0/24", type=7) for each in range(600)]
    for last, place in enumerate((300, 590)):
        routes[place] = Route(f"10.99.{last}.0/24", gateway="192.0.2.1")
    steps = (*plan_routes([], routes), *plan_routes(net.routes(table=254), [Route("10.200.0.0/24", type=7)]))
    with pytest.raises(NetlinkError) as caught:
        apply(net, steps)
    assert caught.value.__notes__[0] == "step: route add 10.99.0.0/24 via 192.0.2.1 table 254"
    assert caught.value.__notes__[1].startswith("also refused: route add 10.99.1.0/24")
    assert len(caught.value.__notes__) == 2
    assert ours(net) == before


@pytest.mark.rule("N11")
@pytest.mark.rule("N13")
def test_only_tables_that_are_wanted_are_read(net: Rtnl, monkeypatch: pytest.MonkeyPatch) -> None:
    """Routes are read of the tables that the topology has routes of, of the owner, or not at all."""
    asked: list[Request] = []
    dump = Connection.dump

    def watch(self: Connection, request: Request, parse: object, **how: int) -> object:
        asked.extend([request] if request.words == "list routes" else [])
        return dump(self, request, parse, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(Connection, "dump", watch)
    net.batch([add_route(Route(f"10.{table}.0.0/16", type=7, table=table, protocol=99)) for table in (7, 8)])
    net.batch([add_route(Route("10.7.0.0/16", type=7, table=9))])
    assert read_current(net, Topology()).routes == ()
    assert asked == []
    wanted = Topology(routes=(Route("10.0.0.0/8", type=7, table=7), Route("10.0.0.0/8", type=7, table=70)))
    assert [route.table for route in read_current(net, wanted).routes] == [7]
    assert [route.table for route in read_current(net, wanted._replace(routes_of=99)).routes] == [7, 8]
    assert {route.table for route in read_current(net).routes} >= {7, 8, 9, 255}
