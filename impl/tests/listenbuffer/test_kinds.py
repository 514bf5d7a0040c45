"""Every kind of listener, and its queue."""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from kernelproof.impl.listenbuffer import (
    Gate,
    GatedListener,
    listen,
)
from kernelproof.impl.tests.listenbuffer.clients import client_of, joined, run_threads

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
            for word in (b"1", b"2", b"3", b"4", b"5", b"6"):
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
                lambda: bytes(buffer[: listener.recvmsg_into([buffer])[0]]),
            ]
            for call in calls:
                with pytest.raises(TimeoutError):
                    call()
            listener.activate()
            assert [call() for call in calls] == [b"1", b"2", b"3", b"4", b"5", b"6"]
            if listener.family == socket.AF_INET:
                for _ in range(100):
                    client.send(b"x" * 500)
                assert (listener.dropped() or 0) > 50
                listener.sendto(b"back", client.getsockname())
                listener.sendmsg([b"to", b"gether"], [], 0, client.getsockname())
                listener.connect(client.getsockname())
                listener.sendall(b"peer")
                assert [client.recv(10) for _ in range(3)] == [b"back", b"together", b"peer"]


Send = Callable[[GatedListener, str], object]
SENDS: dict[str, Send] = {
    "sendto": lambda sender, target: sender.sendto(b"x", target),
    "sendmsg": lambda sender, target: sender.sendmsg([b"x"], [], 0, target),
    "send": lambda sender, target: sender.send(b"x"),
}


@pytest.mark.rule("L9")
@pytest.mark.parametrize("is_open", [True, False], ids=["open", "shut"])
@pytest.mark.parametrize("way", SENDS)
def test_sending_waits_for_room(tmp_path: Path, way: str, is_open: bool) -> None:
    """A datagram for a full queue waits without spinning: for room, for the end, as long as the timeout says."""
    with listen(f"unixgram:{tmp_path}/to") as receiver, listen(f"unixgram:{tmp_path}/from") as sender:
        if is_open:
            sender.activate()
        if way == "send":
            sender.connect(receiver.address.path)
        sender.settimeout(0)
        with suppress(BlockingIOError):
            while True:
                SENDS[way](sender, receiver.address.path)
        sender.settimeout(0.3)
        began, used = time.monotonic(), time.thread_time()
        with pytest.raises(TimeoutError):
            SENDS[way](sender, receiver.address.path)
        assert time.monotonic() - began >= 0.3
        assert time.thread_time() - used < 0.1
        sender.settimeout(60)
        results = run_threads(1, lambda: SENDS[way](sender, receiver.address.path))
        receiver.activate()
        receiver.recv(1)
        assert joined(results) == [1]
        results = run_threads(1, lambda: SENDS[way](sender, receiver.address.path))
        sender.close()
        assert [getattr(found, "errno", None) for found in joined(results)] == [9]


@pytest.mark.rule("L+1")
def test_tls_behind_a_gate() -> None:
    """TLS is spoken on each connection that is accepted; a client that began before the gate opened is served."""
    sides = []
    for protocol in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT):
        side = ssl.SSLContext(protocol)
        side.check_hostname, side.verify_mode = False, ssl.CERT_NONE
        side.maximum_version = ssl.TLSVersion.TLSv1_2  # the last one without certificates
        side.set_ciphers("aNULL:@SECLEVEL=0")
        sides.append(side)
    with listen("tcp://127.0.0.1:0") as listener:
        listener.settimeout(60)

        def serve() -> None:
            connection, _ = listener.accept()
            with sides[0].wrap_socket(connection, server_side=True) as secured:
                secured.sendall(b"secret")

        def come() -> bytes:
            with sides[1].wrap_socket(client_of(listener)) as client:
                return client.recv(10)

        results = run_threads(1, come)
        while listener.pending() == 0:
            time.thread_time()
        listener.activate()
        serve()
        assert joined(results) == [b"secret"]


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
        client.settimeout(60)
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
        listener.settimeout(60)
        assert select.select([listener], [], [], 60)[0]
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
