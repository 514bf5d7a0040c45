"""Generic netlink: families that are looked up by name, and messages to them.

    with Generic() as generic:
        print(generic.family("ethtool").id)
        for reply in generic.dump("nlctrl", 3):
            print(reply.attributes)

A message is a command with a version, and attributes as everywhere. What a family's attributes mean is for the module
of that family (`ethtool`); a request without a space of names still works, its errors then have numbers.

Source: Documentation/userspace-api/netlink/intro.rst, Generic Netlink; include/uapi/linux/genetlink.h.
"""

from collections.abc import Iterable
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from kernelproof.impl.netlink.connection import Connection, Dump
from kernelproof.impl.netlink.endpoint import GENERIC
from kernelproof.impl.netlink.errors import WireError
from kernelproof.impl.netlink.requests import Request
from kernelproof.impl.netlink.spaces import CONTROL
from kernelproof.impl.netlink.wire import (
    U16,
    U32,
    Attribute,
    Message,
    encode_text,
    number,
    open_message,
    parse_attributes,
    parse_list,
    text,
)

if TYPE_CHECKING:
    from typing import Self

    from kernelproof.impl.netlink.netns import Where
    from kernelproof.impl.netlink.spaces import Space

CONTROLLER, GET_FAMILY = 16, 3
_HEADER: Final = Struct("=BBxx")
_LONGEST_NAME: Final = 15


class Family(NamedTuple):
    """A family that the kernel has.

    Attributes:
        id: the message type, which is another on each boot.
        header_bytes: of its own structure before the attributes.
        operations: pairs of a command and its GENL_ flags (1 needs CAP_NET_ADMIN, 2 do, 4 dump).
        groups: pairs of a multicast group's name and its number.
    """

    id: int
    name: str
    version: int = 1
    header_bytes: int = 0
    max_attribute: int = 0
    operations: tuple[tuple[int, int], ...] = ()
    groups: tuple[tuple[str, int], ...] = ()

    def group(self, name: str) -> int:
        """Return the number of a multicast group.

        Raises:
            LookupError: the family has no such group.
        """
        groups = dict(self.groups)
        if name in groups:
            return groups[name]
        raise LookupError(f"{self.name} has no group {name!r}; it has: {', '.join(each for each, _ in self.groups)}")


class Reply(NamedTuple):
    """A message of a family: command, version, and its attributes by type, raw; of equal types the last."""

    command: int
    version: int
    attributes: dict[int, bytes]


def parse_reply(message: Message) -> Reply:
    """Return a message of generic netlink; a family with a structure of its own needs another parser.

    Raises:
        WireError: the message is too short, or an attribute lies.
    """
    (command, version), found = open_message(message, _HEADER, "generic")
    return Reply(command, version, found)


def parse_family(message: Message) -> Family:
    """Return what the controller tells of a family.

    Raises:
        WireError: the message is too short, lacks id or name, or an attribute lies.
    """
    found = parse_reply(message).attributes
    if 1 not in found or 2 not in found:
        raise WireError("a family without CTRL_ATTR_FAMILY_ID or CTRL_ATTR_FAMILY_NAME")

    def whole(place: int) -> int:
        return number(found[place], U32, CONTROL.name(place)) if place in found else 0

    operations = [parse_attributes(data) for _, data in parse_list(found.get(6, b""))]
    groups = [parse_attributes(data) for _, data in parse_list(found.get(7, b""))]
    return Family(
        number(found[1], U16, "CTRL_ATTR_FAMILY_ID"),
        text(found[2], "CTRL_ATTR_FAMILY_NAME"),
        whole(3),
        whole(4),
        whole(5),
        tuple((number(each[1], U32), number(each[2], U32)) for each in operations if {1, 2} <= each.keys()),
        tuple((text(each[1]), number(each[2], U32)) for each in groups if {1, 2} <= each.keys()),
    )


def ask_family(
    family: int,
    command: int,
    attributes: Iterable[Attribute] = (),
    *,
    version: int = 1,
    space: "Space | None" = None,
    words: str = "",
) -> Request:
    """Ask something of a family whose id is known.

    Raises:
        ValueError: a command or version above 255, an attribute that does not fit.
    """
    if not (0 <= command <= 255 and 0 <= version <= 255):
        raise ValueError(f"command {command} version {version}: 0 to 255")
    header = _HEADER.pack(command, version)
    return Request.of(family, 0, header, attributes, space, words or f"command {command} of family {family}")


def get_family(name: str) -> Request:
    """Ask the controller for a family by name; ENOENT if the kernel has none.

    Raises:
        ValueError: a name that is empty or longer than 15 bytes.
    """
    if not 1 <= len(name.encode()) <= _LONGEST_NAME:
        raise ValueError(f"{name!r}: a family's name has 1 to {_LONGEST_NAME} bytes")
    return ask_family(CONTROLLER, GET_FAMILY, [(2, encode_text(name))], space=CONTROL, words=f"look up family {name}")


class Generic:
    """Generic netlink in one network namespace; families that were looked up are kept.

    Args:
        netns: name, path, descriptor or Pid; None for the caller's.
        connection: one to use instead, which the caller closes.
        timeout_seconds: for one exchange.

    All methods raise NetlinkError where the kernel refuses (ENOENT: no such family), and ClosedError.
    """

    def __init__(
        self,
        netns: "Where | None" = None,
        *,
        connection: Connection | None = None,
        timeout_seconds: float | None = 60.0,
    ) -> None:
        self._own = connection is None
        self.connection = connection or Connection(GENERIC, netns=netns, timeout_seconds=timeout_seconds)
        self._families: dict[str, Family] = {}

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, if it is this object's own."""
        if self._own:
            self.connection.close()

    def family(self, name: str) -> Family:
        """Return a family by name; the kernel loads a module for it where it has one."""
        if name not in self._families:
            self._families[name] = parse_family(self.connection.request(get_family(name)).messages[0])
        return self._families[name]

    def families(self) -> Dump[Family]:
        """List all families."""
        return self.connection.dump(
            ask_family(CONTROLLER, GET_FAMILY, space=CONTROL, words="list families"), parse_family
        )

    def ask(
        self,
        family: str,
        command: int,
        attributes: Iterable[Attribute] = (),
        *,
        version: int | None = None,
        space: "Space | None" = None,
    ) -> tuple[Reply, ...]:
        """Ask something of a family by name, and return its answers.

        Raises:
            NetlinkError: ENOENT (no such family), EOPNOTSUPP (no such command), and what the command says.
            ValueError: as ask_family.
        """
        request = self._request(family, command, attributes, version, space)
        return tuple(parse_reply(message) for message in self.connection.request(request).messages)

    def dump(
        self,
        family: str,
        command: int,
        attributes: Iterable[Attribute] = (),
        *,
        version: int | None = None,
        space: "Space | None" = None,
    ) -> Dump[Reply]:
        """Return what a family lists; errors as for ask, and of Connection.dump."""
        return self.connection.dump(self._request(family, command, attributes, version, space), parse_reply)

    def _request(
        self, name: str, command: int, attributes: Iterable[Attribute], version: int | None, space: "Space | None"
    ) -> Request:
        family = self.family(name)
        version = family.version if version is None else version
        words = f"command {command} of {name}"
        return ask_family(family.id, command, attributes, version=version, space=space, words=words)


__all__ = [
    "CONTROLLER",
    "GET_FAMILY",
    "Family",
    "Generic",
    "Reply",
    "ask_family",
    "get_family",
    "parse_family",
    "parse_reply",
]
