"""What a link's hardware can do and does, by generic netlink: features, link modes, link state.

    with Ethtool() as tool:
        tool.set_features("veth0", {"tx-checksum-ip-generic": False})

Features and modes are called as the kernel calls them. Links are named, or given by ifindex or record. This is not for
rings, coalescing, modules and statistics: `Generic.ask("ethtool", …)` sends those.

Source: Documentation/networking/ethtool-netlink.rst; include/uapi/linux/ethtool_netlink.h.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from kernelproof.impl.netlink.errors import WireError
from kernelproof.impl.netlink.generic import Generic
from kernelproof.impl.netlink.links import Link
from kernelproof.impl.netlink.spaces import Space
from kernelproof.impl.netlink.values import check_index, check_name
from kernelproof.impl.netlink.wire import U8, U32, Attribute, encode_text, number, parse_attributes, parse_list, text

if TYPE_CHECKING:
    from typing import Self

    from kernelproof.impl.netlink.connection import Connection
    from kernelproof.impl.netlink.links import Which
    from kernelproof.impl.netlink.netns import Where

LINKINFO_GET, LINKMODES_GET, LINKSTATE_GET, FEATURES_GET, FEATURES_SET = 2, 4, 6, 11, 12
_UNKNOWN: Final = 0xFFFFFFFF
_DUPLEX: Final = {0: "half", 1: "full"}
_PORTS: Final = {0: "tp", 1: "aui", 2: "mii", 3: "fibre", 4: "bnc", 5: "da", 0xEF: "none"}

_HEADER_SPACE: Final = Space("ETHTOOL_A_HEADER", "UNSPEC DEV_INDEX DEV_NAME FLAGS PHY_INDEX")
_BIT: Final = Space("ETHTOOL_A_BITSET_BIT", "UNSPEC INDEX NAME VALUE")
_BITS: Final = Space("ETHTOOL_A_BITSET_BITS", "UNSPEC BIT", {1: _BIT})
_BITSET: Final = Space("ETHTOOL_A_BITSET", "UNSPEC NOMASK SIZE BITS VALUE MASK", {3: _BITS})
_FEATURES: Final = Space(
    "ETHTOOL_A_FEATURES",
    "UNSPEC HEADER HW WANTED ACTIVE NOCHANGE",
    {1: _HEADER_SPACE, **dict.fromkeys(range(2, 6), _BITSET)},
)
_PLAIN: Final = Space("ETHTOOL_A", "UNSPEC HEADER", {1: _HEADER_SPACE})


class Features(NamedTuple):
    """Features of a link by name: what can be changed, what is wanted, what is on, and what never changes."""

    changeable: frozenset[str]
    wanted: frozenset[str]
    active: frozenset[str]
    fixed: frozenset[str]


class LinkModes(NamedTuple):
    """How a link talks.

    Attributes:
        speed: megabits a second, None where it is not known.
        duplex: "half", "full", or "" where it is not known.
        supported, advertised: modes such as `1000baseT/Full`.
        peer: what the other end advertises.
    """

    speed: int | None
    duplex: str
    autonegotiation: bool | None
    supported: frozenset[str]
    advertised: frozenset[str]
    peer: frozenset[str]


class LinkState(NamedTuple):
    """Whether a link has its carrier, and the kernel's number for why not, if it tells."""

    up: bool
    reason: int | None = None


class LinkInfo(NamedTuple):
    """The connector ("tp", "fibre" …; "other"), the transceiver (0 internal, 1 external) and the PHY's address."""

    port: str
    transceiver: int
    phy_address: int


