"""Links as `ip -j -d link` has them: keys, words for numbers, what of a kind is told.

Values that ip(8) prints in words are words here. What it leaves out is left out; what it knows and this does not is
listed, with what only this prints, in fixtures/netlink/only.toml.

Source: ip-link(8); what ip(8) of iproute2 6.15 prints for one link of each kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from kernelproof.impl.netlink.kinds import MODES
from kernelproof.impl.netlink.links import Link, LinkFlag
from kernelproof.impl.netlink.wire import U32, parse_attributes

if TYPE_CHECKING:
    from kernelproof.impl.netlink.kinds import Options

Shown = dict[str, Any]

_HARDWARE: Final = {
    **{1: "ether", 32: "infiniband", 512: "ppp", 768: "ipip", 769: "tunnel6", 772: "loopback", 776: "sit", 778: "gre"},
    **{823: "gre6", 65534: "none"},
}
_ADDRESS_MODES: Final = ("eui64", "none", "stable_secret", "random")
_PROTOCOLS: Final = {0x8100: "802.1Q", 0x88A8: "802.1ad"}
_STATES: Final = ("disabled", "listening", "learning", "forwarding", "blocking")
_WORDS: Final[Mapping[str, tuple[str | None, ...]]] = {
    "bond arp_validate": (None, "active", "backup", "all", "filter", "filter_active", "filter_backup"),
    "bond arp_all_targets": ("any", "all"),
    "bond primary_reselect": ("always", "better", "failure"),
    "bond fail_over_mac": ("none", "active", "follow"),
    "bond xmit_hash_policy": ("layer2", "layer3+4", "layer2+3", "encap2+3", "encap3+4", "vlan+srcmac"),
    "bond ad_lacp_active": ("off", "on"),
    "bond ad_lacp_rate": ("slow", "fast"),
    "bond ad_select": ("stable", "bandwidth", "count"),
    "port of bond state": ("ACTIVE", "BACKUP"),
    "port of bond mii_status": ("UP", "GOING_DOWN", "DOWN", "GOING_BACK"),
    "port of bridge state": _STATES,
    "vxlan df": ("unset", "set", "inherit"),
    "geneve df": ("unset", "set", "inherit"),
    "tun type": ("", "tun", "tap"),
}
_TUNNELLED: Final = {0: "any", 4: "ipip", 41: "ip6ip", 137: "mplsip"}
_TUNNELLED6: Final = {0: "any", 4: "ipip6", 41: "ip6ip6", 137: "mplsip6"}

# "ours", "ours=theirs", with a form behind a colon: ? a truth, h hundredths of a second, x and X hexadecimal, w a word
# of _WORDS, p an EtherType, a and A an address, b a bridge's number, l a link, n and N left out where it is 0.
_BRIDGE = """forward_delay hello_time max_age ageing_time stp_state priority vlan_filtering vlan_protocol:p bridge_id:b
    root_id:b root_port root_path_cost topology_change topology_change_detected hello_timer:h tcn_timer:h
    topology_change_timer:h gc_timer:h fdb_n_learned fdb_max_learned vlan_default_pvid vlan_stats_enabled
    vlan_stats_per_port group_fwd_mask:x group_addr mcast_snooping mcast_router mcast_query_use_ifaddr mcast_querier
    mcast_hash_elasticity mcast_hash_max mcast_last_member_cnt mcast_startup_query_cnt mcast_last_member_intvl
    mcast_membership_intvl mcast_querier_intvl mcast_query_intvl mcast_query_response_intvl mcast_startup_query_intvl
    mcast_stats_enabled mcast_igmp_version mcast_mld_version nf_call_iptables nf_call_ip6tables nf_call_arptables"""
_BRIDGE_PORT = """state:w priority cost mode=hairpin:? guard:? protect=root_block:? fast_leave=fastleave:? learning:?
    unicast_flood=flood:? id:X no:X designated_port designated_cost bridge_id:b root_id:b hold_timer:h
    message_age_timer:h forward_delay_timer:h topology_change_ack config_pending proxyarp=proxy_arp:?
    proxyarp_wifi=proxy_arp_wifi:? multicast_router mcast_flood:? bcast_flood:? mcast_to_ucast=mcast_to_unicast:?
    neigh_suppress:? neigh_vlan_suppress:? group_fwd_mask:x vlan_tunnel:? isolated:? locked:?
    mab:? backup_port:l backup_nhid:n"""
_MACVLAN = "bc_queue_len=bcqueuelen bc_queue_len_used=usedbcqueuelen macaddr_count=macaddr_count:n"
_VXLAN = """id group:a group6:a local:a local6:a link:l port_range port tos:n ttl df:w label:N ageing limit:n
    collect_metadata=external:? learning:? proxy:? rsc:? l2miss:? l3miss:? udp_csum:? udp_zero_csum6_tx:?
    udp_zero_csum6_rx:? remcsum_tx:? remcsum_rx:? localbypass:? gbp:? gpe:? remcsum_nopartial:? vnifilter:n"""
_GENEVE = """id remote:a remote6:a ttl tos:n df:w port label:N collect_metadata=external:? udp_csum:?
    udp_zero_csum6_tx:? udp_zero_csum6_rx:? inner_proto_inherit:?"""
_BOND = """active_slave:l miimon updelay downdelay peer_notif_delay=peer_notify_delay use_carrier arp_interval
    missed_max=arp_missed_max arp_validate:w arp_all_targets:w primary:l primary_reselect:w fail_over_mac:w
    xmit_hash_policy:w resend_igmp num_peer_notif all_slaves_active min_links lp_interval packets_per_slave
    ad_lacp_active:w ad_lacp_rate:w coupled_control:? ad_select:w ad_actor_sys_prio ad_user_port_key tlb_dynamic_lb"""
_BOND_PORT = """state:w mii_status:w link_failure_count perm_hwaddr queue_id ad_aggregator_id
    ad_actor_oper_port_state ad_partner_oper_port_state prio"""
_TUNNEL = "remote:A local:A link:l ttl tos:n pmtudisc:? fwmark:N encap_limit"
_SPECS: Final = {
    "bridge": _BRIDGE,
    "port of bridge": _BRIDGE_PORT,
    "vlan": "protocol:p id",
    "macvlan": _MACVLAN,
    "macvtap": _MACVLAN,
    "ipvlan": "",
    "ipvtap": "",
    "vxlan": _VXLAN,
    "geneve": _GENEVE,
    "bond": _BOND,
    "port of bond": _BOND_PORT,
    "vrf": "table",
    "tun": "type:w pi:? vnet_hdr:? multi_queue:? persist:? owner=user group num_queues=numqueues "
    "num_disabled_queues=numdisabled",
    **dict.fromkeys(("ipip", "sit", "gre", "gretap", "erspan"), _TUNNEL),
    **dict.fromkeys(("ip6tnl", "ip6gre", "ip6gretap"), _TUNNEL.replace("pmtudisc:? ", "")),
}
_FORMS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "": lambda value: value,
    "?": bool,
    "h": lambda value: value / 100,
    "x": lambda value: f"{value:#x}" if value else "0",
    "X": lambda value: f"{value:#x}",
    "N": lambda value: f"{value:#x}",
    "p": lambda value: _PROTOCOLS.get(value, f"[{value:#x}]"),
    "a": str,
    "b": lambda value: f"{value[:5]}{':'.join(part.removeprefix('0') for part in value[5:].split(':'))}",
    "A": lambda value: "any" if value in {"0.0.0.0", "::"} else value,
    "n": lambda value: value,
}


def flag_words(flags: int) -> list[str]:
    """Return flags as `ip` shows them: its order, without RUNNING, and NO-CARRIER where a link is up without one."""
    order = "LOOPBACK BROADCAST POINTOPOINT MULTICAST NOARP ALLMULTI PROMISC MASTER SLAVE DEBUG DYNAMIC AUTOMEDIA"
    words = ["NO-CARRIER"] if flags & LinkFlag.UP and not flags & LinkFlag.RUNNING else []
    order += " PORTSEL NOTRAILERS UP LOWER_UP DORMANT ECHO"
    return words + [word for word in order.split() if flags & LinkFlag[word]]


def shown_options(table: str, options: Options, names: Mapping[int, str]) -> Shown:
    """Return the options of a kind, or of "port of" a kind, under the keys of ip(8)."""
    told = dict(options)
    shown: Shown = {}
    for entry in _SPECS.get(table, "").split():
        keys, _, form = entry.partition(":")
        ours, _, theirs = keys.partition("=")
        if ours not in told:
            continue
        value = told[ours]
        if form == "w":
            words = _WORDS[f"{table} {ours}"]
            shown[theirs or ours] = words[int(value)] if int(value) < len(words) else value
        elif form == "l":
            if value:
                shown[theirs or ours] = names.get(int(value), f"if{int(value)}")
        elif value or form not in {"n", "N"}:
            shown[theirs or ours] = _FORMS[form](value)
    return shown | _SPECIAL[table](told) if table in _SPECIAL else shown


def _vlan(told: Mapping[Any, Any]) -> Shown:
    flags = int(str(told.get("flags", "0/0")).partition("/")[0])
    names = ("REORDER_HDR", "GVRP", "LOOSE_BINDING", "MVRP", "BRIDGE_BINDING")
    return {"flags": [name for bit, name in enumerate(names) if flags >> bit & 1]}


def _boolean_options(told: Mapping[Any, Any]) -> Shown:
    value, _, mask = str(told.get("multi_boolopt", "0/0")).partition("/")
    names = ("no_linklocal_learn", "mcast_vlan_snooping", "mst_enabled")
    return {name: int(value) >> bit & 1 for bit, name in enumerate(names) if int(mask) >> bit & 1}


def _mode(kind: str) -> Callable[[Mapping[Any, Any]], Shown]:
    words = {number: word for word, number in MODES[kind].items()}

    def shown(told: Mapping[Any, Any]) -> Shown:
        return {"mode": words.get(told.get("mode"), told.get("mode"))}  # type: ignore[arg-type]

    return shown


def _ipvlan(told: Mapping[Any, Any]) -> Shown:
    flags = told.get("flags", 0)
    return _mode("ipvlan")(told) | {"private" if flags & 1 else "vepa" if flags & 2 else "bridge": True}


def _vxlan(told: Mapping[Any, Any]) -> Shown:
    low, _, high = str(told.get("port_range", "0-0")).partition("-")
    return {"port_range": {"low": int(low), "high": int(high)}}


def _keys(told: Mapping[Any, Any]) -> Shown:
    def dotted(number: int) -> str:
        return ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))

    shown: Shown = {}
    for side in ("i", "o"):
        flags = told.get(f"{side}flags", 0)
        if flags & 0x2000:
            shown[f"{side}key"] = dotted(told.get(f"{side}key", 0))
        shown |= {f"{side}{word}": True for word, bit in (("seq", 0x1000), ("csum", 0x8000)) if flags & bit}
    return shown


def _keys6(told: Mapping[Any, Any]) -> Shown:
    flow = told.get("flowinfo", 0)
    return _keys(told) | {"tclass": f"0x{flow >> 20 & 0xFF:02x}", "flowlabel": f"0x{flow & 0xFFFFF:05x}"}


def _tunnel6(told: Mapping[Any, Any]) -> Shown:
    return _inside(_TUNNELLED6)(told) | _keys6({"flowinfo": told.get("flowinfo", 0)})


def _inside(words: Mapping[int, str]) -> Callable[[Mapping[Any, Any]], Shown]:
    return lambda told: {"proto": words.get(told["proto"], told["proto"])} if "proto" in told else {}


_SPECIAL: Final[Mapping[str, Callable[[Mapping[Any, Any]], Shown]]] = {
    "vlan": _vlan,
    "bridge": _boolean_options,
    "macvlan": _mode("macvlan"),
    "macvtap": _mode("macvtap"),
    "bond": _mode("bond"),
    "ipvlan": _ipvlan,
    "ipvtap": _ipvlan,
    "vxlan": _vxlan,
    "gre": _keys,
    "gretap": _keys,
    "ip6gre": _keys6,
    "ip6gretap": _keys6,
    "ipip": _inside(_TUNNELLED),
    "sit": _inside(_TUNNELLED),
    "ip6tnl": _tunnel6,
}


def shown_link(link: Link, names: Mapping[int, str], *, details: bool = False) -> Shown:
    """Return a link as `ip -j link` has it, with details as with `-d`."""
    rest = dict(link.rest)
    shown: Shown = {
        "ifindex": link.ifindex,
        "link": names.get(link.parent) if link.parent and link.parent_namespace is None else None,
        "link_index": link.parent if link.parent and link.parent_namespace is not None else None,
        "ifname": link.name,
        "flags": flag_words(link.flags),
        "mtu": link.mtu,
        "qdisc": link.qdisc or None,
        "master": names.get(link.master) if link.master else None,
        "operstate": link.operstate,
        "linkmode": "DORMANT" if rest.get(17) == b"\1" else "DEFAULT",
        "group": "default" if link.group == 0 else str(link.group),
        "txqlen": link.txqueuelen or None,
        "link_type": _HARDWARE.get(link.hardware_type, str(link.hardware_type)),
        "address": _address(link, link.mac),
        "broadcast": _address(link, link.broadcast),
        "link_netnsid": link.parent_namespace,
        "ifalias": link.alias or None,
        "altnames": list(link.altnames) or None,
    }
    found = {key: value for key, value in shown.items() if value is not None}
    if link.flags & LinkFlag.POINTOPOINT and link.mac:
        found["link_pointtopoint"] = True
    if link.parent == 0:
        found["link"] = None
    return found | _details(link, rest, names) if details else found


def _address(link: Link, text: str) -> str | None:
    # Of a tunnel over IP the address is that of its end.
    data = bytes.fromhex(text.replace(":", ""))
    if link.hardware_type in {768, 776, 778} and len(data) == 4:
        return ".".join(map(str, data))
    if link.hardware_type in {769, 823} and len(data) == 16:
        from ipaddress import IPv6Address  # 20 ms, for tunnels alone

        return str(IPv6Address(data))
    return text or None


_NUMBERS: Final = (
    *((61, "allmulti"), (59, "tso_max_size"), (60, "tso_max_segs"), (58, "gro_max_size")),
    *((63, "gso_ipv4_max_size"), (64, "gro_ipv4_max_size")),
)


def _details(link: Link, rest: Mapping[int, bytes], names: Mapping[int, str]) -> Shown:
    transmit, receive = link.queues
    shown: Shown = {
        "promiscuity": link.promiscuity,
        "min_mtu": link.min_mtu,
        "max_mtu": link.max_mtu,
        "num_tx_queues": transmit,
        "num_rx_queues": receive,
        "gso_max_size": link.gso_max_size,
        "gso_max_segs": link.gso_max_segs,
    }
    shown |= {name: int(U32.unpack(rest[place])[0]) for place, name in _NUMBERS if len(rest.get(place, b"")) == 4}
    info: Shown = {}
    for key, kind, options in (("info", link.kind, link.options), ("info_slave", link.port_kind, link.port_options)):
        if kind:
            table = kind if key == "info" else f"port of {kind}"
            data = shown_options(table, options, names)
            info[f"{key}_kind"] = kind
            info |= {f"{key}_data": data} if data else {}
    if info:
        shown["linkinfo"] = info
    if 26 in rest:
        inet6 = parse_attributes(parse_attributes(rest[26]).get(10, b""))
        if len(inet6.get(8, b"")) == 1 and inet6[8][0] < len(_ADDRESS_MODES):
            shown["inet6_addr_gen_mode"] = _ADDRESS_MODES[inet6[8][0]]
    permanent = rest.get(54, b"").hex(":")
    if permanent and permanent != link.mac:
        shown["permaddr"] = _address(link, permanent)
    return shown


def shown_links(links: tuple[Link, ...], *, details: bool = False) -> list[Shown]:
    """Return links as `ip -j link` lists them."""
    names = {link.ifindex: link.name for link in links}
    down = {link.ifindex for link in links if not link.is_up}
    shown = [shown_link(link, names, details=details) for link in links]
    for link, each in zip(links, shown, strict=True):
        if link.parent in down and link.parent_namespace is None:
            each["flags"].append("M-DOWN")
    return shown
