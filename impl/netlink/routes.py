"""Routes and next hop objects: the records, and the requests that add, change, remove and look up.

A destination is `10.0.0.0/8`; `0.0.0.0/0` and `::/0` are the default routes. A metric is called priority, as the
kernel has it; `metrics` are the numbers of a path, such as its MTU.

Source: rtnetlink(7), RTM_NEWROUTE; include/uapi/linux/rtnetlink.h and nexthop.h.
"""

from enum import IntEnum
from socket import inet_ntop
from struct import Struct
from typing import Final, NamedTuple

from kernelproof.impl.netlink.errors import WireError
from kernelproof.impl.netlink.hops import (
    ONLINK,
    Encapsulation,
    NextHop,
    encode_encapsulation,
    encode_gateway,
    encode_nexthops,
    parse_encapsulation,
    parse_gateway,
    parse_nexthops,
)
from kernelproof.impl.netlink.requests import APPEND, CREATE, EXCL, REPLACE, Request
from kernelproof.impl.netlink.spaces import ROUTE
from kernelproof.impl.netlink.values import (
    INET,
    INET6,
    Ip,
    check_index,
    encode_ip,
    encode_prefix,
    parse_ip,
)
from kernelproof.impl.netlink.wire import (
    U8,
    U32,
    Attribute,
    Message,
    Splitter,
    number,
    pack,
    pack_all,
    parse_attributes,
    parse_list,
)

__all__ = [
    "CLONED",
    "DELROUTE",
    "FIB_MATCH",
    "GETROUTE",
    "NEWROUTE",
    "ONLINK",
    "TABLE_DEFAULT",
    "TABLE_LOCAL",
    "TABLE_MAIN",
    "Encapsulation",
    "NextHop",
    "Route",
    "RouteType",
    "Scope",
    "add_route",
    "delete_route",
    "describe_route",
    "encode_nexthops",
    "list_routes",
    "look_up_route",
    "parse_nexthops",
    "parse_route",
]

NEWROUTE, DELROUTE, GETROUTE = 24, 25, 26
TABLE_MAIN, TABLE_LOCAL, TABLE_DEFAULT = 254, 255, 253
CLONED, FIB_MATCH = 0x200, 0x2000  # RTM_F_

_HEADER: Final = Struct("=BBBBBBBBI")
_CACHE: Final = Struct("=IIiI")
_ZERO: Final = {INET: "0.0.0.0/0", INET6: "::/0"}
_LENGTHS: Final = tuple(f"/{length}" for length in range(256))
_FIELDS: Final = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 15, 16, 18, 20, 21, 22, 25, 30})


class RouteType(IntEnum):
    """RTN_ types."""

    UNICAST = 1
    LOCAL = 2
    BROADCAST = 3
    ANYCAST = 4
    MULTICAST = 5
    BLACKHOLE = 6
    UNREACHABLE = 7
    PROHIBIT = 8
    THROW = 9
    NAT = 10


class Scope(IntEnum):
    """RT_SCOPE_ scopes."""

    UNIVERSE = 0
    SITE = 200
    LINK = 253
    HOST = 254
    NOWHERE = 255


class Route(NamedTuple):
    """A route.

    Attributes:
        destination: prefix.
        gateway: "" for none; of another family than the route where the kernel tells RTA_VIA.
        oif: ifindex of the outgoing link, 0 for none.
        nexthops: of a multipath route; of an ordinary one empty.
        nexthop_id: of an object, whose ways stand in gateway, oif or nexthops and are not sent.
        metrics: pairs of an RTAX_ number and a value.
        rest: attributes that have no field here, raw; they are sent as they are.
    """

    destination: str
    gateway: str = ""
    oif: int = 0
    table: int = TABLE_MAIN
    protocol: int = 3
    scope: int = 0
    type: int = 1
    priority: int = 0
    preferred_source: str = ""
    source: str = ""
    tos: int = 0
    flags: int = 0
    nexthops: tuple[NextHop, ...] = ()
    nexthop_id: int = 0
    metrics: tuple[tuple[int, int | bytes], ...] = ()
    encapsulation: Encapsulation | None = None
    preference: int | None = None
    iif: int = 0
    mark: int = 0
    uid: int | None = None
    realms: int = 0
    expires_ticks: int = 0
    family: int = INET
    rest: tuple[tuple[int, bytes], ...] = ()


_unpack_header = _HEADER.unpack_from


