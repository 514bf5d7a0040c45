"""IPv4 addresses of a device."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernelproof import behaviour
from kernelproof.conformance.netlink import ifreq, raw
from kernelproof.conformance.netlink.shown import PROC_IPV4, addresses4, ip_json, outcome, routes4
from kernelproof.impl.netlink import AddressFlag, Rtnl

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelproof.conformance.netlink.conftest import Settled
    from kernelproof.conformance.seen import Seen


def flag(device: str, name: str) -> dict[str, bool]:
    """Return which of a device's addresses `ip` shows with a flag."""
    return {address: entry.get(name, False) for address, entry in addresses4(device).items()}


def local_addresses() -> set[str]:
    """Return the machine's own addresses by the trie of routes."""
    # A leaf of the trie is a line "|-- ADDRESS"; the lines below it say what the address is.
    leaves = re.split(r"\|-- ", Path("/proc/net/fib_trie").read_text())
    return {leaf.split()[0] for leaf in leaves[1:] if "/32 host LOCAL" in leaf}


@behaviour("address.ipv4.permanent-flag", subject="impl")
def test_address_of_mydocker0_is_permanent(net: Rtnl) -> None:
    """An address given without lifetimes is permanent; the one with lifetimes is not, which `ip` calls dynamic."""
    net.link_add("mydocker0", "bridge", up=True)
    net.address_add("mydocker0", "10.0.41.1/16")
    net.address_add("mydocker0", "10.1.41.1/16", preferred_seconds=3600, valid_seconds=3600)
    assert flag("mydocker0", "dynamic") == {"10.0.41.1/16": False, "10.1.41.1/16": True}


@behaviour("address.ipv4.secondary-flag", subject="impl")
def test_second_address_of_a_subnet_is_secondary(net: Rtnl) -> None:
    """The second address of a subnet on a device is a secondary one, the first of each subnet is not."""
    net.link_add("br0", "bridge", up=True)
    for address in ("10.9.0.1/24", "10.9.0.2/24", "10.8.0.1/24"):
        net.address_add("br0", address)
    assert flag("br0", "secondary") == {"10.9.0.1/24": False, "10.9.0.2/24": True, "10.8.0.1/24": False}


@behaviour("address.ipv4.primary-removal-drops-secondaries", subject="impl")
def test_primary_takes_its_secondaries_along(net: Rtnl, seen: Seen) -> None:
    """Without promote_secondaries the removal of a primary address removes the secondary ones of its subnet too."""
    net.link_add("br0", "bridge", up=True)
    for scope in ("all", "br0"):
        (PROC_IPV4 / "conf" / scope / "promote_secondaries").write_text("0")
    for address in ("10.9.0.1/24", "10.9.0.2/24", "10.9.0.3/24", "10.8.0.1/24"):
        net.address_add("br0", address)
    before = local_addresses()
    assert before >= {"10.9.0.1", "10.9.0.2", "10.9.0.3", "10.8.0.1"}

    net.address_delete("br0", "10.9.0.1/24")
    gone = before - local_addresses()
    assert seen(gone) == {"10.9.0.1", "10.9.0.2", "10.9.0.3"}


@behaviour("address.ipv4.primary-removal-promotes", subject="impl")
def test_secondary_becomes_primary(net: Rtnl) -> None:
    """With promote_secondaries the removal of a primary address makes a secondary one of its subnet the primary."""
    net.link_add("br0", "bridge", up=True)
    (PROC_IPV4 / "conf/br0/promote_secondaries").write_text("1")
    for address in ("10.9.0.1/24", "10.9.0.2/24"):
        net.address_add("br0", address)
    net.address_delete("br0", "10.9.0.1/24")
    assert flag("br0", "secondary") == {"10.9.0.2/24": False}


@behaviour("address.ipv4.label-limit", subject="impl")
def test_label_has_at_most_fifteen_characters(net: Rtnl, seen: Seen) -> None:
    """A label of 15 characters is taken, one of 16 is refused with ERANGE, and no address is added then."""
    device = net.link_add("br0", "bridge", up=True).ifindex
    net.address_add(device, "10.9.0.1/24", label="br0:" + "x" * 11)
    label = b"br0:" + b"x" * 12 + b"\0"
    local = socket.inet_aton("10.9.0.2")
    answer = outcome(net.request, raw.address(device, (2, local), (1, local), (3, label), how=raw.CREATE))
    assert outcome(net.address_add, device, "10.9.0.2/24", label="br0:" + "x" * 12) == answer
    assert {address: entry["label"] for address, entry in addresses4("br0").items()} == {
        "10.9.0.1/24": "br0:xxxxxxxxxxx"
    }
    assert seen(answer) == "ERANGE"


