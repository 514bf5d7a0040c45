"""What the kinds of links can be told: IFLA_INFO_DATA, IFLA_INFO_SLAVE_DATA as plain options, both ways.

An option is called as the kernel calls its attribute, in small letters: IFLA_BR_AGEING_TIME is `ageing_time`, with the
kernel's unit (of a bridge: hundredths of a second). An attribute that is not in a table is kept as its number and
bytes, and can be given so. The kinds without options (dummy, ifb, wireguard) take raw ones too.

Source: include/uapi/linux/if_link.h, if_tunnel.h, veth.h of Linux 6.13.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from struct import Struct
from typing import Final, TypeAlias

from kernelproof.impl.netlink.errors import WireError
from kernelproof.impl.netlink.values import encode_ip, encode_mac, parse_ip
from kernelproof.impl.netlink.wire import S32, U8, U16, U32, U64, Attribute, number, pack

Option: TypeAlias = "int | str | bytes"
Options: TypeAlias = "tuple[tuple[str | int, Option], ...]"

_FORMS: Final = {"u8": U8, "u16": U16, "u32": U32, "u64": U64, "s32": S32, "be16": Struct("!H"), "be32": Struct("!I")}

# "name number form"; forms: a number as above, ip, mac, flag (there or not), flag8 (sent as a flag, told as a number),
# range (two be16), pair (value and mask), id (of a bridge).
_BRIDGE = """forward_delay 1 u32, hello_time 2 u32, max_age 3 u32, ageing_time 4 u32, stp_state 5 u32, priority 6 u16,
    vlan_filtering 7 u8, vlan_protocol 8 be16, group_fwd_mask 9 u16, root_id 10 id, bridge_id 11 id, root_port 12 u16,
    root_path_cost 13 u32, topology_change 14 u8, topology_change_detected 15 u8, hello_timer 16 u64, tcn_timer 17 u64,
    topology_change_timer 18 u64, gc_timer 19 u64, group_addr 20 mac, fdb_flush 21 flag, mcast_router 22 u8,
    mcast_snooping 23 u8, mcast_query_use_ifaddr 24 u8, mcast_querier 25 u8, mcast_hash_elasticity 26 u32,
    mcast_hash_max 27 u32, mcast_last_member_cnt 28 u32, mcast_startup_query_cnt 29 u32, mcast_last_member_intvl 30 u64,
    mcast_membership_intvl 31 u64, mcast_querier_intvl 32 u64, mcast_query_intvl 33 u64,
    mcast_query_response_intvl 34 u64, mcast_startup_query_intvl 35 u64, nf_call_iptables 36 u8,
    nf_call_ip6tables 37 u8, nf_call_arptables 38 u8, vlan_default_pvid 39 u16, vlan_stats_enabled 41 u8,
    mcast_stats_enabled 42 u8, mcast_igmp_version 43 u8, mcast_mld_version 44 u8, vlan_stats_per_port 45 u8,
    multi_boolopt 46 pair, fdb_n_learned 48 u32, fdb_max_learned 49 u32"""
_BRIDGE_PORT = """state 1 u8, priority 2 u16, cost 3 u32, mode 4 u8, guard 5 u8, protect 6 u8, fast_leave 7 u8,
    learning 8 u8, unicast_flood 9 u8, proxyarp 10 u8, learning_sync 11 u8, proxyarp_wifi 12 u8, root_id 13 id,
    bridge_id 14 id, designated_port 15 u16, designated_cost 16 u16, id 17 u16, no 18 u16, topology_change_ack 19 u8,
    config_pending 20 u8, message_age_timer 21 u64, forward_delay_timer 22 u64, hold_timer 23 u64, flush 24 flag,
    multicast_router 25 u8, mcast_flood 27 u8, mcast_to_ucast 28 u8, vlan_tunnel 29 u8, bcast_flood 30 u8,
    group_fwd_mask 31 u16, neigh_suppress 32 u8, isolated 33 u8, backup_port 34 u32, mrp_ring_open 35 u8,
    mrp_in_open 36 u8, mcast_eht_hosts_limit 37 u32, mcast_eht_hosts_cnt 38 u32, locked 39 u8, mab 40 u8,
    mcast_n_groups 41 u32, mcast_max_groups 42 u32, neigh_vlan_suppress 43 u8, backup_nhid 44 u32"""
_MACVLAN = """mode 1 u32, flags 2 u16, macaddr_mode 3 u32, macaddr 4 mac, macaddr_count 6 u32, bc_queue_len 7 u32,
    bc_queue_len_used 8 u32, bc_cutoff 9 s32"""
_VXLAN = """id 1 u32, group 2 ip, link 3 u32, local 4 ip, ttl 5 u8, tos 6 u8, learning 7 u8, ageing 8 u32, limit 9 u32,
    port_range 10 range, proxy 11 u8, rsc 12 u8, l2miss 13 u8, l3miss 14 u8, port 15 be16, group6 16 ip, local6 17 ip,
    udp_csum 18 u8, udp_zero_csum6_tx 19 u8, udp_zero_csum6_rx 20 u8, remcsum_tx 21 u8, remcsum_rx 22 u8, gbp 23 flag,
    remcsum_nopartial 24 flag, collect_metadata 25 u8, label 26 be32, gpe 27 flag, ttl_inherit 28 flag8, df 29 u8,
    vnifilter 30 u8, localbypass 31 u8, label_policy 32 u32"""
_GENEVE = """id 1 u32, remote 2 ip, ttl 3 u8, tos 4 u8, port 5 be16, collect_metadata 6 flag, remote6 7 ip,
    udp_csum 8 u8, udp_zero_csum6_tx 9 u8, udp_zero_csum6_rx 10 u8, label 11 be32, ttl_inherit 12 u8, df 13 u8,
    inner_proto_inherit 14 flag"""
_BOND = """mode 1 u8, active_slave 2 u32, miimon 3 u32, updelay 4 u32, downdelay 5 u32, use_carrier 6 u8,
    arp_interval 7 u32, arp_validate 9 u32, arp_all_targets 10 u32, primary 11 u32, primary_reselect 12 u8,
    fail_over_mac 13 u8, xmit_hash_policy 14 u8, resend_igmp 15 u32, num_peer_notif 16 u8, all_slaves_active 17 u8,
    min_links 18 u32, lp_interval 19 u32, packets_per_slave 20 u32, ad_lacp_rate 21 u8, ad_select 22 u8,
    ad_actor_sys_prio 24 u16, ad_user_port_key 25 u16, ad_actor_system 26 mac, tlb_dynamic_lb 27 u8,
    peer_notif_delay 28 u32, ad_lacp_active 29 u8, missed_max 30 u8, coupled_control 32 u8"""
_BOND_PORT = """state 1 u8, mii_status 2 u8, link_failure_count 3 u32, perm_hwaddr 4 mac, queue_id 5 u16,
    ad_aggregator_id 6 u16, ad_actor_oper_port_state 7 u8, ad_partner_oper_port_state 8 u16, prio 9 s32"""
_IPTUN = """link 1 u32, local 2 ip, remote 3 ip, ttl 4 u8, tos 5 u8, encap_limit 6 u8, flowinfo 7 be32, flags 8 u16,
    proto 9 u8, pmtudisc 10 u8, encap_type 15 u16, encap_flags 16 u16, encap_sport 17 be16, encap_dport 18 be16,
    collect_metadata 19 flag, fwmark 20 u32"""
_SIT = _IPTUN.replace("flags 8 u16", "flags 8 be16")
_IP6TNL = _IPTUN.replace("flags 8 u16", "flags 8 u32")
_GRE = """link 1 u32, iflags 2 be16, oflags 3 be16, ikey 4 be32, okey 5 be32, local 6 ip, remote 7 ip, ttl 8 u8,
    tos 9 u8, pmtudisc 10 u8, encap_limit 11 u8, flowinfo 12 be32, flags 13 u32, encap_type 14 u16, encap_flags 15 u16,
    encap_sport 16 be16, encap_dport 17 be16, collect_metadata 18 flag, ignore_df 19 u8, fwmark 20 u32,
    erspan_index 21 u32, erspan_ver 22 u8, erspan_dir 23 u8, erspan_hwid 24 u16"""
_TUN = """owner 1 u32, group 2 u32, type 3 u8, pi 4 u8, vnet_hdr 5 u8, persist 6 u8, multi_queue 7 u8, num_queues 8 u32,
    num_disabled_queues 9 u32"""
_TABLES: Final = {
    "bridge": _BRIDGE,
    "vlan": "id 1 u16, flags 2 pair, protocol 5 be16",
    "macvlan": _MACVLAN,
    "macvtap": _MACVLAN,
    "ipvlan": "mode 1 u16, flags 2 u16",
    "ipvtap": "mode 1 u16, flags 2 u16",
    "vrf": "table 1 u32",
    "vxlan": _VXLAN,
    "geneve": _GENEVE,
    "bond": _BOND,
    "ipip": _IPTUN,
    "sit": _SIT,
    "ip6tnl": _IP6TNL,
    "gre": _GRE,
    "gretap": _GRE,
    "ip6gre": _GRE,
    "ip6gretap": _GRE,
    "erspan": _GRE,
    "tun": _TUN,
    "port of bridge": _BRIDGE_PORT,
    "port of bond": _BOND_PORT,
}

# Words for numbers that only a table in a header gives.
MODES: Final[Mapping[str, Mapping[str, int]]] = {
    "macvlan": {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8, "source": 16},
    "macvtap": {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8, "source": 16},
    "ipvlan": {"l2": 0, "l3": 1, "l3s": 2},
    "ipvtap": {"l2": 0, "l3": 1, "l3s": 2},
    "bond": {
        "balance-rr": 0,
        "active-backup": 1,
        "balance-xor": 2,
        "broadcast": 3,
        "802.3ad": 4,
        "balance-tlb": 5,
        "balance-alb": 6,
    },
}


class Table:
    """The options of one kind, by name and by number."""

    __slots__ = ("by_name", "by_number", "kind")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.by_name: dict[str, tuple[int, str]] = {}
        self.by_number: dict[int, tuple[str, str]] = {}
        for entry in filter(None, _TABLES.get(kind, "").split(",")):
            name, place, form = entry.split()
            self.by_name[name] = int(place), form
            self.by_number[int(place)] = name, form

    def encode(self, options: Mapping[str, Option], raw: Mapping[int, bytes] | None = None) -> list[Attribute]:
        """Return the attributes of options.

        Raises:
            ValueError: the kind has no such option, or not such a value.
        """
        return [*self._encoded(options), *(raw or {}).items()]

    def _encoded(self, options: Mapping[str, Option]) -> Iterator[Attribute]:
        for name, value in options.items():
            if name not in self.by_name:
                known = ", ".join(self.by_name) or "none"
                raise ValueError(f"{self.kind} has no option {name!r}; it has: {known}")
            place, form = self.by_name[name]
            if name == "mode" and isinstance(value, str):
                value = self._mode(value)
            if form in {"flag", "flag8"} and not value:
                continue
            yield place, _encode(f"{self.kind} {name}", form, value)

    def _mode(self, word: str) -> int:
        modes = MODES.get(self.kind, {})
        if word not in modes:
            raise ValueError(f"{self.kind} has no mode {word!r}; it has: {', '.join(modes)}")
        return modes[word]

    def parse(self, attributes: Mapping[int, bytes]) -> Options:
        """Return options by name; attributes without a name by number, as bytes.

        Raises:
            WireError: a value of another width than its form has.
        """
        return tuple(
            (self.by_number[place][0], _parse(*self.by_number[place], data))
            if place in self.by_number
            else (place, data)
            for place, data in attributes.items()
        )


def _encode(what: str, form: str, value: Option) -> bytes:
    if isinstance(value, bytes):
        return value
    if form in {"flag", "flag8"}:
        return b""
    if form in {"ip", "mac", "id", "pair", "range"}:
        return _encode_text(what, form, str(value))
    if not isinstance(value, int):
        raise ValueError(f"{what} is a number, not {value!r}")
    return pack(_FORMS[form], value, what)


def _encode_text(what: str, form: str, value: str) -> bytes:
    if form == "ip":
        return encode_ip(value)[1]
    if form == "mac":
        return encode_mac(value)
    if form == "id":
        raise ValueError(f"{what} is the kernel's to give")
    first, _, second = value.partition("-" if form == "range" else "/")
    if not (first.isdigit() and second.isdigit()):
        raise ValueError(f"{what} is two numbers, {'low-high' if form == 'range' else 'value/mask'}, not {value!r}")
    if form == "range":
        return pack(_FORMS["be16"], int(first), what) + pack(_FORMS["be16"], int(second), what)
    return pack(U32, int(first), what) + pack(U32, int(second), what)


def _parse(name: str, form: str, data: bytes) -> Option:
    if form in _FORMS:
        return number(data, _FORMS[form], name)
    if form in {"flag", "flag8"}:
        return number(data, U8, name) if data else 1
    if form == "ip":
        return parse_ip(data)
    if form == "mac":
        return data.hex(":")
    if len(data) != {"id": 8, "range": 4, "pair": 8}[form]:
        raise WireError(f"{name} of {len(data)} bytes")
    if form == "id":
        return f"{data[:2].hex()}.{data[2:].hex(':')}"
    if form == "range":
        return f"{int.from_bytes(data[:2], 'big')}-{int.from_bytes(data[2:], 'big')}"
    return f"{number(data[:4], U32)}/{number(data[4:], U32)}"


_MADE: dict[str, Table] = {}


def table_of(kind: str) -> Table:
    """Return the table of a kind; one without options for a kind that nobody knows."""
    if kind not in _TABLES:
        return Table(kind)
    if kind not in _MADE:
        _MADE[kind] = Table(kind)
    return _MADE[kind]
