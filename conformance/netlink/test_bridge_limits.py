"""What bridges and their ports refuse, asked by number, and through the typed requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kernelproof import behaviour
from kernelproof.conformance.netlink import raw
from kernelproof.conformance.netlink.raw import U8, U16, U32
from kernelproof.conformance.netlink.shown import DEVICES, ip_json, number_of, outcome, port_option_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelproof.conformance.netlink.conftest import Pairs
    from kernelproof.conformance.seen import Seen
    from kernelproof.impl.netlink import Request, Rtnl


def be16(value: int) -> bytes:
    """Return a number of 16 bits in the network's order."""
    return value.to_bytes(2, "big")


def bridge_option(net: Rtnl, place: int, data: bytes) -> Request:
    """A request that sets an option of br0 by number."""
    return raw.link(raw.kind("bridge", (place, data)), index=net.index_of("br0"))


def bound(name: str, option: str, *rest: object) -> object:
    """An option with its number, form, file, values that are taken, values that are refused, and the errno."""
    topic = name if "." in name else f"bridge.limit.{name}"
    return pytest.param(option, *rest, id=name, marks=behaviour(topic, subject="impl"))


@pytest.mark.parametrize(
    ("option", "place", "pack", "file", "taken", "refused", "errno"),
    [
        bound("hello-time", "hello_time", 2, U32, "hello_time", (100, 1000), (99, 1001), "ERANGE"),
        bound("max-age", "max_age", 3, U32, "max_age", (600, 4000), (599, 4001), "ERANGE"),
        bound("forward-delay-stp", "forward_delay", 1, U32, "forward_delay", (200, 3000), (199, 3001), "ERANGE"),
        bound("igmp-version", "mcast_igmp_version", 43, U8, "multicast_igmp_version", (3, 2), (1, 4), "EINVAL"),
        bound("mld-version", "mcast_mld_version", 44, U8, "multicast_mld_version", (2, 1), (0, 3), "EINVAL"),
        bound(
            "bridge.vlan.protocol-values",
            *("vlan_protocol", 8, be16, "vlan_protocol", (0x88A8, 0x8100), (0x0800, 0x9100), "EPROTONOSUPPORT"),
        ),
    ],
)
def test_option_of_bridge_has_bounds(
    net: Rtnl,
    seen: Seen,
    option: str,
    place: int,
    pack: Callable[[int], bytes],
    file: str,
    taken: tuple[int, ...],
    refused: tuple[int, ...],
    errno: str,
) -> None:
    """A bridge that runs spanning tree takes the values at the bounds, refuses those outside and keeps what it has."""
    net.link_add("br0", "bridge", options={"stp_state": 1})
    for value in taken:
        net.link_set("br0", kind="bridge", options={option: value})
        assert number_of(f"br0/bridge/{file}") == value
    answers = [outcome(net.request, bridge_option(net, place, pack(value))) for value in refused]
    typed = [outcome(net.link_set, "br0", kind="bridge", options={option: value}) for value in refused]
    assert number_of(f"br0/bridge/{file}") == taken[-1]
    assert typed == answers
    assert seen(answers) == [errno] * len(refused)


@behaviour("bridge.limit.forward-delay-without-stp", subject="impl")
def test_forward_delay_has_bounds_without_spanning_tree(net: Rtnl, seen: Seen) -> None:
    """A forward delay outside of 2 to 30 seconds is refused also where no spanning tree runs."""
    net.link_add("br0", "bridge")
    answers = [outcome(net.request, bridge_option(net, 1, U32(value))) for value in (0, 199, 3001)]
    typed = [outcome(net.link_set, "br0", kind="bridge", options={"forward_delay": value}) for value in (0, 199, 3001)]
    assert typed == answers
    assert seen(answers) == ["ERANGE"] * 3


