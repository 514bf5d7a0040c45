"""Settings of IP by link, as the kernel tells them over netlink: forwarding, reverse path filter, proxies.

They are set in /proc/sys/net; here they are read, and a monitor hears of changes. This is not for other sysctls.

Source: include/uapi/linux/netconf.h; ip-netconf(8).
"""

from struct import Struct
from typing import Final, NamedTuple

from kernelproof.impl.netlink.requests import Request
from kernelproof.impl.netlink.spaces import NETCONF
from kernelproof.impl.netlink.values import INET, INET6
from kernelproof.impl.netlink.wire import S32, Message, number, open_message, pack, pack_all

NEWNETCONF, DELNETCONF, GETNETCONF = 80, 81, 82
ALL, DEFAULT = -1, -2  # in the place of an ifindex: /proc/sys/net/*/conf/all and default
_HEADER: Final = Struct("=Bxxx")
_FIELDS: Final = frozenset({1, 2, 3, 4, 5, 6, 8})


class NetConf(NamedTuple):
    """Settings of one family on one link; None where the family has no such setting.

    Attributes:
        ifindex: or ALL, or DEFAULT.
    """

    family: int
    ifindex: int
    forwarding: int | None = None
    rp_filter: int | None = None
    mc_forwarding: int | None = None
    proxy_neigh: int | None = None
    ignore_routes_with_linkdown: int | None = None
    bc_forwarding: int | None = None
    rest: tuple[tuple[int, bytes], ...] = ()


def parse_netconf(message: Message) -> NetConf:
    """Return the settings of an RTM_NEWNETCONF or RTM_DELNETCONF.

    Raises:
        WireError: the message is too short, or an attribute lies.
    """
    (family,), found = open_message(message, _HEADER, "netconf")

    def whole(place: int) -> int | None:
        return number(found[place], S32, NETCONF.name(place)) if place in found else None

    return NetConf(
        family,
        whole(1) or 0,
        whole(2),
        whole(3),
        whole(4),
        whole(5),
        whole(6),
        whole(8),
        tuple((place, data) for place, data in found.items() if place not in _FIELDS),
    )


def get_netconf(family: int, ifindex: int = ALL) -> Request:
    """Ask for the settings of one link, of ALL or of DEFAULT.

    Raises:
        ValueError: neither IPv4 (2) nor IPv6 (10), or an ifindex that cannot be one.
    """
    if family not in {INET, INET6}:
        raise ValueError(f"family {family}: netconf is of IPv4 (2) or IPv6 (10)")
    if ifindex < DEFAULT or ifindex == 0:
        raise ValueError(f"ifindex {ifindex}: links are counted from 1; -1 is all, -2 the default")
    attributes = [(1, pack(S32, ifindex, "ifindex"))]
    return Request.of(
        GETNETCONF, 0, pack_all(_HEADER, "family", family), attributes, NETCONF, f"get netconf of {ifindex}"
    )


def list_netconf(*, family: int = 0) -> Request:
    """Ask for the settings of all links, of one family or of all."""
    return Request.of(GETNETCONF, 0, pack_all(_HEADER, "family", family), (), NETCONF, "list netconf")
