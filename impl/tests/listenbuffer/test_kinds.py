"""Every kind of listener, and its queue."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
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
