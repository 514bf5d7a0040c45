"""What kernels listed, recorded in fixtures/netlink: decoded by us and by pyroute2, and shown as ip(8) showed it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from pyroute2.netlink.rtnl.marshal import MarshalRtnl

from kernelproof.impl.netlink import Connection, Generic, Link, ReplaySocket, Rtnl, parse_recording
from kernelproof.impl.netlink.addresses import Address
from kernelproof.impl.netlink.kinds import MODES, Options, table_of
from kernelproof.impl.netlink.neighbours import Neighbour
from kernelproof.impl.netlink.qdiscs import Qdisc
from kernelproof.impl.netlink.routes import Route
from kernelproof.impl.netlink.rules import Rule
from kernelproof.impl.netlink.shown import (
    shown_addresses,
    shown_neighbours,
    shown_route,
    shown_rule,
)
from kernelproof.impl.netlink.shown_links import shown_links
from kernelproof.impl.netlink.spaces import LINK
from kernelproof.impl.netlink.values import parse_ip
from kernelproof.impl.netlink.wire import Attribute

FIXTURES = Path(__file__).resolve().parents[3] / "fixtures" / "netlink"
KERNELS = sorted(path.name for path in FIXTURES.iterdir() if path.is_dir() and (path / "about.json").exists())
Shown = dict[str, Any]
Check = Callable[[str, list[Shown], list[Shown]], None]


def net_of(kernel: str, name: str) -> Rtnl:
    """A connection to a kernel that is played back."""
    datagrams = parse_recording((FIXTURES / kernel / f"{name}.jsonl").read_text())
    return Rtnl(connection=Connection(socket=ReplaySocket(datagrams)))


def theirs(kernel: str, name: str) -> list[Any]:
    """What pyroute2 makes of the same datagrams, as its messages with attributes."""
    found = []
    for datagram in parse_recording((FIXTURES / kernel / f"{name}.jsonl").read_text()):
        if not datagram.out:
            found += [each for each in MarshalRtnl().parse(datagram.data) if "event" in each]
    return [each for each in found if each["event"].startswith("RTM_NEW")]


def test_each_kernel_is_recorded() -> None:
    """The recordings say of which kernel, distribution, command and date they are, oldest and newest included."""
    assert {"5.10", "6.1", "6.12", "6.18", "7.2", "7.3"} == set(KERNELS)
    for kernel in KERNELS:
        about = json.loads((FIXTURES / kernel / "about.json").read_text())
        assert {"kernel", "distribution", "iproute2", "command", "date"} == about.keys()
        assert about["kernel"].startswith(kernel)


def link_values(link: Link) -> Shown:
    """What of a link both decode, under the kernel's names."""
    return {
        "index": link.ifindex,
        "flags": link.flags,
        "IFLA_IFNAME": link.name,
        "IFLA_MTU": link.mtu,
        "IFLA_ADDRESS": link.mac or None,
        "IFLA_BROADCAST": link.broadcast or None,
        "IFLA_OPERSTATE": link.operstate,
        "IFLA_MASTER": link.master,
        "IFLA_LINK": link.parent,
        "IFLA_LINK_NETNSID": link.parent_namespace,
        "IFLA_IFALIAS": link.alias or None,
        "IFLA_QDISC": link.qdisc,
        "IFLA_TXQLEN": link.txqueuelen,
        "IFLA_GROUP": link.group,
        "IFLA_PROMISCUITY": link.promiscuity,
        "IFLA_MIN_MTU": link.min_mtu,
        "IFLA_MAX_MTU": link.max_mtu,
        "IFLA_GSO_MAX_SIZE": link.gso_max_size,
        "IFLA_GSO_MAX_SEGS": link.gso_max_segs,
        "IFLA_NUM_TX_QUEUES": link.queues[0],
        "IFLA_NUM_RX_QUEUES": link.queues[1],
    }


TUNNEL_ENDS = {768, 769, 776, 778, 823}  # ARPHRD_ types whose addresses pyroute2 shows in forms of its own


def same(values: Mapping[str, Any], message: Any) -> dict[str, tuple[Any, Any]]:
    """Return what differs, of the attributes that pyroute2 decodes."""
    other = {name: message[name] if name.islower() else message.get_attr(name) for name in values}
    return {name: (values[name], other[name]) for name in values if values[name] != other[name]}


