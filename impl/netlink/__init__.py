"""Network of Linux over netlink, without any library: links, addresses, routes, rules, neighbours, namespaces.

    rtnl        Rtnl: all of it over one connection
    classic     the names of 2014: create_bridge, network_link_add_ip, network_link_up …
    links, bridges, kinds, addresses, routes, nexthops, neighbours, rules: records, and requests as values
    connection  requests, dumps and batches over a socket; endpoint is the socket, acknowledge the end of an answer
    wire        bytes of messages and attributes; spaces: what attributes are called; values: addresses and names
    multicast, qdiscs, netconf, namespace_ids: more records; generic, ethtool: generic netlink; tuntap: TUN and TAP
    monitor     events, and a view that is never stale
    topology    what is to be there, the steps to it, and back; route_plans: those of routes; steps: how they are done
    netns       sockets and calls in other network namespaces, and named ones as `ip netns` has them
    recorder    what passed over a socket, kept and played back; named: its messages, for people
    errors      what can go wrong

Each stands on those below it. This is not for packets, and not for netfilter.

A name is looked up when it is first used, so that a program pays for the modules it needs.
"""

from importlib import import_module

TYPE_CHECKING = False  # what type checkers take for true; typing itself would cost 6 ms at every import
if TYPE_CHECKING:
    from kernelproof.impl.netlink.addresses import FOREVER as FOREVER
    from kernelproof.impl.netlink.addresses import Address as Address
    from kernelproof.impl.netlink.addresses import AddressFlag as AddressFlag
    from kernelproof.impl.netlink.bridges import Vlan as Vlan
    from kernelproof.impl.netlink.classic import ErrInterfaceExists as ErrInterfaceExists
    from kernelproof.impl.netlink.classic import ErrShortResponse as ErrShortResponse
    from kernelproof.impl.netlink.classic import ErrWrongSockType as ErrWrongSockType
    from kernelproof.impl.netlink.classic import IfAddr as IfAddr
    from kernelproof.impl.netlink.classic import add_default_gw as add_default_gw
    from kernelproof.impl.netlink.classic import add_route as add_route
    from kernelproof.impl.netlink.classic import add_to_bridge as add_to_bridge
    from kernelproof.impl.netlink.classic import change_name as change_name
    from kernelproof.impl.netlink.classic import create_bridge as create_bridge
    from kernelproof.impl.netlink.classic import del_from_bridge as del_from_bridge
    from kernelproof.impl.netlink.classic import delete_bridge as delete_bridge
    from kernelproof.impl.netlink.classic import network_change_name as network_change_name
    from kernelproof.impl.netlink.classic import network_create_veth_pair as network_create_veth_pair
    from kernelproof.impl.netlink.classic import network_get_routes as network_get_routes
    from kernelproof.impl.netlink.classic import network_link_add as network_link_add
    from kernelproof.impl.netlink.classic import network_link_add_ip as network_link_add_ip
    from kernelproof.impl.netlink.classic import network_link_add_mac_vlan as network_link_add_mac_vlan
    from kernelproof.impl.netlink.classic import network_link_add_mac_vtap as network_link_add_mac_vtap
    from kernelproof.impl.netlink.classic import network_link_add_vlan as network_link_add_vlan
    from kernelproof.impl.netlink.classic import network_link_del as network_link_del
    from kernelproof.impl.netlink.classic import network_link_del_ip as network_link_del_ip
    from kernelproof.impl.netlink.classic import network_link_down as network_link_down
    from kernelproof.impl.netlink.classic import network_link_up as network_link_up
    from kernelproof.impl.netlink.classic import network_set_mac_address as network_set_mac_address
    from kernelproof.impl.netlink.classic import network_set_master as network_set_master
    from kernelproof.impl.netlink.classic import network_set_mtu as network_set_mtu
    from kernelproof.impl.netlink.classic import network_set_no_master as network_set_no_master
    from kernelproof.impl.netlink.classic import network_set_ns_fd as network_set_ns_fd
    from kernelproof.impl.netlink.classic import network_set_ns_pid as network_set_ns_pid
    from kernelproof.impl.netlink.classic import network_set_tx_queue_len as network_set_tx_queue_len
    from kernelproof.impl.netlink.classic import set_hairpin_mode as set_hairpin_mode
    from kernelproof.impl.netlink.classic import set_mac_address as set_mac_address
    from kernelproof.impl.netlink.connection import Answer as Answer
    from kernelproof.impl.netlink.connection import Connection as Connection
    from kernelproof.impl.netlink.connection import Dump as Dump
    from kernelproof.impl.netlink.errors import AlreadyThereError as AlreadyThereError
    from kernelproof.impl.netlink.errors import ClosedError as ClosedError
    from kernelproof.impl.netlink.errors import DumpInterruptedError as DumpInterruptedError
    from kernelproof.impl.netlink.errors import NetlinkError as NetlinkError
    from kernelproof.impl.netlink.errors import NoSuchProcessError as NoSuchProcessError
    from kernelproof.impl.netlink.errors import NotPermittedError as NotPermittedError
    from kernelproof.impl.netlink.errors import NotThereError as NotThereError
    from kernelproof.impl.netlink.errors import Policy as Policy
    from kernelproof.impl.netlink.errors import TimedOutError as TimedOutError
    from kernelproof.impl.netlink.errors import WireError as WireError
    from kernelproof.impl.netlink.ethtool import Ethtool as Ethtool
    from kernelproof.impl.netlink.ethtool import Features as Features
    from kernelproof.impl.netlink.ethtool import LinkModes as LinkModes
    from kernelproof.impl.netlink.ethtool import LinkState as LinkState
    from kernelproof.impl.netlink.generic import Family as Family
    from kernelproof.impl.netlink.generic import Generic as Generic
    from kernelproof.impl.netlink.generic import Reply as Reply
    from kernelproof.impl.netlink.links import Link as Link
    from kernelproof.impl.netlink.links import LinkFlag as LinkFlag
    from kernelproof.impl.netlink.links import Statistics as Statistics
    from kernelproof.impl.netlink.monitor import Event as Event
    from kernelproof.impl.netlink.monitor import Monitor as Monitor
    from kernelproof.impl.netlink.monitor import Overrun as Overrun
    from kernelproof.impl.netlink.monitor import wait_until_link as wait_until_link
    from kernelproof.impl.netlink.monitor import wait_until_link_gone as wait_until_link_gone
    from kernelproof.impl.netlink.monitor import wait_until_link_up as wait_until_link_up
    from kernelproof.impl.netlink.multicast import MulticastEntry as MulticastEntry
    from kernelproof.impl.netlink.multicast import MulticastGroups as MulticastGroups
    from kernelproof.impl.netlink.neighbours import Neighbour as Neighbour
    from kernelproof.impl.netlink.neighbours import NeighbourFlag as NeighbourFlag
    from kernelproof.impl.netlink.neighbours import NeighbourState as NeighbourState
    from kernelproof.impl.netlink.netconf import NetConf as NetConf
    from kernelproof.impl.netlink.netns import Pid as Pid
    from kernelproof.impl.netlink.netns import create_namespace as create_namespace
    from kernelproof.impl.netlink.netns import delete_namespace as delete_namespace
    from kernelproof.impl.netlink.netns import list_namespaces as list_namespaces
    from kernelproof.impl.netlink.netns import open_namespace as open_namespace
    from kernelproof.impl.netlink.netns import run_in as run_in
    from kernelproof.impl.netlink.nexthops import NextHopObject as NextHopObject
    from kernelproof.impl.netlink.qdiscs import Qdisc as Qdisc
    from kernelproof.impl.netlink.qdiscs import QdiscStatistics as QdiscStatistics
    from kernelproof.impl.netlink.recorder import Recorder as Recorder
    from kernelproof.impl.netlink.recorder import ReplaySocket as ReplaySocket
    from kernelproof.impl.netlink.recorder import parse_recording as parse_recording
    from kernelproof.impl.netlink.requests import MessageFlag as MessageFlag
    from kernelproof.impl.netlink.requests import Request as Request
    from kernelproof.impl.netlink.routes import Encapsulation as Encapsulation
    from kernelproof.impl.netlink.routes import NextHop as NextHop
    from kernelproof.impl.netlink.routes import Route as Route
    from kernelproof.impl.netlink.routes import RouteType as RouteType
    from kernelproof.impl.netlink.routes import Scope as Scope
    from kernelproof.impl.netlink.rtnl import Rtnl as Rtnl
    from kernelproof.impl.netlink.rules import Rule as Rule
    from kernelproof.impl.netlink.topology import LinkWanted as LinkWanted
    from kernelproof.impl.netlink.topology import Topology as Topology
    from kernelproof.impl.netlink.topology import applied as applied
    from kernelproof.impl.netlink.tuntap import Tun as Tun
    from kernelproof.impl.netlink.tuntap import TunFlag as TunFlag
    from kernelproof.impl.netlink.tuntap import open_tun as open_tun

