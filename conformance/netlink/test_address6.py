"""IPv6 addresses of a device."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING

from kernelproof import behaviour
from kernelproof.conformance.netlink import raw
from kernelproof.conformance.netlink.shown import DEVICES, PROC_IPV6, addresses4, addresses6, ip_json, outcome
from kernelproof.impl.netlink import AddressFlag, Rtnl

if TYPE_CHECKING:
    from kernelproof.conformance.netlink.conftest import Settled
    from kernelproof.conformance.seen import Seen

ONE, TWO = "2001:db8::1", "2001:db8::2"
PERMANENT, TENTATIVE, FAILED = AddressFlag.PERMANENT, AddressFlag.TENTATIVE, AddressFlag.DADFAILED


def conf(scope: str, name: str) -> Path:
    """A file of the settings of IPv6, of a device, or of "all" or "default"."""
    return PROC_IPV6 / "conf" / scope / name


def pair(net: Rtnl) -> None:
    """Make the two ends "left" and "right" that are up."""
    net.link_add("left", "veth", peer={"name": "right"})
    for end in ("left", "right"):
        net.link_set(end, up=True)


def link_local(device: str) -> list[str]:
    """Return a device's link-local addresses."""
    return [address for address in addresses6(device) if address.startswith("fe80:")]


def is_linked(device: str) -> bool:
    """Whether a device has a link-local address."""
    return bool(link_local(device))


@behaviour("address.proto.link-local", subject="impl")
def test_addresses_of_the_kernel_say_so(net: Rtnl, settled: Settled, seen: Seen) -> None:
    """The link-local address that the kernel makes has protocol 3, and ::1 of the loopback device protocol 1."""
    net.link_set("lo", up=True)
    pair(net)
    assert settled(lambda: is_linked("left"), True)
    shown = ip_json("-6", "-N", "address", "show")
    found = {link["ifname"]: entry.get("protocol") for link in shown if link for entry in link["addr_info"] if entry}
    assert seen([int(found["left"], 0), int(found["lo"], 0)]) == [3, 1]


@behaviour("address.ipv6.tentative-during-dad", subject="impl")
def test_address_is_tentative_at_first(net: Rtnl, settled: Settled) -> None:
    """A new address is tentative until nobody has claimed it."""
    pair(net)
    assert settled((DEVICES / "left/operstate").read_text, "up\n") == "up\n"
    net.address_add("left", f"{ONE}/64")
    assert addresses6("left")[ONE] == TENTATIVE | PERMANENT
    assert settled(lambda: addresses6("left")[ONE], PERMANENT) == PERMANENT


@behaviour("address.ipv6.nodad", subject="impl")
def test_address_without_detection(net: Rtnl, settled: Settled) -> None:
    """An address with IFA_F_NODAD is never tentative, while the one beside it is."""
    pair(net)
    assert settled((DEVICES / "left/operstate").read_text, "up\n") == "up\n"
    net.address_add("left", f"{ONE}/64", flags=AddressFlag.NODAD)
    net.address_add("left", f"{TWO}/64")
    first = addresses6("left")
    assert first[ONE] & TENTATIVE == 0
    assert first[TWO] & TENTATIVE == TENTATIVE
    assert settled(lambda: addresses6("left")[TWO], PERMANENT) == PERMANENT
    assert addresses6("left")[ONE] & TENTATIVE == 0


@behaviour("address.ipv6.dad-failed", subject="impl")
def test_address_that_another_has(net: Rtnl, settled: Settled) -> None:
    """An address that the far end has already ends as one whose detection failed."""
    pair(net)
    net.address_add("right", f"{ONE}/64", flags=AddressFlag.NODAD)
    net.address_add("left", f"{ONE}/64")
    assert settled(lambda: addresses6("left")[ONE] & FAILED, FAILED) == FAILED
    assert addresses6("right")[ONE] & FAILED == 0


@behaviour("address.ipv6.dad-transmits-default", subject="impl")
def test_detection_asks_once(net: Rtnl, seen: Seen) -> None:
    """A new device asks once for each address."""
    net.link_add("port0", "dummy")
    assert seen(int(conf("port0", "dad_transmits").read_text())) == 1


@behaviour("address.ipv6.removed-on-down", subject="impl")
def test_addresses_go_with_the_device_down(net: Rtnl) -> None:
    """A device that is taken down loses its IPv6 addresses and keeps its IPv4 addresses."""
    net.link_add("port0", "dummy", up=True)
    for scope in ("all", "port0"):
        conf(scope, "keep_addr_on_down").write_text("0")
    net.address_add("port0", f"{ONE}/64", flags=AddressFlag.NODAD)
    net.address_add("port0", "10.9.0.1/24")
    assert ONE in addresses6("port0")
    net.link_set("port0", up=False)
    assert addresses6("port0") == {}
    assert list(addresses4("port0")) == ["10.9.0.1/24"]