@pytest.mark.parametrize("kernel", KERNELS)
def test_links_are_decoded_alike(kernel: str) -> None:
    """Links of every kind, and what is told of them, are the same to both."""
    ours = net_of(kernel, "links").links(statistics=True)
    messages = theirs(kernel, "links")
    assert len(ours) == len(messages) >= 35
    for link, message in zip(ours, messages, strict=True):
        tunnel = {"IFLA_ADDRESS", "IFLA_BROADCAST"} if link.hardware_type in TUNNEL_ENDS else set()
        assert same({name: value for name, value in link_values(link).items() if name not in tunnel}, message) == {}
        info = message.get_attr("IFLA_LINKINFO")
        assert link.kind == ((info and info.get_attr("IFLA_INFO_KIND")) or "")
        if info and link.options:
            check_options(link.kind, link.options, info.get_attr("IFLA_INFO_DATA"), (1, link.kind.encode()), 2)
        if info and link.port_options:
            slave = info.get_attr("IFLA_INFO_SLAVE_DATA")
            check_options(link.port_kind, link.port_options, slave, (4, link.port_kind.encode()), 5)
        counts = message.get_attr("IFLA_STATS64")
        assert link.statistics is not None
        known = {key: counts[key] for key in link.statistics._fields if key in counts}
        assert known.items() <= link.statistics._asdict().items()


def check_options(kind: str, options: Options, message: Any, kind_attribute: Attribute, place: int) -> None:
    """Compare the options that pyroute2 decodes to numbers and addresses."""
    info = LINK.inside(18, ())
    space = info.inside(place, [kind_attribute]) if info else None
    if space is None or not hasattr(message, "get_attr"):
        return
    table = table_of(kind if place == 2 else f"port of {kind}")
    compared = 0
    told = {name.split("_", 2)[2]: value for name, value in message["attrs"] if name.count("_") > 1}
    for name, value in options:
        if not isinstance(name, str):
            continue
        number, form = table.by_name[name]
        other = told.get(space.name(number).split("_", 2)[2])
        if type(other) in {int, str} and form not in {"id", "pair", "range"}:  # it takes what is there for true
            if isinstance(other, str) and isinstance(value, int):  # a word for a number
                if other not in MODES.get(kind, {}):
                    continue
                other = MODES[kind][other]
            assert (name, value) == (name, other.lower() if isinstance(other, str) else other)
            compared += 1
    assert compared or not options


def address_values(address: Address) -> Shown:
    return {
        "family": address.family,
        "prefixlen": address.prefix_length,
        "scope": address.scope,
        "index": address.ifindex,
        "IFA_ADDRESS": address.peer or address.address,
        "IFA_LABEL": address.label or None,
        "IFA_BROADCAST": address.broadcast or None,
        "IFA_FLAGS": address.flags,
    }


def route_values(route: Route) -> Shown:
    destination, _, length = route.destination.partition("/")
    return {
        "family": route.family,
        "dst_len": int(length),
        "tos": route.tos,
        "proto": route.protocol,
        "scope": route.scope,
        "type": route.type,
        "flags": route.flags,
        "RTA_DST": destination if int(length) else None,
        "RTA_TABLE": route.table,
        "RTA_GATEWAY": route.gateway if (":" in route.gateway) == (route.family == 10) and route.gateway else None,
        "RTA_PREFSRC": route.preferred_source or None,
        "RTA_PRIORITY": route.priority if route.priority or route.family == 10 else None,
        "RTA_OIF": route.oif or None,
    }


def rule_values(rule: Rule) -> Shown:
    source, _, source_length = rule.source.partition("/")
    destination, _, length = rule.destination.partition("/")
    return {
        "family": rule.family,
        "src_len": int(source_length or 0),
        "dst_len": int(length or 0),
        "tos": rule.tos,
        "action": rule.action,
        "flags": rule.flags,
        "FRA_PRIORITY": rule.priority or None,
        "FRA_TABLE": rule.table,
        "FRA_SRC": source or None,
        "FRA_DST": destination or None,
        "FRA_FWMARK": rule.mark,
        "FRA_FWMASK": rule.mask,
        "FRA_IIFNAME": rule.iif or None,
        "FRA_OIFNAME": rule.oif or None,
        "FRA_PROTOCOL": rule.protocol,
        "FRA_IP_PROTO": rule.ip_protocol,
        "FRA_SUPPRESS_PREFIXLEN": 0xFFFFFFFF if rule.suppress_prefix_length is None else rule.suppress_prefix_length,
    }


def _as_pyroute2(mac: str) -> str | None:
    # It shows the ends of a tunnel as addresses.
    return mac or None if len(mac) in {0, 17} else parse_ip(bytes.fromhex(mac.replace(":", "")))


def neighbour_values(neighbour: Neighbour) -> Shown:
    return {
        "family": neighbour.family,
        "ifindex": neighbour.ifindex,
        "state": neighbour.state,
        "flags": neighbour.flags,
        "NDA_DST": neighbour.address or None,
        "NDA_LLADDR": _as_pyroute2(neighbour.mac),
        "NDA_VLAN": neighbour.vlan,
        "NDA_PORT": neighbour.port,
        "NDA_VNI": neighbour.vni,
        "NDA_MASTER": neighbour.master,
    }


def qdisc_values(qdisc: Qdisc) -> Shown:
    return {"index": qdisc.ifindex, "handle": qdisc.handle, "parent": qdisc.parent, "TCA_KIND": qdisc.kind}


