"""listen(2): what may listen, how many may wait, and what those see who come when nobody more may."""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING

import pytest
from pyroute2 import IPRoute

from kernelproof import behaviour
from kernelproof.conformance.socket.conftest import (
    EOPNOTSUPP,
    ESTABLISHED,
    LISTEN,
    SYN_RECV,
    SYN_SENT,
    SYSCTL,
    port_of,
    queue_by_tcp_info,
    states_of_port,
)
from kernelproof.impl.listenbuffer import Address, Gate, GatedListener, WrongDescriptor
from kernelproof.impl.listenbuffer.inherit import Inherited, look_at
from kernelproof.impl.listenbuffer.listening import Choices, bind

if TYPE_CHECKING:
    from kernelproof.conformance.seen import Seen
    from kernelproof.conformance.socket.conftest import Client, Listen

ANY_PORT = Address("tcp4", "127.0.0.1", 0)
HERE, STRANGER = "198.51.100.1", "198.51.100.7"


def send_syn(port: int, source_port: int) -> None:
    """Ask for a connection in the name of a host that never answers."""
    source, target = socket.inet_aton(STRANGER), socket.inet_aton(HERE)
    segment = struct.pack("!HHIIBBHHH", source_port, port, 1000, 0, 5 << 4, 2, 65535, 0, 0)
    words = source + target + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(segment)) + segment
    total = sum(struct.unpack(f"!{len(words) // 2}H", words))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    segment = segment[:16] + struct.pack("!H", ~total & 0xFFFF) + segment[18:]
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(segment), 1, 0, 64, socket.IPPROTO_TCP, 0, source, target)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        raw.sendto(header + segment, (HERE, 0))


@behaviour("socket.listen.backlog-established-queue")
def test_the_backlog_counts_the_established(listening: Listen, client: Client) -> None:
    """Three half-open connections leave all of a backlog of 4 to established ones, which alone are in the queue."""
    make_nowhere()  # where the answers go: without a route there would be none, and no half of a connection
    listener = listening(f"tcp://{HERE}:0", backlog=4, is_open=False)
    port = port_of(listener)
    for number in range(3):
        send_syn(port, 50000 + number)
    assert states_of_port(port) == [*[SYN_RECV] * 3, LISTEN]
    assert (listener.pending(), queue_by_tcp_info(listener)) == (0, (0, 4))
    for _ in range(4):
        client(listener)
    assert listener.pending() == 4
    assert states_of_port(port).count(ESTABLISHED) == 8


def make_nowhere() -> None:
    """Make a device that swallows what is meant for strangers."""
    with IPRoute() as route:
        route.link("add", ifname="nowhere", kind="dummy")
        (index,) = route.link_lookup(ifname="nowhere")
        route.link("set", index=index, state="up")
        route.addr("add", index=index, address=HERE, prefixlen=24)
        route.neigh("add", dst=STRANGER, lladdr="02:00:00:00:00:01", ifindex=index, state=128)


@behaviour("socket.listen.backlog-plus-one")
def test_beyond_the_backlog_nothing_is_completed(listening: Listen, client: Client, seen: Seen) -> None:
    """With a backlog of 1 and the gate shut two connections are made, one more than asked, and the third times out."""
    listener = listening("tcp://127.0.0.1:0", backlog=1, is_open=False)
    assert listener.effective_backlog == 1
    made = connect_until_timeout(listener, client)
    assert queue_by_tcp_info(listener) == (made, 1)
    assert seen(made) in (1, 2)


def connect_until_timeout(listener: GatedListener, client: Client) -> int:
    """Count the clients that are connected before one is not."""
    for made in range(10):
        try:
            client(listener, timeout_seconds=5)
        except TimeoutError:
            return made
    return 10


@behaviour("socket.listen.full-tcp-is-silent")
def test_a_full_queue_answers_nothing(listening: Listen, client: Client, seen: Seen) -> None:
    """A client at a full queue stays in SYN_SENT, is not refused, and is connected once a place is free."""
    listener = listening("tcp://127.0.0.1:0", backlog=1, is_open=False)
    waiting = [client(listener) for _ in range(2)]
    with socket.socket() as late:
        late.setblocking(False)
        assert seen.errno_of(late.connect, listener.getsockname()) == "EINPROGRESS"
        assert states_of_port(port_of(late)) == [SYN_SENT]
        listener.activate()
        listener.accept()[0].close()
        late.settimeout(30)
        late.sendall(b"in")
        assert late.getpeername() == listener.getsockname()
    assert len(waiting) == 2


@behaviour("socket.listen.somaxconn-cap")
def test_the_backlog_is_cut_silently(listening: Listen, seen: Seen) -> None:
    """A backlog above net.core.somaxconn is cut to that without an error; `effective_backlog` tells."""
    (SYSCTL / "core/somaxconn").write_text("7")
    limits = []
    for asked in (5, 7, 100):
        bound, _ = bind(ANY_PORT, Choices())
        with bound:
            bound.listen(asked)
            limits.append(queue_by_tcp_info(bound)[1])
    assert [listening("tcp://127.0.0.1:0", backlog=asked).effective_backlog for asked in (5, 7, 100, None)] == [
        5,
        7,
        7,
        7,
    ]
    assert seen(limits) == [5, 7, 7]


