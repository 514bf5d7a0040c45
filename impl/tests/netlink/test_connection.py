"""Requests and dumps, against kernels that are played and the real one."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterable
from errno import EBUSY, EEXIST, EINVAL
from struct import pack
from typing import Any

import pytest

from kernelproof.impl.netlink import addresses, links
from kernelproof.impl.netlink.acknowledge import Acknowledged, error_of, parse_acknowledgement
from kernelproof.impl.netlink.connection import Answer, Connection
from kernelproof.impl.netlink.endpoint import KernelSocket
from kernelproof.impl.netlink.errors import ClosedError, DumpInterruptedError, NetlinkError, WireError
from kernelproof.impl.netlink.recorder import Recorder, ReplayError, ReplaySocket, parse_recording
from kernelproof.impl.netlink.requests import Request
from kernelproof.impl.netlink.rtnl import Rtnl
from kernelproof.impl.netlink.wire import Message, encode_attributes, encode_message, parse_messages

ERROR, DONE, MULTI, ACK, INTERRUPTED, CAPPED, TLVS = 2, 3, 2, 4, 0x10, 0x100, 0x200
LIST = Request(18, 0, b"", "list")


class PlayedKernel:
    """An endpoint whose answers a function makes of each request."""

    port = 77

    def __init__(self, answer: Callable[[Message], Iterable[Message]], sender: int = 0) -> None:
        self.answer = answer
        self.sent: list[tuple[Message, ...]] = []
        self.waiting: list[tuple[bytes, int]] = []
        self.sender = sender

    def send(self, data: bytes) -> int:
        self.sent.append(tuple(parse_messages(data)))
        for request in self.sent[-1]:
            for message in self.answer(request):
                whole = message._replace(sequence=request.sequence, port=self.port)
                self.waiting.append((encode_message(whole), self.sender))
        return len(data)

    def receive(self) -> tuple[bytes, int]:
        if not self.waiting:
            raise BlockingIOError
        return self.waiting.pop(0)

    def wait(self, seconds: float | None) -> bool:
        return False

    def wake(self) -> None: ...
    def close(self) -> None: ...


def acknowledge(request: Message) -> Iterable[Message]:
    """Success, where an acknowledgement was asked for."""
    return [Message(ERROR, CAPPED, 0, 0, pack("=iIHHII", 0, 16, 0, 0, 0, 0))] if request.flags & ACK else []


def names_of_dump(interrupted: int) -> PlayedKernel:
    """A kernel whose first dumps are interrupted and lack an entry."""
    dumps = [0]

    def answer(request: Message) -> Iterable[Message]:
        dumps[0] += 1
        flag = INTERRUPTED if dumps[0] <= interrupted else 0
        yield Message(16, MULTI, 0, 0, b"one")
        if flag == 0:
            yield Message(16, MULTI, 0, 0, b"two")
        yield Message(DONE, MULTI | flag, 0, 0, bytes(4))

    return PlayedKernel(answer)


def payload(message: Message) -> bytes:
    return message.payload


def dump(connection: Connection) -> tuple[bytes, ...]:
    return connection.dump(LIST, payload)


def dump_and_look_away(connection: Connection) -> tuple[bytes, ...]:
    """What a peer did: the flag is not looked at."""
    return tuple(connection._dump_once(LIST, payload)[0])


@pytest.mark.rule("N1", ours=dump, wrong=dump_and_look_away)
def test_interrupted_dump_is_repeated(subject: Callable[[Connection], tuple[bytes, ...]]) -> None:
    """A dump that something changed under comes back whole."""
    assert subject(Connection(socket=names_of_dump(3))) == (b"one", b"two")


@pytest.mark.rule("N1")
@pytest.mark.rule("N+4")
def test_dump_says_how_often_it_was_asked_for() -> None:
    """A list says that it is consistent and after how many retries; ten failures are an error with the last records."""
    found = Connection(socket=names_of_dump(3)).dump(LIST, payload)
    assert (found.consistent, found.retries, found.filtered) == (True, 3, False)
    kernel = names_of_dump(99)
    with pytest.raises(DumpInterruptedError) as caught:
        Connection(socket=kernel).dump(LIST, payload)
    assert caught.value.records == (b"one",)
    assert not isinstance(caught.value, InterruptedError)
    assert len(kernel.sent) == 11


def test_streamed_dump_tells_at_its_end() -> None:
    """A stream yields what comes and then raises; one that is left early leaves nothing behind."""
    connection = Connection(socket=names_of_dump(1))
    got: list[bytes] = []
    with pytest.raises(DumpInterruptedError):
        got.extend(connection.stream(LIST, payload))
    assert got == [] or got == [b"one"]
    begun = connection.stream(LIST, payload)
    assert next(begun) == b"one"
    begun.close()
    assert connection.dump(LIST, payload) == (b"one", b"two")


def read_whole(endpoint: KernelSocket) -> bytes:
    return endpoint.receive()[0]


def read_64_kibibytes(endpoint: KernelSocket) -> bytes:
    """What a peer did."""
    return endpoint._socket.recv(65536)


@pytest.mark.rule("N4", ours=read_whole, wrong=read_64_kibibytes)
def test_large_datagram_is_read_whole(subject: Callable[[KernelSocket], bytes]) -> None:
    """A datagram above 64 KiB is read to its last byte."""
    usersock = 2
    try:
        endpoint = KernelSocket(usersock)
    except OSError as error:
        pytest.skip(f"no NETLINK_USERSOCK here: {error.strerror}")
    with socket.socket(16, socket.SOCK_RAW, usersock) as sender:
        sender.sendto(bytes(99_999) + b"!", (endpoint.port, 0))
        data = subject(endpoint)
    endpoint.close()
    assert (len(data), data[-1:]) == (100_000, b"!")


def tlvs(sentence: str) -> bytes:
    return encode_attributes([(1, sentence.encode() + b"\0")])


def behind_the_echo(message: Message) -> Acknowledged:
    """What a peer did: in every message the attributes follow an echoed request."""
    return parse_acknowledgement(message._replace(type=ERROR, flags=message.flags & ~CAPPED))


@pytest.mark.rule("N6", ours=parse_acknowledgement, wrong=behind_the_echo, raises=(AssertionError, WireError))
def test_extended_ack_is_found_in_three_places(subject: Callable[[Message], Acknowledged]) -> None:
    """Behind the echoed request, behind its header alone, and behind the code that ends a dump."""
    echo = pack("=IHHII", 24, 16, 5, 1, 0)
    for kind, flags, before in ((ERROR, 0, echo + bytes(8)), (ERROR, CAPPED, echo), (DONE, MULTI, b"")):
        ended = subject(Message(kind, flags | TLVS, 0, 0, pack("=i", -EINVAL) + before + tlvs("no such thing")))
        assert (ended.code, ended.message) == (-EINVAL, "no such thing")


@pytest.mark.rule("N6")
def test_warning_of_success_is_kept() -> None:
    """A request that was carried out with a warning gives the warning."""
    ended = pack("=iIHHII", 0, 16, 0, 0, 0, 0) + tlvs("deprecated")
    kernel = PlayedKernel(lambda request: [Message(ERROR, CAPPED | TLVS, 0, 0, ended)])
    assert Connection(socket=kernel).request(LIST) == Answer((), "deprecated")


class Mute(KernelSocket):
    """A kernel that never answers; `asked` is set when somebody waits."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()

    def send(self, data: bytes) -> int:
        return len(data)

    def wait(self, seconds: float | None) -> bool:
        self.asked.set()
        return super().wait(seconds)


