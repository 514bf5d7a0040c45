"""Requests and dumps over one socket: answers matched, refusals explained, interrupted dumps repeated.

This is the lowest layer through which refusals go: it sends what it is given, and checks only what would corrupt the
message. A connection may be used by several threads; each exchange is whole. While a stream is read, everything else is
refused. It is not for notifications (`monitor`).
"""

import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from errno import EAGAIN, ENOBUFS, ETIMEDOUT
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, Protocol, TypeVar

from kernelproof.impl.netlink.acknowledge import DONE, ERROR, NOOP, OVERRUN, error_of, parse_acknowledgement
from kernelproof.impl.netlink.endpoint import ROUTE, KernelSocket
from kernelproof.impl.netlink.errors import ClosedError, DumpInterruptedError, NetlinkError, WireError
from kernelproof.impl.netlink.requests import ACK, DUMP, DUMP_FILTERED, DUMP_INTR, Request
from kernelproof.impl.netlink.wire import Message, parse_messages

if TYPE_CHECKING:
    from typing import Self

    from kernelproof.impl.netlink.netns import Where

T = TypeVar("T")

# A refusal takes some hundred bytes of the receive buffer: all of a chunk's fit into the smallest one.
_CHUNK_REQUESTS: Final = 256
_CHUNK_BYTES: Final = 64 * 1024


class Endpoint(Protocol):
    """What a connection needs of a socket."""

    @property
    def port(self) -> int: ...
    def send(self, data: bytes) -> int: ...
    def receive(self) -> tuple[bytes, int]: ...
    def wait(self, seconds: float | None) -> bool: ...
    def wake(self) -> None: ...
    def close(self) -> None: ...


class Witness(Protocol):
    """What is told of each datagram."""

    def sent(self, data: bytes) -> None: ...
    def received(self, data: bytes) -> None: ...


class Answer(NamedTuple):
    """What the kernel answered to a request that it carried out."""

    messages: tuple[Message, ...]
    warning: str = ""  # of an extended ack of success
    cookie: bytes = b""


class Dump(tuple[T, ...], Generic[T]):
    """The records of a dump.

    Attributes:
        consistent: nothing changed while the kernel listed them.
        retries: how often the dump was repeated until then.
        filtered: the kernel says that it filtered (NLM_F_DUMP_FILTERED).
    """

    consistent: bool
    retries: int
    filtered: bool

    @classmethod
    def of(cls, records: Iterable[T], *, consistent: bool, retries: int, filtered: bool) -> "Self":
        """Make a dump of records."""
        made = cls(records)
        made.consistent, made.retries, made.filtered = consistent, retries, filtered
        return made

    def where(self, is_wanted: Callable[[T], bool]) -> "Self":
        """Return the records that a function says yes to, as a dump that is as consistent."""
        kept = filter(is_wanted, self)
        return self.of(kept, consistent=self.consistent, retries=self.retries, filtered=self.filtered)


def _as_is(message: Message) -> Message:
    return message


