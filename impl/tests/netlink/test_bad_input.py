"""What cannot be is refused before the kernel sees it, or with the kernel's own sentence; nothing is left behind."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from errno import EINVAL, EOPNOTSUPP
from pathlib import Path
from typing import Any

import pytest

from kernelproof.impl._syscalls.identity import setresuid_of_thread
from kernelproof.impl._syscalls.mount import umount2
from kernelproof.impl.netlink import (
    ClosedError,
    Encapsulation,
    Ethtool,
    Generic,
    MulticastEntry,
    Neighbour,
    NetlinkError,
    NextHop,
    Pid,
    Route,
    Rtnl,
    Rule,
    Vlan,
    addresses,
    bridges,
    links,
    multicast,
    namespace_ids,
    neighbours,
    netconf,
    netns,
    nexthops,
    open_tun,
    qdiscs,
    routes,
    rules,
)
from kernelproof.impl.netlink.generic import ask_family, get_family
from kernelproof.impl.netlink.nexthops import NextHopObject
from kernelproof.impl.netlink.shown import table_number

REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "name-empty": (lambda: links.add_link("", "bridge", peer={"name": "a/b"}), "not allowed"),
    "name-long": (lambda: links.add_link("sixteen-bytes-xx", "dummy"), "16 bytes, not 1 to 15"),
    "name-long-in-bytes": (lambda: links.add_link("ä" * 8, "dummy"), "16 bytes"),
    "name-slash": (lambda: links.add_link("a/b", "dummy"), "'/' is not allowed"),
    "name-space": (lambda: links.add_link("a b", "dummy"), "' ' is not allowed"),
    "name-nul": (lambda: links.add_link("a\0b", "dummy"), "is not allowed"),
    "name-dots": (lambda: links.add_link("..", "dummy"), "not allowed"),
    "altname-empty": (lambda: links.change_altnames(1, "", add=True), "0 bytes, not 1 to 127"),
    "altname-long": (lambda: links.change_altnames(1, "x" * 128, add=True), "128 bytes"),
    "kind-empty": (lambda: links.add_link("a", ""), "kind"),
    "kind-long": (lambda: links.add_link("a", "k" * 16), "kind"),
    "peer-name": (lambda: links.add_link("a", "veth", peer={"name": "x" * 16}), "16 bytes"),
    "option-unknown": (lambda: links.add_link("a", "vlan", options={"no": 1}), "no option 'no'; it has: id"),
    "option-mode": (lambda: links.add_link("a", "macvlan", options={"mode": "none"}), "no mode 'none'"),
    "option-width": (lambda: links.add_link("a", "vlan", options={"id": 65536}), "does not fit 16 bits"),
    "option-text": (lambda: links.add_link("a", "vxlan", options={"id": "five"}), "is a number"),
    "option-address": (lambda: links.add_link("a", "vxlan", options={"local": "10.0.0"}), "no IP address"),
    "option-range": (lambda: links.add_link("a", "vxlan", options={"port_range": "1"}), "low-high"),
    "option-given": (lambda: links.add_link("a", "bridge", options={"bridge_id": "1"}), "the kernel's to give"),
    "setting-unknown": (lambda: links.set_link(1, colour=3), "no setting 'colour'"),
    "setting-negative": (lambda: links.set_link(1, mtu=-1), "mtu=-1 does not fit"),
    "setting-late": (lambda: links.add_link("a", "dummy", alias="x"), "set it afterwards"),
    "setting-mac": (lambda: links.set_link(1, mac="02:00:zz"), "hardware address"),
    "index-zero": (lambda: links.set_link(0, up=True), "counted from 1"),
    "index-negative": (lambda: links.delete_link(-1), "counted from 1"),
    "index-large": (lambda: links.get_link(2**31), "counted from 1"),
    "rename-by-name": (lambda: links.set_link("a", new_name="b"), "given by its index"),
    "address-none": (lambda: addresses.add_address(1, "10.0.0"), "no IP address"),
    "address-mask4": (lambda: addresses.add_address(1, "10.0.0.1/33"), "0 to 32"),
    "address-mask6": (lambda: addresses.add_address(1, "fd00::1/129"), "0 to 128"),
    "address-mask-word": (lambda: addresses.add_address(1, "10.0.0.1/255.0.0.0"), "0 to 32"),
    "address-mask-digits": (lambda: addresses.add_address(1, "10.0.0.1/²"), "0 to 32"),
    "address-index-zero": (lambda: addresses.add_address(0, "10.0.0.1/8"), "counted from 1"),
    "address-families": (lambda: addresses.add_address(1, "10.0.0.1/8", peer="fd00::1"), "of its family"),
    "address-lifetime": (lambda: addresses.add_address(1, "10.0.0.1/8", valid_seconds=1), "lifetime"),
    "route-no-length": (lambda: routes.add_route(Route("10.0.0.0")), "no prefix length"),
    "route-families": (lambda: routes.add_route(Route("10.0.0.0/8", preferred_source="fd00::1")), "two families"),
    "route-source": (lambda: routes.add_route(Route("10.0.0.0/8", source="fd00::/8")), "two families"),
    "route-weight": (
        lambda: routes.add_route(Route("10.0.0.0/8", nexthops=(NextHop(weight=0), NextHop()))),
        "weight is 1 to 256",
    ),
    "route-table": (lambda: routes.add_route(Route("10.0.0.0/8", table=2**32)), "RTA_TABLE=4294967296"),
    "route-lookup": (lambda: routes.look_up_route("10.0.0.1", source="fd00::1"), "two families"),
    "nexthop-weight": (lambda: nexthops.add_nexthop(NextHopObject(1, group=((2, 65536),))), "1 to 65535"),
    "rule-families": (lambda: rules.add_rule(Rule(1, source="10.0.0.0/8", destination="fd00::/8")), "two families"),
    "rule-family": (lambda: rules.add_rule(Rule(1, family=3)), "IPv4"),
    "rule-name": (lambda: rules.add_rule(Rule(1, iif="x" * 16)), "16 bytes"),
    "neighbour-index": (lambda: neighbours.add_neighbour(Neighbour(0, "10.0.0.1")), "counted from 1"),
    "neighbour-mac": (lambda: neighbours.add_neighbour(Neighbour(1, "10.0.0.1", "x")), "hardware address"),
    "vlan-zero": (lambda: bridges.change_vlans(1, Vlan(0, 1), add=True), "1 to 4094"),
    "vlan-backwards": (lambda: bridges.change_vlans(1, Vlan(3, 2), add=True), "1 to 4094"),
    "vlan-pvids": (lambda: bridges.change_vlans(1, Vlan(1, 2, pvid=True), add=True), "PVID"),
    "group-none": (lambda: multicast.add_multicast(MulticastEntry(1, 2, "239.1")), "no IP address"),
    "group-families": (
        lambda: multicast.add_multicast(MulticastEntry(1, 2, "239.1.1.1", source="fd00::1")),
        "families",
    ),
    "group-vlan": (lambda: multicast.add_multicast(MulticastEntry(1, 2, "239.1.1.1", vlan=70000)), "vlan=70000"),
    "group-port": (lambda: multicast.add_multicast(MulticastEntry(1, 0, "239.1.1.1")), "counted from 1"),
    "qdisc-option": (lambda: qdiscs.add_qdisc(1, "tbf", options={"speed": 1}), "no option 'speed'"),
    "qdisc-plain": (lambda: qdiscs.add_qdisc(1, "noqueue", options={"limit": 1}), "it has: none"),
    "qdisc-missing": (lambda: qdiscs.add_qdisc(1, "tbf", options={"rate": 1}), "tbf needs burst, limit"),
    "qdisc-peak": (
        lambda: qdiscs.add_qdisc(1, "tbf", options={"rate": 1, "burst": 1, "limit": 1, "peakrate": 2}),
        "together",
    ),
    "qdisc-slow": (
        lambda: qdiscs.add_qdisc(1, "tbf", options={"rate": 1, "burst": 1000, "limit": 1}),
        "274 seconds",
    ),
    "qdisc-rate": (
        lambda: qdiscs.add_qdisc(1, "tbf", options={"rate": 2**64, "burst": 1, "limit": 1}),
        "bytes a second",
    ),
    "qdisc-index": (lambda: qdiscs.add_qdisc(0, "noqueue"), "counted from 1"),
    "qdisc-handle": (lambda: qdiscs.add_qdisc(1, "htb", handle=2**32), "qdisc .*4294967296"),
    "class-rate": (lambda: qdiscs.add_class(1, 0x10001, parent=0x10000, options={}), "needs rate"),
    "handle-word": (lambda: qdiscs.parse_handle("one"), "no handle"),
    "handle-large": (lambda: qdiscs.parse_handle("10000:"), "no handle"),
    "netconf-family": (lambda: netconf.get_netconf(3), "IPv4"),
    "netconf-index": (lambda: netconf.get_netconf(2, 0), "counted from 1"),
    "namespace-id": (lambda: namespace_ids.set_namespace_id(-2, fd=0), "0 and above"),
    "namespace-id-of-none": (lambda: namespace_ids.get_namespace_id(), "one of them"),
    "namespace-id-of-two": (lambda: namespace_ids.get_namespace_id(fd=1, pid=1), "one of them"),
    "family-empty": (lambda: get_family(""), "1 to 15"),
    "family-long": (lambda: get_family("x" * 16), "1 to 15"),
    "command-large": (lambda: ask_family(16, 256), "0 to 255"),
    "tun-name": (lambda: open_tun("a/b"), "not allowed"),
    "tun-long": (lambda: open_tun("sixteen-bytes-%dx"), "16 bytes"),
    "netns-name": (lambda: netns.create_namespace("a/b"), "no name"),
    "netns-dots": (lambda: netns.delete_namespace(".."), "no name"),
    "netns-long": (lambda: netns.name_path("x" * 256), "no name"),
    "table": (lambda: table_number("x"), "no table"),
    "link-index": (lambda: links.add_link("a", "dummy", index=-1), "counted from 1"),
    "peer-index": (lambda: links.add_link("a", "veth", peer={"index": -1}), "counted from 1"),
    "address-scope": (lambda: addresses.add_address(1, "10.0.0.1/8", scope=256), "address .*256"),
    "address-family": (lambda: addresses.list_addresses(family=256), "address .*256"),
    "route-tos": (lambda: routes.add_route(Route("10.0.0.0/8", tos=256)), "route .*256"),
    "route-protocol": (lambda: routes.list_routes(protocol=-1), "route .*-1"),
    "route-mark": (lambda: routes.look_up_route("10.0.0.1", mark=2**32), "RTA_MARK"),
    "route-encapsulation": (
        lambda: routes.add_route(Route("10.0.0.0/8", encapsulation=Encapsulation(70_000, b""))),
        "encapsulation type",
    ),
    "rule-action": (lambda: rules.add_rule(Rule(1, action=256)), "rule .*256"),
    "rule-ports": (lambda: rules.add_rule(Rule(1, source_ports=(1, 65536))), "ports .*65536"),
    "rule-uids": (lambda: rules.add_rule(Rule(1, uids=(-1, 5))), "uids .*-1"),
    "neighbour-state": (lambda: neighbours.add_neighbour(Neighbour(1, "10.0.0.1", state=2**16)), "neighbour .*65536"),
    "nexthop-protocol": (lambda: nexthops.add_nexthop(NextHopObject(1, oif=1, protocol=256)), "next hop .*256"),
    "nexthop-member": (lambda: nexthops.add_nexthop(NextHopObject(1, group=((-2, 1),))), "member .*-2"),
    "qdisc-negative": (lambda: qdiscs.add_qdisc(1, "tbf", options={"rate": 9, "burst": -9, "limit": 1}), "tbf"),
    "class-negative": (lambda: qdiscs.add_class(1, 2, parent=1, options={"rate": 9, "prio": -1}), "class of htb .*-1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_here(name: str) -> None:
    """No message is made of it, and the error says what is wrong."""
    ask, why = REFUSED[name]
    with pytest.raises(ValueError, match=why):
        ask()


KERNEL: dict[str, tuple[Callable[[Rtnl], object], int | None, str]] = {
    "unknown-kind": (lambda net: net.link_add("a", "nonsense"), EOPNOTSUPP, "Unknown device type"),
    "no-such-link": (lambda net: net.link("nowhere"), None, "No such device"),
    "no-such-index": (lambda net: net.link_set(4000, up=True), None, "No such device"),
    "no-such-master": (lambda net: net.link_set("lo", master=4000), None, "lo"),
    "no-such-qdisc": (lambda net: net.qdisc_add("lo", "nonsense"), None, "qdisc kind is unknown"),
    "no-such-parent": (lambda net: net.qdisc_delete("lo"), None, "delete qdisc root"),
    "no-such-route": (lambda net: net.route_delete(Route("10.99.0.0/16")), None, "No such process"),
    "gateway-nowhere": (lambda net: net.route_add(Route("10.9.0.0/16", gateway="192.0.2.1")), None, "gateway"),
    "no-such-address": (lambda net: net.address_delete("lo", "10.9.9.9/32"), None, "Address not found"),
    "no-such-process": (lambda net: net.link_set("lo", namespace_pid=2**22 + 5), None, "lo"),
    "no-namespace": (lambda net: net.link_set("lo", namespace_fd=4000), None, "lo"),
}


@pytest.mark.parametrize("name", KERNEL)
def test_kernel_refuses_with_its_sentence(namespace: int, name: str) -> None:
    """A refusal has the errno, the kernel's text where it gave one, and the request in words."""
    ask, number, why = KERNEL[name]
    with Rtnl(namespace) as net:
        before = net.links(), net.addresses(), net.routes()
        with pytest.raises(NetlinkError, match=why) as caught:
            ask(net)
        assert number in (None, caught.value.errno)
        assert caught.value.request
        assert (net.links(), net.addresses(), net.routes()) == before


