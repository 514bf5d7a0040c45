"""Objects beside links, addresses and routes, in a machine whose kernel has them, seen by others."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare
from kernelproof.impl.netlink import (
    Encapsulation,
    Ethtool,
    Generic,
    MulticastEntry,
    NetlinkError,
    NextHop,
    Pid,
    Route,
    Rtnl,
    TunFlag,
    Vlan,
    netns,
    open_tun,
    wait_until_link,
)
from kernelproof.impl.netlink.neighbours import Neighbour, NeighbourFlag
from kernelproof.impl.netlink.netconf import ALL, DEFAULT
from kernelproof.impl.netlink.qdiscs import INGRESS, ROOT, parse_handle
from kernelproof.impl.netlink.wire import parse_list

pytestmark = pytest.mark.machine(profile="plain")


def shown(*command: str) -> list[dict[str, Any]]:
    """What another program prints as JSON."""
    found: list[dict[str, Any]] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout or "[]")
    return found


def bridge_with_port(net: Rtnl, **options: int) -> tuple[int, int]:
    """Make br0 with the port p0, both up, and return their ifindexes."""
    bridge = net.link_add("br0", "bridge", options={"mcast_snooping": 1, **options}, up=True)
    port = net.link_add("p0", "veth", peer={"name": "q0"}, master="br0", up=True)
    net.link_set("q0", up=True)
    # A port is taken into use when its carrier is noticed, which is after the request.
    wait_until_link("p0", lambda link: link is not None and link.operstate == "UP", timeout_seconds=60)
    return bridge.ifindex, port.ifindex


@pytest.mark.parametrize("group", ["239.1.2.3", "ff0e::1:2", "33:33:00:00:12:34"], ids=["ipv4", "ipv6", "ethernet"])
def test_multicast_groups_come_back(group: str) -> None:
    """A group given to a port is listed by us and by bridge(8), refused twice, and gone when it is taken."""
    with Rtnl() as net:
        bridge, port = bridge_with_port(net)
        entry = MulticastEntry(bridge, port, group)
        try:
            net.multicast_add(entry)
        except NetlinkError:
            assert (group[:2], os.uname().release[:5]) == ("33", "5.10."), "only 5.10 has no groups of Ethernet"
            return
        (listed,) = [each for each in net.multicast() if each.bridge == bridge]
        assert entry in [each._replace(protocol=None) for each in listed.entries]
        (theirs,) = [each for each in shown("bridge", "-j", "mdb")[0]["mdb"] if each["grp"] == group]
        assert (theirs["port"], theirs["state"]) == ("p0", "permanent")
        with pytest.raises(FileExistsError):
            net.multicast_add(entry)
        net.multicast_delete(entry)
        assert group not in [each.group for each in net.multicast()[0].entries]
        with pytest.raises(NetlinkError):
            net.multicast_delete(entry)


def test_router_ports_are_told() -> None:
    """A port that leads to a router for ever is listed as one."""
    with Rtnl() as net:
        _, port = bridge_with_port(net)
        net.port_set("p0", multicast_router=2)
        assert port in net.multicast()[0].router_ports


QDISCS: list[tuple[str, dict[str, int] | None, int]] = [
    ("noqueue", None, ROOT),
    ("pfifo_fast", None, ROOT),
    ("fq_codel", {"target": 5120, "limit": 1000, "interval": 102_400, "ecn": 0, "flows": 512, "quantum": 1514}, ROOT),
    ("tbf", {"rate": 125_000, "burst": 5000, "limit": 10_000}, ROOT),
    ("tbf", {"rate": 125_000, "burst": 5000, "limit": 10_000, "peakrate": 250_000, "mtu": 2000}, ROOT),
    ("htb", {"default": 0x10, "rate2quantum": 20, "direct_qlen": 7}, ROOT),
    ("ingress", None, INGRESS),
    ("clsact", None, INGRESS),
]


QDISC_IDS = ["noqueue", "pfifo_fast", "fq_codel", "tbf", "tbf-peak", "htb", "ingress", "clsact"]


@pytest.mark.parametrize(("kind", "options", "parent"), QDISCS, ids=QDISC_IDS)
def test_qdiscs_come_back(kind: str, options: dict[str, int] | None, parent: int) -> None:
    """A discipline is listed with its options, by tc(8) too, and is gone when it is removed."""
    with Rtnl() as net:
        net.link_add("v0", "veth", peer={"name": "v1"}, up=True)
        net.qdisc_add("v0", kind, handle=0 if parent == INGRESS else parse_handle("1:"), options=options)
        (there,) = [each for each in net.qdiscs("v0") if each.parent == parent]
        assert (there.kind, there.statistics is not None) == (kind, True)
        assert {name: dict(there.options)[name] for name in options or {}} == (options or {})
        theirs = {each["kind"]: each for each in shown("tc", "-j", "qdisc", "show", "dev", "v0")}
        assert theirs[kind]["handle"] == there.name
        with pytest.raises(NetlinkError):
            net.qdisc_add("v0", kind, handle=parse_handle("2:"), options=options)
        net.qdisc_delete("v0", parent=parent)
        assert there.handle not in [each.handle for each in net.qdiscs("v0")]


def test_classes_of_htb_come_back() -> None:
    """A class is listed with its rates, by tc(8) too, also above 32 bits, and is gone when it is removed."""
    with Rtnl() as net:
        net.link_add("v0", "veth", peer={"name": "v1"}, up=True)
        net.qdisc_add("v0", "htb", handle=parse_handle("1:"))
        wanted = {"rate": 125_000, "ceil": 8_000_000_000, "burst": 3000, "prio": 3, "quantum": 4000}
        net.class_add("v0", parse_handle("1:10"), parent=parse_handle("1:"), options=wanted)
        (there,) = net.classes("v0")
        assert {name: dict(there.options)[name] for name in wanted} == wanted
        text = subprocess.run(["tc", "class", "show", "dev", "v0"], check=True, capture_output=True, text=True).stdout
        assert "class htb 1:10 root" in text
        assert "rate 1Mbit ceil 64Gbit burst 3000b" in text
        net.class_delete("v0", there.handle)
        assert net.classes("v0") == ()


def test_netconf_is_what_proc_says() -> None:
    """Settings of a link, of all and of the default are those of /proc/sys/net."""
    with Rtnl() as net:
        net.link_add("d0", "dummy", up=True)
        Path("/proc/sys/net/ipv4/conf/d0/forwarding").write_text("1")
        Path("/proc/sys/net/ipv4/conf/d0/rp_filter").write_text("2")
        Path("/proc/sys/net/ipv6/conf/d0/forwarding").write_text("1")
        four, six = net.netconf("d0"), net.netconf("d0", family=10)
        assert (four.forwarding, four.rp_filter, six.forwarding, six.rp_filter) == (1, 2, 1, None)
        for special, name in ((ALL, "all"), (DEFAULT, "default")):
            value = Path(f"/proc/sys/net/ipv4/conf/{name}/proxy_arp").read_text()
            assert net.netconf(special).proxy_neigh == int(value)
        listed = {(each.family, each.ifindex): each for each in net.netconfs()}
        assert listed[(2, four.ifindex)] == four
        assert (10, DEFAULT) in listed


def test_features_are_changed_and_read_back() -> None:
    """A feature of a veth that is turned off is off for us and for sysfs's reader; a fixed one says so."""
    with Rtnl() as net, Ethtool() as tool:
        net.link_add("v0", "veth", peer={"name": "v1"}, up=True)
        before = tool.features("v0")
        assert "tx-checksum-ip-generic" in before.active & before.changeable
        assert tool.set_features("v0", {"tx-checksum-ip-generic": False}) == {}
        after = tool.features("v0")
        assert before.active - after.active >= {"tx-checksum-ip-generic"}
        assert after.fixed == before.fixed
        assert tool.set_features("v0", {"tx-checksum-ip-generic": True}) == {}
        assert tool.features("v0") == before
        assert tool.set_features("v0", {"hw-tc-offload": True}) == {"hw-tc-offload": False}
        with pytest.raises(NetlinkError) as caught:
            tool.set_features("v0", {"no-such-feature": True})
        assert caught.value.attribute_path is None or "ETHTOOL_A_FEATURES_WANTED" in caught.value.attribute_path


