"""The doorman: whom it keeps and turns away, and what becomes of them at a hand-over and at the end."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from kernelproof.impl.listenbuffer import GatedListener, HandOverFailed, listen
from kernelproof.impl.listenbuffer.handover import Generations, take_over
from kernelproof.impl.tests.listenbuffer.clients import client_of
from kernelproof.impl.tests.listenbuffer.generations import ask, echo


@pytest.fixture
def door(tmp_path: Path) -> Iterator[tuple[GatedListener, str]]:
    """A listener that refuses those beyond two, and the control of its generation."""
    with (
        listen("tcp://127.0.0.1:0", backlog=2, at_limit="refuse") as listener,
        Generations(str(tmp_path / "control"), {"web": listener}) as generations,
    ):
        yield listener, generations.control


def wait_until_kept(listener: GatedListener, count: int) -> None:
    """Wait until a doorman keeps as many."""
    doorman = listener._doorman
    assert doorman is not None
    while len(doorman) < count:
        assert doorman._thread is not None
        assert doorman._thread.is_alive()


@pytest.mark.rule("L2")
@pytest.mark.rule("L3")
def test_the_successor_gets_all_who_come(door: tuple[GatedListener, str]) -> None:
    """A doorman of the old generation takes no connection once its successor is asked, and none afterwards."""
    old, control = door
    old.activate()
    for number in range(2, 12):
        taken = take_over(control)
        new = taken.listeners["web"]
        echo(new, str(number))
        with taken.ready() as following:
            assert {ask(new.getsockname()) for _ in range(5)} == {str(number)}
            assert old._doorman is not None
            assert (len(old._doorman), old.refused()) == (0, 0)
            old.close()
            following.close()
            following = Generations(control, {"web": new})
        old = new
    old.close()


def refused(listener: GatedListener) -> bool:
    """Whether who comes now is reset."""
    client = socket.socket()
    with client:
        client.settimeout(60)
        try:
            client.connect(listener.getsockname())
            return bool(client.recv(10))
        except ConnectionResetError:
            return True


@pytest.mark.rule("L3")
def test_those_who_are_kept_are_passed_on(door: tuple[GatedListener, str]) -> None:
    """Who was kept before the old generation ever opened is served by its successor, which has the same limit."""
    old, control = door
    with ExitStack() as stack:
        clients = [stack.enter_context(client_of(old)) for _ in range(2)]
        wait_until_kept(old, 2)
        taken = take_over(control)
        new = taken.listeners["web"]
        served: list[object] = []

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, peer = new.accept()
                    served.append(peer)
                    connection.sendall(b"new")
                    connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        with taken.ready():
            old.close()
            assert [client.recv(10) for client in clients] == [b"new"] * 2
            assert served == [client.getsockname() for client in clients]
            assert new.limit == 2
            new.gate.pause()
            for _ in clients:
                stack.enter_context(client_of(new))
            wait_until_kept(new, 2)
            assert refused(new)
            new.close()
        thread.join()


@pytest.mark.rule("L7")
@pytest.mark.parametrize("is_open", [True, False])
def test_those_who_are_kept_stay_if_it_fails(
    door: tuple[GatedListener, str], monkeypatch: pytest.MonkeyPatch, is_open: bool
) -> None:
    """After a hand-over that failed, who was kept is kept, and the gate is as it was, the doorman too."""
    monkeypatch.setattr("kernelproof.impl.listenbuffer.generations.PROBE_SECONDS", 0.1)
    old, control = door
    with ExitStack() as stack:
        clients = [stack.enter_context(client_of(old)) for _ in range(2)]
        wait_until_kept(old, 2)
        if is_open:
            old.activate()
        with pytest.raises(HandOverFailed):
            take_over(control).ready()
        assert old.gate.is_open == is_open
        assert is_open or refused(old)
        if not is_open:
            old.activate()
        for client in clients:
            connection, peer = old.accept()
            with connection:
                connection.sendall(b"old")
            assert (client.recv(10), peer) == (b"old", client.getsockname())


def test_draining_hands_out_those_who_are_kept_too() -> None:
    """Before its end a listener hands out who is kept, then who waits in the queue, though its gate is shut."""
    with listen("tcp://127.0.0.1:0", backlog=2, at_limit="refuse") as listener, ExitStack() as stack:
        clients = [stack.enter_context(client_of(listener)) for _ in range(2)]
        wait_until_kept(listener, 2)
        drained = listener.drain(60)
        found = [next(drained)]
        clients.append(stack.enter_context(client_of(listener)))
        found += drained
        for connection, _ in found:
            connection.close()
        assert [peer for _, peer in found] == [client.getsockname() for client in clients]


def test_draining_that_is_broken_off_leaves_them() -> None:
    """Who was kept and not handed out before the time was over still is."""
    with listen("tcp://127.0.0.1:0", backlog=2, at_limit="refuse") as listener, ExitStack() as stack:
        clients = [stack.enter_context(client_of(listener)) for _ in range(2)]
        wait_until_kept(listener, 2)
        drained = listener.drain(60)
        next(drained)[0].close()
        drained.close()
        listener.activate()
        connection, peer = listener.accept()
        connection.close()
        assert peer == clients[1].getsockname()


@pytest.fixture
def failures(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What accept(2) says at listeners at first: there are no descriptors."""
    left = [errno.EMFILE, errno.ENFILE]

    def fail(listener: GatedListener) -> object:
        if left:
            number = left.pop()
            raise OSError(number, os.strerror(number))
        return socket.socket._accept(listener)  # type: ignore[attr-defined]

    monkeypatch.setattr(GatedListener, "_accept", fail, raising=False)
    return left


def test_a_doorman_without_descriptors(failures: list[int]) -> None:
    """A doorman for whom there was no descriptor tries again after a time, and works on."""
    began = time.monotonic()
    with (
        listen("tcp://127.0.0.1:0", backlog=2, at_limit="refuse") as listener,
        client_of(listener),
        client_of(listener),
    ):
        wait_until_kept(listener, 2)
        assert time.monotonic() - began >= 0.2
        assert refused(listener)
    assert failures == []


def test_a_control_without_descriptors(failures: list[int], tmp_path: Path) -> None:
    """A successor that comes while there is no descriptor for it is answered when there is one."""
    began = time.monotonic()
    with listen("tcp://127.0.0.1:0") as listener, Generations(str(tmp_path / "control"), {"web": listener}) as old:
        taken = take_over(old.control)
        assert time.monotonic() - began >= 0.2
        taken.abandon()
    assert failures == []
