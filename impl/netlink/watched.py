"""What a monitor can watch: how each kind of record is listed, told, found again, and what of it settles.

A key finds the record of a notification among those known; a settled record is without what runs by itself or changes
without a notification, and None for one that a monitor does not keep.

Source: rtnetlink(7); include/uapi/linux/rtnetlink.h, RTNLGRP_*.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from kernelproof.impl.netlink.addresses import FOREVER, list_addresses, parse_address
from kernelproof.impl.netlink.links import list_links, parse_link
from kernelproof.impl.netlink.neighbours import NeighbourState, list_forwarding, list_neighbours, parse_neighbour
from kernelproof.impl.netlink.netconf import list_netconf, parse_netconf
from kernelproof.impl.netlink.nexthops import list_nexthops, parse_nexthop
from kernelproof.impl.netlink.routes import CLONED, ONLINK, list_routes, parse_route
from kernelproof.impl.netlink.rules import list_rules, parse_rule
from kernelproof.impl.netlink.values import INET

if TYPE_CHECKING:
    from kernelproof.impl.netlink.addresses import Address
    from kernelproof.impl.netlink.kinds import Options
    from kernelproof.impl.netlink.links import Link
    from kernelproof.impl.netlink.neighbours import Neighbour
    from kernelproof.impl.netlink.netconf import NetConf
    from kernelproof.impl.netlink.nexthops import NextHopObject
    from kernelproof.impl.netlink.requests import Request
    from kernelproof.impl.netlink.routes import Route
    from kernelproof.impl.netlink.wire import Message


def _never(_: Any) -> bool:
    return False


class Watched(NamedTuple):
    """A kind of record: the groups that tell of it, and what to do with it."""

    groups: tuple[int, ...]
    new: int  # message type; the next one removes
    request: Callable[[], Request]
    parse: Callable[[Message], Any]
    key: Callable[[Any], tuple[Any, ...]]
    settled: Callable[[Any], Any]
    hidden: Callable[[Any], bool] = _never  # of those that come and go without a word


def _link_key(link: Link) -> tuple[Any, ...]:
    return (link.ifindex,)


# No message of the link comes when they change.
_UNTOLD: Final = frozenset({"fdb_n_learned", "mcast_n_groups", "mcast_eht_hosts_cnt", "bc_queue_len_used"})


def _settled_options(options: Options) -> Options:
    return tuple(pair for pair in options if pair[0] not in _UNTOLD and not str(pair[0]).endswith("_timer"))


def _settled_link(link: Link) -> Link | None:
    if link.family != 0:  # a bridge tells of its ports in a form of its own
        return None
    options, port = _settled_options(link.options), _settled_options(link.port_options)
    return link._replace(statistics=None, rest=(), options=options, port_options=port, qdisc="")


def _address_key(address: Address) -> tuple[Any, ...]:
    return address.family, address.ifindex, address.address, address.prefix_length, address.peer


def _settled_address(address: Address) -> Address:
    # Lifetimes run; only for ever stands still.
    valid, preferred = address.valid_seconds, address.preferred_seconds
    return address._replace(
        created=0,
        updated=0,
        valid_seconds=valid if valid == FOREVER else 0,
        preferred_seconds=preferred if preferred == FOREVER else 0,
    )


def route_key(route: Route) -> tuple[Any, ...]:
    """Return what tells a route from others: all that the kernel compares, and its ways.

    Of IPv4 that is also what goes with a way; IPv6 has one route for each way, whatever goes with it.
    """
    hops = tuple(hop._replace(flags=hop.flags & ONLINK) for hop in route.nexthops)
    told = (route.metrics, route.encapsulation, route.realms) if route.family == INET else ()
    return (*route[:11], hops, route.nexthop_id, *told)


def route_place(route: Route) -> tuple[Any, ...]:
    """Return what routes have in common of which one takes the place of another, or stands behind it."""
    return route.family, route.table, route.destination, route.source, route.tos, route.priority


def _settled_route(route: Route) -> Route | None:
    return None if route.flags & CLONED else route._replace(flags=0, expires_ticks=0, rest=())


def _neighbour_key(neighbour: Neighbour) -> tuple[Any, ...]:
    return neighbour.family, neighbour.ifindex, neighbour.address


def _settled_neighbour(neighbour: Neighbour) -> Neighbour | None:
    return None if neighbour.family not in {2, 10} else neighbour._replace(rest=())


def _needs_no_arp(neighbour: Neighbour) -> bool:
    # The kernel makes them for multicast and broadcast when a packet goes out; ip(8) hides them as well.
    return neighbour.state == NeighbourState.NOARP


def _nexthop_key(nexthop: NextHopObject) -> tuple[Any, ...]:
    return (nexthop.id,)


def _settled_nexthop(nexthop: NextHopObject) -> NextHopObject:
    return nexthop._replace(flags=0, rest=())


def _netconf_key(netconf: NetConf) -> tuple[Any, ...]:
    return netconf.family, netconf.ifindex


def _settled_netconf(netconf: NetConf) -> NetConf:
    return netconf._replace(rest=())


def _forwarding_key(entry: Neighbour) -> tuple[Any, ...]:
    return entry.ifindex, entry.mac, entry.vlan, entry.address, entry.port, entry.vni, entry.master


def _settled_forwarding(entry: Neighbour) -> Neighbour | None:
    return entry._replace(rest=()) if entry.family == 7 else None


KINDS: Final = {
    "link": Watched((1,), 16, lambda: list_links(statistics=False), parse_link, _link_key, _settled_link),
    "address": Watched((5, 9), 20, list_addresses, parse_address, _address_key, _settled_address),
    "route": Watched((7, 11), 24, list_routes, parse_route, route_key, _settled_route),
    "neighbour": Watched((3,), 28, list_neighbours, parse_neighbour, _neighbour_key, _settled_neighbour, _needs_no_arp),
    "rule": Watched((8, 19), 32, list_rules, parse_rule, tuple, lambda record: record),
    "nexthop": Watched((32,), 104, list_nexthops, parse_nexthop, _nexthop_key, _settled_nexthop),
    "netconf": Watched(
        (24, 25), 80, list_netconf, parse_netconf, _netconf_key, lambda record: record._replace(rest=())
    ),
    "forwarding": Watched((3,), 28, list_forwarding, parse_neighbour, _forwarding_key, _settled_forwarding),
}