@behaviour("address.ipv4.peer", subject="impl")
def test_prefix_route_is_for_the_peer(net: Rtnl) -> None:
    """An address with a peer gives a route to the peer's prefix, and none to its own."""
    net.link_add("br0", "bridge", up=True)
    net.address_add("br0", "10.9.0.1/24", peer="10.8.0.1")
    assert [route.destination for route in routes4() if route.device == "br0"] == ["10.8.0.0/24"]


@behaviour("address.ipv4.lifetime-expiry", subject="impl")
def test_address_goes_when_its_time_is_over(net: Rtnl, settled: Settled) -> None:
    """An address that is valid for 2 seconds is removed by the kernel, and one that is for ever stays."""
    net.link_add("br0", "bridge", up=True)
    net.address_add("br0", "10.9.0.1/24", preferred_seconds=2, valid_seconds=2)
    net.address_add("br0", "10.8.0.1/24")
    assert local_addresses() >= {"10.9.0.1", "10.8.0.1"}
    assert settled(lambda: local_addresses() & {"10.9.0.1", "10.8.0.1"}, {"10.8.0.1"}) == {"10.8.0.1"}


@behaviour("address.ipv4.noprefixroute", subject="impl")
def test_address_without_prefix_route(net: Rtnl) -> None:
    """An address with IFA_F_NOPREFIXROUTE makes no route for its prefix; one without the flag does."""
    net.link_add("br0", "bridge", up=True)
    net.address_add("br0", "10.9.0.1/24", flags=AddressFlag.NOPREFIXROUTE)
    net.address_add("br0", "10.8.0.1/24")
    assert [route.destination for route in routes4()] == ["10.8.0.0/24"]
    assert local_addresses() >= {"10.9.0.1", "10.8.0.1"}


@behaviour("address.ipv4.prefix-route-metric", subject="impl")
def test_metric_of_prefix_route(net: Rtnl) -> None:
    """The priority of an address is the metric of its prefix's route."""
    net.link_add("br0", "bridge", up=True)
    net.address_add("br0", "10.9.0.1/24", priority=77)
    assert [(route.destination, route.metric) for route in routes4()] == [("10.9.0.0/24", 77)]


@behaviour("address.ioctl.set-unprivileged", subject="impl")
def test_address_is_set_with_privilege_only(
    net: Rtnl, unprivileged: Callable[[Callable[[], Any]], Any], seen: Seen
) -> None:
    """A process without CAP_NET_ADMIN can't set an address, by ioctl(2) or by netlink, but reads it."""
    net.link_add("br0", "bridge", up=True)
    net.address_add("br0", "10.9.0.1/24")

    def try_both() -> list[str]:
        with Rtnl() as own:
            return [
                outcome(ifreq.ask, ifreq.SIOCSIFADDR, "br0", ifreq.address("10.8.0.1")),
                outcome(own.address_add, "br0", "10.8.0.1/24"),
                socket.inet_ntoa(ifreq.ask(ifreq.SIOCGIFADDR, "br0")[4:8]),
            ]

    by_ioctl, by_netlink, read = unprivileged(try_both)
    assert read == "10.9.0.1"
    assert by_netlink == "EPERM"
    assert seen(by_ioctl) == "EPERM"
    assert list(addresses4("br0")) == ["10.9.0.1/24"]


@behaviour("link.ioctl.zero-deletes-ipv4", subject="impl")
def test_zero_address_removes_the_address(net: Rtnl) -> None:
    """SIOCSIFADDR with 0.0.0.0 removes the address of a device."""
    net.link_add("br0", "bridge", up=True)
    net.address_add("br0", "10.9.0.1/24")
    assert list(addresses4("br0")) == ["10.9.0.1/24"]
    ifreq.ask(ifreq.SIOCSIFADDR, "br0", ifreq.address("0.0.0.0"))
    assert [link["addr_info"] for link in ip_json("-4", "address", "show", "dev", "br0") if link] == []