@behaviour("bridge.limit.hash-max-power-of-two", subject="impl")
def test_hash_maximum_is_a_power_of_two(net: Rtnl, seen: Seen) -> None:
    """A maximum of the multicast hash that is no power of two is refused."""
    net.link_add("br0", "bridge", options={"mcast_hash_max": 512})
    answer = outcome(net.request, bridge_option(net, 27, U32(1000)))
    assert outcome(net.link_set, "br0", kind="bridge", options={"mcast_hash_max": 1000}) == answer
    assert seen(answer) == "EINVAL"
    assert number_of("br0/bridge/hash_max") == 512


@behaviour("bridge.limit.group-fwd-mask", subject="impl")
def test_group_forward_mask_restricts_three_bits(net: Rtnl, seen: Seen) -> None:
    """A group forward mask with bit 0, 1 or 2 is refused with EINVAL, and the one of all other bits is taken."""
    net.link_add("br0", "bridge")
    answers = [outcome(net.request, bridge_option(net, 9, U16(1 << bit))) for bit in (0, 1, 2)]
    typed = [outcome(net.link_set, "br0", kind="bridge", options={"group_fwd_mask": 1 << bit}) for bit in (0, 1, 2)]
    assert typed == answers
    assert seen(answers) == ["EINVAL"] * 3
    assert number_of("br0/bridge/group_fwd_mask") == 0
    net.link_set("br0", kind="bridge", options={"group_fwd_mask": 0xFFF8})
    assert number_of("br0/bridge/group_fwd_mask") == 0xFFF8


@behaviour("bridge.limit.group-address", subject="impl")
def test_group_address_is_link_local(net: Rtnl, seen: Seen) -> None:
    """The group address is 01:80:c2:00:00:00 or one that ends in 4 to f; no other is taken."""
    net.link_add("br0", "bridge")
    last_digits = (*range(4, 16), 0)
    for digit in last_digits:
        address = f"01:80:c2:00:00:0{digit:x}"
        net.link_set("br0", kind="bridge", options={"group_addr": address})
        assert (DEVICES / "br0/bridge/group_addr").read_text() == f"{address}\n"

    wrong = ["01:80:c2:00:00:01", "01:80:c2:00:00:02", "01:80:c2:00:00:03", "01:80:c2:00:00:10", "01:00:5e:00:00:01"]
    answers = [outcome(net.request, bridge_option(net, 20, bytes.fromhex(each.replace(":", "")))) for each in wrong]
    typed = [outcome(net.link_set, "br0", kind="bridge", options={"group_addr": each}) for each in wrong]
    assert typed == answers
    assert seen(answers) == ["EINVAL"] * len(wrong)


@pytest.mark.parametrize(
    ("option", "place", "pack", "file", "taken", "refused", "errno"),
    [
        bound("port-cost", "cost", 3, U32, "path_cost", (1, 65535), (0, 65536), "ERANGE"),
        bound("port-priority", "priority", 2, U16, "priority", (0, 63), (64, 255), "ERANGE"),
        bound("multicast-router-value", "multicast_router", 25, U8, "multicast_router", (0, 2, 3, 1), (4,), "EINVAL"),
    ],
)
def test_option_of_port_has_bounds(
    net: Rtnl,
    seen: Seen,
    option: str,
    place: int,
    pack: Callable[[int], bytes],
    file: str,
    taken: tuple[int, ...],
    refused: tuple[int, ...],
    errno: str,
) -> None:
    """A port takes the values at the bounds, refuses those outside and keeps what it has."""
    net.link_add("br0", "bridge")
    port = net.link_add("port0", "dummy", master="br0")
    for value in taken:
        net.port_set("port0", **{option: value})
        assert number_of(f"port0/brport/{file}") == value
    answers = [outcome(net.request, raw.port_option(port.ifindex, (place, pack(value)))) for value in refused]
    typed = [outcome(net.port_set, "port0", **{option: value}) for value in refused]
    assert number_of(f"port0/brport/{file}") == taken[-1]
    assert typed == answers
    assert seen(answers) == [errno] * len(refused)


