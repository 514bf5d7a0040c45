"""netlink beside pyroute2 and `ip`, on the same work in one run: python benchmarks/netlink_figures.py [routes [pairs]].

Everything happens in network namespaces of its own, so it needs CAP_SYS_ADMIN. Each figure is the best of three, in
processor or wall seconds as told. Fields that `ip route` prints are touched in both.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable

from pyroute2 import IPRoute, NetNS

from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare
from kernelproof.impl.netlink import addresses, links, routes
from kernelproof.impl.netlink.routes import Route
from kernelproof.impl.netlink.rtnl import Rtnl


def best(work: Callable[[], object], times: int = 3) -> float:
    """Wall seconds of the fastest run."""
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return min(taken)


def show(what: str, ours: float, theirs: float, peer: str = "pyroute2") -> None:
    """Print one line: both times and their ratio."""
    print(f"{what:42} ours {ours * 1000:9.2f} ms   {peer} {theirs * 1000:9.2f} ms   ratio {theirs / ours:5.1f}")


def start_up() -> None:
    """Time a new interpreter that imports nothing, ours, ours with its sockets, and pyroute2."""

    # With compiled files, as an installed package has them.
    cached = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": tempfile.mkdtemp()}

    def run(statement: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, "-c", statement], check=True, env=cached)

    best(run("import pyroute2; from kernelproof.impl.netlink import Rtnl"), 2)  # compiles
    bare = best(run("pass"), 15)
    for statement in ("import kernelproof.impl.netlink", "from kernelproof.impl.netlink import Rtnl"):
        ours = best(run(statement), 15) - bare
        show(statement, ours, best(run("import pyroute2"), 3) - bare)


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
        ours, theirs = best(lambda: read_routes(net)), best(lambda: read_routes_of_pyroute2(peer))
        show(f"dump of {count} routes, fields touched", ours, theirs)
        print(f"  rates: ours {count / ours:,.0f}/s, pyroute2 {count / theirs:,.0f}/s")
        ours_bytes = peak(lambda: net.routes(family=2, table=254))
        theirs_bytes = peak(lambda: list(peer.get_routes(family=2, table=254)))
        print(
            f"  peak: ours {ours_bytes >> 20} MiB, pyroute2 {theirs_bytes >> 20} MiB, {theirs_bytes / ours_bytes:.1f} x"
        )


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
        ours()
        show("socket in another namespace, one request", best(ours, 9), best(theirs, 5))
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


def pairs_by_us(count: int) -> None:
    """Make, set up and address veth pairs, as the script for `ip` does."""
    with Rtnl() as net:
        net.batch(links.add_link(f"a{n}", "veth", peer={"name": f"b{n}"}) for n in range(count))
        found = {link.name: link.ifindex for link in net.links()}
        net.batch(links.set_link(found[f"{end}{n}"], up=True) for n in range(count) for end in "ab")
        net.batch(addresses.add_address(found[f"a{n}"], f"10.{n >> 8}.{n & 255}.1/24") for n in range(count))


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


def many_pairs(count: int) -> None:
    """Make pairs by both, each in a namespace of its own, and list the links."""
    unshare(CloneFlag.NEWNET)
    theirs = best(lambda: pairs_by_ip(count), 1)
    # Held: taking a namespace with its links down would hold the kernel's lock while ours are made.
    held = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    unshare(CloneFlag.NEWNET)
    ours = best(lambda: pairs_by_us(count), 1)
    os.close(held)
    show(f"{count} veth pairs made, up, addressed", ours, theirs, "ip -batch")
    with Rtnl() as net, IPRoute() as peer:
        show(f"dump of {2 * count} links", best(lambda: read_links(net)), best(lambda: read_links_of_pyroute2(peer)))


def main() -> None:
    """Print all figures."""
    arguments = [int(word) for word in sys.argv[1:]]
    start_up()
    socket_elsewhere()
    unshare(CloneFlag.NEWNET)
    many_routes(arguments[0] if arguments else 20_000)
    many_pairs(arguments[1] if len(arguments) > 1 else 1_000)


if __name__ == "__main__":
    main()
