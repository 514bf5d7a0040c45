"""Rules of policy routing: the record, and the requests that add and remove them.

Source: rtnetlink(7), RTM_NEWRULE; include/uapi/linux/fib_rules.h.
"""

from struct import Struct
from typing import Final, NamedTuple

from kernelproof.impl.netlink.errors import WireError
from kernelproof.impl.netlink.requests import CREATE, EXCL, Request
from kernelproof.impl.netlink.spaces import RULE
from kernelproof.impl.netlink.values import INET, INET6, check_name, encode_prefix, parse_ip
from kernelproof.impl.netlink.wire import (
    S32,
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

NEWRULE, DELRULE, GETRULE = 32, 33, 34
TO_TABLE, GOTO, NOP, BLACKHOLE, UNREACHABLE, PROHIBIT = 1, 2, 3, 6, 7, 8
INVERT: Final = 0x2
_HEADER: Final = Struct("=BBBBBxxBI")
_RANGE: Final = Struct("=HH")
_UIDS: Final = Struct("=II")
_TUN_ID: Final = Struct("!Q")
_FIELDS: Final = frozenset({1, 2, 3, 4, 6, 10, 11, 12, 13, 14, 15, 16, 17, 19, 20, 21, 22, 23, 24})


class Rule(NamedTuple):
    """A rule.

    Attributes:
        priority: where it stands; None lets the kernel choose.
        source, destination: prefixes, "" for all.
        action: TO_TABLE, GOTO (with target), NOP, BLACKHOLE, UNREACHABLE, PROHIBIT.
        tun_id: of the tunnel that a packet came through; 0 for any.
        suppress_prefix_length: routes with a shorter or equal prefix do not count; None for no such limit.
    """

    priority: int | None = None
    table: int = 254
    source: str = ""
    destination: str = ""
    iif: str = ""
    oif: str = ""
    mark: int | None = None
    mask: int | None = None
    action: int = TO_TABLE
    target: int = 0
    tos: int = 0
    flags: int = 0
    protocol: int | None = None
    ip_protocol: int | None = None
    source_ports: tuple[int, int] | None = None
    destination_ports: tuple[int, int] | None = None
    uids: tuple[int, int] | None = None
    realms: int = 0
    suppress_prefix_length: int | None = None
    suppress_group: int | None = None
    l3mdev: bool = False
    tun_id: int = 0
    family: int = INET
    rest: tuple[tuple[int, bytes], ...] = ()


def parse_rule(message: Message, splitter: "Splitter | None" = None) -> Rule:
    """Return the rule of an RTM_NEWRULE or RTM_DELRULE.

    Raises:
        WireError: the message is too short, or an attribute lies.
    """
    header, found = open_message(message, _HEADER, "rule", splitter)
    family, to_length, from_length, tos, table, action, flags = header

    def whole(place: int) -> int | None:
        return number(found[place], U32, RULE.name(place)) if place in found else None

    def limit(place: int) -> int | None:
        value = number(found[place], S32, RULE.name(place)) if place in found else -1
        return None if value == -1 else value

    def pair(place: int, form: Struct) -> tuple[int, int] | None:
        if place not in found:
            return None
        if len(found[place]) != form.size:
            raise WireError(f"{RULE.name(place)} of {len(found[place])} bytes")
        first, last = form.unpack(found[place])
        return first, last

    return Rule(
        whole(6) or 0,
        whole(15) if 15 in found else table,  # type: ignore[arg-type]
        f"{parse_ip(found[2])}/{from_length}" if 2 in found else "",
        f"{parse_ip(found[1])}/{to_length}" if 1 in found else "",
        text(found[3]) if 3 in found else "",
        text(found[17]) if 17 in found else "",
        whole(10),
        whole(16),
        action,
        whole(4) or 0,
        tos,
        flags,
        number(found[21], U8, "FRA_PROTOCOL") if 21 in found else None,
        number(found[22], U8, "FRA_IP_PROTO") if 22 in found else None,
        pair(23, _RANGE),
        pair(24, _RANGE),
        pair(20, _UIDS),
        whole(11) or 0,
        limit(14),
        limit(13),
        bool(number(found[19], U8, "FRA_L3MDEV")) if 19 in found else False,
        number(found[12], _TUN_ID, "FRA_TUN_ID") if 12 in found else 0,
        family,
        tuple((place, data) for place, data in found.items() if place not in _FIELDS),
    )


def add_rule(rule: Rule) -> Request:
    """Add a rule: RTM_NEWRULE, EEXIST if there is the same one.

    Raises:
        ValueError: no prefix, two families, no name.
    """
    return _request(NEWRULE, CREATE | EXCL, rule, "add")


def delete_rule(rule: Rule) -> Request:
    """Remove the first rule that is like the record in what it names: RTM_DELRULE, ENOENT if there is none."""
    return _request(DELRULE, 0, rule, "delete")


def _request(kind: int, how: int, rule: Rule, verb: str) -> Request:
    family, ends, attributes = _ends(rule)
    numbers = (
        (6, rule.priority),
        (10, rule.mark),
        (16, rule.mask),
        (4, rule.target or None),
        (11, rule.realms or None),
    )
    attributes += [(place, pack(U32, value, RULE.name(place))) for place, value in numbers if value is not None]
    attributes += [(place, encode_text(check_name(name))) for place, name in ((3, rule.iif), (17, rule.oif)) if name]
    if not rule.l3mdev and rule.action == TO_TABLE:
        attributes.append((15, pack(U32, rule.table, "table")))
    if rule.l3mdev:
        attributes.append((19, b"\1"))
    limits = ((14, rule.suppress_prefix_length), (13, rule.suppress_group))
    attributes += [(place, pack(U32, value, RULE.name(place))) for place, value in limits if value is not None]
    bytes_ = ((21, rule.protocol), (22, rule.ip_protocol))
    attributes += [(place, pack(U8, value, RULE.name(place))) for place, value in bytes_ if value is not None]
    ports = ((23, rule.source_ports), (24, rule.destination_ports))
    attributes += [(place, pack_all(_RANGE, "ports", *value)) for place, value in ports if value is not None]
    if rule.tun_id:
        attributes.append((12, pack(_TUN_ID, rule.tun_id, "tun_id")))
    if rule.uids is not None:
        attributes.append((20, pack_all(_UIDS, "uids", *rule.uids)))
    table = rule.table if rule.table < 256 and rule.action == TO_TABLE and not rule.l3mdev else 0
    header = pack_all(_HEADER, "rule", family, *ends, rule.tos, table, rule.action, rule.flags & INVERT)
    words = f"{verb} rule {rule.priority} from {rule.source or 'all'} table {rule.table}"
    return Request.of(kind, how, header, [*attributes, *rule.rest], RULE, words)


def _ends(rule: Rule) -> tuple[int, tuple[int, int], list[Attribute]]:
    attributes: list[Attribute] = []
    lengths = {1: 0, 2: 0}
    families = set()
    for place, prefix in ((1, rule.destination), (2, rule.source)):
        if prefix:
            family, data, lengths[place] = encode_prefix(prefix)
            families.add(family)
            attributes.append((place, data))
    if len(families) > 1:
        raise ValueError(f"rule from {rule.source} to {rule.destination}: two families")
    if rule.family not in {INET, INET6} | families:
        raise ValueError(f"family {rule.family}: rules are of IPv4 (2) or IPv6 (10)")
    return families.pop() if families else rule.family, (lengths[1], lengths[2]), attributes


def list_rules(*, family: int = 0) -> Request:
    """Ask for the rules of a family, or of all."""
    return Request.of(GETRULE, 0, pack_all(_HEADER, "rule", family, 0, 0, 0, 0, 0, 0), (), RULE, "list rules")
