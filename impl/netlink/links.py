"""Links: the record, and the requests that make, change and remove them.

Requests are values (see `requests`); nothing here opens a socket. A link is named by its name or by its ifindex.

Source: rtnetlink(7), RTM_NEWLINK; include/uapi/linux/if_link.h.
"""

from collections.abc import Mapping
from enum import IntFlag
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from kernelproof.impl.netlink.errors import WireError
from kernelproof.impl.netlink.kinds import Options, table_of
from kernelproof.impl.netlink.requests import CREATE, EXCL, REPLACE, Request
from kernelproof.impl.netlink.spaces import LINK
from kernelproof.impl.netlink.values import check_index, check_name, encode_mac
from kernelproof.impl.netlink.wire import (
    S32,
    U8,
    U32,
    Attribute,
    Message,
    Splitter,
    encode_attributes,
    encode_text,
    number,
    pack,
    parse_attributes,
    parse_list,
    text,
)

if TYPE_CHECKING:
    from kernelproof.impl.netlink.kinds import Option

NEWLINK, DELLINK, GETLINK, SETLINK, NEWLINKPROP, DELLINKPROP = 16, 17, 18, 19, 108, 109
UP: Final = 0x1
HEADER: Final = Struct("=BxHiII")
_STATS: Final = Struct("=24Q")
_FILTER_VF, _FILTER_SKIP_STATS = 0x1, 0x8

OPERSTATES: Final = ("UNKNOWN", "NOTPRESENT", "DOWN", "LOWERLAYERDOWN", "TESTING", "DORMANT", "UP")

Which: TypeAlias = "int | str | Link"
"""A link: its ifindex, its name or alternative name, or a record of it."""


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


def _target(link: Which) -> tuple[int, list[Attribute], str]:
    # Header index, attributes and words for a link that there is.
    if isinstance(link, Link):
        return link.ifindex, [], link.name
    if isinstance(link, int):
        return check_index(link), [], f"link {link}"
    return 0, [_named(link)], link


def _named(name: str) -> Attribute:
    if len(name.encode("utf-8", "surrogateescape")) <= 15:
        return 3, encode_text(check_name(name))
    return 53, encode_text(check_name(name, longest=127))


_SETTINGS: Final[Mapping[str, tuple[int, Struct]]] = {
    "mtu": (4, U32),
    "parent": (5, U32),
    "master": (10, U32),
    "txqueuelen": (13, U32),
    "carrier": (33, U8),
    "linkmode": (17, U8),
    "namespace_pid": (19, U32),
    "namespace_fd": (28, U32),
    "namespace_id": (46, S32),
    "parent_namespace": (37, S32),
    "group": (27, U32),
    "tx_queues": (31, U32),
    "rx_queues": (32, U32),
    "gso_max_segs": (40, U32),
    "gso_max_size": (41, U32),
    "gro_max_size": (58, U32),
    "gso_ipv4_max_size": (63, U32),
    "gro_ipv4_max_size": (64, U32),
    "proto_down": (39, U8),
    "new_index": (49, U32),
}
LATE: Final = ("alias", "carrier", "proto_down", "new_name")  # what the kernel leaves out when it makes a link
_FLAGS: Final[Mapping[str, int]] = {
    "up": 0x1,
    "arp": 0x80,
    "promisc": 0x100,
    "allmulticast": 0x200,
    "multicast": 0x1000,
    "dynamic": 0x8000,
}


def _settings(settings: Mapping[str, Any]) -> tuple[list[Attribute], int, int]:
    # Attributes, flags and the mask of flags that are to change: no flag that was not asked for changes.
    attributes: list[Attribute] = []
    flags = change = 0
    for name, value in settings.items():
        if value is None:
            continue
        if name in _FLAGS:
            change |= _FLAGS[name]
            flags |= _FLAGS[name] if bool(value) != (name == "arp") else 0  # IFF_NOARP is the opposite of arp
        elif name in _SETTINGS:
            place, form = _SETTINGS[name]
            attributes.append((place, pack(form, int(value), name)))
        elif name in {"mac", "broadcast"}:
            attributes.append((1 if name == "mac" else 2, encode_mac(value)))
        elif name in {"alias", "new_name"}:
            attributes.append((20, encode_text(value)) if name == "alias" else (3, encode_text(check_name(value))))
        else:
            raise ValueError(f"a link has no setting {name!r}; it has: {', '.join([*_SETTINGS, *_FLAGS])}, mac, alias")
    return attributes, flags, change