def parse_route(message: Message, splitter: "Splitter | None" = None) -> Route:
    """Return the route of an RTM_NEWROUTE or RTM_DELROUTE.

    Raises:
        WireError: the message is too short, or an attribute lies.
    """
    payload = message.payload
    if len(payload) < 12:
        raise WireError(f"route message of {len(payload)} bytes")
    family, length, source_length, tos, table, protocol, scope, kind, flags = _unpack_header(payload)
    found = splitter.split(payload, 12) if splitter else parse_attributes(payload, 12)
    if family not in _ZERO:
        return Route("", table=table, protocol=protocol, scope=scope, type=kind, flags=flags, family=family,
                     tos=tos, rest=tuple(found.items()))  # fmt: skip
    destination = _ZERO[family] if 1 not in found else _ip(family, found[1]) + _LENGTHS[length]
    if not found.keys() <= _USUAL:
        return _unusual(found, destination, (source_length, tos, protocol, scope, kind, flags, family))
    return Route(
        destination,
        _ip(family, found[5]) if 5 in found else "",
        _u32(found[4]) if 4 in found else 0,
        _u32(found[15]) if 15 in found else table,
        protocol,
        scope,
        kind,
        _u32(found[6]) if 6 in found else 0,
        _ip(family, found[7]) if 7 in found else "",
        "",
        tos,
        flags,
        (),
        0,
        (),
        None,
        None if 20 not in found else number(found[20], U8, "RTA_PREF"),
        0,
        0,
        None,
        0,
        _expires(found[12]) if 12 in found else 0,
        family,
    )


_USUAL: Final = frozenset({1, 4, 5, 6, 7, 12, 15, 20})


def _u32(data: bytes) -> int:
    if len(data) != 4:
        raise WireError(f"a number of {len(data)} bytes, not 4")
    return int(U32.unpack(data)[0])


def _ip(family: int, data: bytes) -> str:
    try:
        return inet_ntop(family, data)
    except ValueError:
        raise WireError(f"address of {len(data)} bytes") from None


def _expires(data: bytes) -> int:
    if len(data) < _CACHE.size:
        raise WireError(f"RTA_CACHEINFO of {len(data)} bytes")
    return int(_CACHE.unpack_from(data)[2])


def _unusual(found: dict[int, bytes], destination: str, header: tuple[int, ...]) -> Route:
    source_length, tos, protocol, scope, kind, flags, family = header

    def whole(place: int) -> int:
        return number(found[place], U32, ROUTE.name(place)) if place in found else 0

    return Route(
        destination,
        parse_gateway(found),
        whole(4),
        whole(15),
        protocol,
        scope,
        kind,
        whole(6),
        parse_ip(found[7]) if 7 in found else "",
        parse_ip(found[2]) + _LENGTHS[source_length] if 2 in found else "",
        tos,
        flags,
        parse_nexthops(found[9]) if 9 in found else (),
        whole(30),
        tuple(_metric(*pair) for pair in parse_list(found[8])) if 8 in found else (),
        parse_encapsulation(found),
        number(found[20], U8, "RTA_PREF") if 20 in found else None,
        whole(3),
        whole(16),
        whole(25) if 25 in found else None,
        whole(11),
        _expires(found[12]) if 12 in found else 0,
        family,
        tuple((place, data) for place, data in found.items() if place not in _FIELDS),
    )


def _metric(place: int, data: bytes) -> tuple[int, int | bytes]:
    return place, number(data, U32) if len(data) == 4 and place != 16 else data  # RTAX_CC_ALGO is a name


def add_route(route: Route, *, replace: bool = False, append: bool = False) -> Request:
    """Add a route: RTM_NEWROUTE, which fails with EEXIST if there is such a one.

    Args:
        route: what to add.
        replace: in the place of the one with the same destination, table, TOS and priority.
        append: behind such ones.

    Raises:
        ValueError: no prefix, mixed families, a number that does not fit.
    """
    how = CREATE | (REPLACE if replace else APPEND if append else EXCL)
    return _request(NEWROUTE, how, route, f"{'replace' if replace else 'add'} route {describe_route(route)}")


def delete_route(route: Route) -> Request:
    """Remove the first route that is like the record in what it names: RTM_DELROUTE, ESRCH if there is none."""
    return _request(DELROUTE, 0, route, f"delete route {describe_route(route)}")


def describe_route(route: Route) -> str:
    """Return a route in words, much as `ip route` writes them."""
    kind = "" if route.type == 1 else f"{RouteType(route.type).name.lower()} "
    via = f" via {route.gateway}" if route.gateway else ""
    device = f" dev {route.oif}" if route.oif else ""
    hops = f" {len(route.nexthops)} next hops" if route.nexthops else ""
    priority = f" metric {route.priority}" if route.priority else ""
    return f"{kind}{route.destination}{via}{device}{hops} table {route.table}{priority}"


