"""The names of 2014, each doing what it did, seen in sysfs and procfs; the faults of then are not there."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from errno import ENETUNREACH
from pathlib import Path

import pytest

from kernelproof.impl import netlink
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare
from kernelproof.impl.netlink import Rtnl, classic, netns

pytestmark = pytest.mark.machine(profile="plain")

NET = Path("/sys/class/net")


def flags(name: str) -> int:
    """IFF_ flags as sysfs has them."""
    return int((NET / name / "flags").read_text(), 16)


def test_links_are_made_found_and_removed() -> None:
    """A dummy and a bridge are found by name, and gone when they are removed; names of any length keep all letters."""
    for name, kind in (("tstEth", "dummy"), ("tstBr", "bridge"), ("abcdef", "bridge"), ("fifteen-letters", "dummy")):
        netlink.network_link_add(name, kind)
        assert (NET / name).exists()
        with pytest.raises(FileExistsError):
            netlink.network_link_add(name, kind)
        netlink.network_link_del(name)
        assert not (NET / name).exists()
    for name, kind in (("", "dummy"), ("x", "")):
        with pytest.raises(ValueError, match="empty"):
            netlink.network_link_add(name, kind)
    with pytest.raises(ValueError, match="has 0 bytes, not 1 to 15"):
        netlink.network_link_del("")
    with pytest.raises(OSError, match="No such device"):
        netlink.network_link_del("nowhere")


def test_up_and_down_change_one_flag() -> None:
    """Up and down, an MTU, a queue length, a hardware address and a master change what they say and nothing else."""
    netlink.network_link_add("tstEth", "dummy")
    before = flags("tstEth")
    netlink.network_link_up("tstEth")
    assert flags("tstEth") & ~0x40 == before | 1
    netlink.network_link_down("tstEth")
    assert flags("tstEth") == before
    netlink.network_set_mtu("tstEth", 1400)
    assert (NET / "tstEth/mtu").read_text().strip() == "1400"
    netlink.network_set_tx_queue_len("tstEth", 777)
    assert (NET / "tstEth/tx_queue_len").read_text().strip() == "777"
    netlink.network_set_mac_address("tstEth", "22:ce:e0:99:63:6f")
    assert (NET / "tstEth/address").read_text().strip() == "22:ce:e0:99:63:6f"
    netlink.set_mac_address("tstEth", "22:ce:e0:99:63:70")
    assert (NET / "tstEth/address").read_text().strip() == "22:ce:e0:99:63:70"
    with pytest.raises(ValueError, match="multicast MAC"):
        netlink.network_set_mac_address("tstEth", "01:00:5e:00:00:01")
    assert flags("tstEth") == before


def test_ports_join_and_leave_bridges() -> None:
    """A port joins by either name and leaves by either; hairpin mode is turned on and off."""
    netlink.create_bridge("tstBr", set_mac_address=True)
    address = (NET / "tstBr/address").read_text().strip()
    assert int(address[:2], 16) & 3 == 2  # its own, not multicast
    netlink.network_create_veth_pair("veth1", "veth2", 77)
    assert (NET / "veth2/tx_queue_len").read_text().strip() == "77"
    ways: list[tuple[Callable[[str, str], None], Callable[[], None]]] = [
        (netlink.network_set_master, lambda: netlink.network_set_no_master("veth1")),
        (netlink.add_to_bridge, lambda: netlink.del_from_bridge("veth1", "tstBr")),
    ]
    for join, leave in ways:
        join("veth1", "tstBr")
        assert (NET / "tstBr/brif/veth1").exists()
        netlink.set_hairpin_mode("veth1", True)
        assert (NET / "veth1/brport/hairpin_mode").read_text().strip() == "1"
        netlink.set_hairpin_mode("veth1", False)
        assert (NET / "veth1/brport/hairpin_mode").read_text().strip() == "0"
        leave()
        assert not (NET / "tstBr/brif/veth1").exists()
    assert (NET / "tstBr/address").read_text().strip() == address
    with pytest.raises(ValueError, match="no port of"):
        netlink.del_from_bridge("veth1", "tstBr")
    with pytest.raises(netlink.ErrInterfaceExists):
        netlink.network_create_veth_pair("veth1", "veth3")
    with pytest.raises(ValueError, match="no bridge"):
        netlink.delete_bridge("veth1")
    netlink.delete_bridge("tstBr")
    assert not (NET / "tstBr").exists()


def test_links_above_others_are_made() -> None:
    """VLAN, macvlan and macvtap links stand above another, and a mode that nobody knows is refused."""
    netlink.network_link_add("tstEth", "dummy")
    netlink.network_link_add_vlan("tstEth", "tstVlan", 32)
    netlink.network_link_add_mac_vlan("tstEth", "tstMac", "private")
    netlink.network_link_add_mac_vtap("tstEth", "tstTap", "bridge")
    with Rtnl() as net:
        below = net.index_of("tstEth")
        assert [net.link(name).parent for name in ("tstVlan", "tstMac", "tstTap")] == [below] * 3
        assert [net.link(name).option("mode") for name in ("tstMac", "tstTap")] == [1, 4]
    assert "VID: 32" in Path("/proc/net/vlan/tstVlan").read_text()
    with pytest.raises(ValueError, match="no mode"):
        netlink.network_link_add_mac_vlan("tstEth", "other", "nonsense")
    assert not (NET / "other").exists()


def test_links_are_renamed_and_moved() -> None:
    """A link gets another name by either function, and goes to the namespace of a process or of a descriptor."""
    netlink.network_create_veth_pair("veth1", "veth2")
    netlink.network_change_name("veth1", "other1")
    netlink.change_name("veth2", "other2")
    assert (NET / "other1").exists()
    assert (NET / "other2").exists()
    with pytest.raises(ValueError, match="16 bytes"):
        netlink.network_change_name("other1", "sixteen-letters-")
    netns.create_namespace("blue")
    fd = netns.open_namespace("blue")
    child = subprocess.Popen(["sleep", "60"], preexec_fn=lambda: unshare(CloneFlag.NEWNET))
    try:
        netlink.network_set_ns_fd("other1", fd)
        netlink.network_set_ns_pid("other2", child.pid)
        assert not (NET / "other1").exists()
        with Rtnl(fd) as there:
            assert there.link("other1").kind == "veth"
        with Rtnl(netns.Pid(child.pid)) as there:
            assert there.link("other2").kind == "veth"
    finally:
        os.close(fd)
        child.kill()
        child.wait()


def test_addresses_are_added_and_removed() -> None:
    """An address is listed with its prefix length, given either way, and not when it was removed."""
    netlink.network_link_up("lo")
    netlink.network_link_add_ip("lo", "127.0.1.1", "127.0.1.1/32")
    netlink.network_link_add_ip("lo", "10.7.0.1/24")
    with pytest.raises(FileExistsError):
        netlink.network_link_add_ip("lo", "10.7.0.1/24")
    fib = Path("/proc/net/fib_trie")
    assert "127.0.1.1" in fib.read_text()
    assert "10.7.0.0/24" in fib.read_text()
    netlink.network_link_del_ip("lo", "127.0.1.1", "127.0.1.1/32")
    netlink.network_link_del_ip("lo", "10.7.0.1/24")
    assert "127.0.1.1" not in fib.read_text()
    assert "10.7.0" not in fib.read_text()
    with pytest.raises(ValueError, match="no prefix length"):
        netlink.network_link_add_ip("lo", "10.7.0.1")
    with pytest.raises(ValueError, match="two families"):
        netlink.network_link_add_ip("lo", "10.7.0.1", "fd00::/64")


def test_routes_are_added_and_told() -> None:
    """Routes with a source, a gateway and a link; the default one is told first as in 2014, without a prefix."""
    netlink.network_link_up("lo")
    netlink.network_create_veth_pair("veth1", "veth2")
    netlink.network_link_add_ip("veth1", "10.9.0.1/24")
    for name in ("veth1", "veth2"):
        netlink.network_link_up(name)
    with pytest.raises(OSError, match="unreachable") as caught:
        netlink.add_default_gw("192.0.2.1")
    assert caught.value.errno == ENETUNREACH
    netlink.add_default_gw("10.9.0.2")
    with pytest.raises(FileExistsError):
        netlink.add_default_gw("10.9.0.2", "veth1")
    netlink.network_link_add_ip("lo", "127.1.1.1/32")
    netlink.add_route("127.0.0.0/8", "127.1.1.1", "", "lo")
    netlink.add_route("10.50.0.0/16", "", "10.9.0.3", "veth1")
    found = netlink.network_get_routes()
    assert found[:2] == (classic.Route(None, "veth1", True), classic.Route("10.9.0.0/24", "veth1", False))
    assert {each.ip_net for each in found[2:]} == {"10.50.0.0/16", "127.0.0.0/8"}
    assert "0300090A" in Path("/proc/net/route").read_text()  # 10.9.0.3
    for arguments, why in (
        (("", "", "", "veth1"), "must not be blank"),
        (("10.60.0.0/16", "fd00::1", "", "veth1"), "same IP family"),
        (("10.60.0.0/16", "", "fd00::1", "veth1"), "same IP family"),
        (("10.60.0.0/33", "", "", "veth1"), "prefix length"),
        (("10.60.0.0/16", "", "nowhere", "veth1"), "no IP address"),
    ):
        with pytest.raises(ValueError, match=why):
            netlink.add_route(*arguments)
    with pytest.raises(OSError, match="No such device"):
        netlink.add_route("10.60.0.0/16", "", "", "nowhere")
