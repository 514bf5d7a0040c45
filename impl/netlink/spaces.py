"""Names of attributes, as the kernel has them, and what is nested in which.

A space is what a type counts in: 3 is IFLA_IFNAME in a link and RTA_IIF in a route. Spaces serve to name an attribute
in an error, and to show a recorded message; records are decoded by the modules of their own.

Source: include/uapi/linux/{if_link,if_tunnel,if_addr,rtnetlink,neighbour,fib_rules,nexthop,if_bridge,veth,
net_namespace,netconf,genetlink}.h of Linux 6.13.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kernelproof.impl.netlink.wire import Attribute

_TYPE_MASK: Final = 0x3FFF


class Space:
    """What the types of a row of attributes are called.

    Args:
        prefix: of the kernel's names.
        names: the rest of the names, from type 0 on, in one text.
        nested: type to the space inside it.
        by_kind: type to (type of a sibling that holds a kind, kind to space).
        skip: how many bytes of a structure stand before the attributes.
    """

    __slots__ = ("_by_kind", "_names", "_nested", "prefix", "skip")

    def __init__(
        self,
        prefix: str,
        names: str,
        nested: Mapping[int, Space] | None = None,
        by_kind: Mapping[int, tuple[int, Mapping[str, Space]]] | None = None,
        skip: int = 0,
    ) -> None:
        self.prefix = prefix
        self.skip = skip
        self._names = names.split()
        self._nested = dict(nested or {})
        self._by_kind = dict(by_kind or {})

    def name(self, kind: int) -> str:
        """Return the kernel's name of a type.

        >>> LINK.name(3), LINK.name(9999)
        ('IFLA_IFNAME', 'IFLA_9999')
        """
        return f"{self.prefix}_{self._names[kind] if kind < len(self._names) else kind}"

    def inside(self, kind: int, siblings: Sequence[Attribute]) -> Space | None:
        """Return the space of what is nested in an attribute, or None where none is known."""
        kind &= _TYPE_MASK
        if kind not in self._by_kind:
            return self._nested.get(kind)
        selector, spaces = self._by_kind[kind]
        chosen = next((value for sibling, value in siblings if sibling & _TYPE_MASK == selector), b"")
        return spaces.get(chosen.rstrip(b"\0").decode("ascii", "replace")) if isinstance(chosen, bytes) else None

    def with_nested(self, kind: int, space: Space, *, skip: int = 0) -> Space:
        """Return the same space, which from now on has another inside; used where two spaces contain each other."""
        self._nested[kind] = Space(space.prefix, " ".join(space._names), space._nested, space._by_kind, skip)
        return self


_BRIDGE = Space(
    "IFLA_BR",
    "UNSPEC FORWARD_DELAY HELLO_TIME MAX_AGE AGEING_TIME STP_STATE PRIORITY VLAN_FILTERING VLAN_PROTOCOL "
    "GROUP_FWD_MASK ROOT_ID BRIDGE_ID ROOT_PORT ROOT_PATH_COST TOPOLOGY_CHANGE TOPOLOGY_CHANGE_DETECTED "
    "HELLO_TIMER TCN_TIMER TOPOLOGY_CHANGE_TIMER GC_TIMER GROUP_ADDR FDB_FLUSH MCAST_ROUTER MCAST_SNOOPING "
    "MCAST_QUERY_USE_IFADDR MCAST_QUERIER MCAST_HASH_ELASTICITY MCAST_HASH_MAX MCAST_LAST_MEMBER_CNT "
    "MCAST_STARTUP_QUERY_CNT MCAST_LAST_MEMBER_INTVL MCAST_MEMBERSHIP_INTVL MCAST_QUERIER_INTVL "
    "MCAST_QUERY_INTVL MCAST_QUERY_RESPONSE_INTVL MCAST_STARTUP_QUERY_INTVL NF_CALL_IPTABLES NF_CALL_IP6TABLES "
    "NF_CALL_ARPTABLES VLAN_DEFAULT_PVID PAD VLAN_STATS_ENABLED MCAST_STATS_ENABLED MCAST_IGMP_VERSION "
    "MCAST_MLD_VERSION VLAN_STATS_PER_PORT MULTI_BOOLOPT MCAST_QUERIER_STATE FDB_N_LEARNED FDB_MAX_LEARNED",
)
BRIDGE_PORT = Space(
    "IFLA_BRPORT",
    "UNSPEC STATE PRIORITY COST MODE GUARD PROTECT FAST_LEAVE LEARNING UNICAST_FLOOD PROXYARP LEARNING_SYNC "
    "PROXYARP_WIFI ROOT_ID BRIDGE_ID DESIGNATED_PORT DESIGNATED_COST ID NO TOPOLOGY_CHANGE_ACK CONFIG_PENDING "
    "MESSAGE_AGE_TIMER FORWARD_DELAY_TIMER HOLD_TIMER FLUSH MULTICAST_ROUTER PAD MCAST_FLOOD MCAST_TO_UCAST "
    "VLAN_TUNNEL BCAST_FLOOD GROUP_FWD_MASK NEIGH_SUPPRESS ISOLATED BACKUP_PORT MRP_RING_OPEN MRP_IN_OPEN "
    "MCAST_EHT_HOSTS_LIMIT MCAST_EHT_HOSTS_CNT LOCKED MAB MCAST_N_GROUPS MCAST_MAX_GROUPS NEIGH_VLAN_SUPPRESS "
    "BACKUP_NHID",
)
_VLAN = Space(
    "IFLA_VLAN",
    "UNSPEC ID FLAGS EGRESS_QOS INGRESS_QOS PROTOCOL",
)
_MACVLAN = Space(
    "IFLA_MACVLAN",
    "UNSPEC MODE FLAGS MACADDR_MODE MACADDR MACADDR_DATA MACADDR_COUNT BC_QUEUE_LEN BC_QUEUE_LEN_USED BC_CUTOFF",
)
_VRF = Space(
    "IFLA_VRF",
    "UNSPEC TABLE",
)
_IPVLAN = Space(
    "IFLA_IPVLAN",
    "UNSPEC MODE FLAGS",
)
_VXLAN = Space(
    "IFLA_VXLAN",
    "UNSPEC ID GROUP LINK LOCAL TTL TOS LEARNING AGEING LIMIT PORT_RANGE PROXY RSC L2MISS L3MISS PORT GROUP6 "
    "LOCAL6 UDP_CSUM UDP_ZERO_CSUM6_TX UDP_ZERO_CSUM6_RX REMCSUM_TX REMCSUM_RX GBP REMCSUM_NOPARTIAL "
    "COLLECT_METADATA LABEL GPE TTL_INHERIT DF VNIFILTER LOCALBYPASS LABEL_POLICY",
)
_GENEVE = Space(
    "IFLA_GENEVE",
    "UNSPEC ID REMOTE TTL TOS PORT COLLECT_METADATA REMOTE6 UDP_CSUM UDP_ZERO_CSUM6_TX UDP_ZERO_CSUM6_RX LABEL "
    "TTL_INHERIT DF INNER_PROTO_INHERIT",
)
_BOND = Space(
    "IFLA_BOND",
    "UNSPEC MODE ACTIVE_SLAVE MIIMON UPDELAY DOWNDELAY USE_CARRIER ARP_INTERVAL ARP_IP_TARGET ARP_VALIDATE "
    "ARP_ALL_TARGETS PRIMARY PRIMARY_RESELECT FAIL_OVER_MAC XMIT_HASH_POLICY RESEND_IGMP NUM_PEER_NOTIF "
    "ALL_SLAVES_ACTIVE MIN_LINKS LP_INTERVAL PACKETS_PER_SLAVE AD_LACP_RATE AD_SELECT AD_INFO "
    "AD_ACTOR_SYS_PRIO AD_USER_PORT_KEY AD_ACTOR_SYSTEM TLB_DYNAMIC_LB PEER_NOTIF_DELAY AD_LACP_ACTIVE "
    "MISSED_MAX NS_IP6_TARGET COUPLED_CONTROL",
)
_BOND_SLAVE = Space(
    "IFLA_BOND_SLAVE",
    "UNSPEC STATE MII_STATUS LINK_FAILURE_COUNT PERM_HWADDR QUEUE_ID AD_AGGREGATOR_ID AD_ACTOR_OPER_PORT_STATE "
    "AD_PARTNER_OPER_PORT_STATE PRIO ACTOR_PORT_PRIO AD_CHURN_ACTOR_STATE AD_CHURN_PARTNER_STATE",
)
_TUN = Space(
    "IFLA_TUN",
    "UNSPEC OWNER GROUP TYPE PI VNET_HDR PERSIST MULTI_QUEUE NUM_QUEUES NUM_DISABLED_QUEUES",
)
_IPTUN = Space(
    "IFLA_IPTUN",
    "UNSPEC LINK LOCAL REMOTE TTL TOS ENCAP_LIMIT FLOWINFO FLAGS PROTO PMTUDISC 6RD_PREFIX 6RD_RELAY_PREFIX "
    "6RD_PREFIXLEN 6RD_RELAY_PREFIXLEN ENCAP_TYPE ENCAP_FLAGS ENCAP_SPORT ENCAP_DPORT COLLECT_METADATA FWMARK",
)
_GRE = Space(
    "IFLA_GRE",
    "UNSPEC LINK IFLAGS OFLAGS IKEY OKEY LOCAL REMOTE TTL TOS PMTUDISC ENCAP_LIMIT FLOWINFO FLAGS ENCAP_TYPE "
    "ENCAP_FLAGS ENCAP_SPORT ENCAP_DPORT COLLECT_METADATA IGNORE_DF FWMARK ERSPAN_INDEX ERSPAN_VER ERSPAN_DIR "
    "ERSPAN_HWID",
)
_VETH = Space(
    "VETH_INFO",
    "UNSPEC PEER",
)
_INFO = Space(
    "IFLA_INFO",
    "UNSPEC KIND DATA XSTATS SLAVE_KIND SLAVE_DATA",
    by_kind={
        2: (
            1,
            {
                "bridge": _BRIDGE,
                "vlan": _VLAN,
                "macvlan": _MACVLAN,
                "macvtap": _MACVLAN,
                "vrf": _VRF,
                "ipvlan": _IPVLAN,
                "vxlan": _VXLAN,
                "geneve": _GENEVE,
                "bond": _BOND,
                "tun": _TUN,
                "ipip": _IPTUN,
                "sit": _IPTUN,
                "ip6tnl": _IPTUN,
                "gre": _GRE,
                "gretap": _GRE,
                "ip6gre": _GRE,
                "ip6gretap": _GRE,
                "veth": _VETH,
            },
        ),
        5: (4, {"bridge": BRIDGE_PORT, "bond": _BOND_SLAVE}),
    },
)
_PROPERTIES = Space("IFLA", " ".join([*map(str, range(53)), "ALT_IFNAME"]))
_INET6 = Space(
    "IFLA_INET6",
    "UNSPEC FLAGS CONF STATS MCAST CACHEINFO ICMP6STATS TOKEN ADDR_GEN_MODE RA_MTU",
)
_FAMILIES = Space("AF", " ".join(map(str, range(11))), {10: _INET6})
LINK = Space(
    "IFLA",
    "UNSPEC ADDRESS BROADCAST IFNAME MTU LINK QDISC STATS COST PRIORITY MASTER WIRELESS PROTINFO TXQLEN MAP "
    "WEIGHT OPERSTATE LINKMODE LINKINFO NET_NS_PID IFALIAS NUM_VF VFINFO_LIST STATS64 VF_PORTS PORT_SELF "
    "AF_SPEC GROUP NET_NS_FD EXT_MASK PROMISCUITY NUM_TX_QUEUES NUM_RX_QUEUES CARRIER PHYS_PORT_ID "
    "CARRIER_CHANGES PHYS_SWITCH_ID LINK_NETNSID PHYS_PORT_NAME PROTO_DOWN GSO_MAX_SEGS GSO_MAX_SIZE PAD XDP "
    "EVENT NEW_NETNSID IF_NETNSID CARRIER_UP_COUNT CARRIER_DOWN_COUNT NEW_IFINDEX MIN_MTU MAX_MTU PROP_LIST "
    "ALT_IFNAME PERM_ADDRESS PROTO_DOWN_REASON PARENT_DEV_NAME PARENT_DEV_BUS_NAME GRO_MAX_SIZE TSO_MAX_SIZE "
    "TSO_MAX_SEGS ALLMULTI DEVLINK_PORT GSO_IPV4_MAX_SIZE GRO_IPV4_MAX_SIZE DPLL_PIN",
    nested={18: _INFO, 26: _FAMILIES, 52: _PROPERTIES},
)
_VETH.with_nested(1, LINK, skip=16)
_BRIDGE_SPEC = Space(
    "IFLA_BRIDGE",
    "FLAGS MODE VLAN_INFO VLAN_TUNNEL_INFO MRP CFM MST",
)
BRIDGE_LINK = Space(LINK.prefix, " ".join(LINK._names), {12: BRIDGE_PORT, 26: _BRIDGE_SPEC})
ADDRESS = Space(
    "IFA",
    "UNSPEC ADDRESS LOCAL LABEL BROADCAST ANYCAST CACHEINFO MULTICAST FLAGS RT_PRIORITY TARGET_NETNSID PROTO",
)
METRICS = Space(
    "RTAX",
    "UNSPEC LOCK MTU WINDOW RTT RTTVAR SSTHRESH CWND ADVMSS REORDERING HOPLIMIT INITCWND FEATURES RTO_MIN INITRWND "
    "QUICKACK CC_ALGO FASTOPEN_NO_COOKIE",
)
ROUTE = Space(
    "RTA",
    "UNSPEC DST SRC IIF OIF GATEWAY PRIORITY PREFSRC METRICS MULTIPATH PROTOINFO FLOW CACHEINFO SESSION "
    "MP_ALGO TABLE MARK MFC_STATS VIA NEWDST PREF ENCAP_TYPE ENCAP EXPIRES PAD UID TTL_PROPAGATE IP_PROTO "
    "SPORT DPORT NH_ID",
    nested={8: METRICS},
)
NEIGHBOUR = Space(
    "NDA",
    "UNSPEC DST LLADDR CACHEINFO PROBES VLAN PORT VNI IFINDEX MASTER LINK_NETNSID SRC_VNI PROTOCOL NH_ID "
    "FDB_EXT_ATTRS FLAGS_EXT NDM_STATE_MASK NDM_FLAGS_MASK",
)
RULE = Space(
    "FRA",
    "UNSPEC DST SRC IIFNAME GOTO UNUSED2 PRIORITY UNUSED3 UNUSED4 UNUSED5 FWMARK FLOW TUN_ID SUPPRESS_IFGROUP "
    "SUPPRESS_PREFIXLEN TABLE FWMASK OIFNAME PAD L3MDEV UID_RANGE PROTOCOL IP_PROTO SPORT_RANGE DPORT_RANGE "
    "DSCP",
)
NEXTHOP = Space(
    "NHA",
    "UNSPEC ID GROUP GROUP_TYPE BLACKHOLE OIF GATEWAY ENCAP_TYPE ENCAP GROUPS MASTER FDB RES_GROUP RES_BUCKET "
    "OP_FLAGS GROUP_STATS HW_STATS_ENABLE HW_STATS_USED",
)
NAMESPACE_ID = Space(
    "NETNSA",
    "NONE NSID PID FD TARGET_NSID CURRENT_NSID",
)
NETCONF = Space(
    "NETCONFA",
    "UNSPEC IFINDEX FORWARDING RP_FILTER MC_FORWARDING PROXY_NEIGH IGNORE_ROUTES_WITH_LINKDOWN INPUT BC_FORWARDING",
)
QDISC = Space(
    "TCA",
    "UNSPEC KIND OPTIONS STATS XSTATS RATE FCNT STATS2 STAB PAD DUMP_INVISIBLE CHAIN HW_OFFLOAD INGRESS_BLOCK "
    "EGRESS_BLOCK DUMP_FLAGS EXT_WARN_MSG",
)
_MULTICAST_SET = Space(
    "MDBE_ATTR",
    "UNSPEC SOURCE SRC_LIST GROUP_MODE RTPROT DST DST_PORT VNI IFINDEX SRC_VNI STATE_MASK",
)
MULTICAST = Space("MDBA_SET", "UNSPEC ENTRY ENTRY_ATTRS", {2: _MULTICAST_SET})
CONTROL = Space(
    "CTRL_ATTR",
    "UNSPEC FAMILY_ID FAMILY_NAME VERSION HDRSIZE MAXATTR OPS MCAST_GROUPS POLICY OP_POLICY OP",
)
