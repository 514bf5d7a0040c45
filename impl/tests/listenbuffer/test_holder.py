"""The holder: sockets and connections outlive their owner, expire, and move to the next holder."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from kernelproof.impl.listenbuffer import HandOverRefused, listen, messages
from kernelproof.impl.listenbuffer.holder import Holder, HolderClient


@contextmanager
def answering(path: str, clock: Callable[[], float]) -> Iterator[Holder]:
    """A holder that answers in a thread."""
    kept = Holder(path, clock=clock)
    stop = threading.Event()
    thread = threading.Thread(target=lambda: kept.serve(until=stop.is_set))
    thread.start()
    try:
        yield kept
    finally:
        stop.set()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as waker:
            waker.connect(path)
        thread.join()
        kept.close()


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[tuple[Holder, HolderClient, list[float]]]:
    """A holder with a clock of its own, answering in a thread."""
    now = [0.0]
    path = str(tmp_path / "holder.sock")
    with answering(path, lambda: now[0]) as kept:
        yield kept, HolderClient(path), now


@pytest.mark.rule("L+5")
def test_sockets_come_back(holder: tuple[Holder, HolderClient, list[float]]) -> None:
    """A listener and a connection are stored, their owner closes them, and they come back as they were."""
    _, client, _ = holder
    listener = listen("tcp://127.0.0.1:0")
    address = listener.getsockname()
    listener.activate()
    with socket.create_connection(address) as peer:
        connection, _ = listener.accept()
        client.store("app", [listener, connection])
        listener.close()
        connection.close()
        assert client.names() == {"app": 2}
        with socket.create_connection(address):
            pass
        again, talking = client.take("app")
        with again, talking:
            assert again.getsockname() == address
            talking.sendall(b"still here")
            assert peer.recv(100) == b"still here"
    assert client.names() == {}
    with pytest.raises(HandOverRefused, match="nothing is kept"):
        client.take("app")


@pytest.mark.rule("L+5")
def test_names_are_taken_once_and_expire(holder: tuple[Holder, HolderClient, list[float]]) -> None:
    """A name holds one set until its time is over; an empty name or set is refused."""
    _, client, now = holder
    with socket.socket() as one:
        client.store("app", [one], expires_seconds=10)
        with pytest.raises(HandOverRefused, match="cannot be kept"):
            client.store("app", [one])
        with pytest.raises(HandOverRefused, match="cannot be kept"):
            client.store("", [one])
        with pytest.raises(HandOverRefused, match="cannot be kept"):
            client.store("none", [])
        now[0] = 9.9
        assert client.names() == {"app": 1}
        now[0] = 10.1
        client.names()
        assert client.names() == {}


def answer_here(kept: Holder, ask: Callable[[], object]) -> object:
    """What a client in a thread is told, while the holder answers its one request here."""
    with ThreadPoolExecutor(1) as threads:
        told = threads.submit(ask)
        kept.serve(until=iter((False, True)).__next__)
        return told.result()


@pytest.mark.rule("L+5")
def test_times_go_with_their_names(tmp_path: Path) -> None:
    """What is left of a name's time is what the next holder keeps it for; what is kept for ever has no time there."""
    now = [0.0]
    old, new = (Holder(str(tmp_path / name), clock=lambda: now[0]) for name in ("old", "new"))
    client = HolderClient(str(tmp_path / "old"))
    with socket.socket() as one, closing(old), closing(new):
        answer_here(old, lambda: client.store("some time", [one], expires_seconds=10))
        answer_here(old, lambda: client.store("for ever", [one]))
        now[0] = 4.0
        with client._ask("list") as asked:
            old.answer_one()
            names = messages.expect(asked, ["names"], 60).fields["names"]
        assert names == {"some time": [1, 6.0], "for ever": [1, None]}
        assert answer_here(old, lambda: new.take_from(str(tmp_path / "old"))) == 2
        assert {name: kept.expires for name, kept in new._kept.items()} == {"some time": 10.0, "for ever": None}


@pytest.mark.rule("L+5")
def test_a_time_is_a_number(tmp_path: Path) -> None:
    """A time that is none is refused, and the name is free afterwards."""
    client: Any = HolderClient(str(tmp_path / "holder.sock"))
    with socket.socket() as one, closing(Holder(str(tmp_path / "holder.sock"))) as kept:
        with pytest.raises(HandOverRefused, match="cannot be kept"):
            answer_here(kept, lambda: client.store("app", [one], expires_seconds="soon"))
        answer_here(kept, lambda: client.store("app", [one], expires_seconds=1.5))


