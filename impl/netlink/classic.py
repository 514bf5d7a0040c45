"""The names of Docker's netlink package of 2014, in snake_case and with the same meaning.

    create_bridge("mydocker0", set_mac_address=False)
    network_link_add_ip("mydocker0", "10.0.41.1/16")
    network_link_up("mydocker0")

Each call opens a connection in the caller's network namespace and closes it. A link is named, or given by its ifindex
or record. Its faults are not kept: no flag changes that was not asked for, no name is cut, and a route's gateway may
have a link. Whoever does more than a step or two uses Rtnl.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from kernelproof.impl.netlink import bridges, links, routes
from kernelproof.impl.netlink.errors import AlreadyThereError, ClosedError, WireError
from kernelproof.impl.netlink.links import Which
from kernelproof.impl.netlink.rtnl import Rtnl
from kernelproof.impl.netlink.values import INET, Ip, Prefix, check_name, encode_ip, encode_mac, encode_prefix

ErrWrongSockType = ClosedError
ErrShortResponse = WireError
ErrInterfaceExists = AlreadyThereError


class Route(NamedTuple):
    """A route as in 2014: destination None for the default one, and the name of its link or None."""

    ip_net: str | None
    iface: str | None
    default: bool


class IfAddr(NamedTuple):
    """An address of a link: link, address and prefix."""

    iface: str
    ip: str
    ip_net: str


def network_get_routes() -> tuple[Route, ...]:
    """Return the IPv4 unicast routes of the main table, their links by name.

    Raises:
        NetlinkError: see Rtnl.
    """
    with Rtnl() as net:
        names = {link.ifindex: link.name for link in net.links()}
        found = net.routes(family=INET, table=routes.TABLE_MAIN)
    return tuple(
        Route(None if default else route.destination, names.get(route.oif), default)
        for route in found
        if route.type == routes.RouteType.UNICAST and not route.flags & routes.CLONED
        for default in [route.destination == "0.0.0.0/0"]
    )


def network_link_add(name: str, link_type: str) -> None:
    """Make a link of a kind.

    Raises:
        ValueError: an empty or impossible name or kind.
        NetlinkError: EEXIST, EOPNOTSUPP (a kind that the kernel does not have), EPERM.
    """
    if not name or not link_type:
        raise ValueError("neither a link's name nor its type can be empty")
    with Rtnl() as net:
        net.request(links.add_link(name, link_type))


def network_link_del(name: str) -> None:
    """Remove a link.

    Raises:
        ValueError: an empty name.
        NetlinkError: ENODEV, EOPNOTSUPP (a link that cannot be removed), EPERM.
    """
    with Rtnl() as net:
        net.link_delete(name)


def _set(link: Which, **settings: object) -> None:
    with Rtnl() as net:
        net.link_set(link, **settings)


def network_link_up(iface: Which) -> None:
    """Set a link up, and change no other flag.

    Raises:
        NetlinkError: ENODEV, EPERM.
    """
    _set(iface, up=True)


def network_link_down(iface: Which) -> None:
    """Set a link down, and change no other flag; errors as for network_link_up."""
    _set(iface, up=False)


def network_link_add_ip(iface: Which, address: Prefix, ip_net: Prefix | None = None) -> None:
    """Add an address with its prefix length to a link.

    Args:
        iface: the link.
        address: `10.0.41.1/16`, or an address alone with ip_net.
        ip_net: the prefix whose length counts, as in 2014.

    Raises:
        ValueError: no address or prefix.
        NetlinkError: EEXIST, ENODEV, EPERM.
    """
    with Rtnl() as net:
        net.address_add(iface, _with_length(address, ip_net))


def network_link_del_ip(iface: Which, address: Prefix, ip_net: Prefix | None = None) -> None:
    """Remove an address from a link; arguments as for network_link_add_ip.

    Raises:
        ValueError: no address or prefix.
        NetlinkError: EADDRNOTAVAIL, ENODEV, EPERM.
    """
    with Rtnl() as net:
        net.address_delete(iface, _with_length(address, ip_net))


def _with_length(address: Prefix, ip_net: Prefix | None) -> str:
    if ip_net is None:
        encode_prefix(address, host=False)
        return str(address)
    family, _, length = encode_prefix(ip_net)
    if encode_prefix(address)[0] != family:
        raise ValueError(f"{address} and {ip_net}: two families")
    return f"{str(address).partition('/')[0]}/{length}"


def network_set_mtu(iface: Which, mtu: int) -> None:
    """Set the MTU in bytes, and nothing else; NetlinkError: EINVAL, ENODEV, EPERM."""
    _set(iface, mtu=mtu)


def network_set_tx_queue_len(iface: Which, tx_queue_len: int) -> None:
    """Set the length of the transmit queue in packets; NetlinkError: ERANGE, ENODEV, EPERM."""
    _set(iface, txqueuelen=tx_queue_len)


def network_set_mac_address(iface: Which, mac_address: str) -> None:
    """Set the hardware address.

    Raises:
        ValueError: no address, or a multicast one.
        NetlinkError: EADDRNOTAVAIL, EBUSY, ENODEV, EPERM.
    """
    if encode_mac(mac_address)[0] & 1:
        raise ValueError(f"multicast MAC address is not supported: {mac_address}")
    _set(iface, mac=mac_address)


set_mac_address = network_set_mac_address


def network_set_master(iface: Which, master: Which) -> None:
    """Make a link a port of another; NetlinkError: ENODEV, EBUSY, ELOOP, EOPNOTSUPP, EPERM."""
    _set(iface, master=master)


def network_set_no_master(iface: Which) -> None:
    """Make a link no port any more; errors as for network_set_master."""
    _set(iface, master=0)


add_to_bridge = network_set_master


def del_from_bridge(iface: Which, master: Which) -> None:
    """Take a port from a bridge.

    Raises:
        ValueError: it is no port of that bridge.
        NetlinkError: ENODEV, EPERM.
    """
    with Rtnl() as net:
        if net.link(iface).master != net.index_of(master):
            raise ValueError(f"{iface} is no port of {master}")
        net.link_set(iface, master=0)


def network_set_ns_pid(iface: Which, ns_pid: int) -> None:
    """Move a link to the network namespace of a process; NetlinkError: ESRCH, EEXIST, EINVAL, ENODEV, EPERM."""
    _set(iface, namespace_pid=ns_pid)


def network_set_ns_fd(iface: Which, fd: int) -> None:
    """Move a link to the network namespace of a descriptor; NetlinkError: EBADF, EINVAL, EEXIST, ENODEV, EPERM."""
    _set(iface, namespace_fd=fd)


def network_change_name(iface: Which, new_name: str) -> None:
    """Give a link another name.

    Raises:
        ValueError: over 15 bytes or otherwise none; 2014 cut it.
        NetlinkError: EEXIST, EBUSY (up, before Linux 6.2), ENODEV, EPERM.
    """
    _set(iface, new_name=check_name(new_name))


change_name = network_change_name


def network_create_veth_pair(name1: str, name2: str, tx_queue_len: int = 0) -> None:
    """Make a pair of veth links; `tx_queue_len` 0 leaves the kernel's.

    Raises:
        ValueError: no names.
        NetlinkError: EEXIST (ErrInterfaceExists) if there is either, EPERM.
    """
    length = tx_queue_len or None
    peer = {"name": name2, "txqueuelen": length}
    with Rtnl() as net:
        net.request(links.add_link(name1, "veth", peer=peer, txqueuelen=length))


def network_link_add_vlan(master_dev: str, vlan_dev: str, vlan_id: int) -> None:
    """Make a VLAN link of another; NetlinkError: EEXIST, ERANGE, ENODEV, EPERM."""
    with Rtnl() as net:
        net.request(links.add_link(vlan_dev, "vlan", parent=net.index_of(master_dev), options={"id": vlan_id}))


def network_link_add_mac_vlan(master_dev: str, mac_vlan_dev: str, mode: str) -> None:
    """Make a macvlan link: private, vepa, bridge or passthru.

    Raises:
        ValueError: another mode; 2014 took it for none in silence.
        NetlinkError: EEXIST, EBUSY, ENODEV, EPERM.
    """
    _add_above("macvlan", master_dev, mac_vlan_dev, mode)


def network_link_add_mac_vtap(master_dev: str, mac_vtap_dev: str, mode: str) -> None:
    """Make a macvtap link; as network_link_add_mac_vlan."""
    _add_above("macvtap", master_dev, mac_vtap_dev, mode)


def _add_above(kind: str, parent: str, name: str, mode: str) -> None:
    with Rtnl() as net:
        net.request(links.add_link(name, kind, parent=net.index_of(parent), options={"mode": mode}))


def add_route(destination: str, source: str, gateway: str, device: str) -> None:
    """Add a route; what is "" does not count.

    Args:
        destination: prefix, "" for the default route.
        source: the address that packets are to come from.
        gateway: address.
        device: name of the link.

    Raises:
        ValueError: all three empty, or one that cannot be read, or two families.
        NetlinkError: EEXIST, ENETUNREACH (the gateway is not on a link), ENODEV, EPERM.
    """
    if not (destination or source or gateway):
        raise ValueError("one of destination, source or gateway must not be blank")
    ends = [encode_prefix(destination, host=False)[0]] if destination else []
    ends += [encode_ip(address)[0] for address in (source, gateway) if address]
    if len(set(ends)) > 1:
        raise ValueError("gateway, source, and destination ip were not the same IP family")
    default = "0.0.0.0/0" if ends[0] == INET else "::/0"
    scope = routes.Scope.UNIVERSE if gateway else routes.Scope.LINK
    with Rtnl() as net:
        net.route_add(
            routes.Route(
                destination or default,
                gateway=gateway,
                preferred_source=source,
                oif=net.index_of(device) if device else 0,
                scope=scope if ends[0] == INET else routes.Scope.UNIVERSE,
            )
        )


def add_default_gw(ip: Ip, device: str = "") -> None:
    """Add the default route by a gateway; errors as for add_route."""
    add_route("", "", str(ip), device)


def create_bridge(name: str, set_mac_address: bool = False) -> None:
    """Make a bridge.

    Args:
        name: its name.
        set_mac_address: give it a random address of its own, so that it does not take that of a port.

    Raises:
        ValueError: no name.
        NetlinkError: EEXIST, EPERM.
    """
    mac = _random_mac() if set_mac_address else None
    with Rtnl() as net:
        net.request(links.add_link(name, "bridge", mac=mac))


def _random_mac() -> str:
    first, *rest = os.urandom(6)
    return bytes([first & 0xFC | 0x02, *rest]).hex(":")  # locally administered, not multicast


def delete_bridge(name: str) -> None:
    """Remove a bridge; ValueError if the link is none, NetlinkError: ENODEV, EPERM."""
    with Rtnl() as net:
        found = net.link(name)
        if found.kind != "bridge":
            raise ValueError(f"{name} is no bridge but {found.kind or 'a device'}")
        net.link_delete(found)


def set_hairpin_mode(iface: Which, enabled: bool) -> None:
    """Let a bridge's port send frames back the way they came; NetlinkError: EINVAL, EOPNOTSUPP, ENODEV, EPERM."""
    with Rtnl() as net:
        net.request(bridges.set_bridge_port(net.index_of(iface), {"mode": int(enabled)}))
