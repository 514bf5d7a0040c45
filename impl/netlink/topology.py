"""What a network namespace is to be, as a value; the steps from what is there, as values; and both ways.

    wanted = Topology(
        links=(LinkWanted("br0", "bridge", up=True), LinkWanted("v0", "veth", peer="v1", master="br0")),
        addresses=(("br0", "10.0.41.1/16"),),
        routes=(Route("10.9.0.0/16", gateway="10.0.41.2"),),
    )
    with Rtnl() as net, applied(net, wanted): ...

A plan adds and changes; it removes nothing that the topology does not speak of. A step that fails undoes those before
it, in reverse order. This is not for several namespaces at once: each has a topology of its own.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from kernelproof.impl.netlink.errors import NetlinkError
from kernelproof.impl.netlink.links import Link
from kernelproof.impl.netlink.routes import Route, describe_route
from kernelproof.impl.netlink.rtnl import Rtnl


class LinkWanted(NamedTuple):
    """A link that is to be there.

    Attributes:
        peer: name of the other end of a veth.
        settings: pairs of further settings and their values, as Rtnl.link_add takes them.
    """

    name: str
    kind: str
    up: bool = False
    mtu: int | None = None
    master: str = ""
    peer: str = ""
    settings: tuple[tuple[str, Any], ...] = ()


class Topology(NamedTuple):
    """Links, addresses as pairs of a link's name and `address/length`, and routes, whose oif 0 the kernel chooses."""

    links: tuple[LinkWanted, ...] = ()
    addresses: tuple[tuple[str, str], ...] = ()
    routes: tuple[Route, ...] = ()


class Current(NamedTuple):
    """What is there: the part of it that a plan looks at."""

    links: tuple[Link, ...]
    addresses: frozenset[tuple[str, str]]
    routes: tuple[Route, ...]


class Step(NamedTuple):
    """One operation: a method of Rtnl and its arguments, and those that undo it, if an earlier one does not."""

    do: str
    arguments: tuple[Any, ...]
    settings: tuple[tuple[str, Any], ...] = ()
    undo: str = ""
    undo_arguments: tuple[Any, ...] = ()
    undo_settings: tuple[tuple[str, Any], ...] = ()

    def describe(self) -> str:
        """Return the step in words.

        >>> Step("address_add", ("br0", "10.0.41.1/16")).describe()
        'address add br0 10.0.41.1/16'
        """
        words = [describe_route(each) if isinstance(each, Route) else str(each) for each in self.arguments]
        words += [f"{key} {value}" for key, value in self.settings]
        return " ".join([*self.do.split("_"), *words])


def read_current(net: Rtnl) -> Current:
    """Return what is there; errors as Rtnl."""
    links = net.links()
    names = {link.ifindex: link.name for link in links}
    addresses = frozenset((names.get(each.ifindex, ""), each.cidr) for each in net.addresses())
    return Current(links, addresses, net.routes())


def plan(current: Current, wanted: Topology) -> tuple[Step, ...]:
    """Return the steps from what is there to what is wanted, in the order in which they work.

    Raises:
        ValueError: a link of that name is there, but of another kind.
    """
    there = {link.name: link for link in current.links}
    indexes = {link.ifindex: link.name for link in current.links}
    steps: list[Step] = []
    for link in wanted.links:
        old = there.get(link.name)
        steps += _make(link) if old is None else _change(link, old, indexes)
    for link in wanted.links:
        was_up = link.name in there and there[link.name].is_up
        if link.up and not was_up:
            down = (("up", False),)
            steps.append(Step("link_set", (link.name,), (("up", True),), "link_set", (link.name,), down))
    new = [pair for pair in wanted.addresses if pair not in current.addresses]
    steps += [Step("address_add", pair, (), "address_delete", pair) for pair in new]
    missing = [route for route in wanted.routes if _missing(route, current)]
    steps += [Step("route_add", (route,), (), "route_delete", (route,)) for route in missing]
    return tuple(steps)


def _make(link: LinkWanted) -> Iterator[Step]:
    settings = [*link.settings]
    settings += [("peer", {"name": link.peer})] if link.peer else []
    settings += [("master", link.master)] if link.master else []
    yield Step("link_add", (link.name, link.kind), tuple(settings), "link_delete", (link.name,))
    if link.mtu is not None:
        # A bridge that got its MTU when it was made forgets it when a port joins.
        yield Step("link_set", (link.name,), (("mtu", link.mtu),))


def _change(link: LinkWanted, old: Link, indexes: Mapping[int, str]) -> Iterator[Step]:
    if old.kind != link.kind:
        raise ValueError(f"link {link.name} is there, a {old.kind or 'device'} and no {link.kind}")
    if link.mtu is not None and link.mtu != old.mtu:
        before = (("mtu", old.mtu),)
        yield Step("link_set", (link.name,), (("mtu", link.mtu),), "link_set", (link.name,), before)
    master = indexes.get(old.master or 0, "")
    if link.master and link.master != master:
        before_master = (("master", master or 0),)
        yield Step("link_set", (link.name,), (("master", link.master),), "link_set", (link.name,), before_master)


def _missing(route: Route, current: Current) -> bool:
    def same(each: Route) -> bool:
        place = (each.destination, each.table, each.priority, each.type)
        return place == (route.destination, route.table, route.priority, route.type) and each.gateway == route.gateway

    return not any(same(each) for each in current.routes)


def apply(net: Rtnl, steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Do the steps and return them; a step that fails undoes those before it in reverse order, and raises its error.

    Raises:
        NetlinkError, ValueError: of the step; what could not be undone is a note on it.
    """
    done: list[Step] = []
    try:
        for step in steps:
            getattr(net, step.do)(*step.arguments, **dict(step.settings))
            done.append(step)
    except (NetlinkError, ValueError) as error:
        error.add_note(f"step: {step.describe()}")
        for left in undo(net, tuple(done)):
            error.add_note(left)
        raise
    return tuple(done)


def undo(net: Rtnl, steps: tuple[Step, ...]) -> tuple[str, ...]:
    """Undo steps in reverse order, and return what could not be undone, in words."""
    left = []
    for step in reversed([step for step in steps if step.undo]):
        try:
            getattr(net, step.undo)(*step.undo_arguments, **dict(step.undo_settings))
        except NetlinkError as error:
            left.append(f"not undone: {step.describe()}: {error}")
    return tuple(left)


@contextmanager
def applied(net: Rtnl, wanted: Topology) -> Iterator[tuple[Step, ...]]:
    """Have a topology inside the with statement: what it added is removed at its end.

    Raises:
        NetlinkError, ValueError: as apply and plan.
    """
    steps = apply(net, plan(read_current(net), wanted))
    try:
        yield steps
    finally:
        undo(net, steps)
