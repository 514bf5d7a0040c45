"""Requests as they go to the kernel, put together by number: nothing but their form is checked before.

Refusals go through these, since the typed requests of `impl.netlink` refuse some values before the kernel can.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from kernelproof.impl.netlink import Request, addresses, links, neighbours, routes, rules
from kernelproof.impl.netlink.spaces import ADDRESS, BRIDGE_LINK, LINK, NAMESPACE_ID, NEIGHBOUR, ROUTE, RULE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kernelproof.impl.netlink.wire import Attribute

CREATE, EXCL, REPLACE, APPEND, ECHO = 0x400, 0x200, 0x100, 0x800, 0x8
BRIDGE_FAMILY = 7

U8, U16, U32, S32 = (struct.Struct(form).pack for form in ("=B", "=H", "=I", "=i"))

_ADDRESS, _ROUTE, _NEIGHBOUR = struct.Struct("=BBBBI"), struct.Struct("=BBBBBBBBI"), struct.Struct("=BxxxiHBB")


def link(
    *attributes: Attribute,
    type: int = links.NEWLINK,
    how: int = 0,
    index: int = 0,
    flags: int = 0,
    change: int = 0,
    family: int = 0,
) -> Request:
    """A request about a link."""
    header = links.HEADER.pack(family, 0, index, flags, change)
    space = BRIDGE_LINK if family == BRIDGE_FAMILY else LINK
    return Request.of(type, how, header, attributes, space, "a link by number")


def kind(name: str, *data: Attribute) -> Attribute:
    """IFLA_LINKINFO of a kind with its options."""
    inner: list[Attribute] = [(1, name.encode() + b"\0")]
    if data:
        inner.append((2, data))
    return 18, inner


def port_option(index: int, *options: Attribute) -> Request:
    """Options of a bridge's port, IFLA_PROTINFO."""
    return link((12, options), type=links.SETLINK, index=index, family=BRIDGE_FAMILY)


def address(
    index: int,
    *attributes: Attribute,
    length: int = 24,
    flags: int = 0,
    family: int = 2,
    type: int = addresses.NEWADDR,
    how: int = 0,
) -> Request:
    """A request about an address."""
    return Request.of(type, how, _ADDRESS.pack(family, length, flags, 0, index), attributes, ADDRESS, "an address")


def route(
    *attributes: Attribute,
    length: int = 24,
    family: int = 2,
    table: int = 254,
    protocol: int = 3,
    scope: int = 0,
    kind: int = 1,
    flags: int = 0,
    type: int = routes.NEWROUTE,
    how: int = 0,
) -> Request:
    """A request about a route."""
    header = _ROUTE.pack(family, length, 0, 0, table, protocol, scope, kind, flags)
    return Request.of(type, how, header, attributes, ROUTE, "a route by number")


def neighbour(
    index: int,
    *attributes: Attribute,
    family: int = 2,
    state: int = 0x80,
    flags: int = 0,
    type: int = neighbours.NEWNEIGH,
    how: int = 0,
) -> Request:
    """A request about a neighbour."""
    header = _NEIGHBOUR.pack(family, index, state, flags, 0)
    return Request.of(type, how, header, attributes, NEIGHBOUR, "a neighbour by number")


def rule(
    *attributes: Attribute, family: int = 2, table: int = 0, action: int = 1, type: int = rules.NEWRULE, how: int = 0
) -> Request:
    """A request about a rule."""
    header = _ROUTE.pack(family, 0, 0, 0, table, 0, 0, action, 0)
    return Request.of(type, how, header, attributes, RULE, "a rule by number")


def packed(numbers: Sequence[int]) -> bytes:
    """Numbers of 32 bits, one after the other."""
    return b"".join(U32(number) for number in numbers)


def whole(type: int, how: int, header: bytes, *attributes: Attribute) -> Request:
    """A request of a type that has no function here."""
    return Request.of(type, how, header, attributes, None, f"message {type}")


def namespace_id(where: int, number: int) -> Request:
    """Give an id to the namespace of a descriptor: RTM_NEWNSID."""
    attributes: list[Attribute] = [(3, U32(where)), (1, S32(number))]
    return Request.of(88, 0, b"\0\0\0\0", attributes, NAMESPACE_ID, "an id of a namespace")
