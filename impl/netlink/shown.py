"""Addresses, routes, rules, neighbours and events as `ip -j` and `ip -j -d` have them.

Keys that only one of both prints are listed, with the reason, in fixtures/netlink/only.toml. Names of tables and
protocols are those that the kernel's headers give; files in /etc/iproute2 are not read.

Source: ip-address(8), ip-route(8), ip-rule(8), ip-neighbour(8); what ip(8) of iproute2 6.15 prints.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from kernelproof.impl.netlink.addresses import Address, AddressFlag
from kernelproof.impl.netlink.neighbours import Neighbour, NeighbourFlag, NeighbourState
from kernelproof.impl.netlink.routes import Route, RouteType
from kernelproof.impl.netlink.rules import Rule
from kernelproof.impl.netlink.shown_links import shown_link, shown_links

if TYPE_CHECKING:
    from kernelproof.impl.netlink.links import Link
    from kernelproof.impl.netlink.routes import NextHop

Shown = dict[str, Any]
Names = Mapping[int, str]

_SCOPES: Final = {0: "global", 200: "site", 253: "link", 254: "host", 255: "nowhere"}
_PROTOCOLS: Final = {
    **{0: "unspec", 1: "redirect", 2: "kernel", 3: "boot", 4: "static", 8: "gated", 9: "ra", 10: "mrt", 11: "zebra"},
    **{12: "bird", 13: "dnrouted", 14: "xorp", 15: "ntk", 16: "dhcp", 18: "keepalived", 42: "babel", 99: "openr"},
    **{186: "bgp", 187: "isis", 188: "ospf", 189: "rip", 192: "eigrp"},
}
_ADDRESS_PROTOCOLS: Final = {1: "kernel_lo", 2: "kernel_ra", 3: "kernel_ll"}
_TABLES: Final = {253: "default", 254: "main", 255: "local"}
_IP_PROTOCOLS: Final = {1: "icmp", 6: "tcp", 17: "udp", 58: "ipv6-icmp", 132: "sctp"}
_ACTIONS: Final = {3: "nop", 6: "blackhole", 7: "unreachable", 8: "prohibit"}
_PREFERENCES: Final = {0: "medium", 1: "high", 3: "low"}
_METRICS: Final = {
    **{2: "mtu", 3: "window", 4: "rtt", 5: "rttvar", 6: "ssthresh", 7: "cwnd", 8: "advmss", 9: "reordering"},
    **{10: "hoplimit", 11: "initcwnd", 13: "rto_min", 14: "initrwnd", 15: "quickack", 17: "fastopen_no_cookie"},
}
_HOP_FLAGS: Final = {1: "dead", 4: "onlink", 2: "pervasive", 8: "offload", 16: "linkdown", 32: "unresolved", 64: "trap"}
_ADDRESS_FLAGS: Final = (
    *((0x01, "secondary"), (0x10, "home"), (0x20, "deprecated"), (0x40, "tentative"), (0x08, "dadfailed")),
    *((0x02, "nodad"), (0x04, "optimistic"), (0x100, "mngtmpaddr"), (0x200, "noprefixroute"), (0x400, "autojoin")),
    *((0x800, "stable-privacy"),),
)
_FAMILIES: Final = {2: "inet", 7: "bridge", 10: "inet6"}


def table_number(name: str) -> int:
    """Return a routing table by name or number; 0 is "all".

    Raises:
        ValueError: neither.
    """
    words = {"all": 0, **{word: number for number, word in _TABLES.items()}}
    if name in words:
        return words[name]
    if not (name.isascii() and name.isdigit() and 0 < int(name) < 2**32):
        raise ValueError(f"{name!r} is no table: a number, all, main, local or default")
    return int(name)


def shown_address(address: Address) -> Shown:
    """Return an address as `ip -j addr` has it below `addr_info`."""
    shown: Shown = {
        "family": _FAMILIES.get(address.family, str(address.family)),
        "local": address.address,
        **({"address": address.peer} if address.peer else {}),
        "prefixlen": address.prefix_length,
        **({"metric": address.priority} if address.priority else {}),
        **({"broadcast": address.broadcast} if address.broadcast else {}),
        **({"anycast": address.anycast} if address.anycast else {}),
        "scope": _SCOPES.get(address.scope, str(address.scope)),
    }
    for bit, word in _ADDRESS_FLAGS:
        if address.flags & bit:
            shown["temporary" if bit == AddressFlag.SECONDARY and address.family == 10 else word] = True
    if not address.flags & AddressFlag.PERMANENT:
        shown["dynamic"] = True
    if address.protocol:
        shown["protocol"] = _ADDRESS_PROTOCOLS.get(address.protocol, str(address.protocol))
    if address.label:
        shown["label"] = address.label
    lifetimes = {"valid_life_time": address.valid_seconds, "preferred_life_time": address.preferred_seconds}
    return shown | lifetimes


def shown_addresses(links: tuple[Link, ...], addresses: Iterable[Address], *, details: bool = False) -> list[Shown]:
    """Return links with their addresses, as `ip -j addr` lists them."""
    shown = shown_links(links, details=details)
    by_link: dict[int, list[Shown]] = {}
    for address in addresses:
        by_link.setdefault(address.ifindex, []).append(shown_address(address))
    for link in shown:
        link.pop("linkmode")
        link.pop("inet6_addr_gen_mode", None)
        link["addr_info"] = by_link.get(link["ifindex"], [])
    return shown


def _table(number: int) -> str:
    return _TABLES.get(number, str(number))


def _way(gateway: str, family: int) -> Shown:
    if not gateway:
        return {}
    of = "inet6" if ":" in gateway else "inet"
    return {"gateway": gateway} if of == _FAMILIES.get(family) else {"via": {"family": of, "host": gateway}}


def _hop_flags(flags: int) -> list[str]:
    return [word for bit, word in _HOP_FLAGS.items() if flags & bit]


def _shown_hop(hop: NextHop, family: int, names: Names) -> Shown:
    device = {"dev": names.get(hop.oif, f"if{hop.oif}")} if hop.oif else {}
    return {**_way(hop.gateway, family), **device, "weight": hop.weight, "flags": _hop_flags(hop.flags)}


def shown_route(route: Route, names: Names, *, details: bool = False) -> Shown:
    """Return a route as `ip -j route` has it, with details as with `-d`."""
    default = route.destination in {"0.0.0.0/0", "::/0"}
    longest = "/32" if route.family == 2 else "/128"
    plain = not details
    shown: Shown = {
        "type": None if plain and route.type == 1 else RouteType(route.type).name.lower(),
        "dst": "default" if default else route.destination.removesuffix(longest),
        "from": route.source.removesuffix(longest) or None,
        "tos": f"{route.tos:#x}" if route.tos else None,
        "nhid": route.nexthop_id or None,
        **_way(route.gateway, route.family),
        "dev": names.get(route.oif, f"if{route.oif}") if route.oif else None,
        "table": None if plain and route.table == 254 else _table(route.table),
        "protocol": None if plain and route.protocol == 3 else _PROTOCOLS.get(route.protocol, str(route.protocol)),
        "scope": None if plain and _usual_scope(route) else _SCOPES.get(route.scope, str(route.scope)),
        "prefsrc": route.preferred_source or None,
        "metric": route.priority or (0 if route.family == 10 else None),
        "flags": _hop_flags(route.flags),
        "metrics": [_shown_metrics(route)] if route.metrics else None,
        "pref": _PREFERENCES.get(route.preference) if route.preference is not None else None,
        "expires": route.expires_ticks // 100 if route.expires_ticks else None,
        "nexthops": [_shown_hop(hop, route.family, names) for hop in route.nexthops] or None,
    }
    return {key: value for key, value in shown.items() if value is not None}


def _usual_scope(route: Route) -> bool:
    return route.scope == 0 or route.family != 2


def _shown_metrics(route: Route) -> Shown:
    return {_METRICS.get(place, str(place)): value for place, value in route.metrics if isinstance(value, int)}


def shown_neighbour(neighbour: Neighbour, names: Names) -> Shown:
    """Return a neighbour as `ip -j neigh` has it."""
    flags = {NeighbourFlag.ROUTER: "router", NeighbourFlag.PROXY: "proxy", NeighbourFlag.EXT_LEARNED: "extern_learn",
             NeighbourFlag.OFFLOADED: "offload"}  # fmt: skip
    shown: Shown = {
        "dst": neighbour.address,
        "dev": names.get(neighbour.ifindex, f"if{neighbour.ifindex}"),
        **({"lladdr": neighbour.mac} if neighbour.mac else {}),
        **{word: None for flag, word in flags.items() if neighbour.flags & flag},
    }
    states = [state.name for state in NeighbourState if neighbour.state & state]
    return shown | ({"state": states} if states else {})


def shown_neighbours(neighbours: Iterable[Neighbour], names: Names) -> list[Shown]:
    """Return neighbours as `ip -j neigh` lists them: without those that need no ARP."""
    return [shown_neighbour(each, names) for each in neighbours if each.state != NeighbourState.NOARP]


def _end(word: str, prefix: str) -> Shown:
    address, _, length = prefix.partition("/")
    whole = length in {"32", "128"}
    return {word: address} if whole else {word: address, f"{word}len": int(length)}


def shown_rule(rule: Rule, *, details: bool = False) -> Shown:
    """Return a rule as `ip -j rule` has it."""
    shown: Shown = {"priority": rule.priority or 0}
    shown |= {"not": None} if rule.flags & 2 else {}
    shown |= _end("src", rule.source) if rule.source else {"src": "all"}
    shown |= _end("dst", rule.destination) if rule.destination else {}
    shown |= {"tos": f"{rule.tos:#x}"} if rule.tos else {}
    if rule.mark is not None and (rule.mark or rule.mask):
        shown["fwmark"] = f"{rule.mark:#x}"
        shown |= {"fwmask": f"{rule.mask:#x}"} if rule.mask not in (None, 0xFFFFFFFF) else {}
    shown |= {"iif": rule.iif} if rule.iif else {}
    shown |= {"oif": rule.oif} if rule.oif else {}
    shown |= {"l3mdev": None} if rule.l3mdev else {}
    for word, pair in (("uid", rule.uids), ("sport", rule.source_ports), ("dport", rule.destination_ports)):
        if pair is not None:
            one = pair[0] == pair[1] and word != "uid"
            shown |= {word: pair[0]} if one else {f"{word}_start": pair[0], f"{word}_end": pair[1]}
    shown |= {"tun_id": rule.tun_id} if rule.tun_id else {}
    if rule.ip_protocol:
        shown["ipproto"] = _IP_PROTOCOLS.get(rule.ip_protocol, f"ipproto-{rule.ip_protocol}")
    shown |= _shown_action(rule)
    if rule.protocol is not None and (details or rule.protocol not in {0, 2}):
        shown["protocol"] = _PROTOCOLS.get(rule.protocol, str(rule.protocol))
    return shown


def _shown_action(rule: Rule) -> Shown:
    shown: Shown = {}
    if rule.action == 1 and not rule.l3mdev:
        shown["table"] = _table(rule.table)
    if rule.suppress_prefix_length is not None:
        shown["suppress_prefixlen"] = rule.suppress_prefix_length
    if rule.suppress_group is not None:
        shown["suppress_ifgroup"] = str(rule.suppress_group)
    if rule.action == 2:
        shown["goto"] = rule.target
    if rule.action in _ACTIONS:
        shown["action"] = _ACTIONS[rule.action]
    return shown


def shown_record(record: object, names: Names, *, details: bool = False) -> Shown:
    """Return any record of a monitor as `ip -j` has it."""
    if isinstance(record, Route):
        return shown_route(record, names, details=details)
    if isinstance(record, Address):
        device = {"dev": names.get(record.ifindex, f"if{record.ifindex}"), "ifindex": record.ifindex}
        return device | shown_address(record)
    if isinstance(record, Neighbour):
        return shown_neighbour(record, names)
    if isinstance(record, Rule):
        return shown_rule(record, details=details)
    return shown_link(record, names, details=details)  # type: ignore[arg-type]
