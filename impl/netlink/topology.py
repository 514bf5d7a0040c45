"""What a network namespace, and those named beside it, are to be, as a value; the steps to it; and back.

    wanted = Topology(
        links=(LinkWanted("br0", "bridge", up=True), LinkWanted("v0", "veth", peer="eth0", peer_namespace="blue",
                                                                master="br0", up=True)),
        addresses=(("br0", "10.0.41.1/16"),),
        namespaces=(("blue", Topology(
            links=(LinkWanted("lo", up=True), LinkWanted("eth0", "veth", up=True)),
            addresses=(("eth0", "10.0.41.2/16"),),
            routes=(Route("0.0.0.0/0", gateway="10.0.41.1"),),
        )),),
    )
    with wanted.applied(): ...

A plan adds and changes; it removes nothing that the topology does not speak of, but routes whose protocol it owns.
A step that fails undoes those before it, in reverse order. Routes go in batches; other steps go one by one: each is
undone by what is known before the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from kernelproof.impl.netlink.links import Link
from kernelproof.impl.netlink.netns import DIRECTORY
from kernelproof.impl.netlink.route_plans import plan_routes
from kernelproof.impl.netlink.steps import Places, Step, apply, undo
from kernelproof.impl.netlink.values import encode_prefix, parse_ip

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from kernelproof.impl.netlink.netns import Where
    from kernelproof.impl.netlink.routes import Route
    from kernelproof.impl.netlink.rtnl import Rtnl

_COMPARED: Final = ("mac", "alias", "group", "txqueuelen")  # settings that a link tells under the same name


class LinkWanted(NamedTuple):
    """A link that is to be there.

    Attributes:
        kind: "" for one that the kernel makes, such as lo.
        peer: name of the other end of a veth, which `peer_namespace` gets if that is not "".
        settings: pairs of further settings and their values, as Rtnl.link_add takes them.
    """

    name: str
    kind: str = ""
    up: bool = False
    mtu: int | None = None
    master: str = ""
    peer: str = ""
    settings: tuple[tuple[str, Any], ...] = ()
    peer_namespace: str = ""


class Topology(NamedTuple):
    """What is wanted.

    Attributes:
        addresses: pairs of a link's name and `address/length`.
        routes: whose oif 0 the kernel chooses; where another is in their place, they replace it.
        namespaces: pairs of a name, as `ip netns` has it, and what is wanted there; those have none of their own.
        routes_of: protocol (RTPROT_) that marks the topology's routes: those of it that are there, but are not in
            `routes`, are removed, from all tables. 0 removes none.
    """

    links: tuple[LinkWanted, ...] = ()
    addresses: tuple[tuple[str, str], ...] = ()
    routes: tuple[Route, ...] = ()
    namespaces: tuple[tuple[str, Topology], ...] = ()
    routes_of: int = 0

    def applied(
        self, netns: Where | None = None, *, directory: str = DIRECTORY
    ) -> AbstractContextManager[tuple[Step, ...]]:
        """Have the topology inside a with statement: what was added is removed at its end, what was changed is undone.

        Args:
            netns: where the outermost links are; None for the caller's namespace.
            directory: of named namespaces.

        Raises:
            OSError, ValueError: of the step that failed, as apply and plan.
        """
        return _applied(Places(netns, directory=directory), self)


class Current(NamedTuple):
    """What is there: the part of it that a plan looks at.

    Attributes:
        routes: of the tables that were asked for.
        namespaces: those that were asked for and exist.
    """

    links: tuple[Link, ...]
    addresses: frozenset[tuple[str, str]]
    routes: tuple[Route, ...]
    namespaces: tuple[tuple[str, Current], ...] = ()


def read_current(net: Rtnl, wanted: Topology | None = None) -> Current:
    """Return what is there in one namespace; errors as Rtnl.

    Args:
        net: a connection to it.
        wanted: what the plan will be for; routes of other tables than its own are then not read.
    """
    links = net.links()
    names = {link.ifindex: link.name for link in links}
    addresses = frozenset((names.get(each.ifindex, ""), each.cidr) for each in net.addresses())
    return Current(links, addresses, net.routes() if wanted is None else _read_routes(net, wanted))


def _read_routes(net: Rtnl, wanted: Topology) -> tuple[Route, ...]:
    tables = sorted({route.table for route in wanted.routes})
    found = [route for table in tables for route in net.routes(table=table)]
    if wanted.routes_of:
        found += [route for route in net.routes(protocol=wanted.routes_of) if route.table not in tables]
    return tuple(found)


def read_places(places: Places, wanted: Topology) -> Current:
    """Return what is there, also in the named namespaces that a topology speaks of."""
    there = set(places.names()) if wanted.namespaces else set()
    named = tuple((name, read_current(places.net(name), inner)) for name, inner in wanted.namespaces if name in there)
    return read_current(places.net(""), wanted)._replace(namespaces=named)


class _Link(NamedTuple):
    # What is known of a link before the first step, or of one that a step makes on its way.
    kind: str
    up: bool = False
    mtu: int | None = None
    master: str = ""
    link: Link | None = None


class _Place(NamedTuple):
    namespace: str
    wanted: Topology
    current: Current
    there: dict[str, _Link]


_NEW: Final = Current((), frozenset(), ())


def plan(current: Current, wanted: Topology) -> tuple[Step, ...]:
    """Return the steps from what is there to what is wanted, in the order in which they work.

    Raises:
        ValueError: a link of that name is there, but of another kind; a namespace in a namespace; something that is no
            address.
    """
    if any(inner.namespaces for _, inner in wanted.namespaces):
        raise ValueError("a named namespace has no named namespaces of its own: they all stand side by side")
    existing = dict(current.namespaces)
    places = [_place("", wanted, current)]
    places += [_place(name, inner, existing.get(name)) for name, inner in wanted.namespaces]
    steps = [
        Step("namespace_add", (name,), (), "namespace_delete", (name,))
        for name, _ in wanted.namespaces
        if name not in existing
    ]
    by_name = {place.namespace: place for place in places}
    made = [
        _make(place, link, by_name)
        for place in places
        for link in _sorted(place.wanted.links)
        if _absent(place, link, places)
    ]
    steps += made
    for place in places:
        steps += [step for link in place.wanted.links for step in _change(place, link)]
    for place in places:
        steps += [step for link in place.wanted.links for step in _set_up(place, link)]
    for place in places:
        steps += _add_addresses(place)
    for place in places:
        steps += plan_routes(
            place.current.routes, place.wanted.routes, owner=place.wanted.routes_of, namespace=place.namespace
        )
    return tuple(steps)


def _place(namespace: str, wanted: Topology, current: Current | None) -> _Place:
    if current is None:  # to be made: it has a loopback link, which is down
        return _Place(namespace, wanted, _NEW, {"lo": _Link("")})
    indexes = {link.ifindex: link.name for link in current.links}
    there = {
        link.name: _Link(link.kind, link.is_up, link.mtu, indexes.get(link.master or 0, ""), link)
        for link in current.links
    }
    return _Place(namespace, wanted, current, there)


def _sorted(links: tuple[LinkWanted, ...]) -> list[LinkWanted]:
    # Masters and parents before what needs them; else in the order given.
    by_name = {link.name: link for link in links}

    def depth(link: LinkWanted, seen: tuple[str, ...] = ()) -> int:
        if link.name in seen:
            raise ValueError(f"links need each other: {' -> '.join([*seen, link.name])}")
        needs = (link.master, dict(link.settings).get("parent"))
        found = [by_name[name] for name in needs if isinstance(name, str) and name in by_name]
        return 1 + max((depth(each, (*seen, link.name)) for each in found), default=0)

    return sorted(links, key=depth)


def _absent(place: _Place, link: LinkWanted, places: list[_Place]) -> bool:
    # The other end of a veth comes with the end that names it.
    comes = any(
        (each.peer, each.peer_namespace or other.namespace) == (link.name, place.namespace)
        for other in places
        for each in other.wanted.links
    )
    return link.name not in place.there and not (comes and not link.peer)


def _make(place: _Place, link: LinkWanted, places: Mapping[str, _Place]) -> Step:
    settings = [*link.settings]
    if link.peer:
        elsewhere = link.peer_namespace and link.peer_namespace != place.namespace
        settings.append(("peer", {"name": link.peer, **({"namespace": link.peer_namespace} if elsewhere else {})}))
        if link.peer_namespace not in ({""} | places.keys()):
            raise ValueError(f"the peer of {link.name} is to be in {link.peer_namespace}, which the topology lacks")
        places[link.peer_namespace or place.namespace].there[link.peer] = _Link(link.kind)
    settings += [("master", link.master)] if link.master else []
    place.there[link.name] = _Link(link.kind, master=link.master)
    return Step(
        *("link_add", (link.name, link.kind), tuple(settings), "link_delete", (link.name,)),
        namespace=place.namespace,
    )


def _change(place: _Place, link: LinkWanted) -> Iterator[Step]:
    old = place.there[link.name]
    if old.kind != link.kind:
        raise ValueError(f"link {link.name} is there, a {old.kind or 'device'} and no {link.kind or 'device'}")
    # A bridge that got its MTU when it was made forgets it when a port joins.
    if link.mtu is not None and link.mtu != old.mtu:
        yield _setting(place, link, {"mtu": old.mtu}, {"mtu": link.mtu})
    if link.master and link.master != old.master:
        yield _setting(place, link, {"master": old.master or 0}, {"master": link.master})
    if old.link is None:
        return
    for name, value in link.settings:
        if name in _COMPARED and getattr(old.link, name) != value:
            yield _setting(place, link, {name: getattr(old.link, name)}, {name: value})
        if name == "options":
            yield from _change_options(place, link, dict(old.link.options), value)


def _change_options(
    place: _Place, link: LinkWanted, there: Mapping[str | int, Any], wanted: Mapping[str, Any]
) -> Iterator[Step]:
    other = {name: value for name, value in wanted.items() if name in there and there[name] != value}
    if other:
        before = {"kind": link.kind, "options": {name: there[name] for name in other}}
        yield _setting(place, link, before, {"kind": link.kind, "options": other})


def _setting(place: _Place, link: LinkWanted, before: Mapping[str, Any], after: Mapping[str, Any]) -> Step:
    step = Step("link_set", (link.name,), tuple(after.items()), namespace=place.namespace)
    if place.there[link.name].link is None:  # made on the way: the undoing of that step is enough
        return step
    return step._replace(undo="link_set", undo_arguments=(link.name,), undo_settings=tuple(before.items()))


def _set_up(place: _Place, link: LinkWanted) -> Iterator[Step]:
    if link.up and not place.there[link.name].up:
        down = (("up", False),)
        yield Step("link_set", (link.name,), (("up", True),), "link_set", (link.name,), down, place.namespace)


def _add_addresses(place: _Place) -> Iterator[Step]:
    for name, address in place.wanted.addresses:
        _, data, length = encode_prefix(address)
        pair = name, f"{parse_ip(data)}/{length}"
        if pair not in place.current.addresses:
            yield Step("address_add", pair, (), "address_delete", pair, namespace=place.namespace)


def applied(net: Rtnl, wanted: Topology) -> AbstractContextManager[tuple[Step, ...]]:
    """Have a topology over a connection that is open; otherwise as Topology.applied."""
    return _applied(Places(net=net), wanted)


@contextmanager
def _applied(places: Places, wanted: Topology) -> Iterator[tuple[Step, ...]]:
    with places:
        steps = apply(places, plan(read_places(places, wanted), wanted))
        try:
            yield steps
        except BaseException as error:
            for left in undo(places, steps):
                error.add_note(left)
            raise
        not_undone = undo(places, steps)
        if not_undone:
            raise RuntimeError("; ".join(not_undone))