@behaviour("bridge.limit.port-state-value", subject="impl")
def test_state_of_port_is_one_of_five(net: Rtnl, pairs: Pairs, seen: Seen) -> None:
    """The states 0 to 4 are taken by a port that is up, and 5 is refused."""
    net.link_add("br0", "bridge", up=True)
    pairs("p0", master="br0")
    for state in (1, 2, 0, 4, 3):
        net.port_set("p0", state=state)
    assert number_of("p0/brport/state") == 3
    answer = outcome(net.request, raw.port_option(net.index_of("p0"), (1, U8(5))))
    assert outcome(net.port_set, "p0", state=5) == answer
    assert number_of("p0/brport/state") == 3
    assert seen(answer) == "EINVAL"


@behaviour("bridge.limit.eht-hosts-zero", subject="impl")
def test_port_keeps_track_of_a_host_at_least(net: Rtnl, seen: Seen) -> None:
    """A limit of 0 tracked hosts is refused, and one of 1 taken."""
    net.link_add("br0", "bridge")
    port = net.link_add("port0", "dummy", master="br0")
    net.port_set("port0", mcast_eht_hosts_limit=1)
    answer = outcome(net.request, raw.port_option(port.ifindex, (37, U32(0))))
    assert outcome(net.port_set, "port0", mcast_eht_hosts_limit=0) == answer
    assert port_option_of("port0", 37) == 1
    assert seen(answer) == "EINVAL"


def slave_option(port: str, name: str) -> Any:
    """Return an option of a port as `ip` shows it."""
    (shown,) = ip_json("link", "show", "dev", port)
    return shown["linkinfo"]["info_slave_data"][name]


@behaviour("bridge.limit.mab-needs-locked", subject="impl")
def test_authentication_bypass_needs_a_locked_port(net: Rtnl, seen: Seen) -> None:
    """MAC Authentication Bypass is refused on a port that is not locked, and taken on one that is."""
    net.link_add("br0", "bridge")
    port = net.link_add("port0", "dummy", master="br0")
    answer = outcome(net.request, raw.port_option(port.ifindex, (40, U8(1))))
    assert outcome(net.port_set, "port0", mab=1) == answer
    net.port_set("port0", locked=1)
    net.port_set("port0", mab=1)
    assert slave_option("port0", "mab") is True
    assert seen(answer) == "EINVAL"


@behaviour("bridge.limit.mab-holds-lock", subject="impl")
def test_authentication_bypass_holds_the_lock(net: Rtnl, seen: Seen) -> None:
    """A port with MAC Authentication Bypass on can't be unlocked."""
    net.link_add("br0", "bridge")
    port = net.link_add("port0", "dummy", master="br0")
    net.port_set("port0", locked=1, mab=1)
    answer = outcome(net.request, raw.port_option(port.ifindex, (39, U8(0))))
    assert outcome(net.port_set, "port0", locked=0) == answer
    assert slave_option("port0", "locked") is True
    assert seen(answer) == "EINVAL"


@behaviour("bridge.vlan.stats-per-port-needs-no-vlans", subject="impl")
def test_statistics_per_port_need_no_vlans(net: Rtnl, seen: Seen) -> None:
    """Statistics of VLANs per port are refused while a port has a VLAN, and taken once none has."""
    net.link_add("br0", "bridge")
    net.link_add("port0", "dummy", master="br0")
    answer = outcome(net.request, bridge_option(net, 45, U8(1)))
    assert outcome(net.link_set, "br0", kind="bridge", options={"vlan_stats_per_port": 1}) == answer
    assert number_of("br0/bridge/vlan_stats_per_port") == 0
    net.link_set("port0", master=0)
    net.link_set("br0", kind="bridge", options={"vlan_stats_per_port": 1})
    assert number_of("br0/bridge/vlan_stats_per_port") == 1
    assert seen(answer) == "EBUSY"
