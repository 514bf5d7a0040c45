"""IPv4 addresses of a device."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernelproof import behaviour

if TYPE_CHECKING:
    from pyroute2 import IPRoute

    from kernelproof.conformance.netlink.conftest import Link
    from kernelproof.conformance.seen import Seen

IPV4 = Path("/proc/sys/net/ipv4/conf")


def shown_by_ip(device: str) -> tuple[list[str], dict[tuple[str, int], dict[str, Any]]]:
    """Return the flags of a device and its IPv4 addresses by address and prefix length."""
    command = ["ip", "-j", "-4", "addr", "show", "dev", device]
    shown = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=30)
    (link,) = json.loads(shown.stdout)
    return link["flags"], {(entry["local"], entry["prefixlen"]): entry for entry in link["addr_info"]}


def local_addresses() -> set[str]:
    # A leaf of the trie is a line "|-- ADDRESS"; the lines below it say what the address is.
    leaves = re.split(r"\|-- ", Path("/proc/net/fib_trie").read_text())
    return {leaf.split()[0] for leaf in leaves[1:] if "/32 host LOCAL" in leaf}


@behaviour("address.ipv4.permanent-flag", subject="stand-in")
def test_address_of_mydocker0_is_permanent(route: IPRoute, new_link: Link) -> None:
    """An address given without lifetimes is permanent; the one with lifetimes is not, which `ip` calls dynamic."""
    bridge = new_link("mydocker0", "bridge")
    route.addr("add", index=bridge, address="10.0.41.1", prefixlen=16)
    route.addr("add", index=bridge, address="10.1.41.1", prefixlen=16, preferred_lft=3600, valid_lft=3600)

    flags, addresses = shown_by_ip("mydocker0")
    assert "UP" in flags
    dynamic = {address: entry.get("dynamic", False) for address, entry in addresses.items()}
    assert dynamic == {("10.0.41.1", 16): False, ("10.1.41.1", 16): True}


@behaviour("address.ipv4.secondary-flag", subject="stand-in")
def test_second_address_of_a_subnet_is_secondary(route: IPRoute, new_link: Link) -> None:
    """The second address of a subnet on a device is a secondary one, the first of each subnet is not."""
    device = new_link("br0", "bridge")
    for address in ("10.9.0.1", "10.9.0.2", "10.8.0.1"):
        route.addr("add", index=device, address=address, prefixlen=24)

    _, addresses = shown_by_ip("br0")
    secondary = {address: entry.get("secondary", False) for (address, _), entry in addresses.items()}
    assert secondary == {"10.9.0.1": False, "10.9.0.2": True, "10.8.0.1": False}


@behaviour("address.ipv4.primary-removal-drops-secondaries", subject="stand-in")
def test_primary_takes_its_secondaries_along(route: IPRoute, new_link: Link, seen: Seen) -> None:
    """Without promote_secondaries the removal of a primary address removes the secondary ones of its subnet too."""
    device = new_link("br0", "bridge")
    for scope in ("all", "br0"):
        (IPV4 / scope / "promote_secondaries").write_text("0")
    for address in ("10.9.0.1", "10.9.0.2", "10.9.0.3", "10.8.0.1"):
        route.addr("add", index=device, address=address, prefixlen=24)
    before = local_addresses()
    assert before >= {"10.9.0.1", "10.9.0.2", "10.9.0.3", "10.8.0.1"}

    route.addr("del", index=device, address="10.9.0.1", prefixlen=24)
    gone = before - local_addresses()
    assert seen(gone) == {"10.9.0.1", "10.9.0.2", "10.9.0.3"}


@behaviour("address.ipv4.primary-removal-promotes", subject="stand-in")
def test_secondary_becomes_primary(route: IPRoute, new_link: Link) -> None:
    """With promote_secondaries the removal of a primary address makes a secondary one of its subnet the primary."""
    device = new_link("br0", "bridge")
    (IPV4 / "br0/promote_secondaries").write_text("1")
    for address in ("10.9.0.1", "10.9.0.2"):
        route.addr("add", index=device, address=address, prefixlen=24)

    route.addr("del", index=device, address="10.9.0.1", prefixlen=24)
    _, addresses = shown_by_ip("br0")
    secondary = {address: entry.get("secondary", False) for (address, _), entry in addresses.items()}
    assert secondary == {"10.9.0.2": False}