# Module -> its public names.
_HOMES = {
    "addresses": "Address AddressFlag FOREVER",
    "bridges": "Vlan",
    "classic": (
        "ErrInterfaceExists ErrShortResponse ErrWrongSockType IfAddr add_default_gw add_route add_to_bridge "
        "change_name create_bridge del_from_bridge delete_bridge network_change_name network_create_veth_pair "
        "network_get_routes network_link_add network_link_add_ip network_link_add_mac_vlan "
        "network_link_add_mac_vtap network_link_add_vlan network_link_del network_link_del_ip "
        "network_link_down network_link_up network_set_mac_address network_set_master network_set_mtu "
        "network_set_no_master network_set_ns_fd network_set_ns_pid network_set_tx_queue_len set_hairpin_mode "
        "set_mac_address"
    ),
    "connection": "Answer Connection Dump",
    "errors": (
        "AlreadyThereError ClosedError DumpInterruptedError NetlinkError NoSuchProcessError NotPermittedError "
        "NotThereError Policy TimedOutError WireError"
    ),
    "ethtool": "Ethtool Features LinkModes LinkState",
    "generic": "Family Generic Reply",
    "links": "Link LinkFlag Statistics",
    "monitor": "Event Monitor Overrun wait_until_link wait_until_link_gone wait_until_link_up",
    "multicast": "MulticastEntry MulticastGroups",
    "neighbours": "Neighbour NeighbourFlag NeighbourState",
    "netns": "Pid create_namespace delete_namespace list_namespaces open_namespace run_in",
    "netconf": "NetConf",
    "nexthops": "NextHopObject",
    "qdiscs": "Qdisc QdiscStatistics",
    "recorder": "Recorder ReplaySocket parse_recording",
    "requests": "MessageFlag Request",
    "routes": "Encapsulation NextHop Route RouteType Scope",
    "rtnl": "Rtnl",
    "rules": "Rule",
    "topology": "LinkWanted Topology applied",
    "tuntap": "Tun TunFlag open_tun",
}

__all__ = sorted(name for names in _HOMES.values() for name in names.split())


def __getattr__(name: str) -> object:
    module = next((module for module, names in _HOMES.items() if name in names.split()), None)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value  # the next look-up is a plain one
    return value


def __dir__() -> list[str]:
    return __all__