def test_link_settings_are_read() -> None:
    """Speed, duplex and carrier of a veth are those of sysfs; a link that is not there is ENODEV."""
    with Rtnl() as net, Ethtool() as tool:
        net.link_add("v0", "veth", peer={"name": "v1"}, up=True)
        assert not tool.link_state("v0").up
        net.link_set("v1", up=True)
        modes = tool.link_modes(net.link("v0"))
        sysfs = Path("/sys/class/net/v0")
        assert modes.speed == int((sysfs / "speed").read_text())
        assert modes.duplex == (sysfs / "duplex").read_text().strip()
        assert tool.link_state("v0").up
        assert tool.link_info("v0").port in {"tp", "other", "none"}
        with pytest.raises(NetlinkError, match="No such device"):
            tool.features("nowhere")


def test_families_are_looked_up() -> None:
    """Families have the ids that the controller lists, and one that is not there is ENOENT."""
    with Generic() as generic:
        listed = {family.name: family.id for family in generic.families()}
        assert listed["nlctrl"] == 16
        ethtool = generic.family("ethtool")
        assert (ethtool.id, ethtool.group("monitor") > 0) == (listed["ethtool"], True)
        assert generic.ask("nlctrl", 3, [(2, b"ethtool\0")])[0].attributes[2] == b"ethtool\0"
        with pytest.raises(FileNotFoundError):
            generic.family("no-such-thing")
        with pytest.raises(LookupError, match="no group"):
            ethtool.group("nobody")


