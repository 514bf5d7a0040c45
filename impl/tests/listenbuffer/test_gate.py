"""Gates and the listeners behind them: they hold back, let through, wake all, and cost nothing when open."""

from __future__ import annotations

import asyncio
import concurrent.futures
import errno
import http.client
import http.server
import select
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pytest

from kernelproof.impl.listenbuffer import (
    ActivationTimeout,
    AlreadyActive,
    Gate,
    GateClosed,
    GatedListener,
    ListenBuffer,
    listen,
    new_listen_buffer,
)


def client_of(listener: GatedListener, data: bytes = b"") -> socket.socket:
    """Connect to a listener and send something."""
    client = socket.socket(listener.family, listener.type)
    address: Any = listener.address.path or listener.getsockname()
    if listener.address.is_abstract:
        address = listener.address.path.encode()
    client.settimeout(5)
    client.connect(address)
    if data:
        client.send(data)
    return client


@pytest.fixture
def tcp() -> Iterator[GatedListener]:
    """A listener on a free port of the loopback."""
    with listen("tcp://127.0.0.1:0") as listener:
        yield listener


# --- 2014 -------------------------------------------------------------------------------------------------------------


def test_the_example_of_2014() -> None:
    """A client connects, writes ping and closes before activation; accept returns it after, with ping to the end."""
    activate = threading.Event()
    with new_listen_buffer("tcp", "", activate) as listener:
        assert listener.addr().port > 0
        with socket.create_connection(("127.0.0.1", listener.addr().port)) as client:
            client.sendall(b"ping")
        activate.set()
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(10) + connection.recv(10) == b"ping"


def test_bind_errors_come_at_once(tcp: GatedListener, tmp_path: Path) -> None:
    """What cannot be bound is refused by the call, before any activation; an existing unix socket is not removed."""
    with pytest.raises(OSError, match="Address already in use"):
        new_listen_buffer("tcp", f"127.0.0.1:{tcp.address.port}", None)
    path = str(tmp_path / "x.sock")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    with pytest.raises(OSError, match="Address already in use"):
        new_listen_buffer("unix", path, None)
    assert ListenBuffer is GatedListener


# --- L9 ---------------------------------------------------------------------------------------------------------------


class Buffer(Protocol):
    """What the two ways have in common."""

    def accept(self) -> tuple[socket.socket, Any]: ...
    def close(self) -> None: ...


class OneValue:
    """The way of 2014: a channel that hands one value to one waiter, and a flag without a lock."""

    def __init__(self, bound: socket.socket) -> None:
        self.bound = bound
        self.ready = False
        self.channel = threading.Semaphore(0)

    def accept(self) -> tuple[socket.socket, Any]:
        """Wait for a value, then accept."""
        if not self.ready:
            if not self.channel.acquire(timeout=1):
                raise AssertionError("never woken")
            self.ready = True
        return self.bound.accept()

    def activate(self) -> None:
        """Send one value."""
        self.channel.release()

    def close(self) -> None:
        """Close the socket; who waits for the channel goes on waiting."""
        self.bound.close()


def make_one_value() -> OneValue:
    """A listener of the old way."""
    bound = socket.socket()
    bound.settimeout(3)
    bound.bind(("127.0.0.1", 0))
    bound.listen()
    return OneValue(bound)


def make_ours() -> GatedListener:
    """Ours."""
    listener = listen("tcp://127.0.0.1:0")
    listener.settimeout(3)
    return listener


def run_threads(count: int, work: Callable[[], object]) -> list[object]:
    """Start threads and return a list that fills with what they return or raise; it is complete after `join`."""
    results: list[object] = []

    def call() -> None:
        try:
            results.append(work())
        except (OSError, AssertionError) as error:
            results.append(error)

    threads = [threading.Thread(target=call) for _ in range(count)]
    for thread in threads:
        thread.start()
    results.append(threads)
    return results


def joined(results: list[object]) -> list[object]:
    """Wait for the threads of `run_threads` and return what they gave."""
    threads = next(found for found in results if isinstance(found, list))
    for thread in threads:
        thread.join(10)
    return [found for found in results if found is not threads]


@pytest.mark.rule("L9", ours=make_ours, wrong=make_one_value)
def test_activation_wakes_all_who_wait(subject: Callable[[], Any]) -> None:
    """Of four threads that wait in accept, all get a connection after one activation."""
    listener = subject()
    with ExitStack() as stack:
        stack.callback(listener.close)
        results = run_threads(4, listener.accept)
        address = listener.bound.getsockname() if isinstance(listener, OneValue) else listener.getsockname()
        for _ in range(4):
            stack.enter_context(closing(socket.create_connection(address)))
        listener.activate()
        found = joined(results)
        for one in found:
            if isinstance(one, tuple):
                one[0].close()
        assert [type(one) for one in found] == [tuple] * 4


