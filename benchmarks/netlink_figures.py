"""netlink beside pyroute2 and `ip`, on the same work in one run: python benchmarks/netlink_figures.py [routes [pairs]].

Everything happens in network namespaces of its own, so it needs CAP_SYS_ADMIN. Ours and theirs take turns; each line
has the median of processor seconds (user and system, children included), the median of the ratios, and what is to be
reached. Fields that `ip` prints are touched in both.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from typing import NamedTuple

from pyroute2 import IPRoute, NetNS

from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare
from kernelproof.impl.netlink import addresses, links, routes
from kernelproof.impl.netlink.errors import NetlinkError
from kernelproof.impl.netlink.monitor import Monitor, Overrun
from kernelproof.impl.netlink.routes import Route
from kernelproof.impl.netlink.rtnl import Rtnl


def processor_seconds() -> float:
    """User and system time of this process and of children that ended."""
    both = (resource.getrusage(which) for which in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in both)


class Figure(NamedTuple):
    """Medians of seconds, and of their ratios."""

    ours: float
    theirs: float
    ratio: float


def take_turns(
    ours: Callable[[], object],
    theirs: Callable[[], object],
    times: int = 5,
    clock: Callable[[], float] = processor_seconds,
) -> Figure:
    """Run both in turn, the first once before to warm up."""
    ours()
    pairs = []
    for _ in range(times):
        taken = []
        for work in (ours, theirs):
            begun = clock()
            work()
            taken.append(clock() - begun)
        pairs.append((taken[0], taken[1]))
    mine, its = zip(*pairs, strict=True)
    ratios = [other / one for one, other in pairs]
    return Figure(statistics.median(mine), statistics.median(its), statistics.median(ratios))


def show(what: str, figure: Figure, goal: str, peer: str = "pyroute2") -> None:
    """Print one line."""
    ours, theirs = figure.ours * 1000, figure.theirs * 1000
    print(f"{what:44} ours {ours:9.2f} ms  {peer} {theirs:9.2f} ms  {figure.ratio:6.2f} x  ({goal})", flush=True)


def start_up() -> None:
    """Time a new interpreter that imports ours, or pyroute2, less one that imports nothing."""
    # With compiled files, as an installed package has them.
    cached = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": tempfile.mkdtemp()}

    def run(statement: str) -> None:
        subprocess.run([sys.executable, "-c", statement], check=True, env=cached)

    run("import pyroute2; from kernelproof.impl.netlink import Rtnl")  # compiles
    for statement in ("import kernelproof.impl.netlink", "from kernelproof.impl.netlink import Rtnl"):
        bare: list[float] = []
        more: list[float] = []
        other: list[float] = []
        for _ in range(15):
            for each, into in (("pass", bare), (statement, more), ("import pyroute2", other)):
                begun = processor_seconds()
                run(each)
                into.append(processor_seconds() - begun)
        ours = statistics.median(a - b for a, b in zip(more, bare, strict=True))
        theirs = statistics.median(a - b for a, b in zip(other, bare, strict=True))
        goal = "at least 5 x" if "Rtnl" in statement else "at most 20 ms, and at least 5 x"
        show(statement, Figure(ours, theirs, theirs / ours), goal)


def read_routes(net: Rtnl) -> int:
    """Touch what `ip route` prints."""
    seen = 0
    for route in net.routes(family=2, table=254):
        seen += len(route.destination) + len(route.gateway) + route.oif + route.table + route.protocol + route.scope
        seen += route.type + route.priority + len(route.preferred_source) + route.flags
    return seen


def read_routes_of_pyroute2(peer: IPRoute) -> int:
    """The same through pyroute2."""
    seen = 0
    for route in peer.get_routes(family=2, table=254):
        get = route.get_attr
        seen += (
            len(get("RTA_DST") or "") + len(get("RTA_GATEWAY") or "") + (get("RTA_OIF") or 0) + (get("RTA_TABLE") or 0)
        )
        seen += route["proto"] + route["scope"] + route["type"] + (get("RTA_PRIORITY") or 0)
        seen += len(get("RTA_PREFSRC") or "") + route["flags"]
    return seen


def peak(work: Callable[[], object]) -> int:
    """Bytes that Python held at most."""
    tracemalloc.start()
    kept = work()
    high = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    del kept
    return high


def show_memory(ours: Callable[[], object], theirs: Callable[[], object]) -> None:
    """Print what both hold at most."""
    mine, its = peak(ours), peak(theirs)
    print(f"  peak: ours {mine / 2**20:.1f} MiB, pyroute2 {its / 2**20:.1f} MiB, {its / mine:.1f} x  (at least 3 x)")


def many_routes(count: int) -> None:
    """Dump a table with both."""
    with Rtnl() as net, IPRoute() as peer:
        net.link_set("lo", up=True)
        requests = [
            routes.add_route(Route(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}/32", oif=1, scope=253)) for n in range(count)
        ]
        begun = time.perf_counter()
        net.batch(requests)
        print(f"{count} routes added in batches: {time.perf_counter() - begun:.2f} s")
        figure = take_turns(lambda: read_routes(net), lambda: read_routes_of_pyroute2(peer), 3)
        show(f"dump of {count} routes, fields touched", figure, "at least 5 x")
        print(f"  rates: ours {count / figure.ours:,.0f}/s, pyroute2 {count / figure.theirs:,.0f}/s")
        show_memory(lambda: net.routes(family=2, table=254), lambda: list(peer.get_routes(family=2, table=254)))


def socket_elsewhere() -> None:
    """Open a socket in another namespace and ask one thing."""
    name = f"figures-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)

    def ours() -> None:
        with Rtnl(name) as net:
            net.link(1)

    def theirs() -> None:
        with NetNS(name) as peer:
            peer.get_links(1)

    try:
        show("socket in another namespace, one request", take_turns(ours, theirs, 9), "at least 5 x")
        wall = take_turns(ours, theirs, 9, time.perf_counter)
        show("  the same by the clock on the wall", wall, "at least 5 x")
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


def pairs_by_us(count: int) -> None:
    """Make, set up and address veth pairs, as the script for `ip` does; links get the ifindex that we say."""
    with Rtnl() as net:
        first = {f"{end}{n}": 10 + 2 * n + place for n in range(count) for place, end in enumerate("ab")}
        requests = [
            links.add_link(f"a{n}", "veth", index=first[f"a{n}"], peer={"name": f"b{n}", "index": first[f"b{n}"]})
            for n in range(count)
        ]
        requests += [links.set_link(first[f"{end}{n}"], up=True) for n in range(count) for end in "ab"]
        requests += [addresses.add_address(first[f"a{n}"], f"10.{n >> 8}.{n & 255}.1/24") for n in range(count)]
        refused = [each for each in net.batch(requests) if isinstance(each, NetlinkError)]
        if refused:
            raise refused[0]


def pairs_by_ip(count: int) -> None:
    """The same by `ip -batch`."""
    lines = [f"link add a{n} type veth peer name b{n}" for n in range(count)]
    lines += [f"link set {end}{n} up" for n in range(count) for end in "ab"]
    lines += [f"addr add 10.{n >> 8}.{n & 255}.1/24 dev a{n}" for n in range(count)]
    subprocess.run(["ip", "-batch", "-"], input="\n".join(lines).encode(), check=True)


def read_links(net: Rtnl) -> int:
    """Touch what `ip link` prints."""
    seen = 0
    for link in net.links():
        seen += (
            link.ifindex + len(link.name) + link.flags + link.mtu + len(link.qdisc) + len(link.operstate) + link.group
        )
        seen += link.txqueuelen + len(link.mac) + len(link.broadcast) + (link.master or 0) + (link.parent or 0)
    return seen


def read_links_of_pyroute2(peer: IPRoute) -> int:
    """The same through pyroute2."""
    seen = 0
    for link in peer.get_links():
        get = link.get_attr
        seen += link["index"] + len(get("IFLA_IFNAME")) + link["flags"] + get("IFLA_MTU") + len(get("IFLA_QDISC") or "")
        seen += len(get("IFLA_OPERSTATE")) + get("IFLA_GROUP") + get("IFLA_TXQLEN") + len(get("IFLA_ADDRESS") or "")
        seen += len(get("IFLA_BROADCAST") or "") + (get("IFLA_MASTER") or 0) + (get("IFLA_LINK") or 0)
    return seen


def pairs_in_process(which: str, count: int) -> None:
    """Make pairs in a namespace of this process, which ends at once: the kernel clears up behind it."""
    unshare(CloneFlag.NEWNET)
    Rtnl().close()
    begun, seconds = time.perf_counter(), processor_seconds()
    (pairs_by_us if which == "ours" else pairs_by_ip)(count)
    print(f"{processor_seconds() - seconds} {time.perf_counter() - begun}", flush=True)
    os._exit(0)


def many_pairs(count: int, times: int = 5) -> None:
    """Make pairs by both in turn, each in a process and a namespace of its own."""
    taken: dict[str, list[tuple[float, float]]] = {"ours": [], "ip": []}
    for _ in range(times):
        for which, into in taken.items():
            command = [sys.executable, __file__, "--pairs", which, str(count)]
            words = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
            into.append((float(words[0]), float(words[1])))
    for place, what in enumerate((f"{count} veth pairs made, up, addressed", "  the same by the clock on the wall")):
        ours, theirs = ([each[place] for each in taken[which]] for which in ("ours", "ip"))
        ratio = statistics.median(one / other for one, other in zip(ours, theirs, strict=True))
        figure = Figure(statistics.median(ours), statistics.median(theirs), ratio)
        show(what, figure, "at most 1.1 x, ours by theirs", "ip -batch")


def many_links(pairs: int) -> None:
    """List the links of many pairs with both."""
    unshare(CloneFlag.NEWNET)
    pairs_by_us(pairs)
    with Rtnl() as net, IPRoute() as peer:
        figure = take_turns(lambda: read_links(net), lambda: read_links_of_pyroute2(peer), 3)
        show(f"dump of {2 * pairs} links, fields touched", figure, "at least 5 x")
        show_memory(lambda: net.links(), lambda: list(peer.get_links()))


def burst(changes: int) -> None:
    """Make changes while nobody reads, and compare what the monitor has in the end with a fresh list."""
    unshare(CloneFlag.NEWNET)
    with Rtnl() as net, Monitor("address", "route") as monitor:
        net.link_set("lo", up=True)
        for first in range(0, changes, 2000):
            numbers = range(first, first + 2000)
            net.batch(addresses.add_address(1, f"10.{n >> 8 & 255}.{n & 255}.1/32") for n in numbers)
            net.batch(addresses.delete_address(1, f"10.{n >> 8 & 255}.{n & 255}.1/32") for n in numbers if n % 50)
        begun = processor_seconds()
        events = list(monitor.events(timeout_seconds=2))
        seconds = processor_seconds() - begun
        overruns = sum(isinstance(event, Overrun) for event in events)
        there = {(each.address, each.prefix_length) for each in net.addresses()}
        same = {(each.address, each.prefix_length) for each in monitor.view("address")} == there
        print(
            f"burst of {changes} changes: {len(events)} events, {overruns} overruns, {seconds * 1000:.0f} ms; view ",
            end="",
        )
        print("equals a fresh list" if same else "DIFFERS from a fresh list")


def main() -> None:
    """Print all figures."""
    if sys.argv[1:2] == ["--pairs"]:
        pairs_in_process(sys.argv[2], int(sys.argv[3]))
    arguments = [int(word) for word in sys.argv[1:]]
    start_up()
    socket_elsewhere()
    unshare(CloneFlag.NEWNET)
    many_routes(arguments[0] if arguments else 20_000)
    many_pairs(arguments[1] if len(arguments) > 1 else 1_000)
    many_links(2_500)
    burst(50_000)


if __name__ == "__main__":
    main()