def close_the_descriptor(connection: Connection) -> None:
    """What a peer did: the reader stays where it is, and next time reads whoever got the number."""
    connection._socket._socket.close()  # type: ignore[attr-defined]


@pytest.mark.rule("N7", ours=Connection.close, wrong=close_the_descriptor)
def test_close_wakes_who_waits(subject: Callable[[Connection], None]) -> None:
    """Whoever waits for an answer gets an error when another thread closes."""
    kernel = Mute()
    connection = Connection(socket=kernel)
    errors: list[Exception] = []

    def wait() -> None:
        try:
            connection.request(LIST)
        except (ClosedError, OSError) as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    kernel.asked.wait()
    subject(connection)
    thread.join(0.5 if subject is close_the_descriptor else 60)
    woken = not thread.is_alive()
    connection.close()
    thread.join()
    assert woken
    assert isinstance(errors[0], ClosedError)


@pytest.mark.rule("N7")
def test_close_is_once_and_for_all() -> None:
    """Closing twice is nothing, a closed connection says so, and descriptors are close-on-exec."""
    connection = Connection()
    assert not os.get_inheritable(connection._socket.fileno())  # type: ignore[attr-defined]
    connection.close()
    connection.close()
    with pytest.raises(ClosedError):
        connection.request(LIST)


