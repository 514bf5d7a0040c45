"""What passed over a socket, as text to keep in a file; and the other side of it, played back without a kernel.

    connection = Connection(recorder=(recorder := Recorder()))
    ...
    pathlib.Path("dump.jsonl").write_text(recorder.text())
    again = Connection(socket=ReplaySocket(parse_recording(pathlib.Path("dump.jsonl").read_text())))

Each line is a JSON object: `out` or `in`, the bytes in hexadecimal, and the messages as far as they can be named:
types, flags, attributes. Only the bytes count when it is played back. This is not a capture of other programs' sockets
(the kernel's nlmon is).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from kernelproof.impl.netlink.endpoint import ROUTE
from kernelproof.impl.netlink.errors import WireError
from kernelproof.impl.netlink.named import describe_message
from kernelproof.impl.netlink.wire import HEADER, HEADER_BYTES, encode_message, parse_messages

if TYPE_CHECKING:
    from collections.abc import Sequence


class Datagram(NamedTuple):
    """One datagram: whether it went out, and its bytes."""

    out: bool
    data: bytes


class Recorder:
    """Keeps the datagrams of a connection, in order.

    Args:
        protocol: of the connection; of others than rtnetlink only the ends of answers are named.
    """

    def __init__(self, protocol: int = ROUTE) -> None:
        self.datagrams: list[Datagram] = []
        self._protocol = protocol

    def sent(self, data: bytes) -> None:
        """Keep what went to the kernel."""
        self.datagrams.append(Datagram(True, data))

    def received(self, data: bytes) -> None:
        """Keep what came from the kernel."""
        self.datagrams.append(Datagram(False, data))

    def text(self) -> str:
        """Return all as lines of JSON."""
        return "".join(f"{format_datagram(datagram, self._protocol)}\n" for datagram in self.datagrams)


def format_datagram(datagram: Datagram, protocol: int = ROUTE) -> str:
    """Return one datagram as a JSON object."""
    try:
        is_route = protocol == ROUTE
        messages: object = [describe_message(each, is_route=is_route) for each in parse_messages(datagram.data)]
    except WireError as reason:
        messages = str(reason)
    return json.dumps({"out" if datagram.out else "in": datagram.data.hex(), "messages": messages})


def parse_recording(text: str) -> tuple[Datagram, ...]:
    """Return the datagrams of a recording.

    Raises:
        ValueError: a line that is none of a recording.
    """
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        entry = json.loads(line)
        if not isinstance(entry, dict) or ("out" in entry) == ("in" in entry):
            raise ValueError(f"line {number} has neither a datagram out nor one in")
        out = "out" in entry
        found.append(Datagram(out, bytes.fromhex(entry["out" if out else "in"])))
    return tuple(found)


class ReplayError(AssertionError):
    """The program asked for something else than was recorded."""


class ReplaySocket:
    """What a Connection needs of a socket, answered from a recording.

    A request must equal the recorded one but for its sequence number; the answers come with the number asked under.
    """

    def __init__(self, datagrams: Sequence[Datagram], port: int = 1) -> None:
        self._left = list(datagrams)
        self._port = port
        self._sequences: dict[int, int] = {}

    def send(self, data: bytes) -> int:
        """Compare with the next recorded request.

        Raises:
            ReplayError: another request, or none recorded.
        """
        if not self._left or not self._left[0].out:
            raise ReplayError("a request where the recording has none")
        recorded = self._left.pop(0).data
        for old, new in zip(parse_messages(recorded), parse_messages(data), strict=False):
            if old._replace(sequence=0) != new._replace(sequence=0):
                raise ReplayError(f"request {new} where the recording has {old}")
            self._sequences[old.sequence] = new.sequence
        if len(recorded) != len(data):
            raise ReplayError(f"{len(data)} bytes where the recording has {len(recorded)}")
        return len(data)

    def receive(self) -> tuple[bytes, int]:
        """Return the next recorded answer and the port that it came from.

        Raises:
            BlockingIOError: the recording has no answer here.
        """
        if not self._left or self._left[0].out:
            raise BlockingIOError("nothing recorded")
        changed = []
        for message in parse_messages(self._left.pop(0).data):
            new = message._replace(sequence=self._sequences.get(message.sequence, message.sequence), port=self._port)
            payload = new.payload
            if new.type == 2 and len(payload) >= 4 + HEADER_BYTES:  # NLMSG_ERROR: the header asked under stands in it
                length, kind, flags, old, port = HEADER.unpack_from(payload, 4)
                header = HEADER.pack(length, kind, flags, self._sequences.get(old, old), port)
                payload = payload[:4] + header + payload[4 + HEADER_BYTES :]
            changed.append(encode_message(new._replace(payload=payload)))
        return b"".join(changed), 0

    @property
    def port(self) -> int:
        """The port ID that the answers are for."""
        return self._port

    def wait(self, seconds: float | None) -> bool:
        """Nothing more will come: false at once."""
        return False

    def wake(self) -> None:
        """Nobody waits."""

    def close(self) -> None:
        """Nothing to give back."""
