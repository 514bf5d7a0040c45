"""Look around where `ip` is not installed: python -m kernelproof.impl.netlink link|addr|route|neigh|rule|netns|monitor.

With --json the keys are those of `ip -j`.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kernelproof.impl.netlink.addresses import FOREVER
from kernelproof.impl.netlink.links import Link, LinkFlag
from kernelproof.impl.netlink.monitor import Event, Monitor
from kernelproof.impl.netlink.neighbours import NeighbourState
from kernelproof.impl.netlink.netns import list_namespaces
from kernelproof.impl.netlink.routes import Route, RouteType
from kernelproof.impl.netlink.rtnl import Rtnl

_SCOPES = {0: "global", 200: "site", 253: "link", 254: "host", 255: "nowhere"}
_PROTOCOLS = {0: "unspec", 1: "redirect", 2: "kernel", 3: "boot", 4: "static", 9: "ra", 16: "dhcp"}
_TABLES = {253: "default", 254: "main", 255: "local"}
_HARDWARE = {1: "ether", 772: "loopback", 768: "ipip", 776: "sit", 778: "gre", 65534: "none"}


def flag_words(flags: int) -> list[str]:
    """Return flags as `ip` shows them: its order, without RUNNING, and NO-CARRIER where a link is up without one."""
    order = "LOOPBACK BROADCAST POINTOPOINT MULTICAST NOARP ALLMULTI PROMISC MASTER SLAVE DEBUG DYNAMIC AUTOMEDIA"
    words = ["NO-CARRIER"] if flags & LinkFlag.UP and not flags & LinkFlag.RUNNING else []
    order += " PORTSEL NOTRAILERS UP LOWER_UP DORMANT ECHO"
    return words + [word for word in order.split() if flags & LinkFlag[word]]


def link_object(link: Link, names: Mapping[int, str]) -> dict[str, Any]:
    """Return a link as `ip -j link` has it."""
    shown = {
        "ifindex": link.ifindex,
        "link": names.get(link.parent) if link.parent and link.parent_namespace is None else None,
        "link_index": link.parent if link.parent and link.parent_namespace is not None else None,
        "ifname": link.name,
        "flags": flag_words(link.flags),
        "mtu": link.mtu,
        "qdisc": link.qdisc,
        "master": names.get(link.master) if link.master else None,
        "operstate": link.operstate,
        "linkmode": "DORMANT" if dict(link.rest).get(17) == b"\1" else "DEFAULT",
        "group": "default" if link.group == 0 else str(link.group),
        "txqlen": link.txqueuelen or None,
        "link_type": _HARDWARE.get(link.hardware_type, str(link.hardware_type)),
        "address": link.mac or None,
        "broadcast": link.broadcast or None,
        "link_netnsid": link.parent_namespace,
        "ifalias": link.alias or None,
        "altnames": list(link.altnames) or None,
    }
    return {key: value for key, value in shown.items() if value is not None}


def show_links(net: Rtnl) -> list[dict[str, Any]]:
    """List links."""
    links = net.links()
    names = {link.ifindex: link.name for link in links}
    down = {link.ifindex for link in links if not link.is_up}
    shown = [link_object(link, names) for link in links]
    for link, each in zip(links, shown, strict=True):
        if link.parent in down and link.parent_namespace is None:
            each["flags"].append("M-DOWN")
    return shown


def show_addresses(net: Rtnl) -> list[dict[str, Any]]:
    """List links with their addresses."""
    addresses = net.addresses()
    shown = show_links(net)
    for link in shown:
        link.pop("linkmode")
        link["addr_info"] = [
            {
                "family": "inet" if each.family == 2 else "inet6",
                "local": each.address,
                **({"address": each.peer} if each.peer else {}),
                "prefixlen": each.prefix_length,
                **({"broadcast": each.broadcast} if each.broadcast else {}),
                "scope": _SCOPES.get(each.scope, str(each.scope)),
                **({"label": each.label} if each.label else {}),
                "valid_life_time": each.valid_seconds if each.valid_seconds != FOREVER else 4294967295,
                "preferred_life_time": each.preferred_seconds,
            }
            for each in addresses
            if each.ifindex == link["ifindex"]
        ]
    return shown


def route_object(route: Route, names: Mapping[int, str]) -> dict[str, Any]:
    """Return a route as `ip -j route` has it."""
    default = route.destination in {"0.0.0.0/0", "::/0"}
    longest = "/32" if route.family == 2 else "/128"
    shown: dict[str, Any] = {
        "type": None if route.type == 1 else RouteType(route.type).name.lower(),
        "dst": "default" if default else route.destination.removesuffix(longest),
        "gateway": route.gateway or None,
        "dev": names.get(route.oif),
        "table": None if route.table == 254 else _TABLES.get(route.table, str(route.table)),
        "protocol": None if route.protocol == 3 else _PROTOCOLS.get(route.protocol, str(route.protocol)),
        "scope": None if route.scope == 0 or route.family != 2 else _SCOPES.get(route.scope, str(route.scope)),
        "prefsrc": route.preferred_source or None,
        "metric": route.priority or None,
        "flags": [],
    }
    return {key: value for key, value in shown.items() if value is not None}


def show_routes(net: Rtnl) -> list[dict[str, Any]]:
    """List the routes of the main table, IPv4 and then IPv6."""
    names = {link.ifindex: link.name for link in net.links()}
    return [route_object(route, names) for family in (2, 10) for route in net.routes(family=family, table=254)]


def show_neighbours(net: Rtnl) -> list[dict[str, Any]]:
    """List neighbours."""
    names = {link.ifindex: link.name for link in net.links()}
    return [
        {
            "dst": each.address,
            "dev": names.get(each.ifindex, str(each.ifindex)),
            **({"lladdr": each.mac} if each.mac else {}),
            "state": [state.name for state in NeighbourState if each.state & state],
        }
        for each in net.neighbours()
        if each.state != NeighbourState.NOARP
    ]


def show_rules(net: Rtnl) -> list[dict[str, Any]]:
    """List the rules of IPv4."""
    return [
        {
            "priority": each.priority,
            "src": each.source.removesuffix("/32") or "all",
            "table": _TABLES.get(each.table, str(each.table)),
        }
        for each in net.rules(family=2)
    ]


SHOWN: dict[str, Callable[[Rtnl], list[dict[str, Any]]]] = {
    "link": show_links,
    "addr": show_addresses,
    "route": show_routes,
    "neigh": show_neighbours,
    "rule": show_rules,
}


def lines_of(rows: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """Return rows as lines of words."""
    for row in rows:
        yield "  ".join(f"{key} {_word(value)}" for key, value in row.items() if value not in (None, [], ""))


def _word(value: object) -> str:
    if isinstance(value, list):
        return ",".join(_word(each) for each in value)
    if isinstance(value, dict):
        return "/".join(str(each) for each in value.values())
    return str(value)


def watch(netns: str | None) -> None:
    """Print events until interrupted."""
    with Monitor(netns=netns) as monitor:
        for event in monitor.events():
            text = f"{event.what} {event.record}" if isinstance(event, Event) else str(event)
            print(text, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m kernelproof.impl.netlink", description=__doc__)
    parser.add_argument("what", choices=[*SHOWN, "netns", "monitor"])
    parser.add_argument("--json", action="store_true", help="as `ip -j` prints it")
    parser.add_argument("--netns", help="name or path of a network namespace")
    given = parser.parse_args(arguments)
    try:
        if given.what == "monitor":
            watch(given.netns)
            return 0
        if given.what == "netns":
            rows: list[dict[str, Any]] = [{"name": name} for name in list_namespaces()]
        else:
            with Rtnl(given.netns) as net:
                rows = SHOWN[given.what](net)
    except OSError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(json.dumps(rows) if given.json else "\n".join(lines_of(rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
