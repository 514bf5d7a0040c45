"""The accept queue: who waits in it, in what state, and what accept(2) makes of them."""

from __future__ import annotations

import os
import resource
import select
import socket
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.socket.conftest import (
    EOPNOTSUPP,
    ESTABLISHED,
    LISTEN,
    SYSCTL,
    port_of,
    queue_by_sock_diag,
    queue_by_tcp_info,
    states_of_port,
)
from kernelproof.impl.listenbuffer import Address, Gate, GatedListener
from kernelproof.impl.listenbuffer.listening import Choices, bind

if TYPE_CHECKING:
    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.seen import Seen
    from kernelproof.conformance.socket.conftest import Client, Listen

RESET = struct.pack("ii", 1, 0)
ANY_PORT = Address("tcp4", "127.0.0.1", 0)


@behaviour("socket.queue.connect-before-accept")
def test_connect_needs_no_accept(listening: Listen, client: Client) -> None:
    """With the gate shut connect(2) succeeds: both ends are established, and one waits in the queue."""
    listener = listening("tcp://127.0.0.1:0", is_open=False)
    port = port_of(listener)
    assert states_of_port(port) == [LISTEN]
    client(listener)
    assert states_of_port(port) == [ESTABLISHED, ESTABLISHED, LISTEN]
    assert listener.pending() == queue_by_tcp_info(listener)[0] == 1
    unix = listening("unix:@queue", is_open=False)
    client(unix)
    assert unix.pending() == queue_by_sock_diag(os.fstat(unix.real_fileno()).st_ino)[0] == 1


@behaviour("socket.queue.data-before-accept")
def test_what_was_sent_before_is_there(listening: Listen, client: Client, seen: Seen) -> None:
    """Bytes that a client sent and closed behind while the gate was shut come in full, then the end."""
    listener = listening("tcp://127.0.0.1:0", is_open=False)
    early = client(listener)
    early.sendall(b"x" * 10_000)
    early.close()
    listener.activate()
    accepted, _ = listener.accept()
    with accepted, accepted.makefile("rb") as stream:
        assert seen(len(stream.read())) == 10_000


@behaviour("socket.queue.fifo")
def test_first_come_first_accepted(listening: Listen, client: Client, seen: Seen) -> None:
    """accept gives the connections in the order in which they were made."""
    listener = listening("tcp://127.0.0.1:0", is_open=False)
    came = [port_of(client(listener)) for _ in range(8)]
    listener.activate()
    accepted = [listener.accept() for _ in range(8)]
    for connection, _ in accepted:
        connection.close()
    assert seen([came.index(peer[1]) for _, peer in accepted]) == list(range(8))


@behaviour("socket.queue.poll-readable")
def test_a_waiting_connection_makes_it_readable(listening: Listen, client: Client, seen: Seen) -> None:
    """The socket is readable with a connection in its queue and not before; what `fileno` shows waits for the gate."""
    listener = listening("tcp://127.0.0.1:0", is_open=False)

    def readable() -> list[bool]:
        numbers = (listener.real_fileno(), listener.fileno())
        return [bool(select.select([number], [], [], 0)[0]) for number in numbers]

    answers = [readable()]
    client(listener)
    answers.append(readable())
    listener.activate()
    answers.append(readable())
    listener.accept()[0].close()
    answers.append(readable())
    assert seen(answers) == [[False, False], [True, False], [True, True], [False, False]]


@behaviour("socket.queue.accept-eagain")
def test_an_empty_queue_is_eagain(listening: Listen, client: Client, seen: Seen) -> None:
    """accept without waiting gives EAGAIN at an empty queue, and at a shut gate with a full one."""
    shut, empty = listening("tcp://127.0.0.1:0", is_open=False), listening("tcp://127.0.0.1:0")
    client(shut)
    for listener in (shut, empty):
        listener.setblocking(False)
    answers = [seen.errno_of(shut.accept), seen.errno_of(empty.accept)]
    assert queue_by_tcp_info(shut)[0] == 1
    assert seen(answers) == ["EAGAIN", "EAGAIN"]


@behaviour("socket.queue.accept-not-listening")
def test_only_listeners_accept(seen: Seen) -> None:
    """accept on a stream socket that is bound and does not listen gives EINVAL."""
    bound, _ = bind(ANY_PORT, Choices())
    with GatedListener.adopt(bound, Gate(is_open=True)) as adopted:
        assert states_of_port(port_of(adopted)) == []
        assert seen.errno_of(adopted.accept) == "EINVAL"


@behaviour("socket.queue.accept-datagram")
def test_datagrams_are_not_accepted(listening: Listen, seen: Seen) -> None:
    """accept on a datagram socket gives EOPNOTSUPP."""
    assert seen.errno_of(listening("udp://127.0.0.1:0").accept) == EOPNOTSUPP


@behaviour("socket.queue.aborted-connection")
def test_a_connection_that_was_reset_while_it_waited(listening: Listen, client: Client, seen: Seen) -> None:
    """A client that resets its connection before it was accepted is told of by accept: ECONNABORTED."""
    listener = listening("tcp://127.0.0.1:0", is_open=False)
    gone = client(listener)
    gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    gone.close()
    listener.activate()
    listener.setblocking(False)
    assert states_of_port(port_of(listener)) == [LISTEN]
    assert seen.errno_of(lambda: listener.accept()[0].close()) == "ECONNABORTED"


