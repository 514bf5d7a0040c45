"""The holder: sockets and connections outlive their owner, expire, and move to the next holder."""

from __future__ import annotations

import errno
import os
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

from kernelproof.impl.listenbuffer import GatedListener, HandOverRefused, listen, messages
from kernelproof.impl.listenbuffer.holder import Holder, HolderClient, Kept


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


def answers(client: HolderClient) -> bool:
    """Whether a holder that was started listens already."""
    with suppress(FileNotFoundError, ConnectionRefusedError):
        return client.names() == {}
    return False


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
@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0, 10**400], ids=["nan", "inf", "-1", "10**400"])
def test_times_that_cannot_be(holder: tuple[Holder, HolderClient, list[float]], seconds: float) -> None:
    """A time that never comes is refused with what to write instead, and what is kept stays kept."""
    _, client, _ = holder
    with socket.socket() as one:
        client.store("app", [one])
        with pytest.raises(HandOverRefused, match="from 0 to 1e\\+09, or none for ever"):
            client.store("other", [one], expires_seconds=seconds)
    assert client.names() == {"app": 1}


@pytest.mark.rule("L+5")
def test_the_longest_time(holder: tuple[Holder, HolderClient, list[float]]) -> None:
    """A time of many years is kept, though poll(2) waits for 24 days at most."""
    _, client, _ = holder
    with socket.socket() as one:
        client.store("app", [one], expires_seconds=1e9)
    assert client.names() == client.names() == {"app": 1}


@pytest.mark.rule("L+5")
def test_as_many_and_as_long_names_as_may_be(holder: tuple[Holder, HolderClient, list[float]]) -> None:
    """All names come in the list, more than one message holds; those that are longer, and one more, are refused."""
    kept, client, _ = holder
    names = [f"{number:04}" + "\U0001f511" * 251 for number in range(1024)]
    with socket.socket() as one:
        with pytest.raises(HandOverRefused, match="1 to 255 characters"):
            client.store(names[0] + "x", [one])
        for name in names:
            kept._kept[name] = Kept((os.dup(one.fileno()),), None)
        assert client.names() == dict.fromkeys(names, 1)
        with pytest.raises(HandOverRefused, match="too many names"):
            client.store("app", [one])


@pytest.mark.rule("L+5")
@pytest.mark.parametrize(
    "data",
    [
        b"[" * 60_000,
        b'{"version": 1, "kind": "%s"}' % (b"\x7f" * 60_000),
        b'{"version": %s, "kind": "list"}' % (b"9" * 60_000),
        b'{"version": 1, "kind": "take", "name": "%s"}' % (b"\x7f" * 60_000),
        b'{"version": 1, "kind": "store", "name": ["app"]}',
    ],
    ids=["nested", "kind", "version", "name", "no name"],
)
def test_no_request_ends_the_holder(holder: tuple[Holder, HolderClient, list[float]], data: bytes) -> None:
    """Whatever a client says is answered with a refusal, and the next one is served; what it sent along is closed."""
    _, client, _ = holder
    given, peer = socket.socketpair()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger, peer:
        stranger.connect(client._path)
        socket.send_fds(stranger, [data], [given.fileno()])
        given.close()
        with pytest.raises(HandOverRefused, match=r"protocol|expected|version|kept"):
            messages.expect(stranger, [], 60)
        peer.settimeout(30)
        assert peer.recv(1) == b""
    assert client.names() == {}


@pytest.mark.rule("L+5")
def test_descriptors_sent_with_another_request_are_closed(holder: tuple[Holder, HolderClient, list[float]]) -> None:
    """What comes with a request that keeps nothing does not stay open in the holder."""
    _, client, _ = holder
    given, peer = socket.socketpair()
    with peer, client._ask("list", [given.fileno()]) as connection:
        given.close()
        messages.expect(connection, ["names"], 60)
        peer.settimeout(30)
        assert peer.recv(1) == b""


@pytest.mark.rule("L+5")
def test_one_who_does_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that asks for everything and reads nothing of it is given up after a time."""
    monkeypatch.setattr("kernelproof.impl.listenbuffer.holder.ANSWER_SECONDS", 0.1)
    client = HolderClient(str(tmp_path / "holder.sock"))
    with socket.socket() as one, closing(Holder(str(tmp_path / "holder.sock"))) as kept:
        for number in range(1024):
            kept._kept[f"{number:04}" + "\U0001f511" * 251] = Kept((os.dup(one.fileno()),), None)
        with client._ask("transfer"):
            kept.answer_one()
        assert len(kept._kept) == 1024


FULL = """
import os, resource, sys
from kernelproof.impl.listenbuffer.holder import main
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
main(sys.argv[1:])
"""


@pytest.mark.rule("L+5")
def test_a_holder_without_descriptors(tmp_path: Path) -> None:
    """A holder that has no descriptor left refuses what is to be kept, and gives back what it keeps."""
    client = HolderClient(str(tmp_path / "holder.sock"))
    with socket.socket() as one, subprocess.Popen([sys.executable, "-c", FULL, client._path]) as process:
        while not answers(client):
            assert process.poll() is None
        stored = 0
        with suppress(HandOverRefused):
            for stored in range(100):
                client.store(f"{stored}", [one])
        assert 0 < stored < 64
        assert client.names() == {f"{number}": 1 for number in range(stored)}
        client.take("0")[0].close()
        client.store("0", [one])
        with pytest.raises(HandOverRefused, match="too many for this process"):
            client.store("one more", [one])
        process.terminate()


@pytest.mark.rule("L+5")
def test_a_client_for_whom_there_is_no_room_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where accept(2) has no descriptor, the holder goes on, and answers the client when it has one."""
    failures = [OSError(errno.EMFILE, "none"), OSError(errno.ENFILE, "none")]
    accept = GatedListener.accept

    def fail(listener: GatedListener) -> Any:
        if failures:
            raise failures.pop()
        return accept(listener)

    with answering(str(tmp_path / "holder.sock"), time.monotonic):
        monkeypatch.setattr(GatedListener, "accept", fail)
        assert HolderClient(str(tmp_path / "holder.sock")).names() == {}
    assert failures == []


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
    while not answers(HolderClient(path)):
        assert holder.poll() is None
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