@pytest.mark.rule("N7")
def test_only_the_kernel_answers() -> None:
    """A datagram from another port is no answer, and no answer in time is a TimeoutError."""
    connection = Connection(socket=PlayedKernel(acknowledge, sender=5), timeout_seconds=0.01)
    with pytest.raises(TimeoutError) as caught:
        connection.request(LIST)
    assert isinstance(caught.value, NetlinkError)


@pytest.mark.rule("N7")
def test_no_timeout_is_no_deadline() -> None:
    """A connection that may wait for ever has the answer like any other."""
    connection = Connection(socket=PlayedKernel(acknowledge), timeout_seconds=None)
    assert connection.request(Request(20, 0, bytes(8))) == Answer(())


def bare_error(ended: Acknowledged, request: Request, sent: bytes) -> OSError:
    """What peers raised."""
    return OSError(-ended.code, os.strerror(-ended.code))


@pytest.mark.rule("N10", ours=error_of, wrong=bare_error)
def test_error_has_number_and_sentence(subject: Callable[..., OSError]) -> None:
    """The kernel's sentence is in the error, and errno beside it."""
    error = subject(Acknowledged(-EBUSY, "XDP program already attached"), LIST, b"")
    assert error.errno == EBUSY
    assert "XDP program already attached" in str(error)


@pytest.mark.rule("N10")
@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (17, FileExistsError),
        (2, FileNotFoundError),
        (1, PermissionError),
        (13, PermissionError),
        (3, ProcessLookupError),
    ],
)
def test_error_is_of_pythons_class(number: int, expected: type[OSError]) -> None:
    """Python's subclass for the number catches it, and so does NetlinkError."""
    error = error_of(Acknowledged(-number, "why"), LIST, b"")
    assert isinstance(error, expected)
    assert isinstance(error, NetlinkError)
    assert (error.errno, error.message, error.request) == (number, "why", "list")


def one_by_one(connection: Connection, requests: list[Request]) -> list[Answer]:
    """What peers did."""
    return [connection.request(request) for request in requests]


@pytest.mark.rule("N11", ours=Connection.batch, wrong=one_by_one)
def test_batch_needs_few_datagrams(subject: Callable[..., Any]) -> None:
    """A thousand requests go out in a handful of datagrams, and each has its answer."""
    kernel = PlayedKernel(acknowledge)
    requests = [addresses.add_address(1, f"10.0.{number >> 8}.{number & 255}/32") for number in range(1000)]
    answers = subject(Connection(socket=kernel), requests)
    assert list(answers) == [Answer(())] * 1000
    assert len(kernel.sent) <= 10


@pytest.mark.rule("N11")
def test_batch_tells_which_were_refused() -> None:
    """Refusals stand where their requests stood, and those after them were carried out."""

    def answer(request: Message) -> Iterable[Message]:
        if request.payload[0] == 1:
            return [Message(ERROR, CAPPED, 0, 0, pack("=iIHHII", -EEXIST, 20, 20, 0, request.sequence, 0))]
        return acknowledge(request)

    requests = [Request(20, 0, bytes([refused]) + bytes(7)) for refused in (0, 1, 0, 1)]
    answers = Connection(socket=PlayedKernel(answer)).batch(requests)
    assert [isinstance(each, FileExistsError) for each in answers] == [False, True, False, True]