@pytest.mark.parametrize("tap", [False, True], ids=["tun", "tap"])
def test_tun_carries_packets(tap: bool) -> None:
    """What the kernel sends into the link is read from the descriptor, and the link goes with it."""
    with Rtnl() as net:
        with open_tun("t%d", tap=tap) as tun:
            link = net.link(tun.name)
            assert (link.name, link.kind, dict(link.options)["type"]) == ("t0", "tun", 2 if tap else 1)
            assert tun.flags & (TunFlag.TAP if tap else TunFlag.TUN)
            net.link_set(link, up=True)
            Path(f"/proc/sys/net/ipv6/conf/{tun.name}/disable_ipv6").write_text("1")
            net.address_add(link, "10.77.0.1/24")
            net.neighbour_add(Neighbour(link.ifindex, "10.77.0.2", "02:00:00:00:00:02")) if tap else None
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"something", ("10.77.0.2", 9))
            packets = [tun.read()]
            while b"\x0a\x4d\x00\x02" not in packets[-1]:
                packets.append(tun.read())
            start = 14 if tap else 0
            assert packets[-1][start] >> 4 == 4
            with pytest.raises(OSError, match="busy"):
                open_tun(tun.name, tap=tap)
        assert net.find_link("t0") is None


def test_tun_stays_if_it_is_told_to() -> None:
    """A persistent link outlives its descriptor, keeps its owner, and may be attached to again."""
    with Rtnl() as net:
        with open_tun("stay", flags=TunFlag.MULTI_QUEUE) as tun:
            tun.set_persistent(True)
            tun.set_owner(1234)
            tun.set_group(1235)
            with open_tun("stay", flags=TunFlag.MULTI_QUEUE) as second:
                second.detach_queue()
                second.attach_queue()
        options = dict(net.link("stay").options)
        assert (options["persist"], options["owner"], options["group"]) == (1, 1234, 1235)
        with open_tun("stay", flags=TunFlag.MULTI_QUEUE) as tun:
            tun.set_persistent(False)
        assert net.find_link("stay") is None
        with pytest.raises(OSError, match="No such file"):
            open_tun("none", device="/dev/net/nowhere")


