"""Bridges and their ports as they are made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.netlink.shown import DEVICES, ip_json, number_of, option_of, port_option_of

if TYPE_CHECKING:
    from pyroute2 import IPRoute

    from kernelproof.conformance.seen import Seen
    from kernelproof.impl.netlink import Rtnl


def default(statement: str, file: str, value: int) -> object:
    """A file of a new bridge, with what it reads."""
    return pytest.param(file, value, id=statement.rpartition(".")[2], marks=behaviour(statement, subject="impl"))


@pytest.mark.parametrize(
    ("file", "value"),
    [
        default("bridge.default.forward-delay", "forward_delay", 1500),
        default("bridge.default.hello-time", "hello_time", 200),
        default("bridge.default.max-age", "max_age", 2000),
        default("bridge.default.ageing-time", "ageing_time", 30000),
        default("bridge.default.stp-off", "stp_state", 0),
        default("bridge.default.vlan-filtering-off", "vlan_filtering", 0),
        default("bridge.default.priority", "priority", 32768),
        default("bridge.default.mcast-snooping", "multicast_snooping", 1),
        default("bridge.default.mcast-querier-off", "multicast_querier", 0),
        default("bridge.default.hash-max", "hash_max", 4096),
    ],
)
def test_new_bridge_has(net: Rtnl, seen: Seen, file: str, value: int) -> None:
    """A bridge that was given no option has the documented default."""
    net.link_add("br0", "bridge")
    assert seen(number_of(f"br0/bridge/{file}")) == value


@behaviour("bridge.default.hash-elasticity", subject="impl")
def test_hash_elasticity_is_no_option_any_more(net: Rtnl, observer: IPRoute, seen: Seen) -> None:
    """The elasticity of the multicast hash reads 16, whatever it was set to."""
    net.link_add("br0", "bridge")
    read = [option_of(observer, "br0", "IFLA_BR_MCAST_HASH_ELASTICITY")]
    for value in (4, 32):
        net.link_set("br0", kind="bridge", options={"mcast_hash_elasticity": value})
        read.append(option_of(observer, "br0", "IFLA_BR_MCAST_HASH_ELASTICITY"))
    assert seen(read) == [16, 16, 16]


@behaviour("bridge.default.port-flags", subject="impl")
def test_flags_of_new_port(net: Rtnl, seen: Seen) -> None:
    """A new port learns and floods, and has neither hairpin nor guard, root block or isolation."""
    net.link_add("br0", "bridge")
    net.link_add("port0", "dummy", master="br0")
    on = ("learning", "unicast_flood", "multicast_flood", "broadcast_flood")
    off = ("hairpin_mode", "bpdu_guard", "root_block", "isolated")
    read = {file: number_of(f"port0/brport/{file}") for file in (*on, *off)}
    assert seen([read[file] for file in on]) == [1, 1, 1, 1]
    assert seen([read[file] for file in off]) == [0, 0, 0, 0]


@behaviour("bridge.default.port-unlocked", subject="impl")
def test_new_port_is_not_locked(net: Rtnl, seen: Seen) -> None:
    """A new port is not locked."""
    net.link_add("br0", "bridge")
    net.link_add("port0", "dummy", master="br0")
    (port,) = ip_json("link", "show", "dev", "port0")
    assert seen(port["linkinfo"]["info_slave_data"]["locked"]) is False


@behaviour("bridge.limit.eht-hosts", subject="impl")
def test_tracked_hosts_of_new_port(net: Rtnl, seen: Seen) -> None:
    """A new port keeps track of at most 512 hosts of multicast groups."""
    net.link_add("br0", "bridge")
    net.link_add("port0", "dummy", master="br0")
    assert seen(port_option_of("port0", 37)) == 512


@behaviour("bridge.port.master-set-and-unset", subject="impl")
def test_port_is_taken_and_released(net: Rtnl) -> None:
    """A device is a port of the bridge that IFLA_MASTER names, and of none once IFLA_MASTER is 0."""
    net.link_add("br0", "bridge")
    net.link_add("port0", "dummy")
    ports = DEVICES / "br0/brif"
    assert list(ports.iterdir()) == []

    net.link_set("port0", master="br0")
    assert [entry.name for entry in ports.iterdir()] == ["port0"]
    assert (DEVICES / "port0/master").resolve() == (DEVICES / "br0").resolve()

    net.link_set("port0", master=0)
    assert list(ports.iterdir()) == []
    assert not (DEVICES / "port0/master").exists()
