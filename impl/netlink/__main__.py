"""Look around where `ip` is not installed: python -m kernelproof.impl.netlink link|addr|route|neigh|rule|netns|monitor.

With --json keys and values are those of `ip -j`, with --details too those of `ip -j -d`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from kernelproof.impl._syscalls.interrupts import deadly_interrupts
from kernelproof.impl.netlink.monitor import Event, Monitor
from kernelproof.impl.netlink.netns import (
    create_namespace,
    delete_namespace,
    list_namespaces,
)
from kernelproof.impl.netlink.rtnl import Rtnl
from kernelproof.impl.netlink.shown import (
    shown_addresses,
    shown_neighbours,
    shown_record,
    shown_route,
    shown_rule,
    table_number,
)
from kernelproof.impl.netlink.shown_links import shown_links

if TYPE_CHECKING:
    from kernelproof.impl.netlink.connection import Dump
    from kernelproof.impl.netlink.links import Link

Given = argparse.Namespace
Rows = list[dict[str, Any]]


def _chosen(net: Rtnl, given: Given) -> tuple[Dump[Link], int | None]:
    # All links, for their names, and the one asked for.
    return net.links(statistics=False), None if given.device is None else net.index_of(given.device)


def show_links(net: Rtnl, given: Given) -> Rows:
    """List links."""
    links, index = _chosen(net, given)
    return [each for each in shown_links(links, details=given.details) if index in (None, each["ifindex"])]


def show_addresses(net: Rtnl, given: Given) -> Rows:
    """List links with their addresses."""
    links, index = _chosen(net, given)
    rows = shown_addresses(links, net.addresses(family=given.family), details=given.details)
    return [each for each in rows if index in (None, each["ifindex"])]


def show_routes(net: Rtnl, given: Given) -> Rows:
    """List the routes of a table, or the one that a packet would take."""
    links, index = _chosen(net, given)
    names = {link.ifindex: link.name for link in links}
    if given.get is not None:
        return [shown_route(net.route_get(given.get), names, details=given.details)]
    families = (given.family,) if given.family else (2, 10)
    return [
        shown_route(route, names, details=given.details)
        for family in families
        for route in net.routes(family=family, table=given.table, oif=index)
    ]


def show_neighbours(net: Rtnl, given: Given) -> Rows:
    """List neighbours, or proxies."""
    links, index = _chosen(net, given)
    found = net.neighbours(index, family=given.family, proxies=given.proxy)
    return shown_neighbours(found, {link.ifindex: link.name for link in links})


def show_rules(net: Rtnl, given: Given) -> Rows:
    """List rules."""
    families = (given.family,) if given.family else (2, 10)
    return [shown_rule(rule, details=given.details) for family in families for rule in net.rules(family=family)]


def show_namespaces(given: Given) -> Rows:
    """List named namespaces with the numbers that they have here, or make or remove one."""
    if given.verb == "add":
        create_namespace(given.name)
        return []
    if given.verb == "delete":
        delete_namespace(given.name)
        return []
    with Rtnl(given.netns) as net:
        return [{"name": name, **_numbered(net, name)} for name in list_namespaces()]


def _numbered(net: Rtnl, name: str) -> dict[str, int]:
    number = net.namespace_id(name)
    return {} if number is None else {"id": number}


SHOWN: dict[str, Callable[[Rtnl, Given], Rows]] = {
    "link": show_links,
    "addr": show_addresses,
    "route": show_routes,
    "neigh": show_neighbours,
    "rule": show_rules,
}


def lines_of(rows: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """Return rows as lines of words."""
    for row in rows:
        yield "  ".join(f"{key} {_word(value)}".rstrip() for key, value in row.items() if value not in ([], ""))


def _word(value: object) -> str:
    if isinstance(value, list):
        return ",".join(_word(each) for each in value)
    if isinstance(value, dict):
        return "/".join(_word(each) for each in value.values())
    return "" if value is None else str(value)


def watch(given: Given) -> None:
    """Print events until interrupted."""
    with deadly_interrupts(), Monitor(*given.kinds, netns=given.netns) as monitor:
        names = {link.ifindex: link.name for link in monitor.view("link")} if "link" in given.kinds else {}
        for event in monitor.events():
            if isinstance(event, Event):
                shown = shown_record(event.record, names, details=given.details)
                row = {"event": event.what, **shown}
                if "ifname" in shown:
                    names[shown["ifindex"]] = shown["ifname"]
            else:
                row = {"event": "overrun", "times": event.times}
            print(json.dumps(row) if given.json else next(iter(lines_of([row]))), flush=True)


def _table(word: str) -> int:
    try:
        return table_number(word)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parse_arguments(arguments: list[str] | None) -> Given:
    """Return what was asked for; a wrong word ends the program with status 2."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", "-j", action="store_true", help="as `ip -j` prints it")
    common.add_argument("--details", "-d", action="store_true", help="as `ip -d` prints it")
    common.add_argument("--netns", "-n", metavar="NAMESPACE", help="name or path of a network namespace")
    family = argparse.ArgumentParser(add_help=False)
    of = family.add_mutually_exclusive_group()
    of.add_argument("-4", dest="family", action="store_const", const=2, default=0, help="IPv4 only")
    of.add_argument("-6", dest="family", action="store_const", const=10, help="IPv6 only")
    device = argparse.ArgumentParser(add_help=False)
    device.add_argument("device", nargs="?", metavar="LINK", help="name, or alternative name, of one link")
    parser = argparse.ArgumentParser(prog="python -m kernelproof.impl.netlink", description=__doc__)
    words = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    words.add_parser("link", help="links", parents=[common, device])
    words.add_parser("addr", help="links with their addresses", parents=[common, family, device])
    route = words.add_parser("route", help="routes", parents=[common, family, device])
    route.add_argument("--table", "-t", type=_table, default=254, help="number, main, local, default or all")
    route.add_argument("--get", metavar="ADDRESS", help="which way a packet to it would go")
    neighbour = words.add_parser("neigh", help="neighbours", parents=[common, family, device])
    neighbour.add_argument("--proxy", action="store_true", help="whom the machine answers for")
    words.add_parser("rule", help="rules of policy routing", parents=[common, family])
    monitor = words.add_parser("monitor", help="what changes, until interrupted", parents=[common])
    kinds = ("link", "address", "route", "neighbour", "rule")  # those that ip(8) has words for
    monitor.add_argument("kinds", nargs="*", metavar="KIND", help=f"{', '.join(kinds)}; all but neighbour")
    namespace = words.add_parser("netns", help="named network namespaces", parents=[common])
    namespace.add_argument("verb", nargs="?", choices=["list", "add", "delete"], default="list", help="list is usual")
    namespace.add_argument("name", nargs="?", help="of the namespace to add or delete")
    given = parser.parse_args(arguments)
    if given.what == "netns" and (given.name is None) != (given.verb == "list"):
        namespace.error("add and delete take a name, list takes none")
    if given.what == "monitor":
        wrong = [kind for kind in given.kinds if kind not in kinds]
        if wrong:
            monitor.error(f"no kind {wrong[0]!r} to watch; there are: {', '.join(kinds)}")
        given.kinds = given.kinds or ["link", "address", "route", "rule"]
    return given


def _rows(given: Given) -> Rows:
    if given.what == "netns":
        return show_namespaces(given)
    with Rtnl(given.netns) as net:
        return SHOWN[given.what](net, given)


def _print_rows(rows: Rows, as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows))
    for line in [] if as_json else lines_of(rows):
        print(line)
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    given = parse_arguments(arguments)
    try:
        if given.what == "monitor":
            watch(given)
        else:
            _print_rows(_rows(given), given.json)
    except BrokenPipeError:
        # Nobody reads any more; what is left in the buffer must not be written at the end either.
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return 1
    except (OSError, ValueError) as error:
        print(f"python -m kernelproof.impl.netlink {given.what}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