@pytest.mark.rule("N+2")
def test_error_names_the_attribute(namespace: int) -> None:
    """The kernel's complaint about an attribute deep in a request comes with its path."""
    with Rtnl(namespace) as net:
        with pytest.raises(NetlinkError) as caught:
            net.link_add("br0", "bridge", raw={4: b"\1"})
        if caught.value.attribute_path is None and "Unknown device type" in str(caught.value):
            pytest.skip("this kernel has no bridges")
    assert caught.value.attribute_path == "IFLA_LINKINFO.IFLA_INFO_DATA.IFLA_BR_AGEING_TIME"
    assert "IFLA_BR_AGEING_TIME" in str(caught.value)


@pytest.mark.rule("N+2")
def test_error_names_policy_and_what_is_missing() -> None:
    """Bounds of a policy and a missing attribute are in the error."""
    request = links.add_link("v", "vlan", options={"id": 4096})
    sent = request.encode(1)
    policy = encode_attributes([(1, pack("=I", 3)), (4, pack("=Q", 0)), (5, pack("=Q", 4094))])
    data = sent.index(pack("=HHH", 6, 1, 4096))
    extended = encode_attributes(
        [
            (1, b"integer out of range\0"),
            (2, pack("=I", data)),
            (4, policy),
            (5, pack("=I", 5)),
            (6, pack("=I", data - 4)),
        ]
    )
    ended = parse_acknowledgement(Message(ERROR, CAPPED | TLVS, 0, 0, pack("=i", -34) + bytes(16) + extended))
    error = error_of(ended, request, sent)
    assert error.attribute_path == "IFLA_LINKINFO.IFLA_INFO_DATA.IFLA_VLAN_ID"
    assert error.policy is not None
    assert (error.policy.type, error.policy.minimum, error.policy.maximum) == ("u16", 0, 4094)
    assert error.missing == "IFLA_LINKINFO.IFLA_INFO_DATA.IFLA_VLAN_PROTOCOL"
    assert "maximum 4094" in str(error)
    assert "; missing IFLA_LINKINFO.IFLA_INFO_DATA.IFLA_VLAN_PROTOCOL; " in str(error)
    assert "missing" not in str(error_of(Acknowledged(-EBUSY, "why"), request, sent))


@pytest.mark.rule("N+2")
def test_error_that_says_no_more_than_its_number() -> None:
    """An extended acknowledgement that ends with the request's header is one without a word, and no lie."""
    message = Message(ERROR, CAPPED | TLVS, 0, 0, pack("=i", -EBUSY) + bytes(16))
    assert parse_acknowledgement(message) == Acknowledged(-EBUSY)
    with pytest.raises(WireError, match="echoes no header"):
        parse_acknowledgement(message._replace(payload=message.payload[:-1]))


@pytest.mark.rule("N+6")
def test_recording_is_played_back(namespace: int) -> None:
    """What the kernel said once it says again from a file, under other numbers, and to the same questions only."""
    recorder = Recorder()
    with Connection(netns=namespace, recorder=recorder) as connection, Rtnl(connection=connection) as net:
        first = net.links(), net.addresses(), net.rules()
        with pytest.raises(NetlinkError) as refusal:
            net.link("nowhere")
    played = ReplaySocket(parse_recording(recorder.text()), port=9)
    net = Rtnl(connection=Connection(socket=played))
    net.connection._sequence = 1000
    assert (net.links(), net.addresses(), net.rules()) == first
    with pytest.raises(NetlinkError) as again:
        net.link("nowhere")
    assert str(again.value) == str(refusal.value)
    with pytest.raises(ReplayError):
        net.links()


def test_threads_share_a_connection(namespace: int) -> None:
    """Exchanges of many threads over one connection are each answered."""
    failures: list[object] = []
    with Rtnl(namespace) as net:

        def work() -> None:
            for _ in range(50):
                if [link.name for link in net.links()] != ["lo"] or net.index_of("lo") != 1:
                    failures.append("mixed up")

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []


def test_dump_is_no_request() -> None:
    """A dump that is asked for as a request is refused here: its answers would be taken for another's."""
    with pytest.raises(ValueError, match="dump"):
        Connection(socket=names_of_dump(0)).request(Request(18, 0x300, b""))
