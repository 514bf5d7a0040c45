"""Addresses, prefixes, hardware addresses and names: between what people write and what the kernel takes.

In records an IP address is text as inet_ntop(3) writes it, a prefix `address/length`, a hardware address pairs of
hexadecimal digits. Objects of the standard library's ipaddress are taken too, by their text.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final, TypeAlias

from kernelproof.impl.netlink.errors import WireError

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

Ip: TypeAlias = "str | IPv4Address | IPv6Address"
Prefix: TypeAlias = "str | IPv4Network | IPv6Network | IPv4Interface | IPv6Interface"

INET: Final = 2
INET6: Final = 10
_WIDTH: Final = {INET: 32, INET6: 128}
_HEXADECIMAL: Final = frozenset("0123456789abcdefABCDEF")
_SIZE: Final = {4: INET, 16: INET6}


def encode_ip(address: Ip) -> tuple[int, bytes]:
    """Return family and bytes of an address.

    Raises:
        ValueError: it is none.
    """
    written = str(address)
    family = INET6 if ":" in written else INET
    try:
        return family, socket.inet_pton(family, written)
    except (OSError, ValueError):
        raise ValueError(f"{written!r} is no IP address") from None


def encode_prefix(prefix: Prefix, *, host: bool = True) -> tuple[int, bytes, int]:
    """Return family, bytes and length of `address/length`; an address alone is the longest prefix.

    Args:
        prefix: host bits are kept as given.
        host: whether an address alone will do.

    Raises:
        ValueError: no address, no length, or one over the family's width.
    """
    address, slash, length = str(prefix).partition("/")
    family, data = encode_ip(address)
    width = _WIDTH[family]
    if not slash and not host:
        raise ValueError(f"{prefix!s} has no prefix length")
    if slash and not (length.isascii() and length.isdigit() and int(length) <= width):
        raise ValueError(f"{prefix!s}: a prefix length is 0 to {width}")
    return family, data, int(length) if slash else width


def parse_ip(data: bytes) -> str:
    """Return an address of 4 or 16 bytes as text.

    Raises:
        WireError: another length.
    """
    family = _SIZE.get(len(data))
    if family is None:
        raise WireError(f"IP address of {len(data)} bytes")
    return socket.inet_ntop(family, data)


def encode_mac(address: str) -> bytes:
    """Return the bytes of a hardware address, of any length from 1 to 32 bytes.

    Raises:
        ValueError: no pairs of hexadecimal digits between colons.
    """
    pairs = address.split(":")
    if not 1 <= len(pairs) <= 32 or any(len(pair) != 2 or not _HEXADECIMAL.issuperset(pair) for pair in pairs):
        raise ValueError(f"{address!r} is no hardware address")
    return bytes.fromhex("".join(pairs))


def parse_link_layer(data: bytes) -> str:
    """Return a hardware address, or the IP address of a tunnel's end, as text."""
    return data.hex(":")


def check_name(name: str, *, longest: int = 15, what: str = "interface name") -> str:
    """Return a name that the kernel takes for a link.

    Raises:
        ValueError: empty, longer than 15 bytes (an alternative name: 127), `.` or `..`, or with `/`, `:`, white
            space or NUL in it.
    """
    size = len(name.encode("utf-8", "surrogateescape"))
    if not 1 <= size <= longest:
        raise ValueError(f"{what} {name!r} has {size} bytes, not 1 to {longest}")
    wrong = next((letter for letter in name if letter in "/:\0" or letter.isspace()), None)
    if wrong is not None or name in {".", ".."}:
        raise ValueError(f"{what} {name!r}: {wrong or name!r} is not allowed in it")
    return name


def check_index(index: int) -> int:
    """Return an ifindex that can be one.

    Raises:
        ValueError: not 1 to 2147483647.
    """
    if not 1 <= index < 2**31:
        raise ValueError(f"ifindex {index}: links are counted from 1 to 2147483647")
    return index
