"""Neighbours, proxies, and forwarding entries of bridges and vxlan links.

Source: rtnetlink(7), RTM_NEWNEIGH; include/uapi/linux/neighbour.h.
"""

from enum import IntFlag
from struct import Struct
from typing import Final, NamedTuple

from kernelproof.impl.netlink.requests import APPEND, CREATE, EXCL, REPLACE, Request
from kernelproof.impl.netlink.spaces import NEIGHBOUR
from kernelproof.impl.netlink.values import Ip, check_index, encode_ip, encode_mac, parse_ip
from kernelproof.impl.netlink.wire import (
    U8,
    U16,
    U32,
    Attribute,
    Message,
    Splitter,
    number,
    open_message,
    pack,
    pack_all,
)

NEWNEIGH, DELNEIGH, GETNEIGH = 28, 29, 30
_HEADER: Final = Struct("=BxxxiHBB")
_BRIDGE: Final = 7
_FIELDS: Final = frozenset({1, 2, 5, 6, 7, 8, 9, 12})


class NeighbourState(IntFlag):
    """NUD_ states."""

    INCOMPLETE = 0x01
    REACHABLE = 0x02
    STALE = 0x04
    DELAY = 0x08
    PROBE = 0x10
    FAILED = 0x20
    NOARP = 0x40
    PERMANENT = 0x80


class NeighbourFlag(IntFlag):
    """NTF_ flags."""

    USE = 0x01
    SELF = 0x02
    MASTER = 0x04
    PROXY = 0x08
    EXT_LEARNED = 0x10
    OFFLOADED = 0x20
    STICKY = 0x40
    ROUTER = 0x80


class Neighbour(NamedTuple):
    """A neighbour of a link; of the bridge family (7) a forwarding entry."""

    ifindex: int
    address: str = ""
    mac: str = ""
    state: int = 0x80
    flags: int = 0
    type: int = 0
    vlan: int | None = None
    port: int | None = None
    vni: int | None = None
    via: int | None = None
    master: int | None = None
    protocol: int = 0
    family: int = 0
    rest: tuple[tuple[int, bytes], ...] = ()


def parse_neighbour(message: Message, splitter: "Splitter | None" = None) -> Neighbour:
    """Return the neighbour of an RTM_NEWNEIGH or RTM_DELNEIGH.

    Raises:
        WireError: the message is too short, or an attribute lies.
    """
    (family, index, state, flags, kind), found = open_message(message, _HEADER, "neighbour", splitter)

    def whole(place: int) -> int | None:
        return number(found[place], U32, NEIGHBOUR.name(place)) if place in found else None

    return Neighbour(
        index,
        parse_ip(found[1]) if 1 in found else "",
        found.get(2, b"").hex(":"),
        state,
        flags,
        kind,
        number(found[5], U16, "NDA_VLAN") if 5 in found else None,
        int.from_bytes(found[6], "big") if 6 in found else None,
        whole(7),
        whole(8),
        whole(9),
        number(found[12], U8, "NDA_PROTOCOL") if 12 in found else 0,
        family,
        tuple((place, data) for place, data in found.items() if place not in _FIELDS),
    )


def add_neighbour(neighbour: Neighbour, *, replace: bool = False, append: bool = False) -> Request:
    """Add a neighbour: RTM_NEWNEIGH, which fails with EEXIST if there is one.

    Args:
        neighbour: family 7 makes a forwarding entry of a bridge's port, or with the flag SELF of a vxlan link.
        replace: in the place of the one there.
        append: a further destination of the same hardware address (vxlan).

    Raises:
        ValueError: no address.
    """
    how = CREATE | (REPLACE if replace else APPEND if append else EXCL)
    return _request(NEWNEIGH, how, neighbour, "add")


def delete_neighbour(neighbour: Neighbour) -> Request:
    """Remove a neighbour: RTM_DELNEIGH, ENOENT if there is none."""
    return _request(DELNEIGH, 0, neighbour, "delete")


def _request(kind: int, how: int, neighbour: Neighbour, verb: str) -> Request:
    family = neighbour.family
    attributes: list[Attribute] = []
    if neighbour.address:
        of, data = encode_ip(neighbour.address)
        family = family or of
        attributes.append((1, data))
    if neighbour.mac:
        attributes.append((2, encode_mac(neighbour.mac)))
    if neighbour.vlan is not None:
        attributes.append((5, pack(U16, neighbour.vlan, "vlan")))
    if neighbour.port is not None:
        attributes.append((6, pack(Struct("!H"), neighbour.port, "port")))
    numbers = ((7, neighbour.vni), (8, neighbour.via), (9, neighbour.master))
    attributes += [(place, pack(U32, value, NEIGHBOUR.name(place))) for place, value in numbers if value is not None]
    if neighbour.protocol:
        attributes.append((12, pack(U8, neighbour.protocol, "protocol")))
    header = pack_all(
        _HEADER, "neighbour", family, check_index(neighbour.ifindex), neighbour.state, neighbour.flags, neighbour.type
    )
    what = neighbour.address or neighbour.mac
    return Request.of(
        kind,
        how,
        header,
        [*attributes, *neighbour.rest],
        NEIGHBOUR,
        f"{verb} neighbour {what} of link {neighbour.ifindex}",
    )


def list_neighbours(*, family: int = 0, index: int = 0, proxies: bool = False) -> Request:
    """Ask for neighbours, or proxies; the kernel filters by link."""
    attributes: list[Attribute] = [(8, U32.pack(check_index(index)))] if index else []
    header = pack_all(_HEADER, "neighbour", family, 0, 0, NeighbourFlag.PROXY if proxies else 0, 0)
    return Request.of(GETNEIGH, 0, header, attributes, NEIGHBOUR, "list neighbours")


def list_forwarding(*, bridge: int = 0, port: int = 0) -> Request:
    """Ask for forwarding entries, of one bridge or one port."""
    attributes: list[Attribute] = [(9, U32.pack(check_index(bridge)))] if bridge else []
    if port:
        attributes.append((8, U32.pack(check_index(port))))
    return Request.of(
        GETNEIGH,
        0,
        pack_all(_HEADER, "neighbour", _BRIDGE, 0, 0, 0, 0),
        attributes,
        NEIGHBOUR,
        "list forwarding entries",
    )


def look_up_neighbour(index: int, address: Ip) -> Request:
    """Ask for one neighbour by link and address."""
    family, data = encode_ip(address)
    header = pack_all(_HEADER, "neighbour", family, check_index(index), 0, 0, 0)
    return Request.of(GETNEIGH, 0, header, [(1, data)], NEIGHBOUR, f"look up neighbour {address}")
