"""Bridges from inside: their ports' flags and VLANs. Forwarding entries are neighbours of the family bridge.

Source: include/uapi/linux/if_bridge.h; bridge(8).
"""

from collections.abc import Mapping
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from kernelproof.impl.netlink.errors import WireError
from kernelproof.impl.netlink.kinds import table_of
from kernelproof.impl.netlink.links import DELLINK, GETLINK, HEADER, SETLINK
from kernelproof.impl.netlink.requests import Request
from kernelproof.impl.netlink.spaces import BRIDGE_LINK
from kernelproof.impl.netlink.values import check_index
from kernelproof.impl.netlink.wire import U16, U32, Attribute, Message, parse_attributes, parse_list

if TYPE_CHECKING:
    from typing import Self

    from kernelproof.impl.netlink.connection import Dump
    from kernelproof.impl.netlink.kinds import Option

_AF_BRIDGE: Final = 7
_VLAN_INFO: Final = Struct("=HH")
_OF_PORT, _OF_BRIDGE = 1, 2  # BRIDGE_FLAGS_MASTER asks the bridge above the port, BRIDGE_FLAGS_SELF the link itself


def set_bridge_port(port: int, options: "Mapping[str, Option]") -> Request:
    """Change a link as a port of its bridge: `mode` 1 is hairpin; see `kinds`, "port of bridge"."""
    attributes: list[Attribute] = [(12, table_of("port of bridge").encode(options))]
    header = HEADER.pack(_AF_BRIDGE, 0, check_index(port), 0, 0)
    return Request.of(SETLINK, 0, header, attributes, BRIDGE_LINK, f"set port {port} {dict(options)}")


class Vlan(NamedTuple):
    """A VLAN of a bridge's port, or a range of them."""

    first: int
    last: int
    pvid: bool = False
    untagged: bool = False


class Vlans(dict[int, tuple[Vlan, ...]]):
    """The VLANs of bridges and their ports by ifindex, with what a Dump says of itself."""

    consistent: bool
    retries: int
    filtered: bool

    @classmethod
    def of(cls, dump: "Dump[tuple[int, tuple[Vlan, ...]]]") -> "Self":
        """Make it of pairs that were dumped."""
        made = cls(dump)
        made.consistent, made.retries, made.filtered = dump.consistent, dump.retries, dump.filtered
        return made


def change_vlans(port: int, *vlans: Vlan, add: bool, of_bridge: bool = False) -> Request:
    """Add or remove VLANs of a port, or of the bridge itself.

    Raises:
        ValueError: not 1 to 4094, a range that runs backwards, or one of PVIDs.
    """
    entries: list[Attribute] = [(0, U16.pack(_OF_BRIDGE if of_bridge else _OF_PORT))]
    for vlan in vlans:
        if not 1 <= vlan.first <= vlan.last <= 4094 or (vlan.pvid and vlan.first != vlan.last):
            raise ValueError(f"{vlan}: VLANs are 1 to 4094, and one alone can be the PVID")
        flags = (2 if vlan.pvid else 0) | (4 if vlan.untagged else 0)
        if vlan.first == vlan.last:
            entries.append((2, _VLAN_INFO.pack(flags, vlan.first)))
        else:
            entries += [(2, _VLAN_INFO.pack(flags | 8, vlan.first)), (2, _VLAN_INFO.pack(flags | 16, vlan.last))]
    header = HEADER.pack(_AF_BRIDGE, 0, check_index(port), 0, 0)
    kind = SETLINK if add else DELLINK
    return Request.of(kind, 0, header, [(26, entries)], BRIDGE_LINK, f"{'add' if add else 'remove'} VLANs of {port}")


def list_bridge_vlans() -> Request:
    """Ask for the VLANs of all ports and bridges, in ranges."""
    return Request.of(
        GETLINK, 0, HEADER.pack(_AF_BRIDGE, 0, 0, 0, 0), [(29, U32.pack(4))], BRIDGE_LINK, "list VLANs of bridges"
    )


def parse_vlans(message: Message) -> tuple[int, tuple[Vlan, ...]]:
    """Return ifindex and VLANs of an answer to list_bridge_vlans.

    Raises:
        WireError: the message lies.
    """
    if len(message.payload) < 16:
        raise WireError(f"link message of {len(message.payload)} bytes")
    index = HEADER.unpack_from(message.payload)[2]
    vlans: list[Vlan] = []
    began = 0
    for place, data in parse_list(parse_attributes(message.payload, 16).get(26, b"")):
        if place != 2:
            continue
        if len(data) != 4:
            raise WireError(f"IFLA_BRIDGE_VLAN_INFO of {len(data)} bytes")
        flags, vid = _VLAN_INFO.unpack(data)
        if flags & 8:
            began = vid
        else:
            vlans.append(Vlan(began if flags & 16 else vid, vid, bool(flags & 2), bool(flags & 4)))
    return index, tuple(vlans)