def test_namespace_ids_come_back() -> None:
    """A namespace has no number until it gets one; ip-netns(8) calls it by the same."""
    netns.create_namespace("blue")
    with Rtnl() as net:
        assert net.namespace_id("blue") is None
        assert net.namespace_id_set("blue", 17) == 17
        assert net.namespace_id("/run/netns/blue") == 17
        assert 17 in net.namespace_ids()
        assert {"nsid": 17, "name": "blue"}.items() <= shown("ip", "-j", "netns", "list-id")[0].items()
        with pytest.raises(FileExistsError):
            net.namespace_id_set("blue", 18)
        child = subprocess.Popen(["sleep", "60"], preexec_fn=lambda: unshare(CloneFlag.NEWNET))
        try:
            assert net.namespace_id_set(Pid(child.pid)) not in (17, None)
        finally:
            child.kill()
            child.wait()
    netns.delete_namespace("blue")


@pytest.mark.parametrize("one", [True, False], ids=["one-way", "two-ways"])
def test_encapsulation_comes_back_raw(one: bool) -> None:
    """Encapsulation belongs to a way; its attributes come back as the bytes that were sent."""
    with Rtnl() as net:
        net.link_add("d0", "dummy", up=True)
        net.address_add("d0", "10.1.0.1/24")
        index = net.index_of("d0")
        # LWTUNNEL_ENCAP_IP: id 7, destination 192.0.2.9, TTL 64.
        data = (
            b"\x0c\x00\x01\x00"
            + bytes(7)
            + b"\x07"
            + b"\x08\x00\x02\x00\xc0\x00\x02\x09"
            + b"\x05\x00\x04\x00\x40\0\0\0"
        )
        around = Encapsulation(2, data)
        hops = (NextHop("10.1.0.2", index, 1, encapsulation=around), NextHop("10.1.0.3", index, 3))
        route = Route("10.9.0.0/16", nexthops=hops)
        if one:
            route = Route("10.9.0.0/16", gateway="10.1.0.2", oif=index, encapsulation=around)
        net.route_add(route)
        (back,) = [each for each in net.routes(family=2) if each.destination == "10.9.0.0/16"]
        found = back.encapsulation if one else back.nexthops[0].encapsulation
        assert found is not None
        assert found.type == 2
        assert set(parse_list(data)) <= set(parse_list(found.data))
        assert one or (back.nexthops[1].encapsulation, back.nexthops[1].weight) == (None, 3)
        text = subprocess.run(["ip", "route", "show", "10.9.0.0/16"], check=True, capture_output=True, text=True).stdout
        assert "encap ip id 7" in text
        assert "dst 192.0.2.9" in text
        # What was read is sent again: nothing is lost on the way.
        net.route_delete(back)
        net.route_add(back._replace(flags=0))
        assert back in net.routes(family=2)


PORT_FLAGS = ("mode", "guard", "protect", "fast_leave", "learning", "unicast_flood", "mcast_flood", "bcast_flood",
              "neigh_suppress", "isolated", "mcast_to_ucast", "vlan_tunnel")  # fmt: skip
SYSFS = {"mode": "hairpin_mode", "guard": "bpdu_guard", "protect": "root_block", "fast_leave": "multicast_fast_leave",
         "mcast_flood": "multicast_flood", "bcast_flood": "broadcast_flood",
         "mcast_to_ucast": "multicast_to_unicast"}  # fmt: skip


@pytest.mark.parametrize("flag", PORT_FLAGS)
def test_port_flags_come_back(flag: str) -> None:
    """A flag of a port is turned over and back, and sysfs shows it so where it has a file for it."""
    with Rtnl() as net:
        bridge_with_port(net)
        before = dict(net.link("p0").port_options)
        other = 1 - int(before[flag])
        net.port_set("p0", **{flag: other})
        after = dict(net.link("p0").port_options)
        own = {name for name in before if not str(name).endswith(("_timer", "n_groups"))}  # others move by themselves
        changed = {name for name in own if before[name] != after[name]}
        assert changed == {flag}
        file = Path("/sys/class/net/p0/brport", SYSFS.get(flag, flag))
        assert not file.exists() or int(file.read_text()) == other
        net.port_set("p0", **{flag: int(before[flag])})
        assert dict(net.link("p0").port_options)[flag] == before[flag]


