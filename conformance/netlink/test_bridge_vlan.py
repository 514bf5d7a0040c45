"""VLANs of bridges: which frames pass where, and with which tag."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernelproof import behaviour
from kernelproof.conformance.netlink.frames import BROADCAST, frame
from kernelproof.conformance.netlink.shown import ip_json
from kernelproof.impl.netlink import Vlan

if TYPE_CHECKING:
    from kernelproof.conformance.netlink.conftest import Pairs
    from kernelproof.impl.netlink import Rtnl

A = "02:00:00:00:00:0a"
UNTAGGED, TAGGED = frame(BROADCAST, A), frame(BROADCAST, A, vlan=7)


def vlans_of(port: str) -> dict[int, set[str]]:
    """Return a port's VLANs and their flags as `bridge` shows them."""
    shown = ip_json("vlan", "show", "dev", port, command="bridge")
    return {vlan["vlan"]: set(vlan.get("flags", ())) for line in shown for vlan in line["vlans"]}


@behaviour("bridge.vlan.default-pvid", subject="impl")
def test_ports_have_vlan_one(net: Rtnl, pairs: Pairs) -> None:
    """Every port has VLAN 1 as its PVID, so that untagged frames pass between ports."""
    net.link_add("br0", "bridge", options={"vlan_filtering": 1}, up=True)
    far0, far1 = pairs("p0", "p1", master="br0")
    far0.send(UNTAGGED)
    assert far1.received() == [UNTAGGED]
    assert vlans_of("p0") == {1: {"PVID", "Egress Untagged"}}


@behaviour("bridge.vlan.no-default-pvid", subject="impl")
def test_untagged_frame_without_pvid_is_dropped(net: Rtnl, pairs: Pairs) -> None:
    """Without a default PVID untagged frames are dropped, until the port has a PVID."""
    net.link_add("br0", "bridge", options={"vlan_filtering": 1, "vlan_default_pvid": 0}, up=True)
    far0, far1 = pairs("p0", "p1", master="br0")
    far0.send(UNTAGGED)
    assert far1.received() == []
    for port in ("p0", "p1"):
        net.vlans_add(port, Vlan(7, 7, pvid=True, untagged=True))
    far0.send(UNTAGGED)
    assert far1.received() == [UNTAGGED]


@behaviour("bridge.vlan.tag-must-match", subject="impl")
def test_tagged_frame_leaves_through_members(net: Rtnl, pairs: Pairs) -> None:
    """A tagged frame leaves through the ports that are members of its VLAN, and through no other."""
    net.link_add("br0", "bridge", options={"vlan_filtering": 1}, up=True)
    far0, far1, far2 = pairs("p0", "p1", "p2", master="br0")
    for port in ("p0", "p1"):
        net.vlans_add(port, Vlan(7, 7))
    far0.send(TAGGED)
    assert (far1.received(), far2.received()) == ([TAGGED], [])


@behaviour("bridge.vlan.filtering-off-ignores-tag", subject="impl")
def test_tag_counts_for_nothing_without_filtering(net: Rtnl, pairs: Pairs) -> None:
    """Without filtering a tagged frame leaves through a port that is no member of its VLAN; with it, it does not."""
    net.link_add("br0", "bridge", options={"vlan_filtering": 0}, up=True)
    far0, far1 = pairs("p0", "p1", master="br0")
    for filtering in (0, 1):
        net.link_set("br0", kind="bridge", options={"vlan_filtering": filtering})
        far0.send(TAGGED)
        assert far1.received() == [TAGGED] * (1 - filtering)


@behaviour("bridge.vlan.untagged-on-egress", subject="impl")
def test_tag_is_taken_off(net: Rtnl, pairs: Pairs) -> None:
    """A frame leaves without its tag through the port where its VLAN is untagged, and with it through the other."""
    net.link_add("br0", "bridge", options={"vlan_filtering": 1}, up=True)
    far0, far1, far2 = pairs("p0", "p1", "p2", master="br0")
    net.vlans_add("p0", Vlan(7, 7))
    net.vlans_add("p1", Vlan(7, 7, untagged=True))
    net.vlans_add("p2", Vlan(7, 7))
    far0.send(TAGGED)
    assert (far1.received(), far2.received()) == ([UNTAGGED], [TAGGED])
