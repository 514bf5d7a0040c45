"""The record of a link, and how it is read from a message.

Source: rtnetlink(7), RTM_NEWLINK; include/uapi/linux/if_link.h.
"""

from enum import IntFlag
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from kernelproof.impl.netlink.errors import WireError
from kernelproof.impl.netlink.kinds import Options, table_of
from kernelproof.impl.netlink.wire import S32, U8, U32, Message, Splitter, number, parse_attributes, parse_list, text

if TYPE_CHECKING:
    from kernelproof.impl.netlink.kinds import Option

UP: Final = 0x1
HEADER: Final = Struct("=BxHiII")
_STATS: Final = Struct("=24Q")
OPERSTATES: Final = ("UNKNOWN", "NOTPRESENT", "DOWN", "LOWERLAYERDOWN", "TESTING", "DORMANT", "UP")


class LinkFlag(IntFlag):
    """IFF_ flags of a link."""

    UP = 0x1
    BROADCAST = 0x2
    DEBUG = 0x4
    LOOPBACK = 0x8
    POINTOPOINT = 0x10
    NOTRAILERS = 0x20
    RUNNING = 0x40
    NOARP = 0x80
    PROMISC = 0x100
    ALLMULTI = 0x200
    MASTER = 0x400
    SLAVE = 0x800
    MULTICAST = 0x1000
    PORTSEL = 0x2000
    AUTOMEDIA = 0x4000
    DYNAMIC = 0x8000
    LOWER_UP = 0x10000
    DORMANT = 0x20000
    ECHO = 0x40000


class Statistics(NamedTuple):
    """IFLA_STATS64, in the kernel's order; bytes and packets."""

    rx_packets: int
    tx_packets: int
    rx_bytes: int
    tx_bytes: int
    rx_errors: int
    tx_errors: int
    rx_dropped: int
    tx_dropped: int
    multicast: int
    collisions: int
    rx_length_errors: int
    rx_over_errors: int
    rx_crc_errors: int
    rx_frame_errors: int
    rx_fifo_errors: int
    rx_missed_errors: int
    tx_aborted_errors: int
    tx_carrier_errors: int
    tx_fifo_errors: int
    tx_heartbeat_errors: int
    tx_window_errors: int
    rx_compressed: int
    tx_compressed: int
    rx_nohandler: int


class Link(NamedTuple):
    """A link, as the kernel tells of it; what it does not tell is None, "" or empty.

    Attributes:
        options: of its kind, see `kinds`.
        port_kind, port_options: as a port of its master.
        parent: ifindex of the link below it (IFLA_LINK), in namespace `parent_namespace` if that is not None.
        rest: attributes that have no field here, raw.
    """

    ifindex: int
    name: str
    kind: str
    flags: int
    mtu: int
    mac: str
    broadcast: str
    operstate: str
    master: int | None
    parent: int | None
    parent_namespace: int | None
    alias: str
    altnames: tuple[str, ...]
    qdisc: str
    txqueuelen: int
    group: int
    promiscuity: int
    min_mtu: int
    max_mtu: int
    gso_max_size: int
    gso_max_segs: int
    queues: tuple[int, int]  # transmit, receive
    hardware_type: int
    family: int
    options: Options
    port_kind: str
    port_options: Options
    statistics: Statistics | None
    rest: tuple[tuple[int, bytes], ...]

    @property
    def is_up(self) -> bool:
        """Whether somebody set it up."""
        return bool(self.flags & UP)

    @property
    def virtual_functions(self) -> "tuple[tuple[tuple[int, bytes], ...], ...]":
        """The attributes (IFLA_VF_*) of each virtual function, raw; the kernel lists them on request only."""
        listed = dict(self.rest).get(22, b"")
        return tuple(parse_list(data) for _, data in parse_list(listed))

    def option(self, name: str) -> "Option | None":
        """Return an option of its kind, or None where the kernel did not tell it."""
        return next((value for key, value in self.options if key == name), None)


_FIELDS: Final = frozenset({1, 2, 3, 4, 5, 6, 7, 10, 13, 16, 18, 20, 23, 27, 30, 31, 32, 37, 40, 41, 50, 51, 52})
_NONE: Final[dict[int, bytes]] = {}
_EMPTY: Final = b"\0"
_ZERO: Final = bytes(4)


def parse_link(message: Message, splitter: "Splitter | None" = None) -> Link:
    """Return the link of an RTM_NEWLINK or RTM_DELLINK.

    Raises:
        WireError: the message is too short, or an attribute lies.
    """
    payload = message.payload
    if len(payload) < 16:
        raise WireError(f"link message of {len(payload)} bytes")
    family, hardware, index, flags, _ = HEADER.unpack_from(payload)
    found = splitter.split(payload, 16) if splitter else parse_attributes(payload, 16)
    get = found.get
    info = parse_attributes(found[18]) if 18 in found else _NONE
    kind = text(info.get(1, _EMPTY))
    port_kind = text(info.get(4, _EMPTY))
    state = get(16)
    return Link(
        index,
        text(get(3, _EMPTY), "IFLA_IFNAME"),
        kind,
        flags,
        number(get(4, _ZERO), U32, "IFLA_MTU"),
        get(1, b"").hex(":"),
        get(2, b"").hex(":"),
        "" if state is None else _operstate(number(state, U8, "IFLA_OPERSTATE")),
        number(found[10], U32, "IFLA_MASTER") if 10 in found else None,
        number(found[5], U32, "IFLA_LINK") if 5 in found else None,
        number(found[37], S32, "IFLA_LINK_NETNSID") if 37 in found else None,
        text(get(20, _EMPTY), "IFLA_IFALIAS"),
        tuple(text(data) for place, data in parse_list(found[52]) if place == 53) if 52 in found else (),
        text(get(6, _EMPTY), "IFLA_QDISC"),
        number(get(13, _ZERO), U32, "IFLA_TXQLEN"),
        number(get(27, _ZERO), U32, "IFLA_GROUP"),
        number(get(30, _ZERO), U32, "IFLA_PROMISCUITY"),
        number(get(50, _ZERO), U32, "IFLA_MIN_MTU"),
        number(get(51, _ZERO), U32, "IFLA_MAX_MTU"),
        number(get(41, _ZERO), U32, "IFLA_GSO_MAX_SIZE"),
        number(get(40, _ZERO), U32, "IFLA_GSO_MAX_SEGS"),
        (number(get(31, _ZERO), U32), number(get(32, _ZERO), U32)),
        hardware,
        family,
        table_of(kind).parse(parse_attributes(info[2])) if 2 in info and kind != "veth" else (),
        port_kind,
        table_of(f"port of {port_kind}").parse(parse_attributes(info[5])) if 5 in info else (),
        _statistics(found[23]) if 23 in found else None,
        tuple((place, data) for place, data in found.items() if place not in _FIELDS),
    )


def _operstate(state: int) -> str:
    return OPERSTATES[state] if state < len(OPERSTATES) else str(state)


def _statistics(data: bytes) -> Statistics:
    # The structure grows at its end; older kernels have less.
    return Statistics._make(_STATS.unpack_from(data + bytes(max(0, _STATS.size - len(data)))))
