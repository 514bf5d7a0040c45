"""What the kernel answers at the end: NLMSG_ERROR and NLMSG_DONE with their extended acks.

The attributes of an extended ack stand behind the echoed request in NLMSG_ERROR (behind its header alone, if the
message has NLM_F_CAPPED), and directly behind the 4-byte code in NLMSG_DONE.

Source: Documentation/userspace-api/netlink/intro.rst, Ext ACKs; struct nlmsgerr in include/uapi/linux/netlink.h.
"""

from typing import TYPE_CHECKING, Final, NamedTuple

from kernelproof.impl.netlink.errors import NetlinkError, Policy, WireError
from kernelproof.impl.netlink.requests import ACK_TLVS, CAPPED
from kernelproof.impl.netlink.wire import (
    HEADER,
    HEADER_BYTES,
    S32,
    U32,
    any_number,
    locate,
    name_of,
    parse_attributes,
    text,
)

if TYPE_CHECKING:
    from kernelproof.impl.netlink.requests import Request
    from kernelproof.impl.netlink.wire import Message

NOOP: Final = 1
ERROR: Final = 2
DONE: Final = 3
OVERRUN: Final = 4

_TEXT, _OFFSET, _COOKIE, _POLICY, _MISSING_TYPE, _MISSING_NEST = range(1, 7)
_POLICY_TYPES: Final = [
    *("invalid", "flag", "u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64", "binary", "string", "nul-string"),
    *("nested", "nested-array", "bitfield32", "sint", "uint"),
]


class Acknowledged(NamedTuple):
    """How a request ended: `code` 0 or the errno as the kernel has it, negative; the rest from the extended ack."""

    code: int
    message: str = ""
    offset: int | None = None
    cookie: bytes = b""
    policy: Policy | None = None
    missing_type: int | None = None
    missing_nest: int | None = None


def parse_acknowledgement(message: "Message") -> Acknowledged:
    """Return what an NLMSG_ERROR or NLMSG_DONE says.

    Raises:
        WireError: it is too short, or its attributes lie.
    """
    payload = message.payload
    if len(payload) < 4:
        # Some subsystems end a dump with an empty NLMSG_DONE.
        if message.type == DONE:
            return Acknowledged(0)
        raise WireError(f"acknowledgement of {len(payload)} bytes", HEADER_BYTES)
    code = int(S32.unpack_from(payload)[0])
    if not message.flags & ACK_TLVS:
        return Acknowledged(code)
    return _with_attributes(code, parse_attributes(payload, _attributes_at(message)))


def _attributes_at(message: "Message") -> int:
    if message.type == DONE:
        return 4
    if len(message.payload) < 4 + HEADER_BYTES:
        raise WireError(f"acknowledgement of {len(message.payload)} bytes echoes no header", HEADER_BYTES)
    length = HEADER.unpack_from(message.payload, 4)[0]
    return 4 + (HEADER_BYTES if message.flags & CAPPED else (length + 3) & ~3)


def _with_attributes(code: int, found: dict[int, bytes]) -> Acknowledged:
    def number(kind: int) -> int | None:
        return any_number(found[kind]) if kind in found else None

    return Acknowledged(
        code,
        text(found[_TEXT]) if _TEXT in found else "",
        number(_OFFSET),
        found.get(_COOKIE, b""),
        _policy(found[_POLICY]) if _POLICY in found else None,
        number(_MISSING_TYPE),
        number(_MISSING_NEST),
    )


def _policy(payload: bytes) -> Policy:
    found = parse_attributes(payload)
    kind = any_number(found[1]) if 1 in found else 0

    def bound(signed: int, unsigned: int) -> int | None:
        if signed in found:
            return int.from_bytes(found[signed], "little", signed=True)
        return any_number(found[unsigned]) if unsigned in found else None

    return Policy(
        _POLICY_TYPES[kind] if kind < len(_POLICY_TYPES) else str(kind),
        bound(2, 4),
        bound(3, 5),
        any_number(found[6]) if 6 in found else None,
        any_number(found[7]) if 7 in found else None,
        any_number(found[10]) if 10 in found else any_number(found[12]) if 12 in found else None,
    )


def error_of(ended: Acknowledged, request: "Request", sent: bytes) -> NetlinkError:
    """Return the error of a refused request, with attributes named through the request that was sent."""
    path = missing = None
    if request.space is not None:
        start, space = request.attributes_at, request.space
        if ended.offset is not None:
            path = locate(sent, start, space, ended.offset)[0] or None
        if ended.missing_type is not None:
            nest, inner = "", space
            if ended.missing_nest is not None:
                nest, found = locate(sent, start, space, ended.missing_nest)
                missing = f"{nest}.{name_of(found, ended.missing_type)}"
            missing = missing or name_of(inner, ended.missing_type)
    return NetlinkError(
        -ended.code,
        ended.message,
        attribute_path=path,
        offset=ended.offset,
        missing=missing,
        policy=ended.policy,
        request=request.words,
    )


def echoed_sequence(payload: bytes) -> int:
    """Return the sequence number of the request that an NLMSG_ERROR echoes."""
    return int(U32.unpack_from(payload, 12)[0])
