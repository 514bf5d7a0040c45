"""Messages with names, for people who read a recording: of types, flags, and attributes with what is in them.

Values stay hexadecimal: what they mean is the business of the records' modules. What has no name here has its number.
Of other protocols than rtnetlink only the ends of an answer are named.

Source: include/uapi/linux/rtnetlink.h and netlink.h.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from kernelproof.impl.netlink import spaces
from kernelproof.impl.netlink.acknowledge import DONE, ERROR, parse_acknowledgement
from kernelproof.impl.netlink.errors import WireError
from kernelproof.impl.netlink.requests import MessageFlag
from kernelproof.impl.netlink.wire import parse_list

if TYPE_CHECKING:
    from kernelproof.impl.netlink.spaces import Space
    from kernelproof.impl.netlink.wire import Message

_ENDS: Final = {1: "NLMSG_NOOP", 2: "NLMSG_ERROR", 3: "NLMSG_DONE", 4: "NLMSG_OVERRUN"}
_VERBS: Final = ("NEW", "DEL", "GET", "SET")
# First of four types -> what they are about, bytes before the attributes, names of these.
_OBJECTS: Final[dict[int, tuple[str, int, Space | None]]] = {
    16: ("LINK", 16, spaces.LINK),
    20: ("ADDR", 8, spaces.ADDRESS),
    24: ("ROUTE", 12, spaces.ROUTE),
    28: ("NEIGH", 12, spaces.NEIGHBOUR),
    32: ("RULE", 12, spaces.RULE),
    36: ("QDISC", 20, spaces.QDISC),
    40: ("TCLASS", 20, spaces.QDISC),
    80: ("NETCONF", 4, spaces.NETCONF),
    84: ("MDB", 8, spaces.MULTICAST),
    88: ("NSID", 4, spaces.NAMESPACE_ID),
    104: ("NEXTHOP", 8, spaces.NEXTHOP),
    108: ("LINKPROP", 16, spaces.LINK),
}
_ALWAYS: Final = MessageFlag(0x3F)
_OF_CHANGES: Final = {0x100: "REPLACE", 0x200: "EXCL", 0x400: "CREATE", 0x800: "APPEND"}
_OF_QUESTIONS: Final = {0x100: "ROOT", 0x200: "MATCH", 0x400: "ATOMIC"}
_OF_ENDS: Final = {0x100: "CAPPED", 0x200: "ACK_TLVS"}


def describe_message(message: Message, *, is_route: bool = True) -> dict[str, Any]:
    """Return a message as what JSON can hold.

    Args:
        message: the message.
        is_route: whether it is of rtnetlink; types of other protocols have no names here.
    """
    name = _ENDS.get(message.type) or (_name_of(message.type) if is_route else "")
    told: dict[str, Any] = {"type": message.type, "name": name or str(message.type), "flags": _flags(message, is_route)}
    told |= {"sequence": message.sequence, "bytes": len(message.payload)}
    try:
        if message.type in {ERROR, DONE}:
            ended = parse_acknowledgement(message)
            told |= {"code": ended.code, **({"message": ended.message} if ended.message else {})}
        elif name and is_route:
            told |= _body(message)
    except WireError as reason:
        told["wrong"] = str(reason)
    return told


def _name_of(kind: int) -> str:
    if kind & ~3 not in _OBJECTS:
        return ""
    return f"RTM_{_VERBS[kind & 3]}{_OBJECTS[kind & ~3][0]}"


def _flags(message: Message, is_route: bool) -> list[str]:
    of_kind = _OF_ENDS if message.type in _ENDS else _OF_QUESTIONS if message.type & 3 == 2 else _OF_CHANGES
    named = {flag.value: str(flag.name) for flag in _ALWAYS} | (of_kind if is_route or message.type in _ENDS else {})
    bits = [1 << place for place in range(16) if message.flags >> place & 1]
    return [named.get(bit, hex(bit)) for bit in bits]


def _body(message: Message) -> dict[str, Any]:
    _, size, space = _OBJECTS[message.type & ~3]
    if space is spaces.LINK and message.payload[:1] == b"\7":  # AF_BRIDGE
        space = spaces.BRIDGE_LINK
    header = message.payload[:size]
    return {"header": header.hex(), "attributes": _attributes(message.payload, space, size)}


def _attributes(data: bytes, space: Space | None, start: int = 0) -> list[list[Any]]:
    # Pairs, as a type may come twice.
    pairs = parse_list(data, start)
    found: list[list[Any]] = []
    for kind, payload in pairs:
        inner = space.inside(kind, pairs) if space else None
        try:
            value: Any = _attributes(payload, inner, inner.skip) if inner else payload.hex()
        except WireError:  # it is named as if it were nested, and is not in this message
            value = payload.hex()
        found.append([space.name(kind) if space else str(kind), value])
    return found
