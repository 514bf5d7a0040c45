"""Next hop objects: ways that many routes share, and groups of them.

Source: include/uapi/linux/nexthop.h; ip-nexthop(8).
"""

from collections.abc import Sequence
from struct import Struct
from typing import Final, NamedTuple

from kernelproof.impl.netlink.errors import WireError
from kernelproof.impl.netlink.requests import CREATE, EXCL, REPLACE, Request
from kernelproof.impl.netlink.routes import ONLINK
from kernelproof.impl.netlink.spaces import NEXTHOP
from kernelproof.impl.netlink.values import INET, check_index, encode_ip, parse_ip
from kernelproof.impl.netlink.wire import (
    NESTED,
    U16,
    U32,
    Attribute,
    Message,
    number,
    open_message,
    pack,
    pack_all,
    parse_list,
)

NEWNEXTHOP, DELNEXTHOP, GETNEXTHOP = 104, 105, 106


class NextHopObject(NamedTuple):
    """A next hop object, or a group of them: pairs of an id and a weight.

    Attributes:
        group_type: 0 for a multipath group, 1 for a resilient one (NEXTHOP_GRP_TYPE_).
        rest: attributes that have no field here, raw; what of them the kernel alone tells is not sent.
    """

    id: int
    gateway: str = ""
    oif: int = 0
    group: tuple[tuple[int, int], ...] = ()
    blackhole: bool = False
    protocol: int = 0
    scope: int = 0
    flags: int = 0
    family: int = INET
    group_type: int = 0
    rest: tuple[tuple[int, bytes], ...] = ()


_NEXTHOP: Final = Struct("=BBBxI")
_MEMBER: Final = Struct("=IBBH")  # the weight less one, its low byte and its high one
_ENCAP, _RES_GROUP = 8, 12
_TOLD: Final = frozenset({14, 15, 17})  # flags of a list, statistics
_RES_GROUP_SET: Final = frozenset({1, 2, 3})  # what of a resilient group is told beside: for how long it is unbalanced


def add_nexthop(nexthop: NextHopObject, *, replace: bool = False) -> Request:
    """Add a next hop object: RTM_NEWNEXTHOP.

    Raises:
        ValueError: no address, or a weight that is not 1 to 65535 (older kernels refuse those above 256).
    """
    family = nexthop.family
    attributes: list[Attribute] = [(1, pack(U32, nexthop.id, "id"))] if nexthop.id else []
    if nexthop.group:
        family = 0
        attributes.append((2, _encode_group(nexthop)))
    if nexthop.group_type:
        attributes.append((3, pack(U16, nexthop.group_type, "group type")))
    if nexthop.gateway:
        family, data = encode_ip(nexthop.gateway)
        attributes.append((6, data))
    if nexthop.oif:
        attributes.append((5, U32.pack(check_index(nexthop.oif))))
    if nexthop.blackhole:
        attributes.append((4, b""))
    header = pack_all(_NEXTHOP, "next hop", family, 0, nexthop.protocol, nexthop.flags & ONLINK)
    how = CREATE | (REPLACE if replace else EXCL)
    attributes += [_encode_rest(place, data) for place, data in nexthop.rest if place not in _TOLD]
    return Request.of(NEWNEXTHOP, how, header, attributes, NEXTHOP, f"add next hop {nexthop.id}")


def _encode_group(nexthop: NextHopObject) -> bytes:
    if any(not 1 <= weight <= 0xFFFF for _, weight in nexthop.group):
        raise ValueError(f"next hop {nexthop.id}: a weight is 1 to 65535")
    return b"".join(
        pack_all(_MEMBER, "member", each, (weight - 1) & 0xFF, (weight - 1) >> 8, 0) for each, weight in nexthop.group
    )


def _encode_rest(place: int, data: bytes) -> Attribute:
    if place == _RES_GROUP:
        return place, [pair for pair in parse_list(data) if pair[0] in _RES_GROUP_SET]
    return place | NESTED if place == _ENCAP else place, data


def delete_nexthop(identifier: int) -> Request:
    """Remove a next hop object, and with it the routes that use it."""
    attributes: Sequence[Attribute] = [(1, pack(U32, identifier, "id"))]
    return Request.of(DELNEXTHOP, 0, _NEXTHOP.pack(0, 0, 0, 0), attributes, NEXTHOP, f"delete next hop {identifier}")


def list_nexthops() -> Request:
    """Ask for all next hop objects."""
    return Request.of(GETNEXTHOP, 0, _NEXTHOP.pack(0, 0, 0, 0), (), NEXTHOP, "list next hops")


def parse_nexthop(message: Message) -> NextHopObject:
    """Return the next hop object of an RTM_NEWNEXTHOP.

    Raises:
        WireError: the message is too short, or an attribute lies.
    """
    (family, scope, protocol, flags), found = open_message(message, _NEXTHOP, "next hop")
    members = found.get(2, b"")
    if len(members) % _MEMBER.size:
        raise WireError(f"NHA_GROUP of {len(members)} bytes")
    return NextHopObject(
        number(found[1], U32, "NHA_ID") if 1 in found else 0,
        parse_ip(found[6]) if 6 in found else "",
        number(found[5], U32, "NHA_OIF") if 5 in found else 0,
        tuple((each, (high << 8 | low) + 1) for each, low, high, _ in _MEMBER.iter_unpack(members)),
        4 in found,
        protocol,
        scope,
        flags,
        family,
        number(found[3], U16, "NHA_GROUP_TYPE") if 3 in found else 0,
        tuple((place, data) for place, data in found.items() if place not in {1, 2, 3, 4, 5, 6}),
    )
