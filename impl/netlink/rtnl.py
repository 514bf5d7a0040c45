"""One connection to rtnetlink with what it can do: links, addresses, routes, neighbours and rules of a namespace.

    with Rtnl() as net:
        bridge = net.link_add("mydocker0", "bridge", up=True)
        net.address_add(bridge, "10.0.41.1/16")

Whatever takes a link takes its name, an alternative name, its ifindex or a record. A name is asked of the kernel when
an ifindex is needed. Lists say whether they are consistent (`Dump`).
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from errno import ENODEV
from typing import TYPE_CHECKING, Any

from kernelproof.impl.netlink import (
    addresses,
    bridges,
    links,
    multicast,
    namespace_ids,
    neighbours,
    netconf,
    nexthops,
    qdiscs,
    routes,
    rules,
)
from kernelproof.impl.netlink.connection import Answer, Connection, Dump
from kernelproof.impl.netlink.errors import NetlinkError
from kernelproof.impl.netlink.namespace_ids import ANY
from kernelproof.impl.netlink.netconf import ALL
from kernelproof.impl.netlink.netns import Pid, shown_to_kernel
from kernelproof.impl.netlink.qdiscs import ROOT
from kernelproof.impl.netlink.wire import Splitter

if TYPE_CHECKING:
    from typing import Self

    from kernelproof.impl.netlink.addresses import Address
    from kernelproof.impl.netlink.kinds import Option
    from kernelproof.impl.netlink.links import Link, Which
    from kernelproof.impl.netlink.multicast import MulticastEntry, MulticastGroups
    from kernelproof.impl.netlink.neighbours import Neighbour
    from kernelproof.impl.netlink.netconf import NetConf
    from kernelproof.impl.netlink.netns import Where
    from kernelproof.impl.netlink.nexthops import NextHopObject
    from kernelproof.impl.netlink.qdiscs import Qdisc
    from kernelproof.impl.netlink.requests import Request
    from kernelproof.impl.netlink.routes import Route
    from kernelproof.impl.netlink.rules import Rule
    from kernelproof.impl.netlink.values import Ip, Prefix


class Rtnl:
    """rtnetlink of one network namespace.

    Args:
        netns: name, path, descriptor or Pid; None for the caller's.
        connection: one to use instead, which the caller closes.
        timeout_seconds: for one exchange.

    All methods raise NetlinkError where the kernel refuses (EPERM without CAP_NET_ADMIN in the user namespace that owns
    the network namespace, ENODEV for a link that is not there), ValueError for what cannot be asked, and ClosedError.
    """

    def __init__(
        self,
        netns: Where | None = None,
        *,
        connection: Connection | None = None,
        timeout_seconds: float | None = 60.0,
    ) -> None:
        self._own = connection is None
        self.connection = connection or Connection(netns=netns, timeout_seconds=timeout_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, if it is this object's own."""
        if self._own:
            self.connection.close()

    def request(self, request: Request) -> Answer:
        """Send a request that was built elsewhere."""
        return self.connection.request(request)

    def batch(self, requests: Iterable[Request]) -> tuple[Answer | NetlinkError, ...]:
        """Send many requests, see Connection.batch."""
        return self.connection.batch(requests)

    # Links

    def links(self, *, kind: str = "", master: Which | None = None, statistics: bool = False) -> Dump[Link]:
        """List links; the kernel filters by kind and master."""
        above = None if master is None else self.index_of(master)
        splitter = Splitter()
        request = links.list_links(kind=kind, master=above, statistics=statistics)
        return self.connection.dump(request, lambda message: links.parse_link(message, splitter))

    def link(self, link: Which, *, virtual_functions: bool = False) -> Link:
        """Return one link; ENODEV if there is none."""
        if isinstance(link, str) and not link:
            raise ValueError("a link's name is not empty")
        answer = self.request(links.get_link(link, virtual_functions=virtual_functions))
        return links.parse_link(answer.messages[0])

    def find_link(self, link: Which) -> Link | None:
        """Return one link, or None if there is none."""
        try:
            return self.link(link)
        except NetlinkError as error:
            if error.errno != ENODEV:
                raise
            return None

    def index_of(self, link: Which) -> int:
        """Return the ifindex of a link: the kernel is asked for a name."""
        if isinstance(link, int):
            return link
        if isinstance(link, links.Link):
            return link.ifindex
        answer = self.request(links.get_link(link, statistics=False))
        return links.parse_link(answer.messages[0]).ifindex

    def link_add(self, name: str, kind: str, **settings: Any) -> Link:
        """Make a link and return it; arguments as for links.add_link, and alias.

        Master and parent may be any link. `namespace`, also of a veth's `peer`, may be any way to say one; the link is
        then made there, and told as it is there. Where the link cannot be set as told, it is removed again.

        A name that the kernel chose is looked for among the kind's links, so that two who do this at once may mix
        their links up; give a name where that can be.
        """
        with self._resolved(settings) as resolved:
            late: dict[str, Any] = {key: resolved.pop(key) for key in links.LATE if key in resolved}
            if resolved.get("namespace_pid") is None and resolved.get("namespace_fd") is None:
                return self._made(self, name, kind, resolved, late)
            pid = resolved.get("namespace_pid")
            with Rtnl(resolved["namespace_fd"] if pid is None else Pid(pid)) as there:
                return there._made(self, name, kind, resolved, late)

    def _made(self, by: Rtnl, name: str, kind: str, settings: dict[str, Any], late: dict[str, Any]) -> Link:
        chosen = not name or "%" in name
        before = {each.ifindex for each in self.links(kind=kind)} if chosen else set()
        by.request(links.add_link(name, kind, **settings))
        link = self._new(kind, before, settings) if chosen else self.link(name)
        if not late:
            return link
        try:
            self.link_set(link, **late)
        except NetlinkError:
            self.link_delete(link)
            raise
        return self.link(link)

    def _new(self, kind: str, before: set[int], settings: Mapping[str, Any]) -> Link:
        if settings.get("index"):
            return self.link(settings["index"])
        new = [each for each in self.links(kind=kind) if each.ifindex not in before]
        peer = settings.get("peer") or {}
        ends = [each for each in new if each.name != peer.get("name") and each.ifindex != peer.get("index")]
        return max(ends or new, key=lambda link: link.ifindex)  # of a pair the kernel makes the other end first

    def link_set(self, link: Which, **settings: Any) -> None:
        """Change a link in one request; arguments as for links.set_link."""
        with self._resolved(settings) as resolved:
            if "new_name" in resolved:
                link = self.index_of(link)
            self.request(links.set_link(link, **resolved))

    def link_delete(self, link: Which) -> None:
        """Remove a link."""
        self.request(links.delete_link(link))

    def altnames_add(self, link: Which, *names: str) -> None:
        """Give a link alternative names."""
        self.request(links.change_altnames(link, *names, add=True))

    def altnames_delete(self, link: Which, *names: str) -> None:
        """Take alternative names from a link."""
        self.request(links.change_altnames(link, *names, add=False))

    @contextmanager
    def _resolved(self, settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        # Links by ifindex, namespaces by a descriptor that is open while the kernel looks at it.
        resolved = dict(settings)
        for key in ("master", "parent"):
            if resolved.get(key) is not None and resolved[key] != 0:
                resolved[key] = self.index_of(resolved[key])
        with ExitStack() as open_meanwhile:
            peer = resolved.get("peer") or {}
            for told in (resolved, peer):
                if told.get("namespace") is not None:
                    shown = open_meanwhile.enter_context(shown_to_kernel(told["namespace"]))
                    rest = {key: value for key, value in told.items() if key != "namespace"}
                    rest |= {f"namespace_{key}": value for key, value in shown.items()}
                    if told is resolved:
                        resolved = rest
                    else:
                        resolved["peer"] = rest
            yield resolved

    # Bridges

    def port_set(self, port: Which, **options: Option) -> None:
        """Change a port of a bridge: `learning=0`, `mode=1` (hairpin) …"""
        self.request(bridges.set_bridge_port(self.index_of(port), options))

    def vlans(self) -> bridges.Vlans:
        """Return the VLANs of bridges and their ports, by ifindex."""
        return bridges.Vlans.of(self.connection.dump(bridges.list_bridge_vlans(), bridges.parse_vlans))

    def vlans_add(self, port: Which, *vlans: bridges.Vlan, of_bridge: bool = False) -> None:
        """Add VLANs to a port, or to a bridge itself."""
        self.request(bridges.change_vlans(self.index_of(port), *vlans, add=True, of_bridge=of_bridge))

    def vlans_delete(self, port: Which, *vlans: bridges.Vlan, of_bridge: bool = False) -> None:
        """Remove VLANs from a port, or from a bridge itself."""
        self.request(bridges.change_vlans(self.index_of(port), *vlans, add=False, of_bridge=of_bridge))

    def forwarding(self, *, bridge: Which | None = None) -> Dump[Neighbour]:
        """List forwarding entries."""
        index = 0 if bridge is None else self.index_of(bridge)
        return self.connection.dump(neighbours.list_forwarding(bridge=index), neighbours.parse_neighbour)

    def multicast(self) -> Dump[MulticastGroups]:
        """List the multicast groups of all bridges, a record a bridge."""
        return self.connection.dump(multicast.list_multicast(), multicast.parse_multicast)

    def multicast_add(self, entry: MulticastEntry, *, replace: bool = False) -> None:
        """Let a port of a bridge have a multicast group."""
        self.request(multicast.add_multicast(entry, replace=replace))

    def multicast_delete(self, entry: MulticastEntry) -> None:
        """Take a multicast group from a port of a bridge."""
        self.request(multicast.delete_multicast(entry))

    # Queueing disciplines

    def qdiscs(self, link: Which | None = None, *, invisible: bool = False) -> Dump[Qdisc]:
        """List queueing disciplines, of one link if told; the kernel sends those of all."""
        wanted = None if link is None else self.index_of(link)
        found = self.connection.dump(qdiscs.list_qdiscs(invisible=invisible), qdiscs.parse_qdisc)
        return found.where(lambda each: wanted in (None, each.ifindex))

    def qdisc_add(self, link: Which, kind: str, **how: Any) -> None:
        """Add a queueing discipline; further arguments as for qdiscs.add_qdisc."""
        self.request(qdiscs.add_qdisc(self.index_of(link), kind, **how))

    def qdisc_delete(self, link: Which, *, parent: int = ROOT, handle: int = 0) -> None:
        """Remove the queueing discipline below a parent; that of ingress and clsact is qdiscs.INGRESS."""
        self.request(qdiscs.delete_qdisc(self.index_of(link), parent=parent, handle=handle))

    def classes(self, link: Which) -> Dump[Qdisc]:
        """List the classes of a link."""
        return self.connection.dump(qdiscs.list_classes(self.index_of(link)), qdiscs.parse_qdisc)

    def class_add(self, link: Which, handle: int, **how: Any) -> None:
        """Add a class of an htb; further arguments as for qdiscs.add_class."""
        self.request(qdiscs.add_class(self.index_of(link), handle, **how))

    def class_delete(self, link: Which, handle: int) -> None:
        """Remove a class."""
        self.request(qdiscs.delete_class(self.index_of(link), handle))

    # Settings of IP, and numbers of namespaces

    def netconf(self, link: Which = ALL, *, family: int = 2) -> NetConf:
        """Return the settings of a family on a link, on netconf.ALL or on netconf.DEFAULT."""
        index = link if isinstance(link, int) else self.index_of(link)
        return netconf.parse_netconf(self.request(netconf.get_netconf(family, index)).messages[0])

    def netconfs(self, *, family: int = 0) -> Dump[NetConf]:
        """List the settings of all links."""
        return self.connection.dump(netconf.list_netconf(family=family), netconf.parse_netconf)

    def namespace_id(self, where: Where) -> int | None:
        """Return by which number this namespace calls another, or None if by none."""
        with shown_to_kernel(where) as shown:
            answer = self.request(namespace_ids.get_namespace_id(**shown))
        found = namespace_ids.parse_namespace_id(answer.messages[0])
        return None if found == namespace_ids.ANY else found

    def namespace_id_set(self, where: Where, number: int = ANY) -> int:
        """Give another namespace a number here, the kernel's choice unless told, and return it."""
        with shown_to_kernel(where) as shown:
            self.request(namespace_ids.set_namespace_id(number, **shown))
            answer = self.request(namespace_ids.get_namespace_id(**shown))
        return namespace_ids.parse_namespace_id(answer.messages[0])

    def namespace_ids(self) -> Dump[int]:
        """List the numbers that are given."""
        return self.connection.dump(namespace_ids.list_namespace_ids(), namespace_ids.parse_namespace_id)

    # Addresses

    def addresses(self, link: Which | None = None, *, family: int = 0) -> Dump[Address]:
        """List addresses, of one link if told."""
        splitter = Splitter()
        request = addresses.list_addresses(index=0 if link is None else self.index_of(link), family=family)
        return self.connection.dump(request, lambda message: addresses.parse_address(message, splitter))

    def address_add(self, link: Which, address: Prefix, **settings: Any) -> None:
        """Add an address; further arguments as for addresses.add_address."""
        self.request(addresses.add_address(self.index_of(link), address, **settings))

    def address_delete(self, link: Which, address: Prefix, *, peer: Ip | None = None) -> None:
        """Remove an address."""
        self.request(addresses.delete_address(self.index_of(link), address, peer=peer))

    # Routes

    def routes(
        self,
        *,
        family: int = 0,
        table: int = 0,
        protocol: int = 0,
        oif: Which | None = None,
        type: int = 0,
    ) -> Dump[Route]:
        """List routes; the kernel filters. All tables unless one is told."""
        splitter = Splitter()
        out = 0 if oif is None else self.index_of(oif)
        request = routes.list_routes(family=family, table=table, protocol=protocol, oif=out, type=type)
        return self.connection.dump(request, lambda message: routes.parse_route(message, splitter))

    def routes_stream(self, **filters: int) -> Generator[Route, None, None]:
        """Yield routes in bounded memory, see Connection.stream."""
        splitter = Splitter()
        request = routes.list_routes(**filters)
        return self.connection.stream(request, lambda message: routes.parse_route(message, splitter))

    def route_add(self, route: Route, *, append: bool = False) -> None:
        """Add a route."""
        self.request(routes.add_route(route, append=append))

    def route_replace(self, route: Route) -> None:
        """Add a route, or put it in the place of the one that is there."""
        self.request(routes.add_route(route, replace=True))

    def route_delete(self, route: Route) -> None:
        """Remove a route."""
        self.request(routes.delete_route(route))

    def route_get(self, destination: Ip, **how: Any) -> Route:
        """Ask which way a packet would go; ENETUNREACH if none. Arguments as for routes.look_up_route."""
        answer = self.request(routes.look_up_route(destination, **how))
        return routes.parse_route(answer.messages[0])

    def nexthops(self) -> Dump[NextHopObject]:
        """List next hop objects."""
        return self.connection.dump(nexthops.list_nexthops(), nexthops.parse_nexthop)

    def nexthop_add(self, nexthop: NextHopObject, *, replace: bool = False) -> None:
        """Add a next hop object or a group."""
        self.request(nexthops.add_nexthop(nexthop, replace=replace))

    def nexthop_delete(self, identifier: int) -> None:
        """Remove a next hop object."""
        self.request(nexthops.delete_nexthop(identifier))

    # Neighbours and rules

    def neighbours(self, link: Which | None = None, *, family: int = 0, proxies: bool = False) -> Dump[Neighbour]:
        """List neighbours, of one link if told."""
        splitter = Splitter()
        index = 0 if link is None else self.index_of(link)
        request = neighbours.list_neighbours(family=family, index=index, proxies=proxies)
        return self.connection.dump(request, lambda message: neighbours.parse_neighbour(message, splitter))

    def neighbour_add(self, neighbour: Neighbour, *, replace: bool = False, append: bool = False) -> None:
        """Add a neighbour, a proxy or a forwarding entry."""
        self.request(neighbours.add_neighbour(neighbour, replace=replace, append=append))

    def neighbour_delete(self, neighbour: Neighbour) -> None:
        """Remove a neighbour, a proxy or a forwarding entry."""
        self.request(neighbours.delete_neighbour(neighbour))

    def rules(self, *, family: int = 0) -> Dump[Rule]:
        """List rules."""
        return self.connection.dump(rules.list_rules(family=family), rules.parse_rule)

    def rule_add(self, rule: Rule) -> None:
        """Add a rule."""
        self.request(rules.add_rule(rule))

    def rule_delete(self, rule: Rule) -> None:
        """Remove a rule."""
        self.request(rules.delete_rule(rule))