def on_thread_without_rights(work: Callable[[], object]) -> list[BaseException]:
    """Run on a thread that has no capabilities, and return what it raised."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            if os.geteuid() == 0:
                setresuid_of_thread(65534, 65534, 65534)
            work()
        except BaseException as error:  # noqa: BLE001 - given back
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return errors


@pytest.mark.parametrize(
    "change",
    [
        lambda net: net.link_set("lo", mtu=1500),
        lambda net: net.address_add("lo", "10.0.0.1/8"),
        lambda net: net.route_add(Route("10.9.0.0/16", oif=1)),
        lambda net: net.rule_add(Rule(77)),
        lambda net: net.neighbour_add(Neighbour(1, "10.0.0.1", "02:00:00:00:00:01")),
        lambda net: net.qdisc_add("lo", "noqueue"),
        lambda net: net.namespace_id_set(Pid(os.getpid()), 5),
        lambda net: net.nexthop_add(NextHopObject(5, oif=1)),
        lambda net: net.link_add("a", "veth", peer={"name": "b"}),
    ],
    ids=["link", "address", "route", "rule", "neighbour", "qdisc", "namespace-id", "nexthop", "create"],
)
def test_without_the_capability_all_changes_are_eperm(change: Callable[[Rtnl], object]) -> None:
    """Whoever lacks CAP_NET_ADMIN may look, and gets PermissionError for each change."""

    def work() -> None:
        with Rtnl() as net:
            assert net.link("lo").ifindex == 1
            change(net)

    (error,) = on_thread_without_rights(work)
    assert isinstance(error, PermissionError)
    assert isinstance(error, NetlinkError)
    assert "not permitted" in str(error)


def test_receive_buffer_is_had_without_the_capability() -> None:
    """Where the buffer cannot be had by force it is asked for as everybody may."""
    assert on_thread_without_rights(lambda: Rtnl().close()) == []


@pytest.mark.parametrize(
    ("make", "ask"),
    [
        (Rtnl, lambda net: net.links()),
        (Generic, lambda generic: generic.family("nlctrl")),
        (Ethtool, lambda tool: tool.features("lo")),
    ],
    ids=["rtnl", "generic", "ethtool"],
)
def test_closed_says_so(make: Callable[[], Any], ask: Callable[[Any], object]) -> None:
    """A closed connection is a ClosedError, which is a ValueError, and closing twice is nothing."""
    opened = make()
    opened.close()
    opened.close()
    with pytest.raises(ClosedError, match="closed"):
        ask(opened)


def test_namespace_that_is_gone_is_an_error(tmp_path: Path) -> None:
    """A name that was deleted, a file that is no namespace, a process and a descriptor that are gone."""
    with pytest.raises(FileNotFoundError):
        Rtnl("deleted-long-ago")
    plain = tmp_path / "plain"
    plain.touch()
    with pytest.raises(OSError, match="Invalid argument") as caught:
        Rtnl(str(plain))
    assert caught.value.errno in {EINVAL}
    with pytest.raises(OSError, match="No such"):
        Rtnl(Pid(2**22 + 5))
    reading, writing = os.pipe()
    os.close(writing)
    os.close(reading)
    with pytest.raises(OSError, match="Bad file descriptor"):
        Rtnl(reading)
    with pytest.raises(FileNotFoundError):
        netns.delete_namespace("gone", directory=str(tmp_path))


def test_deleted_namespace_is_gone_for_new_sockets(tmp_path: Path) -> None:
    """A socket made before goes on; a new one by the name is ENOENT, and the name can be made again."""
    directory = str(tmp_path / "netns")
    try:
        netns.create_namespace("blue", directory=directory)
    except OSError as error:
        pytest.skip(f"no named namespaces here: {error.strerror}")
    path = netns.name_path("blue", directory)
    try:
        with Rtnl(path) as net:
            netns.delete_namespace("blue", directory=directory)
            assert [link.name for link in net.links()] == ["lo"]
            with pytest.raises(FileNotFoundError):
                Rtnl(path)
        netns.create_namespace("blue", directory=directory)
        netns.delete_namespace("blue", directory=directory)
    finally:
        with suppress(OSError):
            netns.delete_namespace("blue", directory=directory)
        umount2(directory, 2)


def test_failed_second_step_leaves_no_link(namespace: int) -> None:
    """A link that cannot be set as told is not there afterwards, and neither is its other end."""
    with Rtnl(namespace) as net:
        before = net.links()
        with pytest.raises(NetlinkError):
            net.link_add("a", "veth", peer={"name": "b"}, alias="x" * 300)
        assert net.links() == before
        with pytest.raises(ValueError, match="no setting"):
            net.link_add("a", "veth", peer={"name": "b"}, colour=1)
        assert net.links() == before
