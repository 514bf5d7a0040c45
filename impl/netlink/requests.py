"""One request as a value: built without a socket, printed, sent alone or among many."""

from enum import IntFlag
from typing import TYPE_CHECKING, NamedTuple

from kernelproof.impl.netlink.wire import HEADER_BYTES, Message, encode_attributes, encode_message

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kernelproof.impl.netlink.spaces import Space
    from kernelproof.impl.netlink.wire import Attribute


class MessageFlag(IntFlag):
    """NLM_F_ flags of a message's header; those from 0x100 on depend on what is asked."""

    REQUEST = 0x1
    MULTI = 0x2
    ACK = 0x4
    ECHO = 0x8
    DUMP_INTR = 0x10
    DUMP_FILTERED = 0x20
    REPLACE = 0x100
    EXCL = 0x200
    CREATE = 0x400
    APPEND = 0x800
    DUMP = 0x300


REQUEST, MULTI, ACK, DUMP_INTR, DUMP_FILTERED = 0x1, 0x2, 0x4, 0x10, 0x20  # IntFlag's operators are slow
REPLACE, EXCL, CREATE, APPEND, DUMP = 0x100, 0x200, 0x400, 0x800, 0x300
CAPPED, ACK_TLVS = 0x100, 0x200  # of an NLMSG_ERROR


class Request(NamedTuple):
    """What is to be asked of the kernel.

    Attributes:
        type: RTM_NEWLINK and so on.
        flags: MessageFlag without REQUEST and ACK, which the socket adds.
        body: structure of the message and its attributes, encoded.
        words: what it does, for errors and plans.
        header_bytes: length of the structure before the attributes.
        space: names of its attributes.
    """

    type: int
    flags: int
    body: bytes
    words: str = ""
    header_bytes: int = 0
    space: "Space | None" = None

    @classmethod
    def of(
        cls,
        kind: int,
        flags: int,
        header: bytes,
        attributes: "Iterable[Attribute]",
        space: "Space | None",
        words: str = "",
    ) -> "Request":
        """Build a request.

        Raises:
            WireError: an attribute that does not fit, by its path.
        """
        return cls(kind, flags, header + encode_attributes(attributes, space), words, len(header), space)

    def encode(self, sequence: int, flags: int = 0) -> bytes:
        """Return the message's bytes, with REQUEST and the flags given."""
        return encode_message(Message(self.type, self.flags | REQUEST | flags, sequence, 0, self.body))

    @property
    def attributes_at(self) -> int:
        """Where its attributes begin in the encoded message."""
        return HEADER_BYTES + self.header_bytes