def _request(message: int, how: int, route: Route, words: str) -> Request:
    family, data, length = encode_prefix(route.destination, host=False)
    attributes: list[Attribute] = [(1, data)] if length else []
    source_length = 0
    if route.source:
        source_family, source, source_length = encode_prefix(route.source)
        if source_family != family:
            raise ValueError(f"{route.destination} from {route.source}: two families")
        attributes.append((2, source))
    if route.preferred_source:
        preferred_family, preferred = encode_ip(route.preferred_source)
        if preferred_family != family:
            raise ValueError(f"{route.destination} src {route.preferred_source}: two families")
        attributes.append((7, preferred))
    ways, flags = _ways(route, family)
    attributes += [*ways, *_route_numbers(route), *route.rest]
    header = pack_all(
        _HEADER,
        "route",
        family,
        length,
        source_length,
        route.tos,
        route.table if route.table < 256 else 0,
        route.protocol,
        route.scope,
        route.type,
        flags & ONLINK,
    )
    return Request.of(message, how, header, attributes, ROUTE, words)


def _ways(route: Route, family: int) -> tuple[list[Attribute], int]:
    if route.nexthop_id:  # the kernel lists the object's ways beside it, and takes the one or the others
        return [(30, pack(U32, route.nexthop_id, "RTA_NH_ID"))], 0
    attributes = encode_gateway(route.gateway, family)
    if route.oif:
        attributes.append((4, pack(U32, route.oif, "RTA_OIF")))
    attributes += encode_encapsulation(route.encapsulation)
    if len(route.nexthops) == 1:  # one next hop is an ordinary route
        hop = route.nexthops[0]
        attributes += [*encode_gateway(hop.gateway, family), (4, pack(U32, hop.oif, "RTA_OIF"))]
        return [*attributes, *encode_encapsulation(hop.encapsulation), *hop.rest], route.flags | hop.flags
    if route.nexthops:
        attributes.append((9, encode_nexthops(route.nexthops, family)))
    return attributes, route.flags


def _route_numbers(route: Route) -> list[Attribute]:
    numbers = (
        (15, route.table),
        (6, route.priority),
        (16, route.mark),
        (11, route.realms),
        (23, route.expires_ticks // 100 if route.expires_ticks > 0 else 0),
    )
    attributes: list[Attribute] = [(place, pack(U32, value, ROUTE.name(place))) for place, value in numbers if value]
    if route.preference is not None and route.preference:
        attributes.append((20, pack(U8, route.preference, "preference")))
    if route.metrics:
        metrics: list[Attribute] = [
            (place, value if isinstance(value, bytes) else pack(U32, value, f"metric {place}"))
            for place, value in route.metrics
        ]
        attributes.append((8, metrics))
    return attributes


def list_routes(*, family: int = 0, table: int = 0, protocol: int = 0, oif: int = 0, type: int = 0) -> Request:
    """Ask for routes; what is not 0 the kernel filters by."""
    attributes: list[Attribute] = [(15, pack(U32, table, "table"))] if table else []
    if oif:
        attributes.append((4, U32.pack(check_index(oif))))
    header = pack_all(_HEADER, "route", family, 0, 0, 0, table if table < 256 else 0, protocol, 0, type, 0)
    return Request.of(GETROUTE, 0, header, attributes, ROUTE, "list routes")


def look_up_route(
    destination: Ip, *, source: "Ip | None" = None, oif: int = 0, iif: int = 0, mark: int = 0, fib_match: bool = False
) -> Request:
    """Ask which way a packet would go; with fib_match, which route of the table says so.

    Raises:
        ValueError: no address, or two families.
    """
    family, data = encode_ip(destination)
    attributes: list[Attribute] = [(1, data)]
    length = len(data) * 8
    if source is not None:
        source_family, source_data = encode_ip(source)
        if source_family != family:
            raise ValueError(f"{destination} from {source}: two families")
        attributes.append((2, source_data))
    attributes += [
        (place, pack(U32, value, ROUTE.name(place))) for place, value in ((3, iif), (4, oif), (16, mark)) if value
    ]
    header = pack_all(
        _HEADER,
        "route",
        family,
        length,
        length if source is not None else 0,
        0,
        0,
        0,
        0,
        0,
        FIB_MATCH if fib_match else 0,
    )
    return Request.of(GETROUTE, 0, header, attributes, ROUTE, f"look up {destination}")