def parse_bitset(data: bytes) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of a verbose bitset: all that it lists, and those that are set.

    In a bitset without mask all that is listed is set.

    Raises:
        WireError: an attribute lies, or a bit has no name.
    """
    found = parse_attributes(data)
    listed, on = set(), set()
    for _, bit in parse_list(found.get(3, b"")):
        parts = parse_attributes(bit)
        name = text(parts[2], "ETHTOOL_A_BITSET_BIT_NAME") if 2 in parts else None
        if name is None:
            raise WireError("a bit without ETHTOOL_A_BITSET_BIT_NAME")
        listed.add(name)
        if 1 in found or 3 in parts:
            on.add(name)
    return frozenset(listed), frozenset(on)


def encode_changes(changes: Mapping[str, bool]) -> list[Attribute]:
    """Return the attributes of a bitset that changes the bits named, and no other."""
    bits: list[Attribute] = [
        (1, [(2, encode_text(name)), *([(3, b"")] if value else [])]) for name, value in changes.items()
    ]
    return [(3, bits)]


class Ethtool:
    """Settings of links by ethtool's family of generic netlink.

    Args:
        netns: name, path, descriptor or Pid; None for the caller's.
        connection: of generic netlink, to use instead; the caller closes it.

    All methods raise NetlinkError: ENODEV (no such link), EOPNOTSUPP (the link's driver does not do that), EPERM,
    ENOENT (a kernel without the family, before Linux 5.6 or built without it); ValueError for what is no link.
    """

    def __init__(self, netns: "Where | None" = None, *, connection: "Connection | None" = None) -> None:
        self._generic = Generic(netns, connection=connection)

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, if it is this object's own."""
        self._generic.close()

    def _get(self, command: int, link: "Which", space: Space = _PLAIN) -> dict[int, bytes]:
        replies = self._generic.ask("ethtool", command, [(1, header_of(link))], space=space)
        if not replies:
            raise WireError(f"no answer to command {command} of ethtool")
        return replies[0].attributes

    def features(self, link: "Which") -> Features:
        """Return the features of a link."""
        found = self._get(FEATURES_GET, link, _FEATURES)
        on = [parse_bitset(found.get(place, b""))[1] for place in (2, 3, 4, 5)]
        return Features(*on)

    def set_features(self, link: "Which", changes: Mapping[str, bool]) -> dict[str, bool]:
        """Turn features on and off, and return those that are now other than asked for, with what they are.

        Raises:
            NetlinkError: EOPNOTSUPP or EINVAL (no feature of that name), as above.
        """
        attributes: list[Attribute] = [(1, header_of(link)), (3, encode_changes(changes))]
        self._generic.ask("ethtool", FEATURES_SET, attributes, space=_FEATURES)
        active = self.features(link).active
        return {name: name in active for name, value in changes.items() if (name in active) != value}

    def link_modes(self, link: "Which") -> LinkModes:
        """Return speed, duplex and modes of a link."""
        found = self._get(LINKMODES_GET, link)
        speed = number(found[5], U32, "ETHTOOL_A_LINKMODES_SPEED") if 5 in found else _UNKNOWN
        supported, advertised = parse_bitset(found.get(3, b""))
        return LinkModes(
            None if speed == _UNKNOWN else speed,
            _DUPLEX.get(number(found[6], U8, "ETHTOOL_A_LINKMODES_DUPLEX"), "") if 6 in found else "",
            bool(number(found[2], U8, "ETHTOOL_A_LINKMODES_AUTONEG")) if 2 in found else None,
            supported,
            advertised,
            parse_bitset(found.get(4, b""))[0],
        )

    def link_state(self, link: "Which") -> LinkState:
        """Return whether a link has its carrier."""
        found = self._get(LINKSTATE_GET, link)
        up = bool(number(found[2], U8, "ETHTOOL_A_LINKSTATE_LINK")) if 2 in found else False
        return LinkState(up, number(found[5], U8, "ETHTOOL_A_LINKSTATE_EXT_STATE") if 5 in found else None)

    def link_info(self, link: "Which") -> LinkInfo:
        """Return what a link is plugged in with."""
        found = self._get(LINKINFO_GET, link)
        values = [
            number(found[place], U8, f"ETHTOOL_A_LINKINFO_{place}") if place in found else 0 for place in (2, 6, 3)
        ]
        return LinkInfo(_PORTS.get(values[0], "other"), values[1], values[2])


def header_of(link: "Which") -> list[Attribute]:
    """Return the attributes that name a link to ethtool; alternative names are no names to it."""
    if isinstance(link, Link):
        return [(1, U32.pack(link.ifindex))]
    if isinstance(link, int):
        return [(1, U32.pack(check_index(link)))]
    return [(2, encode_text(check_name(link)))]