Lists = Mapping[str, tuple[Callable[[Rtnl], Iterable[Any]], Callable[[Any], Shown]]]
LISTS: Lists = {
    "addresses": (lambda net: net.addresses(), address_values),
    "routes": (lambda net: net.routes(), route_values),
    "rules": (lambda net: net.rules(), rule_values),
    "neighbours": (lambda net: [*net.neighbours(), *net.neighbours(proxies=True)], neighbour_values),
    "forwarding": (lambda net: net.forwarding(), neighbour_values),
    "qdiscs": (lambda net: net.qdiscs(), qdisc_values),
}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", LISTS)
def test_lists_are_decoded_alike(kernel: str, name: str) -> None:
    """Addresses, routes, rules, neighbours, forwarding entries and disciplines are the same to both."""
    ask, values = LISTS[name]
    ours = list(ask(net_of(kernel, name)))
    messages = [each for each in theirs(kernel, name) if not each["event"].endswith("NEWLINK")]
    assert len(ours) == len(messages) > 2
    for record, message in zip(ours, messages, strict=True):
        assert same(values(record), message) == {}


@pytest.mark.parametrize("kernel", KERNELS)
def test_rest_is_decoded(kernel: str) -> None:
    """What pyroute2 leaves raw, next hop objects, multicast groups, VLANs, netconf and families, is as it was made."""
    hops = {each.id: each for each in net_of(kernel, "nexthops").nexthops()}
    assert (hops[5].gateway, hops[7].group) == ("10.1.0.9", ((5, 3),))
    vlans = next(vlans for vlans in net_of(kernel, "vlans").vlans().values() if len(vlans) > 1)
    assert [(each.first, each.last, each.pvid) for each in vlans if each.first != 1] == [(5, 5, True), (10, 19, False)]
    (groups,) = [each for each in net_of(kernel, "multicast").multicast() if each.entries]
    made = {each.group: (each.vlan, each.permanent) for each in groups.entries}
    assert made["239.1.1.1"] == (10, True)
    assert "ff0e::1:2" in made
    assert len(groups.router_ports) == 1
    settings = net_of(kernel, "netconf").netconfs()
    assert {each.family for each in settings} >= {2, 10}
    assert {-1, -2, 1} <= {each.ifindex for each in settings}
    assert net_of(kernel, "namespace-ids").namespace_ids() == (0,)
    datagrams = parse_recording((FIXTURES / kernel / "families.jsonl").read_text())
    with Generic(connection=Connection(socket=ReplaySocket(datagrams))) as generic:
        families = {each.name: each for each in generic.families()}
    assert families["nlctrl"].id == 16
    assert families["ethtool"].groups[0][0] == "monitor"


def recorded(kernel: str, name: str) -> list[Shown]:
    rows: list[Shown] = json.loads((FIXTURES / kernel / f"ip-{name}.json").read_text())
    return rows


@pytest.mark.parametrize("kernel", KERNELS)
def test_links_and_addresses_are_shown_as_ip_showed_them(kernel: str, check_shown: Check) -> None:
    """Keys and values of `ip -j -d link` and `ip -j -d addr`, but for those that are listed with a reason."""
    links = net_of(kernel, "links").links(statistics=True)
    check_shown("link", shown_links(links, details=True), recorded(kernel, "link"))
    ours = shown_addresses(links, net_of(kernel, "addresses").addresses(), details=True)
    other = recorded(kernel, "addr")
    check_shown("link", ours, other)
    check_shown("addr", addresses_in(ours), addresses_in(other))


def addresses_in(rows: list[Shown]) -> list[Shown]:
    return [each for row in rows for each in row["addr_info"]]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("family", "suffix"), [(2, ""), (10, "6")], ids=["ipv4", "ipv6"])
def test_routes_and_rules_are_shown_as_ip_showed_them(
    kernel: str, family: int, suffix: str, check_shown: Check
) -> None:
    """Keys and values of `ip -j -d route show table all` and `ip -j -d rule`."""
    names = {link.ifindex: link.name for link in net_of(kernel, "links").links(statistics=True)}
    listed = [each for each in net_of(kernel, "routes").routes() if each.family == family]
    routes = [shown_route(each, names, details=True) for each in listed]
    check_shown("route", routes, recorded(kernel, f"route{suffix}"))
    rules = [shown_rule(each, details=True) for each in net_of(kernel, "rules").rules() if each.family == family]
    check_shown("rule", rules, recorded(kernel, f"rule{suffix}"))


@pytest.mark.parametrize("kernel", KERNELS)
def test_neighbours_are_shown_as_ip_showed_them(kernel: str, check_shown: Check) -> None:
    """Keys and values of `ip -j neigh`."""
    names = {link.ifindex: link.name for link in net_of(kernel, "links").links(statistics=True)}
    check_shown("neigh", shown_neighbours(net_of(kernel, "neighbours").neighbours(), names), recorded(kernel, "neigh"))