@behaviour("address.ipv6.kept-on-down", subject="impl")
def test_static_addresses_are_kept(net: Rtnl) -> None:
    """With keep_addr_on_down a static address survives that its device is taken down, one with a lifetime does not."""
    net.link_add("port0", "dummy", up=True)
    conf("port0", "keep_addr_on_down").write_text("1")
    net.address_add("port0", f"{ONE}/64", flags=AddressFlag.NODAD)
    net.address_add("port0", f"{TWO}/64", flags=AddressFlag.NODAD, preferred_seconds=3600, valid_seconds=3600)
    assert {ONE, TWO} <= addresses6("port0").keys()
    net.link_set("port0", up=False)
    assert list(addresses6("port0")) == [ONE]


@behaviour("address.ipv6.disable-flushes", subject="impl")
def test_disabling_deletes_addresses(net: Rtnl) -> None:
    """A device whose IPv6 is disabled has no IPv6 address from then on."""
    net.link_add("port0", "dummy", up=True)
    net.address_add("port0", f"{ONE}/64")
    assert ONE in addresses6("port0")
    conf("port0", "disable_ipv6").write_text("1")
    assert addresses6("port0") == {}


@behaviour("address.ipv6.disable-refuses-new", subject="impl")
def test_disabled_device_takes_no_address(net: Rtnl, seen: Seen) -> None:
    """A device whose IPv6 is disabled takes no IPv6 address."""
    device = net.link_add("port0", "dummy", up=True).ifindex
    conf("port0", "disable_ipv6").write_text("1")
    local = socket.inet_pton(socket.AF_INET6, ONE)
    answer = outcome(net.request, raw.address(device, (2, local), length=64, family=10, how=raw.CREATE))
    assert outcome(net.address_add, device, f"{ONE}/64") == answer
    assert seen(answer) == "EACCES"
    conf("port0", "disable_ipv6").write_text("0")
    net.address_add(device, f"{ONE}/64")
    assert ONE in addresses6("port0")


@behaviour("address.ipv6.enable-makes-link-local", subject="impl")
def test_enabling_makes_a_link_local_address(net: Rtnl, settled: Settled) -> None:
    """A device that is up gets a link-local address when its IPv6 is enabled."""
    pair(net)
    conf("left", "disable_ipv6").write_text("1")
    assert settled((DEVICES / "left/operstate").read_text, "up\n") == "up\n"
    assert addresses6("left") == {}
    conf("left", "disable_ipv6").write_text("0")
    assert settled(lambda: is_linked("left"), True)


@behaviour("address.ipv6.addrgenmode-none", subject="impl")
def test_mode_none_makes_no_address(net: Rtnl, settled: Settled) -> None:
    """A device with address generation mode none comes up without a link-local address, its like with one."""
    pair(net)
    for end in ("left", "right"):
        net.link_set(end, up=False)
    mode = (26, [(10, [(8, raw.U8(1))])])  # IFLA_AF_SPEC, AF_INET6, IFLA_INET6_ADDR_GEN_MODE
    net.request(raw.link(mode, index=net.index_of("left")))
    for end in ("left", "right"):
        net.link_set(end, up=True)
    assert settled(lambda: is_linked("right"), True)
    assert link_local("left") == []


@behaviour("address.ipv6.all-disable", subject="impl")
def test_setting_of_all_is_that_of_each(net: Rtnl) -> None:
    """What is written to disable_ipv6 of all is that of default and of every device."""
    net.link_add("port0", "dummy")
    for value in ("1", "0"):
        conf("all", "disable_ipv6").write_text(value)
        assert {scope: conf(scope, "disable_ipv6").read_text() for scope in ("default", "lo", "port0")} == {
            "default": f"{value}\n",
            "lo": f"{value}\n",
            "port0": f"{value}\n",
        }


@behaviour("address.ipv6.stable-secret-all-refused", subject="impl")
def test_secret_is_for_one_device(net: Rtnl, seen: Seen) -> None:
    """The secret of a device can be written, and there is none for all devices."""
    net.link_add("port0", "dummy")
    conf("port0", "stable_secret").write_text(ONE)
    assert conf("port0", "stable_secret").read_text() == "2001:0db8:0000:0000:0000:0000:0000:0001\n"
    assert seen.errno_of(conf("all", "stable_secret").write_text, ONE) == "EIO"


@behaviour("address.flags.attribute-overrides-header", subject="impl")
def test_attribute_for_flags_wins(net: Rtnl) -> None:
    """Where IFA_FLAGS is present, the flags in the header of the request count for nothing."""
    device = net.link_add("port0", "dummy", up=True).ifindex
    one, two = (socket.inet_pton(socket.AF_INET6, address) for address in (ONE, TWO))
    home, nodad = AddressFlag.HOMEADDRESS, AddressFlag.NODAD
    net.request(raw.address(device, (2, one), length=64, family=10, flags=home, how=raw.CREATE))
    net.request(raw.address(device, (2, two), (8, raw.U32(nodad)), length=64, family=10, flags=home, how=raw.CREATE))
    flags = {address: bits & (home | nodad) for address, bits in addresses6("port0").items()}
    assert flags[ONE] == home
    assert flags[TWO] == nodad