@behaviour("socket.listen.somaxconn-default")
def test_the_default_bound_is_4096(tcp: GatedListener, seen: Seen) -> None:
    """Nothing was changed in this machine: a listener that asks for as much as it gets has room for 4096."""
    assert tcp.effective_backlog == queue_by_tcp_info(tcp)[1]
    assert seen(int((SYSCTL / "core/somaxconn").read_text())) == queue_by_tcp_info(tcp)[1] == 4096


@behaviour("socket.listen.unbound-picks-port")
def test_listening_binds(seen: Seen) -> None:
    """A socket that was never bound listens on a free port of all addresses."""
    with GatedListener.adopt(socket.socket(), Gate(is_open=True)) as listener:
        assert listener.getsockname() == ("0.0.0.0", 0)
        listener.listen()
        host, port = listener.getsockname()
        assert states_of_port(port) == [LISTEN]
        assert str(listener.address) == f"tcp://0.0.0.0:{port}"
        assert (seen(host), port > 0) == ("0.0.0.0", True)


@behaviour("socket.listen.wrong-type")
def test_datagrams_are_not_listened_for(listening: Listen, seen: Seen) -> None:
    """listen on a datagram socket gives EOPNOTSUPP; what only makes sense for connections is refused."""
    receiver = listening("udp://127.0.0.1:0")
    with pytest.raises(ValueError, match="stream listener"):
        receiver.refuse_beyond(1)
    assert not look_at(receiver.real_fileno(), "x", "map").listening
    assert seen.errno_of(receiver.listen) == EOPNOTSUPP


@behaviour("socket.listen.not-a-socket")
def test_a_pipe_is_not_listened_at(seen: Seen) -> None:
    """listen on a pipe gives ENOTSOCK; a pipe that was passed as a socket is recognised."""
    reader, writer = os.pipe()
    with pytest.raises(WrongDescriptor, match="is no socket"):
        look_at(writer, "x", "map")
    with bind(ANY_PORT, Choices())[0] as claimed:
        os.dup2(reader, claimed.fileno())
        assert seen.errno_of(claimed.listen) == "ENOTSOCK"
    os.close(reader)
    os.close(writer)


@behaviour("socket.listen.closed-descriptor")
def test_a_closed_descriptor_is_none(tcp: GatedListener, seen: Seen) -> None:
    """listen on a closed descriptor gives EBADF, whether the listener was closed or its number only remembered."""
    number = os.dup(tcp.real_fileno())
    remembered = Inherited("x", number, socket.AF_INET, socket.SOCK_STREAM, 0, True, None, "map").socket()
    os.close(number)
    with pytest.raises(WrongDescriptor, match="Bad file descriptor"):
        look_at(number, "x", "map")
    tcp.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        tcp.listen()
    assert seen.errno_of(remembered.listen) == "EBADF"
    remembered.detach()


@behaviour("socket.listen.second-listener-same-port")
def test_of_two_that_are_bound_one_listens(listening: Listen, seen: Seen) -> None:
    """Two sockets share an address as long as none listens; the second to listen is told EADDRINUSE."""
    first, _ = bind(ANY_PORT, Choices())
    with first:
        where = ANY_PORT._replace(port=port_of(first))
        second, _ = bind(where, Choices())
        with second:
            first.listen()
            refused = seen.errno_of(second.listen)
        with pytest.raises(OSError, match="Address already in use") as used:
            listening(where)
        assert f"in use by pid {os.getpid()}" in used.value.__notes__[0]
        assert states_of_port(port_of(first)) == [LISTEN]
    assert refused == "EADDRINUSE"


@behaviour("socket.listen.acceptconn-flag")
def test_a_listener_is_known_by_its_flag(listening: Listen, tcp: GatedListener, client: Client) -> None:
    """SO_ACCEPTCONN is 1 on listeners of every kind and 0 on bound, connected and datagram sockets."""
    bound, _ = bind(ANY_PORT, Choices())
    connected = client(tcp)
    accepted, _ = tcp.accept()
    receiver = listening("udp://127.0.0.1:0")
    unix = listening("unix:@listens")
    answers = []
    for one in (tcp, unix, bound, connected, accepted, receiver):
        number = one.real_fileno() if isinstance(one, GatedListener) else one.fileno()
        answers.append(one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        assert look_at(number, "x", "map").listening is bool(answers[-1])
    bound.close()
    accepted.close()
    assert answers == [1, 1, 0, 0, 0, 0]


@behaviour("socket.listen.acceptconn-read-only")
def test_the_flag_is_read_only(tcp: GatedListener, seen: Seen) -> None:
    """SO_ACCEPTCONN cannot be set, neither on a listener nor on a bound socket."""
    bound, _ = bind(ANY_PORT, Choices())
    with bound:
        other = seen.errno_of(bound.setsockopt, socket.SOL_SOCKET, socket.SO_ACCEPTCONN, 1)
        assert states_of_port(port_of(bound)) == []
    assert [other, seen.errno_of(tcp.setsockopt, socket.SOL_SOCKET, socket.SO_ACCEPTCONN, 0)] == ["ENOPROTOOPT"] * 2
