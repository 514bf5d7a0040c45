"""What restarts do to connections: the usual ways, and ours."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from kernelproof.impl.listenbuffer import Gate, GatedListener, listen
from kernelproof.impl.tests.listenbuffer.generations import Address, echo

# --- L1, L2, L3: what others do, and ours -----------------------------------------------------------------------------


def restart_by_closing() -> Iterator[Address]:
    """Close, then listen again."""
    old = socket.create_server(("127.0.0.1", 0))
    address = old.getsockname()
    yield address
    old.close()
    yield address
    new = socket.create_server(address)
    echo(new, "new")
    yield address
    new.close()


def restart_ours() -> Iterator[Address]:
    """The gate stays; only the accepting is replaced."""
    listener = listen("tcp://127.0.0.1:0")
    address = listener.getsockname()
    yield address
    listener.gate.pause()
    yield address
    echo(listener, "new")
    listener.activate()
    yield address
    listener.close()


@pytest.mark.rule("L1", ours=restart_ours, wrong=restart_by_closing, raises=ConnectionRefusedError)
def test_connections_during_a_restart_wait(subject: Callable[[], Iterator[Address]]) -> None:
    """A client that comes while nobody accepts is connected, and answered afterwards."""
    steps = subject()
    next(steps)
    address = next(steps)
    with socket.create_connection(address, timeout=60) as client:
        next(steps)
        client.sendall(b"request")
        assert client.recv(100) == b"new"
    assert next(steps, None) is None


def successor_by_reuse_port(old: socket.socket) -> socket.socket:
    """A socket of its own on the same port."""
    return listen(f"tcp://127.0.0.1:{old.getsockname()[1]}", reuse_port=True)


def successor_by_passing(old: socket.socket) -> socket.socket:
    """The same socket, through a unix socket."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert isinstance(old, GatedListener)
        socket.send_fds(ours, [b"x"], [old.real_fileno()])
        _, (number,), _, _ = socket.recv_fds(theirs, 1, 1)
    return GatedListener.adopt(socket.socket(fileno=number), Gate())


@pytest.mark.rule(
    "L2", ours=successor_by_passing, wrong=successor_by_reuse_port, raises=(ConnectionError, TimeoutError)
)
def test_what_waits_is_not_reset_by_a_successor(subject: Callable[[socket.socket], socket.socket]) -> None:
    """Connections that waited at the old listener are answered by the new one after the old one's close."""
    with ExitStack() as stack:
        old = listen("tcp://127.0.0.1:0", reuse_port=True)
        clients = [stack.enter_context(socket.create_connection(old.getsockname(), timeout=60)) for _ in range(8)]
        new = stack.enter_context(subject(old))
        old.close()
        assert isinstance(new, GatedListener)
        new.activate()
        echo(new, "new")
        for client in clients:
            client.sendall(b"request")
        assert [client.recv(100) for client in clients] == [b"new"] * 8


def stop_by_closing(listener: GatedListener) -> None:
    """Stop accepting: close."""
    listener.close()


def stop_by_draining(listener: GatedListener) -> None:
    """Ours: take what waits first."""
    for connection, _ in listener.drain(60):
        with connection:
            connection.recv(100)
            connection.sendall(b"late")
    listener.close()


@pytest.mark.rule("L3", ours=stop_by_draining, wrong=stop_by_closing, raises=ConnectionError)
def test_what_waits_is_answered_before_the_end(subject: Callable[[GatedListener], None]) -> None:
    """A listener that ends without a successor answers those who were connected already."""
    listener = listen("tcp://127.0.0.1:0")
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(listener.getsockname(), timeout=60)) for _ in range(5)]
        for client in clients:
            client.sendall(b"request")
        subject(listener)
        assert [client.recv(100) for client in clients] == [b"late"] * 5