class Connection:
    """A netlink socket for requests and dumps.

    Args:
        protocol: NETLINK_ROUTE unless told.
        netns: network namespace: a name, a path, a descriptor or a Pid; None for the caller's.
        strict: have the kernel check and filter dumps.
        receive_buffer_bytes: of the socket.
        timeout_seconds: for one exchange; None for ever.
        recorder: is told of all datagrams.
        socket: another endpoint, such as a recording played back.

    Raises:
        OSError: as KernelSocket.
    """

    def __init__(
        self,
        protocol: int = ROUTE,
        *,
        netns: "Where | None" = None,
        strict: bool = True,
        receive_buffer_bytes: int = 1 << 20,
        timeout_seconds: float | None = 60.0,
        recorder: Witness | None = None,
        socket: Endpoint | None = None,
    ) -> None:
        self._socket: Endpoint = socket or KernelSocket(
            protocol, netns=netns, strict=strict, receive_buffer_bytes=receive_buffer_bytes
        )
        # Held while the socket is used, never while a caller's code runs. A stream that the collector of garbage ends
        # may come in between: hence reentrant.
        self._lock = threading.RLock()
        self._streamed = ""  # what is listed to a reader who has not come to its end
        self._closed = False
        self._closing = threading.Lock()
        self._sequence = 0
        self._protocol = protocol
        self._recorder = recorder
        self.timeout_seconds = timeout_seconds

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def port(self) -> int:
        """The port ID that the kernel gave the socket."""
        return self._socket.port

    def close(self) -> None:
        """Close the socket; whoever waits for an answer gets a ClosedError. Closing twice is nothing."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._socket.wake()
            with self._lock:
                self._socket.close()

    def request(self, request: Request) -> Answer:
        """Send a request and return what the kernel answered.

        Raises:
            NetlinkError: the kernel refused, with its errno; ETIMEDOUT: no answer in time.
            ClosedError: the connection is closed, or was meanwhile.
            WireError: the answer is none.
            ValueError: it is a dump.
            RuntimeError: a stream of this connection is being read.
        """
        (result,) = self._exchange((request,))
        if isinstance(result, NetlinkError):
            raise result
        return result

    def batch(self, requests: Iterable[Request]) -> tuple[Answer | NetlinkError, ...]:
        """Send many requests in few datagrams, and return for each its answer or its refusal, in order.

        The kernel carries out those after a refused one too. It is asked to acknowledge the last of each datagram
        alone, so warnings of the others do not come.

        Raises:
            NetlinkError: ETIMEDOUT; ENOBUFS, if answers were lost.
            ClosedError, RuntimeError: as for request.
            ValueError: one of them is a dump.
        """
        results: list[Answer | NetlinkError] = []
        chunk: list[Request] = []
        size = 0
        for request in requests:
            if chunk and (len(chunk) == _CHUNK_REQUESTS or size + len(request.body) > _CHUNK_BYTES):
                results += self._exchange(chunk)
                chunk, size = [], 0
            chunk.append(request)
            size += len(request.body) + 20
        return tuple(results + (list(self._exchange(chunk)) if chunk else []))

    def dump(self, request: Request, parse: Callable[[Message], T], *, retries: int = 10) -> Dump[T]:
        """Return what the kernel lists, each message parsed as it comes.

        Something that changed meanwhile makes a dump inconsistent; it is then asked for again.

        Args:
            request: without the flag DUMP, which is added.
            parse: makes a record of a message.
            retries: how often at most.

        Raises:
            DumpInterruptedError: inconsistent each time; it has the last records.
            NetlinkError, ClosedError, WireError, RuntimeError: as for request.
        """
        for attempt in range(retries + 1):
            records, flags = self._dump_once(request, parse)
            if not flags & DUMP_INTR:
                return Dump.of(records, consistent=True, retries=attempt, filtered=bool(flags & DUMP_FILTERED))
        error = DumpInterruptedError(
            EAGAIN, f"changed during the dump, {retries + 1} times in a row", request=request.words
        )
        error.records = tuple(records)
        raise error

    def stream(self, request: Request, parse: Callable[[Message], T]) -> Generator[T, None, None]:
        """Yield what the kernel lists while it lists, in bounded memory.

        Until it is read to its end, or closed, the connection refuses all else (RuntimeError): ask over another one.

        Raises:
            DumpInterruptedError: at the end, if something changed meanwhile.
            NetlinkError, ClosedError, WireError, RuntimeError: as for request.
        """
        flags = 0
        with self._lock:
            self._check_free()
            self._streamed = request.words or f"message type {request.type}"
            answers = self._dumped(request)
        try:
            while True:
                with self._lock:
                    message = next(answers, None)
                if message is None:
                    break
                flags |= message.flags
                if message.type != DONE:
                    yield parse(message)
        finally:
            with self._lock:
                answers.close()
                self._streamed = ""
        if flags & DUMP_INTR:
            raise DumpInterruptedError(EAGAIN, "changed during the dump", request=request.words)

    def messages(self, request: Request, *, retries: int = 10) -> Dump[Message]:
        """Return the messages of a dump as they came; errors as for dump."""
        return self.dump(request, _as_is, retries=retries)

    def _dump_once(self, request: Request, parse: Callable[[Message], T]) -> tuple[list[T], int]:
        records: list[T] = []
        wrong: WireError | None = None
        flags = 0
        with self._lock:
            self._check_free()
            answers = self._dumped(request)
            try:
                for message in answers:
                    flags |= message.flags
                    if message.type != DONE:
                        try:
                            records.append(parse(message))
                        except WireError as reason:
                            wrong = wrong or reason
            finally:
                answers.close()
        if wrong:
            raise wrong
        return records, flags

    def _dumped(self, request: Request) -> Generator[Message, None, None]:
        # All messages of one dump, NLMSG_DONE of success included. Whoever does not read to the end closes this.
        deadline = self._deadline()
        sequence = self._next()
        is_whole = False
        try:
            sent = self._send(request.encode(sequence, DUMP))
            while not is_whole:
                for message in parse_messages(self._receive(deadline, request)):
                    if message.sequence != sequence or message.port != self._socket.port or message.type == NOOP:
                        continue
                    if message.type in {DONE, ERROR}:
                        is_whole = True
                        ended = parse_acknowledgement(message)
                        if ended.code:
                            raise error_of(ended, request, sent)
                    yield message
                    if is_whole:
                        break
        finally:
            if not is_whole:
                self._discard()

    def _discard(self) -> None:
        # A dump that is not read to its end makes the next one EBUSY. The kernel lists on as soon as one reads, so what
        # is left of it is there without waiting.
        while not self._closed:
            try:
                data, sender = self._socket.receive()
            except BlockingIOError:
                return
            if sender == 0 and self._recorder:
                self._recorder.received(data)

    def _check_free(self) -> None:
        if self._streamed and not self._closed:
            raise RuntimeError(
                f"a stream of this connection is being read ({self._streamed}): "
                "read it to its end or close() it first, or use another connection"
            )

    def _exchange(self, requests: Sequence[Request]) -> tuple[Answer | NetlinkError, ...]:
        # The bits of DUMP mean REPLACE and EXCL where nothing is asked; in rtnetlink every fourth type asks.
        if any(
            request.flags & DUMP == DUMP and (request.type & 3 == 2 or self._protocol != ROUTE) for request in requests
        ):
            raise ValueError("a dump is asked for by dump()")
        with self._lock:
            self._check_free()
            deadline = self._deadline()
            first = self._sequence + 1
            encoded: list[bytes] = []
            for request in requests:
                last = len(encoded) + 1 == len(requests)
                encoded.append(request.encode(self._next(), ACK if last else 0))
            self._send(b"".join(encoded))
            return self._collect(requests, encoded, first, deadline)

    def _collect(
        self, requests: Sequence[Request], encoded: Sequence[bytes], first: int, deadline: float | None
    ) -> tuple[Answer | NetlinkError, ...]:
        answers: dict[int, list[Message]] = {}
        ends: dict[int, Answer | NetlinkError] = {}
        last = first + len(requests) - 1
        while last not in ends:
            for message in parse_messages(self._receive(deadline, requests[0])):
                number = message.sequence
                if not first <= number <= last or message.port != self._socket.port or message.type == NOOP:
                    continue  # of an exchange that was given up
                if message.type == OVERRUN:
                    raise NetlinkError(ENOBUFS, "answers were lost", request=requests[0].words)
                if message.type != ERROR:
                    answers.setdefault(number, []).append(message)
                    continue
                ended = parse_acknowledgement(message)
                place = number - first
                ends[number] = (
                    error_of(ended, requests[place], encoded[place])
                    if ended.code
                    else Answer(tuple(answers.get(number, ())), ended.message, ended.cookie)
                )
        return tuple(ends.get(number) or Answer(tuple(answers.get(number, ()))) for number in range(first, last + 1))

    def _next(self) -> int:
        self._sequence = self._sequence % 0xFFFFFFFF + 1
        return self._sequence

    def _deadline(self) -> float | None:
        return None if self.timeout_seconds is None else time.monotonic() + self.timeout_seconds

    def _send(self, data: bytes) -> bytes:
        if self._closed:
            raise ClosedError("the netlink connection is closed")
        self._socket.send(data)
        if self._recorder:
            self._recorder.sent(data)
        return data

    def _receive(self, deadline: float | None, request: Request) -> bytes:
        while True:
            if self._closed:
                raise ClosedError("the netlink connection was closed while a request waited for its answer")
            try:
                data, sender = self._socket.receive()
            except BlockingIOError:
                left = None if deadline is None else deadline - time.monotonic()
                if (left is not None and left <= 0) or not self._socket.wait(left):
                    raise NetlinkError(
                        ETIMEDOUT, f"no answer within {self.timeout_seconds} seconds", request=request.words
                    ) from None
                continue
            if sender != 0:  # another program wrote to our port: only the kernel has port ID 0
                continue
            if self._recorder:
                self._recorder.received(data)
            return data
