"""Ways of a route: gateways, encapsulation, and the next hops of a multipath route.

Source: rtnetlink(7), RTM_NEWROUTE; include/uapi/linux/rtnetlink.h, struct rtnexthop.
"""

from collections.abc import Iterable
from struct import Struct
from typing import Final, NamedTuple

from kernelproof.impl.netlink.errors import WireError
from kernelproof.impl.netlink.spaces import ROUTE
from kernelproof.impl.netlink.values import encode_ip, parse_ip
from kernelproof.impl.netlink.wire import U16, Attribute, encode_attributes, number, pack, pack_all, parse_attributes

ONLINK: Final = 4  # RTNH_F_ONLINK; other flags are the kernel's to set, and some are refused
_HOP: Final = Struct("=HBBi")


class Encapsulation(NamedTuple):
    """What a next hop puts around packets: its type (LWTUNNEL_ENCAP_), and attributes as they came."""

    type: int
    data: bytes


class NextHop(NamedTuple):
    """One way of a multipath route; `weight` counts from 1, and of `flags` ONLINK is sent."""

    gateway: str = ""
    oif: int = 0
    weight: int = 1
    flags: int = 0
    encapsulation: Encapsulation | None = None
    rest: tuple[tuple[int, bytes], ...] = ()


def parse_gateway(found: dict[int, bytes]) -> str:
    """Return the gateway among the attributes of a route or next hop, "" for none; WireError if it is no address."""
    if 18 in found:  # RTA_VIA: a family and an address of it
        return parse_ip(found[18][2:])
    return parse_ip(found[5]) if 5 in found else ""


def parse_encapsulation(found: dict[int, bytes]) -> Encapsulation | None:
    """Return the encapsulation among the attributes of a route or next hop; WireError if its type is none."""
    return Encapsulation(number(found[21], U16, "RTA_ENCAP_TYPE"), found.get(22, b"")) if 21 in found else None


def parse_nexthops(data: bytes) -> tuple[NextHop, ...]:
    """Return the next hops of an RTA_MULTIPATH.

    Raises:
        WireError: a length that lies.
    """
    hops = []
    position = 0
    while position < len(data):
        if len(data) - position < _HOP.size:
            raise WireError(f"{len(data) - position} bytes are no next hop", position)
        length, flags, hops_field, oif = _HOP.unpack_from(data, position)
        if not _HOP.size <= length <= len(data) - position:
            raise WireError(f"next hop of length {length} in {len(data) - position} bytes", position)
        found = parse_attributes(data[position : position + length], _HOP.size)
        rest = tuple((place, value) for place, value in found.items() if place not in {5, 18, 21, 22})
        # rtnh_hops is the weight less one.
        hops.append(NextHop(parse_gateway(found), oif, hops_field + 1, flags, parse_encapsulation(found), rest))
        position += (length + 3) & ~3
    return tuple(hops)


def encode_nexthops(hops: Iterable[NextHop], family: int) -> bytes:
    """Return the payload of an RTA_MULTIPATH.

    Raises:
        ValueError: a weight that is not 1 to 256, or no address.
    """
    parts = []
    for hop in hops:
        if not 1 <= hop.weight <= 256:
            raise ValueError(f"a next hop's weight is 1 to 256, not {hop.weight}")
        attributes = [*encode_gateway(hop.gateway, family), *encode_encapsulation(hop.encapsulation)]
        body = encode_attributes([*attributes, *hop.rest], ROUTE)
        parts.append(
            pack_all(_HOP, "next hop", _HOP.size + len(body), hop.flags & ONLINK, hop.weight - 1, hop.oif) + body
        )
    return b"".join(parts)


def encode_gateway(gateway: str, family: int) -> list[Attribute]:
    """Return the attribute of a gateway: RTA_VIA where it is of another family; ValueError if it is no address."""
    if not gateway:
        return []
    of, data = encode_ip(gateway)
    return [(5, data)] if of == family else [(18, U16.pack(of) + data)]


def encode_encapsulation(encapsulation: Encapsulation | None) -> list[Attribute]:
    """Return the attributes of an encapsulation, as they came."""
    if encapsulation is None:
        return []
    return [(21, pack(U16, encapsulation.type, "encapsulation type")), (22 | 0x8000, encapsulation.data)]
