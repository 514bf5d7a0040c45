"""Links: the requests that make, change and remove them; the record is that of `link_records`.

Requests are values (see `requests`); nothing here opens a socket. A link is named by its name or by its ifindex.

Source: rtnetlink(7), RTM_NEWLINK; include/uapi/linux/if_link.h.
"""

from collections.abc import Mapping
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from kernelproof.impl.netlink.kinds import table_of
from kernelproof.impl.netlink.link_records import HEADER, UP, Link, LinkFlag, Statistics, parse_link
from kernelproof.impl.netlink.requests import CREATE, EXCL, REPLACE, Request
from kernelproof.impl.netlink.spaces import LINK
from kernelproof.impl.netlink.values import check_index, check_name, encode_mac
from kernelproof.impl.netlink.wire import S32, U8, U32, Attribute, encode_attributes, encode_text, pack

if TYPE_CHECKING:
    from kernelproof.impl.netlink.kinds import Option

__all__ = [
    "DELLINK",
    "DELLINKPROP",
    "GETLINK",
    "HEADER",
    "LATE",
    "NEWLINK",
    "NEWLINKPROP",
    "SETLINK",
    "UP",
    "Link",
    "LinkFlag",
    "Statistics",
    "Which",
    "add_link",
    "change_altnames",
    "delete_link",
    "get_link",
    "list_links",
    "parse_link",
    "set_link",
]

NEWLINK, DELLINK, GETLINK, SETLINK, NEWLINKPROP, DELLINKPROP = 16, 17, 18, 19, 108, 109
_FILTER_VF, _FILTER_SKIP_STATS = 0x1, 0x8

Which: TypeAlias = "int | str | Link"
"""A link: its ifindex, its name or alternative name, or a record of it."""


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
    header = HEADER.pack(0, 0, check_index(index) if index else 0, flags, change)
    return Request.of(NEWLINK, how, header, attributes, LINK, f"add link {name or '(any name)'} kind {kind}")


def _peer(peer: Mapping[str, Any]) -> bytes:
    rest = {key: value for key, value in peer.items() if key not in {"name", "index"}}
    attributes, flags, change = _settings(rest)
    index = peer.get("index", 0)
    if peer.get("name"):
        attributes.insert(0, (3, encode_text(check_name(peer["name"]))))
    return HEADER.pack(0, 0, check_index(index) if index else 0, flags, change) + encode_attributes(attributes, LINK)


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