@pytest.mark.rule("L9", ours=make_ours, wrong=make_one_value)
def test_close_wakes_all_who_wait(subject: Callable[[], Any]) -> None:
    """Threads that wait for the activation get an error of a closed socket as soon as it is closed."""
    listener = subject()
    results = run_threads(3, listener.accept)
    listener.close()
    assert [getattr(found, "errno", None) for found in joined(results)] == [9, 9, 9]


@pytest.mark.rule("L9")
def test_close_wakes_those_in_the_kernels_queue(tcp: GatedListener) -> None:
    """A thread that waits for a connection behind an open gate is woken by close too."""
    tcp.activate()
    results = run_threads(2, tcp.accept)
    tcp.close()
    assert [getattr(found, "errno", None) for found in joined(results)] == [9, 9]
    with pytest.raises(OSError, match="Bad file descriptor"):
        tcp.accept()
    tcp.close()
    assert tcp.fileno() == -1


@pytest.mark.rule("L9")
def test_timeouts_count_the_wait_for_the_gate(tcp: GatedListener) -> None:
    """A timeout covers gate and queue together; non-blocking calls raise as on an empty queue."""
    with client_of(tcp):
        tcp.settimeout(0.1)
        assert (tcp.gettimeout(), tcp.timeout, tcp.getblocking()) == (0.1, 0.1, True)
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            tcp.accept()
        assert 0.1 <= time.monotonic() - began < 2
        tcp.setblocking(False)
        with pytest.raises(BlockingIOError):
            tcp.accept()
        tcp.activate()
        connection, _ = tcp.accept()
        assert connection.getblocking()
        connection.close()
        with pytest.raises(BlockingIOError):
            tcp.accept()
        tcp.settimeout(0.05)
        with pytest.raises(TimeoutError):
            tcp.accept()
    with pytest.raises(ValueError, match="out of range"):
        tcp.settimeout(-1)


@pytest.mark.rule("L9")
def test_a_pause_holds_back_those_who_already_wait(tcp: GatedListener) -> None:
    """A thread that waits in accept when the gate is paused does not get the connection that comes then."""
    tcp.activate()
    tcp.settimeout(5)
    results = run_threads(1, tcp.accept)
    tcp.gate.pause()
    with client_of(tcp):
        poll = select.poll()
        poll.register(tcp.real_fileno(), select.POLLIN)
        assert poll.poll(5000)
        assert len(results) == 1
        assert tcp.pending() == 1
        tcp.gate.open()
        (found,) = joined(results)
        assert isinstance(found, tuple)
        found[0].close()


def test_use_after_close_is_an_error() -> None:
    """After close every call says so, the number is -1, and the gate cannot be opened any more; closing is once."""
    listener = listen("tcp://127.0.0.1:0")
    receiver = listen("udp://127.0.0.1:0")
    for one in (listener, receiver):
        one.close()
        one.close()
        assert (one.fileno(), one.real_fileno()) == (-1, -1)
        with pytest.raises(GateClosed):
            one.activate()
    for use in (listener.accept, listener.pending, lambda: receiver.recv(1), receiver.dropped, receiver.queue):
        with pytest.raises(OSError, match="Bad file descriptor") as refused:
            use()
        assert refused.value.errno == errno.EBADF


def test_closed_gate_is_no_paused_one(tcp: GatedListener) -> None:
    """A listener that does not wait says EBADF when its gate is closed, and EAGAIN while it is paused."""
    tcp.settimeout(0)
    with pytest.raises(BlockingIOError):
        tcp.accept()
    tcp.gate.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        tcp.accept()


def test_activation_twice_is_an_error(tcp: GatedListener) -> None:
    """Activating is once; a gate may be opened and paused as often as wanted, until it is closed."""
    tcp.activate()
    with pytest.raises(AlreadyActive):
        tcp.activate()
    for change in (tcp.gate.pause, tcp.gate.open, tcp.gate.open):
        change()
    tcp.close()
    with pytest.raises(GateClosed):
        tcp.gate.open()
    with pytest.raises(GateClosed):
        tcp.gate.wait_until_open()


@pytest.mark.rule("L9")
def test_what_may_activate(tcp: GatedListener) -> None:
    """An event, a future and a gate open the door; what is none of them is refused, and the port is free again."""
    future: concurrent.futures.Future[None] = concurrent.futures.Future()
    gate = Gate()
    event = threading.Event()
    by_future: Callable[[], object] = partial(future.set_result, None)
    pairs: list[tuple[Any, Callable[[], object]]] = [(future, by_future), (gate, gate.open), (event, event.set)]
    for activate, trigger in pairs:
        with new_listen_buffer("tcp4", "127.0.0.1:0", activate) as listener:
            assert not listener.gate.is_open
            trigger()
            assert listener.gate.wait(5)
    with pytest.raises(TypeError, match="no gate, event or future"):
        new_listen_buffer("tcp4", "127.0.0.1:0", 5)


