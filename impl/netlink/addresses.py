"""IP addresses of links: the record, and the requests that add, change and remove them.

Source: rtnetlink(7), RTM_NEWADDR; include/uapi/linux/if_addr.h.
"""

from enum import IntFlag
from struct import Struct
from typing import Final, NamedTuple

from kernelproof.impl.netlink.errors import WireError
from kernelproof.impl.netlink.requests import CREATE, EXCL, REPLACE, Request
from kernelproof.impl.netlink.spaces import ADDRESS
from kernelproof.impl.netlink.values import Ip, Prefix, check_index, encode_ip, encode_prefix, parse_ip
from kernelproof.impl.netlink.wire import (
    U8,
    U32,
    Attribute,
    Message,
    Splitter,
    encode_text,
    number,
    open_message,
    pack,
    pack_all,
    text,
)

NEWADDR, DELADDR, GETADDR = 20, 21, 22
FOREVER: Final = 0xFFFFFFFF  # seconds of a lifetime that does not end
_HEADER: Final = Struct("=BBBBI")
_LIFETIMES: Final = Struct("=IIII")
_FIELDS: Final = frozenset({1, 2, 3, 4, 5, 6, 8, 9, 11})


class AddressFlag(IntFlag):
    """IFA_F_ flags."""

    SECONDARY = 0x1
    NODAD = 0x2
    OPTIMISTIC = 0x4
    DADFAILED = 0x8
    HOMEADDRESS = 0x10
    DEPRECATED = 0x20
    TENTATIVE = 0x40
    PERMANENT = 0x80
    MANAGETEMPADDR = 0x100
    NOPREFIXROUTE = 0x200
    MCAUTOJOIN = 0x400
    STABLE_PRIVACY = 0x800


class Address(NamedTuple):
    """An address of a link.

    Attributes:
        address: the link's own.
        peer: the other end's, where it is another than the link's own; else "".
        valid_seconds, preferred_seconds: FOREVER for those that do not end.
        protocol: who made it (IFAPROT_), None where the kernel does not tell.
    """

    ifindex: int
    address: str
    prefix_length: int
    peer: str = ""
    broadcast: str = ""
    anycast: str = ""
    label: str = ""
    scope: int = 0
    flags: int = 0
    valid_seconds: int = FOREVER
    preferred_seconds: int = FOREVER
    priority: int = 0
    protocol: int | None = None
    created: int = 0
    updated: int = 0
    family: int = 0
    rest: tuple[tuple[int, bytes], ...] = ()

    @property
    def cidr(self) -> str:
        """`address/length`."""
        return f"{self.address}/{self.prefix_length}"


def parse_address(message: Message, splitter: "Splitter | None" = None) -> Address:
    """Return the address of an RTM_NEWADDR or RTM_DELADDR.

    Raises:
        WireError: the message is too short, or an attribute lies.
    """
    (family, length, flags, scope, index), found = open_message(message, _HEADER, "address", splitter)
    address = parse_ip(found[1]) if 1 in found else ""
    local = parse_ip(found[2]) if 2 in found else address
    preferred, valid, created, updated = _lifetimes(found[6]) if 6 in found else (FOREVER, FOREVER, 0, 0)
    return Address(
        index,
        local,
        length,
        address if address != local else "",
        parse_ip(found[4]) if 4 in found else "",
        parse_ip(found[5]) if 5 in found else "",
        text(found[3], "IFA_LABEL") if 3 in found else "",
        scope,
        number(found[8], U32, "IFA_FLAGS") if 8 in found else flags,
        valid,
        preferred,
        number(found[9], U32, "IFA_RT_PRIORITY") if 9 in found else 0,
        number(found[11], U8, "IFA_PROTO") if 11 in found else None,
        created,
        updated,
        family,
        tuple((place, data) for place, data in found.items() if place not in _FIELDS),
    )


def _lifetimes(data: bytes) -> tuple[int, int, int, int]:
    if len(data) < _LIFETIMES.size:
        raise WireError(f"IFA_CACHEINFO of {len(data)} bytes")
    preferred, valid, created, updated = _LIFETIMES.unpack_from(data)
    return preferred, valid, created, updated


def add_address(
    index: int,
    address: Prefix,
    *,
    peer: "Ip | None" = None,
    broadcast: "Ip | None" = None,
    anycast: "Ip | None" = None,
    label: str = "",
    scope: int = 0,
    flags: int = 0,
    valid_seconds: int = FOREVER,
    preferred_seconds: int = FOREVER,
    priority: int = 0,
    protocol: int | None = None,
    replace: bool = False,
) -> Request:
    """Add an address to a link: RTM_NEWADDR, which fails with EEXIST if it is there.

    Args:
        index: of the link.
        address: `10.0.41.1/16`; without a length it is the link's alone.
        peer: the other end's; the prefix length is then of it.
        broadcast, anycast, label, scope, flags, priority, protocol: as in the record.
        valid_seconds, preferred_seconds: lifetimes.
        replace: change the address if it is there.

    Raises:
        ValueError: no address, a length over the family's width, mixed families, index 0.
    """
    family, local, length = encode_prefix(address)
    others = [(place, encode_ip(ip)) for place, ip in ((1, peer or str(address).partition("/")[0]),)]
    others += [(place, encode_ip(ip)) for place, ip in ((4, broadcast), (5, anycast)) if ip is not None]
    if any(other != family for _, (other, _) in others):
        raise ValueError(f"{address}: peer, broadcast and anycast are of its family")
    attributes: list[Attribute] = [(2, local), *((place, data) for place, (_, data) in others)]
    if label:
        attributes.append((3, encode_text(label)))
    if (valid_seconds, preferred_seconds) != (FOREVER, FOREVER):
        if not 0 <= preferred_seconds <= valid_seconds <= FOREVER:
            raise ValueError(f"{address}: a lifetime of {preferred_seconds} seconds preferred, {valid_seconds} valid")
        attributes.append((6, pack_all(_LIFETIMES, "lifetimes", preferred_seconds, valid_seconds, 0, 0)))
    if flags:
        attributes.append((8, pack(U32, flags, "flags")))
    if priority:
        attributes.append((9, pack(U32, priority, "priority")))
    if protocol is not None:
        attributes.append((11, pack(U8, protocol, "protocol")))
    header = pack_all(_HEADER, "address", family, length, flags & 0xFF, scope, check_index(index))
    how = CREATE | (REPLACE if replace else EXCL)
    return Request.of(NEWADDR, how, header, attributes, ADDRESS, f"add address {address} to link {index}")


def delete_address(index: int, address: Prefix, *, peer: "Ip | None" = None) -> Request:
    """Remove an address from a link: RTM_DELADDR, EADDRNOTAVAIL if it is not there.

    Raises:
        ValueError: as for add_address.
    """
    family, local, length = encode_prefix(address)
    attributes: list[Attribute] = [(2, local), (1, encode_ip(peer)[1] if peer is not None else local)]
    header = pack_all(_HEADER, "address", family, length, 0, 0, check_index(index))
    return Request.of(DELADDR, 0, header, attributes, ADDRESS, f"delete address {address} of link {index}")


def list_addresses(*, index: int = 0, family: int = 0) -> Request:
    """Ask for the addresses of all links or one: the kernel filters."""
    return Request.of(GETADDR, 0, pack_all(_HEADER, "address", family, 0, 0, 0, index), (), ADDRESS, "list addresses")