@pytest.mark.rule("L+5")
def test_what_expires_is_dropped_though_nobody_asks(tmp_path: Path) -> None:
    """At the end of its time a connection is closed, without a request that wakes the holder."""
    path = str(tmp_path / "holder.sock")
    ours, peer = socket.socketpair()
    with peer, answering(path, time.monotonic):
        HolderClient(path).store("app", [ours], expires_seconds=0.05)
        ours.close()
        peer.settimeout(30)
        assert peer.recv(1) == b""


@pytest.mark.rule("L+5")
def test_the_next_holder_takes_everything(holder: tuple[Holder, HolderClient, list[float]], tmp_path: Path) -> None:
    """A second holder takes the whole set, and the first one has nothing then."""
    _, client, _ = holder
    with listen("tcp://127.0.0.1:0") as one, listen("tcp://127.0.0.1:0") as two:
        client.store("one", [one])
        client.store("two", [two, one], expires_seconds=100)
        following = Holder(str(tmp_path / "next.sock"))
        assert following.take_from(str(tmp_path / "holder.sock")) == 2
        client.names()
        assert client.names() == {}
        assert {name: len(kept.descriptors) for name, kept in following._kept.items()} == {"one": 1, "two": 2}
        following.close()


@pytest.mark.rule("L+5")
def test_a_holder_that_ends_in_the_middle(tmp_path: Path) -> None:
    """Of a set that does not arrive whole nothing stays open in the next holder, and nothing is kept there."""
    given, peer = socket.socketpair()

    def give() -> None:
        connection, _ = ending.accept()
        with connection, given:
            messages.expect(connection, ["transfer"], 60).close()
            messages.send(connection, "set", [given.fileno()], name="one", expires_seconds=None)

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as ending, peer:
        ending.bind(str(tmp_path / "ending.sock"))
        ending.listen()
        thread = threading.Thread(target=give)
        thread.start()
        with closing(Holder(str(tmp_path / "next.sock"))) as following:
            with pytest.raises(HandOverRefused, match="has closed the connection"):
                following.take_from(str(tmp_path / "ending.sock"))
            thread.join()
            peer.settimeout(30)
            assert peer.recv(1) == b""


@pytest.mark.rule("L+5")
def test_the_next_holder_keeps_what_it_has(holder: tuple[Holder, HolderClient, list[float]], tmp_path: Path) -> None:
    """A holder that has one of the names itself takes nothing, and the first one goes on keeping all."""
    _, client, _ = holder
    with socket.socket() as one, answering(str(tmp_path / "next.sock"), time.monotonic) as following:
        client.store("app", [one])
        own = HolderClient(str(tmp_path / "next.sock"))
        own.store("app", [one, one])
        with pytest.raises(HandOverRefused, match="'app' is kept already"):
            following.take_from(str(tmp_path / "holder.sock"))
        assert (client.names(), own.names()) == ({"app": 1}, {"app": 2})


@pytest.mark.rule("L+5")
def test_a_crash_loses_no_connection(tmp_path: Path) -> None:
    """The owner is killed; its successor takes listener and connection from the holder's process and goes on."""
    path = str(tmp_path / "holder.sock")
    holder = subprocess.Popen([sys.executable, "-m", "kernelproof.impl.listenbuffer.holder", path])
    program = """
import os, socket, sys, threading
from kernelproof.impl.listenbuffer import listen
from kernelproof.impl.listenbuffer.holder import HolderClient
listener = listen("tcp://127.0.0.1:0")
listener.activate()
print(listener.address.port, flush=True)
connection, _ = listener.accept()
HolderClient(sys.argv[1]).store("app", [listener, connection])
print("stored", flush=True)
threading.Event().wait()
"""
    answers = False
    while not answers:
        assert holder.poll() is None
        with suppress(FileNotFoundError, ConnectionRefusedError):  # it is bound a moment before it listens
            answers = HolderClient(path).names() == {}
    with subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        port = int(owner.stdout.readline())
        with socket.create_connection(("127.0.0.1", port), timeout=60) as peer:
            assert owner.stdout.readline() == "stored\n"
            owner.kill()
            owner.wait()
            with socket.create_connection(("127.0.0.1", port), timeout=60) as late:
                listener, connection = HolderClient(path).take("app")
                with listener, connection:
                    connection.sendall(b"again")
                    assert peer.recv(10) == b"again"
                    accepted, _ = listener.accept()
                    with accepted:
                        accepted.sendall(b"hello")
                    assert late.recv(10) == b"hello"
    holder.terminate()
    holder.wait()
