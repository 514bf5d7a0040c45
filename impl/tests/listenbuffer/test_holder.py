"""The holder: sockets and connections outlive their owner, expire, and move to the next holder."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from kernelproof.impl.listenbuffer import HandOverRefused, listen
from kernelproof.impl.listenbuffer.holder import Holder, HolderClient


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[tuple[Holder, HolderClient, list[float]]]:
    """A holder with a clock of its own, answering in a thread."""
    now = [0.0]
    path = str(tmp_path / "holder.sock")
    kept = Holder(path, clock=lambda: now[0])
    client = HolderClient(path)
    stop = threading.Event()
    thread = threading.Thread(target=lambda: kept.serve(until=stop.is_set))
    thread.start()
    yield kept, client, now
    stop.set()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as waker:
        waker.connect(path)
    thread.join()
    kept.close()


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
