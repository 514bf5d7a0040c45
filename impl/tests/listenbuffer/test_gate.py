"""Gates and the listeners behind them: they hold back, let through, and wake all."""

from __future__ import annotations

import concurrent.futures
import errno
import select
import socket
import threading
import time
from collections.abc import Callable
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
from kernelproof.impl.tests.listenbuffer.clients import client_of, joined, run_threads

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
    for activate in (None, threading.Event()):
        with pytest.raises(OSError, match="Address already in use"):
            new_listen_buffer("unix", path, activate)
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
        self.waited = 0
        self.channel = threading.Semaphore(0)

    def accept(self) -> tuple[socket.socket, Any]:
        """Wait for a value, then accept."""
        if not self.ready:
            self.waited += 1
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
    bound.settimeout(60)
    bound.bind(("127.0.0.1", 0))
    bound.listen()
    return OneValue(bound)


def make_ours() -> GatedListener:
    """Ours."""
    listener = listen("tcp://127.0.0.1:0")
    listener.settimeout(60)
    return listener


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
        waiting = listener if isinstance(listener, OneValue) else listener.gate
        while waiting.waited < 4:
            time.thread_time()
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
        assert time.monotonic() - began >= 0.1
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
    tcp.settimeout(60)
    results = run_threads(1, tcp.accept)
    tcp.gate.pause()
    with client_of(tcp):
        poll = select.poll()
        poll.register(tcp.real_fileno(), select.POLLIN)
        assert poll.poll(60_000)
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


def test_two_may_close_at_once() -> None:
    """A second close that comes while the first is under way is once as well: here, from one whom the gate tells."""
    listener = listen("tcp://127.0.0.1:0")
    listener.gate.watch(listener.close)
    listener.close()
    assert listener.fileno() == -1


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
            assert listener.gate.wait(60)
    with pytest.raises(TypeError, match="no gate, event or future"):
        new_listen_buffer("tcp4", "127.0.0.1:0", 5)


def test_a_deadline_for_the_activation() -> None:
    """A listener that nobody activates in time is closed: who waits is told why, who asks later and who watches too."""
    with listen("tcp://127.0.0.1:0", activate_within_seconds=0.1) as listener:
        results = run_threads(2, listener.accept)
        readable, _, _ = select.select([listener], [], [], 60)
        assert readable == [listener]
        found = joined(results)
        assert [type(one) for one in found] == [ActivationTimeout] * 2
        assert str(found[0]) == "timeout (0.1 s) reached waiting for listener to become ready"
        with pytest.raises(ActivationTimeout):
            listener.accept()
        assert listener._timer is not None
        listener._timer.join()
        assert listener.real_fileno() == -1
        with socket.socket() as late, pytest.raises(ConnectionRefusedError):
            late.connect(("127.0.0.1", listener.address.port))
        assert listener.fileno() >= 0
        with pytest.raises(GateClosed):
            listener.activate()
    assert listener.fileno() == -1
    with listen("tcp://127.0.0.1:0", activate_within_seconds=0) as listener:
        assert listener._timer is not None
        listener._timer.join()
        assert select.select([listener], [], [], 60)[0] == [listener]  # also for those who come later
        listener.close()
        assert listener.fileno() == -1
    with listen("tcp://127.0.0.1:0", activate_within_seconds=60) as listener:
        listener.activate()
        listener._expire(60)  # what a timer does that is just too late
        assert listener.gate.is_open
        listener.settimeout(0)
        with pytest.raises(BlockingIOError):
            listener.accept()
