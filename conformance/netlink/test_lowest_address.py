"""The lowest address of an IPv4 network: broadcast once, an address like any other since Linux 5.14."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from kernelproof import behaviour
from kernelproof.conformance.netlink.shown import ip_json

if TYPE_CHECKING:
    from kernelproof.conformance.seen import Seen
    from kernelproof.impl.netlink import Rtnl

LOWEST, HIGHEST = "10.9.0.0", "10.9.0.255"


def connect(address: str) -> None:
    """Set the peer of a UDP socket that did not ask for broadcasts."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.connect((address, 4001))


def kind_of_route(address: str) -> str:
    """The type of the route to an address, as `ip` tells it."""
    return str(ip_json("route", "get", address)[0].get("type", "unicast"))


def answers(net: Rtnl, seen: Seen) -> list[str]:
    """What connecting to the lowest and to the highest address of a network ends with."""
    index = net.link_add("port0", "dummy", up=True).ifindex
    net.address_add(index, "10.9.0.1/24")
    return [seen.errno_of(connect, address) for address in (LOWEST, HIGHEST)]


@behaviour("address.ipv4.lowest-is-unicast")
def test_lowest_address(net: Rtnl, seen: Seen) -> None:
    """The lowest address is unicast and can be given to a device; the highest is broadcast: EACCES."""
    found = answers(net, seen)
    assert kind_of_route(LOWEST) == "unicast"
    net.address_add("port0", f"{LOWEST}/24")
    assert kind_of_route(LOWEST) == "local"
    assert seen(found) == ["no error", "EACCES"]


@behaviour("address.ipv4.lowest-is-broadcast")
def test_lowest_address_on_an_older_kernel(net: Rtnl, seen: Seen) -> None:
    """The lowest address is broadcast as the highest is, and needs SO_BROADCAST: EACCES."""
    found = answers(net, seen)
    assert kind_of_route(LOWEST) == "broadcast"
    assert seen(found) == ["EACCES", "EACCES"]
