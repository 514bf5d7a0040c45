"""What a link, an address and a rule can be told, one after the other; moves between namespaces in one request."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare
from kernelproof.impl.netlink import AddressFlag, Neighbour, NetlinkError, Pid, Rtnl, Rule, netns

pytestmark = pytest.mark.machine(profile="plain")

# Setting, value, and the file of /sys/class/net/d0 that shows it, with its text.
SETTINGS: list[tuple[str, Any, str, str]] = [
    ("mtu", 1234, "mtu", "1234"),
    ("mac", "02:00:00:00:00:77", "address", "02:00:00:00:00:77"),
    ("broadcast", "ff:ff:ff:ff:ff:fe", "broadcast", "ff:ff:ff:ff:ff:fe"),
    ("txqueuelen", 77, "tx_queue_len", "77"),
    ("group", 9, "netdev_group", "9"),
    ("alias", "a name with spaces", "ifalias", "a name with spaces"),
    ("linkmode", 1, "link_mode", "1"),
]


@pytest.mark.parametrize(("name", "value", "file", "text"), SETTINGS, ids=[each[0] for each in SETTINGS])
def test_settings_come_back(name: str, value: Any, file: str, text: str) -> None:
    """A setting is what sysfs and the record say afterwards, and no flag changed with it."""
    with Rtnl() as net:
        before = net.link_add("d0", "veth", peer={"name": "d1"})
        net.link_set("d0", **{name: value})
        after = net.link("d0")
        assert Path("/sys/class/net/d0", file).read_text().strip() == text
        assert getattr(after, name, value) == value
        assert after.flags == before.flags


@pytest.mark.parametrize("flag", ["up", "promisc", "allmulticast", "multicast", "arp", "dynamic"])
def test_flags_change_alone(flag: str) -> None:
    """A flag is turned over and back, and no other changes but those that follow from it."""
    bits = {"up": 0x1, "promisc": 0x100, "allmulticast": 0x200, "multicast": 0x1000, "arp": 0x80, "dynamic": 0x8000}
    with Rtnl() as net:
        net.link_add("d0", "veth", peer={"name": "d1"})
        before = net.link("d0").flags
        other = not before & bits[flag] if flag != "arp" else bool(before & bits[flag])
        net.link_set("d0", **{flag: other})
        changed = net.link("d0").flags ^ before
        assert changed & ~0x10043 == bits[flag] & ~0x10043  # RUNNING and LOWER_UP follow UP
        net.link_set("d0", **{flag: not other})
        assert net.link("d0").flags == before


def test_limits_of_segmentation_come_back() -> None:
    """Limits of generic segmentation are set, told, and refused above what the kernel has."""
    with Rtnl() as net:
        net.link_add("d0", "veth", peer={"name": "d1"})
        net.link_set("d0", gso_max_size=32768, gso_max_segs=17)
        link = net.link("d0")
        assert (link.gso_max_size, link.gso_max_segs) == (32768, 17)
        with pytest.raises(NetlinkError):
            net.link_set("d0", gso_max_segs=70_000)


@pytest.mark.parametrize("by", ["name", "path", "fd", "pid"])
def test_move_with_new_name_and_index(by: str) -> None:
    """One request moves a link, names it anew, and gives it an ifindex where the kernel can (Linux 5.12)."""
    netns.create_namespace("blue")
    child = subprocess.Popen(["sleep", "60"], preexec_fn=lambda: unshare(CloneFlag.NEWNET))
    fd = netns.open_namespace("blue")
    where: Any = {"name": "blue", "path": "/run/netns/blue", "fd": fd, "pid": Pid(child.pid)}[by]
    try:
        with Rtnl() as net, Rtnl(where) as there:
            net.link_add("d0", "veth", peer={"name": "d1"})
            net.link_set("d0", namespace=where, new_name="moved", new_index=77)
            assert net.find_link("d0") is None
            moved = there.link("moved")
            assert moved.ifindex == 77 or os.uname().release.startswith("5.10.")
            assert net.link("d1").parent_namespace is not None
            made = net.link_add("e0", "veth", peer={"name": "e1"}, namespace=where, alias="made there")
            assert there.link(made).alias == "made there"
    finally:
        os.close(fd)
        child.kill()
        child.wait()
        netns.delete_namespace("blue")


def test_statistics_count() -> None:
    """Packets that cross a pair are counted in 64 bits on both ends."""
    with Rtnl() as net:
        link = net.link_add("d0", "veth", peer={"name": "d1"}, up=True)
        net.link_set("d1", up=True)
        net.address_add("d0", "10.7.0.1/24")
        net.neighbour_add(Neighbour(link.ifindex, "10.7.0.2", "02:00:00:00:00:02"))
        before = net.link("d1").statistics
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(50):
                sender.sendto(bytes(100), ("10.7.0.2", 9))
        after = net.link("d1").statistics
        assert before is not None
        assert after is not None
        assert after.rx_packets - before.rx_packets >= 50
        assert after.rx_bytes - before.rx_bytes >= 50 * 142


ADDRESS_FLAGS = {
    "NODAD": "nodad",
    "NOPREFIXROUTE": "noprefixroute",
    "MCAUTOJOIN": "autojoin",
    "HOMEADDRESS": "home",
    "MANAGETEMPADDR": "mngtmpaddr",
}


@pytest.mark.parametrize("flag", ADDRESS_FLAGS)
def test_address_flags_come_back(flag: str) -> None:
    """A flag of an IPv6 address is told as it was set, and `ip` has its word for it."""
    with Rtnl() as net:
        net.link_add("d0", "dummy", up=True)
        address = "ff02::77/128" if flag == "MCAUTOJOIN" else "fd07::1/64"
        net.address_add("d0", address, flags=AddressFlag[flag])
        (there,) = [each for each in net.addresses("d0", family=10) if each.cidr == address]
        assert there.flags & AddressFlag[flag]
        done = subprocess.run(["ip", "-j", "addr", "show", "d0"], check=True, capture_output=True)
        listed = json.loads(done.stdout)[0]["addr_info"]
        (shown,) = [each for each in listed if f"{each['local']}/{each['prefixlen']}" == address]
        assert shown[ADDRESS_FLAGS[flag]] is True


def test_addresses_come_back_whole() -> None:
    """Peer, label, scope, priority, lifetimes, broadcast and protocol of an address are told as they were set."""
    told: dict[str, Any] = {"label": "d0:x", "scope": 253, "priority": 55, "protocol": 99}
    lifetimes = {"valid_seconds": 900, "preferred_seconds": 600}
    with Rtnl() as net:
        net.link_add("d0", "dummy", up=True)
        net.address_add("d0", "10.7.0.1/32", peer="10.7.0.2", **told, **lifetimes)
        (there,) = net.addresses("d0", family=2)
        assert (there.address, there.peer) == ("10.7.0.1", "10.7.0.2")
        assert (there.label, there.scope, there.priority) == ("d0:x", 253, 55)
        assert there.protocol in {99, None}  # told since Linux 5.18
        assert 890 <= there.valid_seconds <= 900
        assert 590 <= there.preferred_seconds <= 600
        net.address_add("d0", "10.7.0.1/32", peer="10.7.0.2", label="d0:x", scope=253, replace=True)
        (forever,) = net.addresses("d0", family=2)
        assert forever.valid_seconds == 0xFFFFFFFF
        net.address_add("d0", "10.8.0.1/24", broadcast="10.8.0.255")
        assert net.addresses("d0", family=2)[1].broadcast == "10.8.0.255"


RULES = [
    Rule(50, 100, source="10.0.0.0/8", destination="10.1.0.0/16", iif="lo", oif="lo", mark=5, mask=255),
    Rule(51, 1000, ip_protocol=6, source_ports=(1, 2), destination_ports=(80, 80), tos=16),
    Rule(52, action=2, target=60, table=0),
    Rule(53, action=6, table=0),
    Rule(54, action=7, table=0, source="10.3.0.1/32"),
    Rule(55, action=8, table=0, flags=2, source="10.4.0.0/16"),
    Rule(56, 254, uids=(1000, 2000), suppress_prefix_length=0),
    Rule(57, 254, suppress_group=3, family=10),
    Rule(58, 0, l3mdev=True),
    Rule(59, 100, tun_id=2**40 + 42),
]


@pytest.mark.parametrize("rule", RULES, ids=[str(rule.priority) for rule in RULES])
def test_rules_come_back(rule: Rule) -> None:
    """A rule is listed as it was sent, refused twice, and gone when it is removed."""
    with Rtnl() as net:
        net.rule_add(Rule(60, 100))
        net.rule_add(rule)
        (there,) = [each for each in net.rules(family=rule.family) if each.priority == rule.priority]
        assert there._replace(protocol=None, rest=()) == rule
        with pytest.raises(FileExistsError):
            net.rule_add(rule)
        net.rule_delete(rule)
        assert rule.priority not in [each.priority for each in net.rules(family=rule.family)]