def test_a_deadline_for_the_activation() -> None:
    """A listener that nobody activates in time ends: who waits is told why, and who asks later too."""
    with listen("tcp://127.0.0.1:0", activate_within_seconds=0.1) as listener:
        results = run_threads(2, listener.accept)
        readable, _, _ = select.select([listener], [], [], 5)
        assert readable == [listener]
        found = joined(results)
        assert [type(one) for one in found] == [ActivationTimeout] * 2
        assert str(found[0]) == "timeout (0.1 s) reached waiting for listener to become ready"
        with pytest.raises(ActivationTimeout):
            listener.accept()
    with listen("tcp://127.0.0.1:0", activate_within_seconds=0.05) as listener:
        listener.activate()
        listener.settimeout(0.1)
        with pytest.raises(TimeoutError):
            listener.accept()


# --- what a selector sees ---------------------------------------------------------------------------------------------


@pytest.mark.rule("L9")
@pytest.mark.parametrize("selector", ["select", "poll", "epoll"])
def test_selectors_do_not_spin(tcp: GatedListener, selector: str) -> None:
    """Watched from before the activation, the listener is readable only while the gate is open and one waits."""
    number = tcp.fileno()

    def readable() -> bool:
        if selector == "select":
            return bool(select.select([tcp], [], [], 0.02)[0])
        watch: Any = select.poll() if selector == "poll" else select.epoll()
        watch.register(tcp, select.POLLIN)
        return bool(watch.poll(20 if selector == "poll" else 0.02))

    with client_of(tcp):
        assert not readable()
        tcp.activate()
        assert readable()
        tcp.gate.pause()
        assert not readable()
        tcp.gate.open()
        assert readable()
        tcp.accept()[0].close()
        assert not readable()
    assert tcp.fileno() == number


@pytest.mark.rule("L9")
def test_asyncio(tmp_path: Path) -> None:
    """An asyncio server takes the listener, waits without spinning, and serves after an asyncio event."""

    async def main() -> list[bytes]:
        activate = asyncio.Event()
        listener = new_listen_buffer("unix", str(tmp_path / "a.sock"), activate)

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write((await reader.read(4)).upper())
            await writer.drain()
            writer.close()

        server = await asyncio.start_unix_server(handle, sock=listener)
        answers = []
        async with server:
            clients = [await asyncio.open_unix_connection(str(tmp_path / "a.sock")) for _ in range(3)]
            for _, writer in clients:
                writer.write(b"ping")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(clients[0][0].read(4), 0.1)
            assert listener.pending() == 3
            used = time.process_time()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(clients[0][0].read(4), 0.3)
            assert time.process_time() - used < 0.1
            activate.set()
            for reader, writer in clients:
                answers.append(await reader.read(4))
                writer.close()
                await writer.wait_closed()
        return answers

    assert asyncio.run(main()) == [b"PING"] * 3


class Hello(http.server.BaseHTTPRequestHandler):
    """Says hello."""

    def do_GET(self) -> None:
        """Answer."""
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize("kind", [http.server.HTTPServer, http.server.ThreadingHTTPServer, socketserver.TCPServer])
def test_servers_of_the_standard_library(tcp: GatedListener, kind: type[socketserver.TCPServer]) -> None:
    """socketserver and http.server serve on a listener: a client that came before the server is answered."""
    client = http.client.HTTPConnection("127.0.0.1", tcp.address.port, timeout=10)
    client.request("GET", "/")
    server = kind(tcp.getsockname(), Hello, bind_and_activate=False)
    server.socket.close()
    server.socket = tcp
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    assert tcp.pending() == 1
    tcp.activate()
    assert client.getresponse().read() == b"hello"
    server.shutdown()
    thread.join()
    client.close()


# --- all kinds --------------------------------------------------------------------------------------------------------


@pytest.mark.rule("L+1")
@pytest.mark.parametrize("kind", ["tcp", "tcp6", "unix", "unixpacket", "abstract"])
def test_every_kind_of_stream(tmp_path: Path, kind: str) -> None:
    """Behind one gate each kind queues, is counted, and is accepted after the gate opens."""
    address = {"tcp": "tcp://127.0.0.1:0", "tcp6": "tcp://[::1]:0", "abstract": f"unix:@{tmp_path}"}.get(
        kind, f"{kind}:{tmp_path}/x.sock"
    )
    gate = Gate()
    with listen(address, gate=gate, backlog=5) as listener:
        assert listener.effective_backlog == 5
        with client_of(listener, b"one"), client_of(listener, b"two"):
            assert listener.queue() == (2, 5)
            listener.settimeout(0)
            with pytest.raises(BlockingIOError):
                listener.accept()
            gate.open()
            for word in (b"one", b"two"):
                connection, _ = listener.accept()
                with connection:
                    assert connection.recv(10) == word
            assert listener.pending() == 0


