"""The bytes of netlink: messages, attributes, and where in a request an attribute lies.

A datagram is a row of messages, each with a header of 16 bytes; after the header stands a structure of the message's
type, and then attributes: length (its 4 bytes of header included), type, payload, padding to 4. A payload may be a
row of attributes again. Numbers are in the machine's order.

The encoder refuses what does not fit, the decoder what lies; an attribute that nobody knows is kept as it came.
This is not for the meaning of attributes (see `spaces` for their names, and the modules of each record).

Source: Documentation/userspace-api/netlink/intro.rst; netlink(7).
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from struct import Struct, error
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from kernelproof.impl.netlink.errors import WireError

if TYPE_CHECKING:
    from kernelproof.impl.netlink.spaces import Space

HEADER: Final = Struct("=IHHII")
ATTRIBUTE: Final = Struct("=HH")
HEADER_BYTES: Final = 16
NESTED: Final = 0x8000
TYPE_MASK: Final = 0x3FFF  # without the bits for nested and network byte order
LARGEST_PAYLOAD: Final = 65531  # the length of an attribute is 16 bits wide and counts its header
LARGEST_MESSAGE: Final = 2**32 - 1

U8: Final = Struct("=B")
U16: Final = Struct("=H")
U32: Final = Struct("=I")
S32: Final = Struct("=i")
U64: Final = Struct("=Q")

Payload: TypeAlias = "bytes | Sequence[Attribute]"
Attribute: TypeAlias = "tuple[int, Payload]"

_LAYOUTS: Final = 64  # how many shapes of attributes a Splitter keeps


class Message(NamedTuple):
    """One message: what its header says, and what comes after the header."""

    type: int
    flags: int
    sequence: int
    port: int
    payload: bytes


def encode_message(message: Message) -> bytes:
    """Return the bytes of a message, padded to 4.

    Raises:
        WireError: a field of the header does not fit.
    """
    length = HEADER_BYTES + len(message.payload)
    try:
        header = HEADER.pack(length, message.type, message.flags, message.sequence, message.port)
    except error as reason:
        raise WireError(f"message header {message[:4]}: {reason}") from None
    return header + message.payload + bytes(-length % 4)


def parse_messages(datagram: bytes) -> Iterator[Message]:
    """Yield the messages of a datagram.

    Raises:
        WireError: a length below 16 or past the end, or fewer than 16 bytes left.
    """
    position, end = 0, len(datagram)
    while position < end:
        if end - position < HEADER_BYTES:
            raise WireError(f"{end - position} bytes are no header", position)
        length, kind, flags, sequence, port = HEADER.unpack_from(datagram, position)
        if not HEADER_BYTES <= length <= end - position:
            raise WireError(f"message of length {length} in {end - position} bytes", position)
        yield Message(kind, flags, sequence, port, datagram[position + HEADER_BYTES : position + length])
        position += (length + 3) & ~3


def encode_attributes(attributes: "Iterable[Attribute]", space: "Space | None" = None) -> bytes:
    """Return the bytes of attributes, nested ones with their flag set.

    Args:
        attributes: pairs of a type and a payload: bytes, or attributes again.
        space: the names of the types, for errors.

    Raises:
        WireError: a payload above 65,531 bytes, children summed; a type that does not fit. It names the attribute.

    >>> encode_attributes([(3, b"eth0" + bytes(1)), (18, [(1, b"veth")])]).hex(" ", 4)
    '09000300 65746830 00000000 0c001280 08000100 76657468'
    """
    siblings = tuple(attributes)
    parts = []
    for kind, payload in siblings:
        if isinstance(payload, bytes):
            body = payload
        else:
            inner = space.inside(kind, siblings) if space else None
            try:
                body = encode_attributes(payload, inner)
            except WireError as reason:
                raise WireError(f"{name_of(space, kind)}.{reason}") from None
            kind |= NESTED
        if len(body) > LARGEST_PAYLOAD:
            raise WireError(f"{name_of(space, kind)}: {len(body)} bytes, an attribute holds at most {LARGEST_PAYLOAD}")
        if not 0 <= kind <= 0xFFFF:
            raise WireError(f"{kind}: a type is 16 bits wide")
        parts.append(ATTRIBUTE.pack(len(body) + 4, kind) + body + bytes(-len(body) % 4))
    return b"".join(parts)


def name_of(space: "Space | None", kind: int) -> str:
    """Return the kernel's name of an attribute, or its number where none is known."""
    return space.name(kind & TYPE_MASK) if space else str(kind & TYPE_MASK)


def walk_attributes(buffer: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int, int]]:
    """Yield type, start and end of each payload between two offsets, never beyond the second.

    Types come without their flags. The padding of the last attribute may be missing.

    Raises:
        WireError: an attribute shorter than its header or longer than what is left, or up to 3 bytes left over.
    """
    position, end = start, len(buffer) if end is None else end
    while position < end:
        if end - position < 4:
            raise WireError(f"{end - position} bytes left over after the last attribute", position)
        length, kind = ATTRIBUTE.unpack_from(buffer, position)
        if not 4 <= length <= end - position:
            raise WireError(f"attribute {kind & TYPE_MASK} of length {length} in {end - position} bytes", position)
        yield kind & TYPE_MASK, position + 4, position + length
        position += (length + 3) & ~3


def parse_list(buffer: bytes, start: int = 0) -> tuple[tuple[int, bytes], ...]:
    """Return all attributes in order, equal types included, payloads raw.

    Raises:
        WireError: as walk_attributes.
    """
    return tuple((kind, buffer[first:last]) for kind, first, last in walk_attributes(buffer, start))


