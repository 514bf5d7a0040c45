"""What is to be done so that the routes of a namespace are as wanted: added, put in the place of others, removed.

A route has a place: its destination, source, table, TOS and priority. A wanted route whose place is empty is added; one
whose place has another, with another gateway or MTU, replaces it; and those that nobody wants are removed where their
protocol is the owner's. What a wanted route leaves open (its outgoing link, its preferred source) is as it is.

Source: include/uapi/linux/netlink.h, NLM_F_REPLACE; include/uapi/linux/ipv6_route.h, IP6_RT_PRIO_USER.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from kernelproof.impl.netlink.hops import NextHop
from kernelproof.impl.netlink.routes import add_route
from kernelproof.impl.netlink.steps import Step
from kernelproof.impl.netlink.values import INET6, encode_ip, encode_prefix

if TYPE_CHECKING:
    from kernelproof.impl.netlink.routes import Route

_KERNELS: Final = 2  # RTPROT_KERNEL
_PRIORITY_OF_IPV6: Final = 1024  # IP6_RT_PRIO_USER: what 0 means there


def plan_routes(
    there: Iterable[Route], wanted: Iterable[Route], *, owner: int = 0, namespace: str = ""
) -> tuple[Step, ...]:
    """Return the steps from the routes that are there to those that are wanted: first what is new, then what goes.

    Args:
        there: of the tables of the wanted ones, and those of the owner.
        wanted: one for each place.
        owner: protocol of the routes that are removed where nobody wants them; 0 removes none.
        namespace: where, as a step has it.

    Raises:
        ValueError: a route that cannot be asked for; two wanted for one place; the kernel's own protocol as owner.
    """
    if owner == _KERNELS:
        raise ValueError("protocol 2 marks the routes that the kernel makes: they have no other owner")
    standing = _by_place(there)
    steps: list[Step] = []
    places: set[object] = set()
    for route in wanted:
        add_route(route)  # refuses what cannot be before the first step
        place = _place(route)
        if place in places:
            raise ValueError(f"two routes are wanted for {route.destination} in table {route.table}, of one priority")
        places.add(place)
        others = standing.get(place, [])
        kept = next((each for each in others if _is_as_wanted(each, route)), None)
        if kept is None:
            kept = others[0] if others else None
            steps.append(_put(route, kept, namespace))
        if kept is not None:
            others.remove(kept)
    if owner:
        steps += [_remove(each, namespace) for others in standing.values() for each in others if each.protocol == owner]
    return tuple(steps)


def _by_place(routes: Iterable[Route]) -> dict[object, list[Route]]:
    found: dict[object, list[Route]] = {}
    for route in routes:
        if route.destination:
            found.setdefault(_place(route), []).append(route)
    return found


def _put(route: Route, old: Route | None, namespace: str) -> Step:
    if old is None:
        return Step("route_add", (route,), (), "route_delete", (route,), namespace=namespace)
    return Step("route_replace", (route,), (), "route_replace", (old,), namespace=namespace)


def _remove(route: Route, namespace: str) -> Step:
    # Behind those that may stand in its place.
    return Step("route_delete", (route,), (), "route_add", (route,), (("append", True),), namespace)


def _place(route: Route) -> tuple[Any, ...]:
    family, data, length = encode_prefix(route.destination)
    source = encode_prefix(route.source) if route.source else None
    priority = route.priority or (_PRIORITY_OF_IPV6 if family == INET6 else 0)
    return family, data, length, source, route.table, route.tos, priority


def _is_as_wanted(there: Route, wanted: Route) -> bool:
    if (there.type, there.nexthop_id, _metrics(there)) != (wanted.type, wanted.nexthop_id, _metrics(wanted)):
        return False
    if wanted.preferred_source and _address(wanted.preferred_source) != _address(there.preferred_source):
        return False
    if wanted.preference not in {None, there.preference} or wanted.realms not in {0, there.realms}:
        return False
    return bool(wanted.nexthop_id) or _are_ways(_ways(there), _ways(wanted))


def _metrics(route: Route) -> dict[int, int | bytes]:
    return {place: value for place, value in route.metrics if value}


def _ways(route: Route) -> list[NextHop]:
    ways = route.nexthops or (NextHop(route.gateway, route.oif, encapsulation=route.encapsulation),)
    return sorted(ways, key=lambda way: (_address(way.gateway), way.weight, way.oif))


def _are_ways(there: list[NextHop], wanted: list[NextHop]) -> bool:
    def is_way(one: NextHop, other: NextHop) -> bool:
        same = (_address(one.gateway), one.encapsulation) == (_address(other.gateway), other.encapsulation)
        return same and other.oif in {0, one.oif} and (len(there) == 1 or one.weight == other.weight)

    return len(there) == len(wanted) and all(map(is_way, there, wanted))


def _address(text: str) -> bytes:
    return encode_ip(text)[1] if text else b""