@pytest.mark.rule("L+1")
@pytest.mark.parametrize("kind", ["udp://127.0.0.1:0", "unixgram"])
def test_datagrams(tmp_path: Path, kind: str) -> None:
    """Datagrams wait in the buffer, whose bytes and losses are told; every way of receiving is held back."""
    with listen(kind if "//" in kind else f"{kind}:{tmp_path}/d.sock") as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with client_of(listener) as client:
            for word in (b"1", b"2", b"3", b"4", b"5"):
                client.send(word)
            assert (listener.pending() or 1) > 0
            assert listener.effective_backlog is None
            listener.settimeout(0.02)
            buffer = bytearray(10)
            calls: list[Callable[[], object]] = [
                lambda: listener.recv(10),
                lambda: listener.recvfrom(10)[0],
                lambda: listener.recvmsg(10)[0],
                lambda: bytes(buffer[: listener.recv_into(buffer)]),
                lambda: bytes(buffer[: listener.recvfrom_into(buffer)[0]]),
            ]
            for call in calls:
                with pytest.raises(TimeoutError):
                    call()
            listener.activate()
            assert [call() for call in calls] == [b"1", b"2", b"3", b"4", b"5"]
            if listener.family == socket.AF_INET:
                for _ in range(100):
                    client.send(b"x" * 500)
                assert (listener.dropped() or 0) > 50
                listener.sendto(b"back", client.getsockname())
                assert client.recv(10) == b"back"


@pytest.mark.rule("L1")
def test_numbers_of_a_gate() -> None:
    """One gate over several listeners counts who has had to wait."""
    gate = Gate()
    with listen("tcp://127.0.0.1:0", gate=gate) as one:
        results = run_threads(2, one.accept)
        while gate.waited < 2:
            time.thread_time()
        with client_of(one), client_of(one):
            gate.open()
            for found in joined(results):
                assert isinstance(found, tuple)
                found[0].close()
    assert gate.waited == 2


@pytest.mark.rule("L1")
def test_a_full_queue_holds_tcp_clients_and_turns_unix_ones_away(tmp_path: Path) -> None:
    """Beyond the backlog a TCP client is not refused but waits; a non-blocking unix client is told to come again."""
    with listen("tcp://127.0.0.1:0", backlog=1) as listener, ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(client_of(listener))
        late = stack.enter_context(socket.socket())
        late.settimeout(0.2)
        with pytest.raises(TimeoutError):
            late.connect(listener.getsockname())
        assert listener.queue() == (2, 1)
        assert (listener.dropped() or 0) >= 1
    with listen(f"unix:{tmp_path}/x.sock", backlog=1) as listener, ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(client_of(listener))
        late = stack.enter_context(socket.socket(socket.AF_UNIX))
        late.setblocking(False)
        with pytest.raises(BlockingIOError):
            late.connect(listener.address.path)


def comes_too_late(listener: GatedListener) -> None:
    """Connect and look for an answer: the reset may come during either."""
    client = socket.socket()
    with client:
        client.settimeout(5)
        client.connect(listener.getsockname())
        client.recv(10)


def test_beyond_the_limit_clients_are_refused_when_asked() -> None:
    """Told to refuse, those beyond the places are reset at once; the others are served in the order they came."""
    with listen("tcp://127.0.0.1:0", backlog=3, at_limit="refuse") as listener, ExitStack() as stack:
        for number in range(3):
            stack.enter_context(client_of(listener, b"%d" % number))
        for _ in range(3):
            with pytest.raises(ConnectionResetError):
                comes_too_late(listener)
        assert (listener.pending(), listener.refused()) == (3, 3)
        assert not select.select([listener], [], [], 0)[0]
        listener.activate()
        listener.settimeout(5)
        assert select.select([listener], [], [], 5)[0]
        stack.enter_context(client_of(listener, b"6"))
        words = []
        for _ in range(4):
            connection, _ = listener.accept()
            with connection:
                words.append(connection.recv(10))
        assert words == [b"0", b"1", b"2", b"6"]
        listener.gate.pause()
        kept = [stack.enter_context(client_of(listener)) for _ in range(3)]
        with pytest.raises(ConnectionResetError):
            comes_too_late(listener)
        listener.close()
        with pytest.raises(ConnectionResetError):
            kept[0].recv(10)
    with pytest.raises(ValueError, match="choose wait or refuse"):
        listen("tcp://127.0.0.1:0", at_limit="drop")
    with listen("udp://127.0.0.1:0") as datagrams, pytest.raises(ValueError, match="stream"):
        datagrams.refuse_beyond(3)
