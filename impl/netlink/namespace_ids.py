"""The numbers by which one network namespace calls others: a link's other end is told by such a number.

A namespace is shown to the kernel by an open descriptor, or by a process.

Source: network_namespaces(7); ip-netns(8), set; include/uapi/linux/net_namespace.h.
"""

from struct import Struct
from typing import Final

from kernelproof.impl.netlink.errors import WireError
from kernelproof.impl.netlink.requests import Request
from kernelproof.impl.netlink.spaces import NAMESPACE_ID
from kernelproof.impl.netlink.wire import S32, U32, Attribute, Message, number, pack, parse_attributes

NEWNSID, DELNSID, GETNSID = 88, 89, 90
ANY: Final = -1  # the kernel chooses; in an answer: there is none
_HEADER: Final = Struct("=Bxxx")


def _attributes(fd: int | None, pid: int | None) -> list[Attribute]:
    if (fd is None) == (pid is None):
        raise ValueError("a namespace is shown by a descriptor or by a process, one of them")
    return [(3, pack(U32, fd, "fd"))] if fd is not None else [(2, pack(U32, pid or 0, "pid"))]


def set_namespace_id(number: int = ANY, *, fd: int | None = None, pid: int | None = None) -> Request:
    """Give a namespace a number here: RTM_NEWNSID, EEXIST if it has one, ENOSPC if the number is another's.

    Raises:
        ValueError: below -1, above 2147483647; not one of fd and pid.
    """
    if number < ANY:
        raise ValueError(f"namespace id {number}: 0 and above, or -1 for any")
    attributes = [(1, pack(S32, number, "namespace id")), *_attributes(fd, pid)]
    return Request.of(NEWNSID, 0, _HEADER.pack(0), attributes, NAMESPACE_ID, f"set namespace id {number}")


def get_namespace_id(*, fd: int | None = None, pid: int | None = None) -> Request:
    """Ask for the number of a namespace; ValueError unless one of fd and pid is given."""
    return Request.of(GETNSID, 0, _HEADER.pack(0), _attributes(fd, pid), NAMESPACE_ID, "get namespace id")


def list_namespace_ids() -> Request:
    """Ask for all numbers that are given."""
    return Request.of(GETNSID, 0, _HEADER.pack(0), (), NAMESPACE_ID, "list namespace ids")


def parse_namespace_id(message: Message) -> int:
    """Return the number of an RTM_NEWNSID or RTM_DELNSID, ANY where there is none.

    Raises:
        WireError: it holds none, or an attribute lies.
    """
    found = parse_attributes(message.payload, _HEADER.size)
    if 1 not in found:
        raise WireError("a namespace id without NETNSA_NSID")
    return number(found[1], S32, "NETNSA_NSID")