def parse_attributes(buffer: bytes, start: int = 0) -> dict[int, bytes]:
    """Return attributes by type, payloads raw; of equal types the last counts, as in the kernel.

    Raises:
        WireError: as walk_attributes.
    """
    return {kind: buffer[first:last] for kind, first, last in walk_attributes(buffer, start)}


def open_message(
    message: Message, form: Struct, what: str, splitter: "Splitter | None" = None
) -> tuple[tuple[int, ...], dict[int, bytes]]:
    """Return the structure that a message begins with, and its attributes by type.

    Raises:
        WireError: the message is shorter than the structure, or an attribute lies.
    """
    payload = message.payload
    if len(payload) < form.size:
        raise WireError(f"{what} message of {len(payload)} bytes")
    found = splitter.split(payload, form.size) if splitter else parse_attributes(payload, form.size)
    return form.unpack_from(payload), found


class Splitter:
    """parse_attributes for the many alike messages of a dump.

    It keeps the layouts that it has met: a compiled structure of headers and payloads. A message of the same layout
    is split by one call into C; each header is still compared, so that a message of any other layout is walked.
    """

    __slots__ = ("_known", "_learnt")

    def __init__(self) -> None:
        self._known: dict[int, list[tuple[Struct, tuple[int, ...], tuple[int, ...]]]] = {}
        self._learnt = 0

    def split(self, buffer: bytes, start: int) -> dict[int, bytes]:
        """Return attributes by type.

        Raises:
            WireError: as walk_attributes.
        """
        known = self._known.get(len(buffer) - start)
        if known is not None:
            for layout, headers, kinds in known:
                found = layout.unpack_from(buffer, start)
                if found[::2] == headers:
                    return dict(zip(kinds, found[1::2], strict=True))
        return self._learn(buffer, start)

    def _learn(self, buffer: bytes, start: int) -> dict[int, bytes]:
        spans = list(walk_attributes(buffer, start))
        if self._learnt < _LAYOUTS and spans and spans[-1][2] + (-(spans[-1][2] - start) % 4) <= len(buffer):
            layout = Struct("=" + "".join(f"I{last - first}s{-(last - first) % 4}x" for _, first, last in spans))
            if layout.size == len(buffer) - start:
                headers = tuple(U32.unpack_from(buffer, first - 4)[0] for _, first, _ in spans)
                kinds = tuple(kind for kind, _, _ in spans)
                self._known.setdefault(layout.size, []).append((layout, headers, kinds))
                self._learnt += 1
        return {kind: buffer[first:last] for kind, first, last in spans}


def number(payload: bytes, form: Struct, what: str = "number") -> int:
    """Return a number of exactly the width of a structure.

    Raises:
        WireError: another width.
    """
    if len(payload) != form.size:
        raise WireError(f"{what} of {len(payload)} bytes, not {form.size}")
    return int(form.unpack(payload)[0])


def any_number(payload: bytes, what: str = "number") -> int:
    """Return an unsigned number of 1, 2, 4 or 8 bytes.

    Raises:
        WireError: another width.
    """
    if len(payload) not in {1, 2, 4, 8}:
        raise WireError(f"{what} of {len(payload)} bytes")
    return int.from_bytes(payload, sys.byteorder)


def text(payload: bytes, what: str = "text") -> str:
    """Return a string that ends in its first and only NUL byte; bytes that are no UTF-8 are kept as surrogates.

    Raises:
        WireError: no NUL byte at the end.
    """
    if payload[-1:] != b"\0":
        raise WireError(f"{what} without a NUL byte at its end: {payload[:64]!r}")
    return payload.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def encode_text(value: str) -> bytes:
    """Return a string with its NUL byte.

    Raises:
        WireError: it holds a NUL byte already.
    """
    if "\0" in value:
        raise WireError(f"{value!r} holds a NUL byte")
    return value.encode("utf-8", "surrogateescape") + b"\0"


def pack(form: Struct, value: int, what: str) -> bytes:
    """Return a number in a structure's width.

    Raises:
        WireError: it does not fit.
    """
    try:
        return form.pack(value)
    except error:
        raise WireError(f"{what}={value} does not fit {form.size * 8} bits") from None


def pack_all(form: Struct, what: str, *values: object) -> bytes:
    """Return a structure of several values.

    Raises:
        WireError: one of them does not fit.
    """
    try:
        return form.pack(*values)
    except error as reason:
        raise WireError(f"{what} {values}: {reason}") from None


def locate(message: bytes, start: int, space: "Space", offset: int) -> "tuple[str, Space | None]":
    """Return the path of the attribute that an offset into an encoded request lies in, and the space inside it.

    Args:
        message: the request with its header.
        start: where its attributes begin.
        space: the names of its attributes.
        offset: as the kernel's extended ack has it: from the start of the header.

    Returns:
        "" and the space given, where the offset lies in no attribute.

    Raises:
        WireError: the attributes of the request lie.
    """
    position, end, inner = start, len(message), space
    names: list[str] = []
    while True:
        spans = list(walk_attributes(message, position, end))
        found = next((span for span in spans if span[1] - 4 <= offset < (span[2] + 3) & ~3), None)
        if found is None:
            return ".".join(names), inner
        kind, first, last = found
        names.append(inner.name(kind))
        deeper = inner.inside(kind, tuple((each, message[begin:stop]) for each, begin, stop in spans))
        if deeper is None or offset < first:
            return ".".join(names), deeper
        position, end, inner = first + deeper.skip, last, deeper