def test_vlans_come_back_in_ranges() -> None:
    """Ranges, PVID and untagged VLANs of a port and of a bridge are listed as they were added, by bridge(8) too."""
    with Rtnl() as net:
        bridge, port = bridge_with_port(net, vlan_filtering=1, vlan_default_pvid=0)
        net.vlans_add("p0", Vlan(100, 199), Vlan(5, 5, pvid=True, untagged=True), Vlan(300, 302, untagged=True))
        net.vlans_add("br0", Vlan(100, 100), of_bridge=True)
        wanted = (Vlan(5, 5, True, True), Vlan(100, 199), Vlan(300, 302, False, True))
        assert net.vlans()[port] == wanted
        assert net.vlans()[bridge] == (Vlan(100, 100),)
        (theirs,) = [each["vlans"] for each in shown("bridge", "-j", "vlan", "show", "dev", "p0")]
        untagged = {each["vlan"] for each in theirs if "Egress Untagged" in each.get("flags", [])}
        assert [each["vlan"] for each in theirs] == [5, *range(100, 200), 300, 301, 302]
        assert (untagged, "PVID" in theirs[0]["flags"]) == ({5, 300, 301, 302}, True)
        net.vlans_delete("p0", Vlan(150, 199), Vlan(5, 5))
        assert net.vlans()[port] == (Vlan(100, 149), Vlan(300, 302, False, True))
        for bad in (Vlan(0, 1), Vlan(2, 1), Vlan(1, 4095), Vlan(1, 2, pvid=True)):
            with pytest.raises(ValueError, match="1 to 4094"):
                net.vlans_add("p0", bad)


def test_forwarding_entries_come_back() -> None:
    """A forwarding entry of a port is listed, by bridge(8) too, refused twice, replaced, and removed."""
    with Rtnl() as net:
        bridge, port = bridge_with_port(net, vlan_default_pvid=0)  # with a PVID each entry is there twice
        entry = Neighbour(port, mac="02:00:00:00:00:99", state=0x80, flags=NeighbourFlag.MASTER, family=7)
        net.neighbour_add(entry)
        found = [each for each in net.forwarding(bridge=bridge) if each.mac == entry.mac]
        assert [(each.ifindex, each.state, each.master) for each in found] == [(port, 0x80, bridge)]
        theirs = [each for each in shown("bridge", "-j", "fdb") if each["mac"] == entry.mac]
        assert [(each["ifname"], each["state"]) for each in theirs] == [("p0", "permanent")]
        with pytest.raises(FileExistsError):
            net.neighbour_add(entry)
        net.neighbour_add(entry._replace(state=0x40), replace=True)  # static
        (found_again,) = [each for each in net.forwarding(bridge="br0") if each.mac == entry.mac]
        assert found_again.state == 0x40
        net.neighbour_delete(entry)
        assert entry.mac not in [each.mac for each in net.forwarding()]
        with pytest.raises(FileNotFoundError):
            net.neighbour_delete(entry)


def test_forwarding_of_vxlan_has_many_destinations() -> None:
    """A hardware address of a vxlan link leads to several ends, each with its port and VNI."""
    with Rtnl() as net:
        link = net.link_add(
            "vx0", "vxlan", options={"id": 7, "port": 4789, "local": "10.0.0.1", "learning": 0}, up=True
        )
        every = "00:00:00:00:00:00"
        first = Neighbour(link.ifindex, "10.0.0.2", every, 0x80, NeighbourFlag.SELF, family=7)
        second = first._replace(address="10.0.0.3", port=9999, vni=88)
        net.neighbour_add(first)
        with pytest.raises(FileExistsError):
            net.neighbour_add(first)
        net.neighbour_add(second, append=True)
        found = [each for each in net.forwarding() if each.ifindex == link.ifindex and each.mac == every]
        assert {(each.address, each.port, each.vni) for each in found} == {
            ("10.0.0.2", None, None),
            ("10.0.0.3", 9999, 88),
        }
        theirs = [each for each in shown("bridge", "-j", "fdb", "show", "dev", "vx0") if each["mac"] == every]
        seen = {(each["dst"], each.get("port"), each.get("vni")) for each in theirs}
        assert seen == {("10.0.0.2", None, None), ("10.0.0.3", 9999, 88)}
        net.neighbour_delete(second)
        left = [each.address for each in net.forwarding() if each.ifindex == link.ifindex]
        assert left == ["10.0.0.2"]