@behaviour("socket.queue.accept-emfile")
def test_at_the_limit_the_connection_stays(listening: Listen, client: Client, in_child: InChild, seen: Seen) -> None:
    """At RLIMIT_NOFILE accept gives EMFILE, and the connection is still there when there is room again."""
    listener = listening("tcp://127.0.0.1:0")
    port = port_of(client(listener))

    def accept_at_the_limit() -> tuple[str, int, int]:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest = os.dup(0)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        refused = seen.errno_of(listener.accept)
        waiting = queue_by_tcp_info(listener)[0]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        connection, peer = listener.accept()
        connection.close()
        return refused, waiting, peer[1]

    assert seen(in_child(accept_at_the_limit)) == ["EMFILE", 1, port]


@behaviour("socket.queue.close-resets-waiting")
def test_closing_resets_those_who_wait(listening: Listen, client: Client, seen: Seen) -> None:
    """When a listener is closed, who waited in its queue reads ECONNRESET."""
    listener = listening("tcp://127.0.0.1:0", is_open=False)
    waiting = client(listener)
    listener.close()
    assert seen.errno_of(waiting.recv, 1) == "ECONNRESET"


@behaviour("socket.queue.shutdown-listener")
def test_shutdown_ends_listening_for_all(tcp: GatedListener, client: Client, seen: Seen) -> None:
    """After shutdown through one descriptor new connects are refused, and accept through the other gives EINVAL."""
    with tcp.dup() as passed:
        client(tcp)
        tcp.accept()[0].close()
        passed.shutdown(socket.SHUT_RDWR)
    with pytest.raises(ConnectionRefusedError):
        client(tcp)
    assert LISTEN not in states_of_port(port_of(tcp))
    assert seen.errno_of(tcp.accept) == "EINVAL"


@behaviour("socket.queue.accept-timeout")
def test_a_receive_timeout_bounds_accept(tcp: GatedListener, seen: Seen) -> None:
    """With SO_RCVTIMEO of 200 ms a blocking accept gives EAGAIN after that; `settimeout` says TimeoutError."""
    bound, _ = bind(ANY_PORT, Choices())
    with bound:
        bound.listen()
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 200_000))
        began = time.monotonic()
        refused = seen.errno_of(bound.accept)
        assert 0.19 <= time.monotonic() - began < 5
    tcp.settimeout(0.2)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        tcp.accept()
    assert 0.19 <= time.monotonic() - began < 5
    assert refused == "EAGAIN"


@behaviour("socket.queue.defer-accept")
def test_who_sends_nothing_is_not_accepted(tcp: GatedListener, client: Client, seen: Seen) -> None:
    """With TCP_DEFER_ACCEPT a silent connection is not given out, and is as soon as it says something."""
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5)
    silent = client(tcp)
    tcp.setblocking(False)
    answers = [seen.errno_of(tcp.accept), str(tcp.pending())]
    silent.sendall(b"x")
    tcp.settimeout(10)
    accepted, peer = tcp.accept()
    accepted.close()
    assert peer == silent.getsockname()
    assert seen(answers) == ["EAGAIN", "0"]


@behaviour("socket.queue.abort-on-overflow")
def test_an_overflow_is_reset_where_that_is_wished(listening: Listen, client: Client, seen: Seen) -> None:
    """With tcp_abort_on_overflow a client beyond a full queue is reset, not left alone; `at_limit` does it for one
    listener whatever the kernel does."""
    (SYSCTL / "ipv4/tcp_abort_on_overflow").write_text("1")
    ours = listening("tcp://127.0.0.1:0", backlog=1, at_limit="refuse", is_open=False)
    client(ours)
    # It is told at its first word, or by connect(2) itself where the reset comes before that looks at the state.
    assert seen.errno_of(lambda: client(ours).recv(1)) == "ECONNRESET"
    full = listening("tcp://127.0.0.1:0", backlog=0, is_open=False)
    client(full)
    with socket.socket() as late:
        late.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, 1)
        assert seen.errno_of(late.connect, full.getsockname()) == "ECONNRESET"


@behaviour("socket.accept.flags-not-inherited")
def test_status_flags_are_not_inherited(tcp: GatedListener, client: Client, seen: Seen) -> None:
    """A connection lacks O_NONBLOCK though a gated listener, to the kernel, always has it."""
    client(tcp)
    accepted, _ = tcp.accept()
    with accepted:
        flags = [status_flags(number) & os.O_NONBLOCK for number in (tcp.real_fileno(), accepted.fileno())]
    assert seen(flags) == [os.O_NONBLOCK, 0]


def status_flags(number: int) -> int:
    """The status flags of a descriptor (proc_pid_fdinfo(5))."""
    lines = dict(line.split(":\t", 1) for line in Path(f"/proc/self/fdinfo/{number}").read_text().splitlines())
    return int(lines["flags"], 8)
