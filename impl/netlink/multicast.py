"""Multicast groups of bridges (MDB): who of the ports gets what, and which ports lead to routers.

A group is an IPv4 or IPv6 address, or a hardware address of Ethernet. The kernel tells all groups of a bridge in one
message; entries of vxlan links come the same way, their further attributes raw.

Source: include/uapi/linux/if_bridge.h, MDBA_*; bridge(8), bridge mdb.
"""

from struct import Struct
from typing import Final, NamedTuple

from kernelproof.impl.netlink.errors import WireError
from kernelproof.impl.netlink.requests import CREATE, EXCL, REPLACE, Request
from kernelproof.impl.netlink.spaces import MULTICAST
from kernelproof.impl.netlink.values import check_index, encode_ip, encode_mac, parse_ip
from kernelproof.impl.netlink.wire import (
    U8,
    U16,
    U32,
    Attribute,
    Message,
    number,
    open_message,
    pack,
    parse_attributes,
    parse_list,
)

NEWMDB, DELMDB, GETMDB = 84, 85, 86
INCLUDE, EXCLUDE = 0, 1  # MCAST_, filter modes of a group

_BRIDGE: Final = 7
_HEADER: Final = Struct("=BxxxI")
_ENTRY: Final = Struct("=IBBH16s2sxx")
_PROTOCOLS: Final = {b"\x08\x00": 4, b"\x86\xdd": 16, b"\0\0": 6}  # EtherType to bytes of an address
_FAMILIES: Final = {2: b"\x08\x00", 10: b"\x86\xdd"}


class MulticastEntry(NamedTuple):
    """A group, and the port of the bridge that gets it; the bridge itself as port is the host.

    Attributes:
        source: of an entry for one sender (IGMPv3, MLDv2); "" for all.
        mode: INCLUDE or EXCLUDE the senders listed, None where the kernel does not tell.
        sources: the senders.
        timer: hundredths of a second until a temporary entry goes.
    """

    bridge: int
    port: int
    group: str
    vlan: int = 0
    permanent: bool = True
    flags: int = 0
    source: str = ""
    mode: int | None = None
    sources: tuple[str, ...] = ()
    protocol: int | None = None
    timer: int = 0
    rest: tuple[tuple[int, bytes], ...] = ()


class MulticastGroups(NamedTuple):
    """What one message tells of one bridge: its entries, and its ports to routers."""

    bridge: int
    entries: tuple[MulticastEntry, ...]
    router_ports: tuple[int, ...]


def parse_multicast(message: Message) -> MulticastGroups:
    """Return what an RTM_NEWMDB or RTM_DELMDB says.

    Raises:
        WireError: the message is too short, or an attribute lies.
    """
    (_, bridge), found = open_message(message, _HEADER, "multicast")
    entries = [
        _parse_entry(bridge, info)
        for _, group in parse_list(found.get(1, b""))
        for place, info in parse_list(group)
        if place == 1
    ]
    routers = [_parse_port(data) for place, data in parse_list(found.get(2, b"")) if place == 1]
    return MulticastGroups(bridge, tuple(entries), tuple(routers))


def _parse_port(data: bytes) -> int:
    if len(data) < 4:
        raise WireError(f"MDBA_ROUTER_PORT of {len(data)} bytes")
    return int(U32.unpack_from(data)[0])


def _parse_entry(bridge: int, data: bytes) -> MulticastEntry:
    if len(data) < _ENTRY.size:
        raise WireError(f"MDBA_MDB_ENTRY_INFO of {len(data)} bytes")
    port, state, flags, vlan, address, protocol = _ENTRY.unpack_from(data)
    found = parse_attributes(data, _ENTRY.size)
    sources = [
        parse_ip(parse_attributes(each)[1]) for _, each in parse_list(found.get(2, b"")) if 1 in parse_attributes(each)
    ]
    return MulticastEntry(
        bridge,
        port,
        _parse_group(protocol, address),
        vlan,
        bool(state),
        flags,
        parse_ip(found[4]) if 4 in found else "",
        number(found[3], U8, "MDBA_MDB_EATTR_GROUP_MODE") if 3 in found else None,
        tuple(sources),
        number(found[5], U8, "MDBA_MDB_EATTR_RTPROT") if 5 in found else None,
        number(found[1], U32, "MDBA_MDB_EATTR_TIMER") if 1 in found else 0,
        tuple((place, value) for place, value in found.items() if place > 5),
    )


def _parse_group(protocol: bytes, address: bytes) -> str:
    if protocol not in _PROTOCOLS:
        raise WireError(f"a multicast group of protocol {protocol.hex()}")
    data = address[: _PROTOCOLS[protocol]]
    return data.hex(":") if len(data) == 6 else parse_ip(data)


def add_multicast(entry: MulticastEntry, *, replace: bool = False) -> Request:
    """Add an entry: RTM_NEWMDB, which fails with EEXIST if there is such a one.

    Args:
        entry: mode, source, sources and protocol need Linux 6.3; the kernel rejects or ignores them before.
        replace: in the place of the one there (Linux 6.3).

    Raises:
        ValueError: no address, two families, index 0, a number that does not fit.
    """
    return _request(NEWMDB, CREATE | (REPLACE if replace else EXCL), entry, "add")


def delete_multicast(entry: MulticastEntry) -> Request:
    """Remove an entry: RTM_DELMDB, ENOENT if there is none; errors as for add_multicast."""
    return _request(DELMDB, 0, entry._replace(mode=None, sources=(), protocol=None), "delete")


def _request(kind: int, how: int, entry: MulticastEntry, verb: str) -> Request:
    protocol, address = _encode_group(entry.group)
    pack(U16, entry.vlan, "vlan")
    data = _ENTRY.pack(check_index(entry.port), int(entry.permanent), entry.flags & 0xFF, entry.vlan, address, protocol)
    attributes: list[Attribute] = [(1, data)]
    details: list[Attribute] = []
    if entry.source:
        details.append((1, encode_ip(entry.source)[1]))
    if entry.sources:
        details.append((2, [(1, [(1, encode_ip(source)[1])]) for source in entry.sources]))
    if entry.mode is not None:
        details.append((3, pack(U8, entry.mode, "mode")))
    if entry.protocol is not None:
        details.append((4, pack(U8, entry.protocol, "protocol")))
    if any(encode_ip(source)[0] != encode_ip(entry.group)[0] for source in (entry.source, *entry.sources) if source):
        raise ValueError(f"{entry.group} from {entry.source or entry.sources}: two families")
    if details:
        attributes.append((2, details))
    header = _HEADER.pack(_BRIDGE, check_index(entry.bridge))
    words = f"{verb} multicast group {entry.group} port {entry.port} of bridge {entry.bridge}"
    return Request.of(kind, how, header, attributes, MULTICAST, words)


def _encode_group(group: str) -> tuple[bytes, bytes]:
    if group.count(":") == 5 and "::" not in group:
        return b"\0\0", encode_mac(group)
    family, data = encode_ip(group)
    return _FAMILIES[family], data


def list_multicast() -> Request:
    """Ask for the groups of all bridges; the kernel filters by nothing here."""
    return Request.of(GETMDB, 0, _HEADER.pack(_BRIDGE, 0), (), MULTICAST, "list multicast groups")
