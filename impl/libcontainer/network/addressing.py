"""Arithmetic of IPv4 addresses: which one is next, and which prefix one is in."""

from __future__ import annotations

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Iterator


def to_number(address: str) -> int:
    """Return an IPv4 address as a number.

    Raises:
        ValueError: it is none.
    """
    parts = address.split(".")
    if len(parts) != 4 or not all(part.isascii() and part.isdecimal() and int(part) < 256 for part in parts):
        raise ValueError(f"{address!r} is no IPv4 address")
    return sum(int(part) << shift for part, shift in zip(parts, (24, 16, 8, 0), strict=True))


def to_text(number: int) -> str:
    """Return a number as an IPv4 address."""
    return ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))


def addresses_after(subnet: str, prefix: str) -> Iterator[tuple[str, str]]:
    """Yield every address of a subnet but its own, its gateway's and the broadcast one, with the name of its link.

    >>> list(addresses_after("10.0.0.1/30", "kp"))
    [('10.0.0.2/30', 'kp0a000002')]
    """
    gateway, _, length = subnet.partition("/")
    own, size = to_number(gateway), 1 << 32 - int(length)
    first = own // size * size
    for number in range(first + 1, first + size - 1):
        if number != own:
            yield f"{to_text(number)}/{length}", f"{prefix}{number:08x}"


def prefix_of(gateway: str, addresses: tuple[str, ...]) -> str:
    """Return the prefix length of the address of the gateway's family.

    Raises:
        ValueError: there is none.
    """
    for address in addresses:
        if (":" in address) == (":" in gateway):
            return address.partition("/")[2]
    raise ValueError(f"the gateway {gateway} has no address of its family beside it")