def add_link(
    name: str,
    kind: str,
    *,
    options: "Mapping[str, Option] | None" = None,
    raw: Mapping[int, bytes] | None = None,
    index: int = 0,
    peer: Mapping[str, Any] | None = None,
    replace: bool = False,
    **settings: Any,
) -> Request:
    """Make a link: RTM_NEWLINK, which fails with EEXIST if there is one of that name.

    Args:
        name: "" lets the kernel choose; `%d` in it is replaced by the first free number.
        kind: dummy, bridge, veth, vlan …
        options: of the kind, see `kinds`.
        raw: further attributes of IFLA_INFO_DATA.
        index: the ifindex it is to have, 0 for the next.
        peer: of a veth: `name`, settings of the other end, and its `index` (which counts only if index is given too).
        replace: change the link if there is one.
        settings: mtu, mac, master, parent, up, group, namespace_fd …

    Raises:
        ValueError: a name, option or setting that cannot be one.
    """
    late = [key for key in LATE if settings.get(key) is not None or (peer or {}).get(key) is not None]
    if late:
        raise ValueError(f"the kernel takes {', '.join(late)} of a link that is there already: set it afterwards")
    attributes, flags, change = _settings(settings)
    if name:
        attributes.insert(0, (3, encode_text(check_name(name))))
    data = table_of(kind).encode(options or {}, raw)
    if peer is not None:
        data.append((1, _peer(peer)))
    info: list[Attribute] = [(1, encode_text(check_name(kind, what="kind")))]
    if data:
        info.append((2, data))
    attributes.append((18, info))
    how = CREATE | (REPLACE if replace else EXCL)
    header = HEADER.pack(0, 0, index, flags, change)
    return Request.of(NEWLINK, how, header, attributes, LINK, f"add link {name or '(any name)'} kind {kind}")


def _peer(peer: Mapping[str, Any]) -> bytes:
    rest = {key: value for key, value in peer.items() if key not in {"name", "index"}}
    attributes, flags, change = _settings(rest)
    if peer.get("name"):
        attributes.insert(0, (3, encode_text(check_name(peer["name"]))))
    return HEADER.pack(0, 0, peer.get("index", 0), flags, change) + encode_attributes(attributes, LINK)


def set_link(
    link: Which,
    *,
    kind: str = "",
    options: "Mapping[str, Option] | None" = None,
    raw: Mapping[int, bytes] | None = None,
    **settings: Any,
) -> Request:
    """Change a link in one request: RTM_NEWLINK without CREATE. Only the flags that are named change.

    Args:
        link: which.
        kind: of the link, where options are given.
        options: of the kind.
        raw: further attributes of IFLA_INFO_DATA.
        settings: as for add_link, and new_name.

    Raises:
        ValueError: as for add_link.
    """
    index, attributes, words = _target(link)
    given, flags, change = _settings(settings)
    if not index and "new_name" in settings:
        raise ValueError("a link that gets a new name is given by its index, or as a record")
    attributes += given
    if options or raw:
        info: list[Attribute] = [(1, encode_text(kind)), (2, table_of(kind).encode(options or {}, raw))]
        attributes.append((18, info))
    header = HEADER.pack(0, 0, index, flags, change)
    names = " ".join(f"{key} {value}" for key, value in {**(options or {}), **settings}.items())
    return Request.of(NEWLINK, 0, header, attributes, LINK, f"set {words} {names}")


def delete_link(link: Which) -> Request:
    """Remove a link: RTM_DELLINK."""
    index, attributes, words = _target(link)
    return Request.of(DELLINK, 0, HEADER.pack(0, 0, index, 0, 0), attributes, LINK, f"delete {words}")


def get_link(link: Which, *, statistics: bool = True, virtual_functions: bool = False) -> Request:
    """Ask for one link by index, name or alternative name."""
    index, attributes, words = _target(link)
    return Request.of(
        GETLINK,
        0,
        HEADER.pack(0, 0, index, 0, 0),
        [*attributes, _mask(statistics, virtual_functions)],
        LINK,
        f"get {words}",
    )


def list_links(
    *, kind: str = "", master: int | None = None, statistics: bool = True, virtual_functions: bool = False
) -> Request:
    """Ask for all links, or those of a kind or master: the kernel filters."""
    attributes: list[Attribute] = [_mask(statistics, virtual_functions)]
    if master is not None:
        attributes.append((10, U32.pack(check_index(master))))
    if kind:
        attributes.append((18, [(1, encode_text(kind))]))
    return Request.of(GETLINK, 0, HEADER.pack(0, 0, 0, 0, 0), attributes, LINK, "list links")


def _mask(statistics: bool, virtual_functions: bool) -> Attribute:
    mask = (_FILTER_VF if virtual_functions else 0) | (0 if statistics else _FILTER_SKIP_STATS)
    return 29, U32.pack(mask)


def change_altnames(link: Which, *names: str, add: bool) -> Request:
    """Add or remove alternative names, of up to 127 bytes."""
    index, attributes, words = _target(link)
    attributes.append((52, [(53, encode_text(check_name(name, longest=127))) for name in names]))
    verb = "add" if add else "remove"
    return Request.of(
        NEWLINKPROP if add else DELLINKPROP,
        CREATE | EXCL if add else 0,
        HEADER.pack(0, 0, index, 0, 0),
        attributes,
        LINK,
        f"{verb} alternative names of {words}: {', '.join(names)}",
    )
