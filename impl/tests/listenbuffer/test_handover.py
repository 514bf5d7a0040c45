"""The protocol of a hand-over: what fails changes nothing."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kernelproof.impl.listenbuffer import GatedListener, HandOverFailed, HandOverRefused, listen, messages
from kernelproof.impl.listenbuffer.handover import Generations, Taken, take_over
from kernelproof.impl.tests.listenbuffer.clients import joined, run_threads
from kernelproof.impl.tests.listenbuffer.generations import ask, echo

# --- the protocol -----------------------------------------------------------------------------------------------------


def serve_taken(taken: Taken, name: str) -> None:
    """Accept on what was taken over."""
    for listener in taken.listeners.values():
        echo(listener, name)


@pytest.mark.rule("L+2")
@pytest.mark.rule("L+4")
@pytest.mark.rule("L4")
def test_many_generations(old: tuple[Generations, GatedListener, GatedListener], tmp_path: Path) -> None:
    """Five generations follow each other, each serves after it answered the old one, and the last removes the files."""
    generations, web, local = old
    address = web.getsockname()
    everything: list[tuple[Generations, list[GatedListener]]] = [(generations, [web, local])]
    for number in range(2, 6):
        taken = take_over(str(tmp_path / "control"))
        assert taken.generation == number
        assert ask(address) == str(number - 1)
        serve_taken(taken, str(number))
        following = taken.ready()
        previous, listeners = everything[-1]
        assert previous.retired.wait(60)
        for listener in listeners:
            listener.close()
        everything.append((following, list(taken.listeners.values())))
        assert [ask(address) for _ in range(5)] == [str(number)] * 5
        assert (tmp_path / "app.sock").exists()
    last, listeners = everything[-1]
    last.close()
    for listener in listeners:
        listener.close()
    assert os.listdir(tmp_path) == []


@pytest.mark.rule("L+4")
def test_a_probe_is_one_connection(tmp_path: Path) -> None:
    """Of two connections from a probe's address the first is the probe, and the second a client's, who is served."""
    probes: list[object] = []

    def note(connection: socket.socket, peer: object) -> None:
        connection.close()
        probes.append(peer)

    with listen(f"unix:{tmp_path}/app.sock") as listener:
        listener.setblocking(False)
        listener.on_probe = note
        listener.probes.add(f"{tmp_path}/from")
        listener.activate()
        with socket.socket(socket.AF_UNIX) as probe, socket.socket(socket.AF_UNIX) as client:
            for one in (probe, client):
                one.bind(f"{tmp_path}/from")
                one.connect(f"{tmp_path}/app.sock")
                os.unlink(f"{tmp_path}/from")
            connection, peer = listener.accept()
            with connection:
                connection.sendall(b"served")
            assert (probe.recv(10), client.recv(10)) == (b"", b"served")
    assert probes == [peer] == [f"{tmp_path}/from"]


class NoQuestions:
    """A successor that is taken at its word: alive is ready."""

    def __init__(self, control: str) -> None:
        self.taken = take_over(control)

    def ready(self) -> None:
        """Say ready, though nobody accepts."""
        for name in list(self.taken.listeners):
            self.taken.listeners[name].on_probe = lambda connection, _: connection.close()
        self.taken.abandon()
        raise AssertionError("the old generation is told nothing more and would be gone")


class Asked(NoQuestions):
    """Ours: ready, but nobody accepts."""

    def ready(self) -> None:
        """Say ready; the old generation connects and gets no answer."""
        with pytest.raises(HandOverFailed):
            self.taken.ready(timeout_seconds=60)


@pytest.mark.rule("L11", ours=Asked, wrong=NoQuestions)
@pytest.mark.rule("L+4")
def test_alive_is_not_ready(
    old: tuple[Generations, GatedListener, GatedListener], monkeypatch: pytest.MonkeyPatch, subject: type[NoQuestions]
) -> None:
    """A successor that says ready and does not accept is not believed: the old generation goes on serving."""
    monkeypatch.setattr("kernelproof.impl.listenbuffer.generations.PROBE_SECONDS", 0.3)
    generations, web, _ = old
    subject(generations.control).ready()
    assert not generations.retired.is_set()
    assert ask(web.getsockname()) == "1"


def trust_the_child(generations: Generations, arguments: list[str]) -> int:
    """Start it, and leave."""
    for listener in generations.listeners.values():
        listener.gate.pause()
    return subprocess.run(arguments, check=False).returncode


def hand_over_ours(generations: Generations, arguments: list[str]) -> int:
    """Ours."""
    with pytest.raises(HandOverFailed):
        generations.hand_over(arguments, timeout_seconds=60)
    return 0


@pytest.mark.rule("L7", ours=hand_over_ours, wrong=trust_the_child, raises=AssertionError)
def test_a_child_that_dies_changes_nothing(
    old: tuple[Generations, GatedListener, GatedListener], subject: Callable[[Generations, list[str]], int]
) -> None:
    """After a successor died during its start, the old generation answers."""
    generations, web, _ = old
    subject(generations, [sys.executable, "-c", "raise SystemExit(3)"])
    assert web.gate.is_open
    assert ask(web.getsockname()) == "1"


@pytest.mark.rule("L7")
def test_failures_leave_the_old_generation(old: tuple[Generations, GatedListener, GatedListener]) -> None:
    """A child that ends, one that is late, one that takes and dies, and one that takes and is late change nothing."""
    generations, web, _ = old
    address = web.getsockname()
    takes = "from kernelproof.impl.listenbuffer.handover import take_over; import os, threading; t = take_over(); "
    for program, expected, timeout in (
        ("raise SystemExit(3)", "ended with 3", 60.0),
        ("import threading; threading.Event().wait()", "was not ready in time", 0.3),
        (takes + "os.kill(os.getpid(), 9)", "ended with -9", 60.0),
        (takes + "threading.Event().wait()", "was not ready in time", 1.5),
    ):
        with pytest.raises(HandOverFailed, match=expected):
            generations.hand_over([sys.executable, "-c", program], timeout_seconds=timeout)
        assert ask(address) == "1"
        assert not generations.retired.is_set()


@pytest.mark.rule("L7")
def test_no_program_is_started_during_a_hand_over(
    old: tuple[Generations, GatedListener, GatedListener], tmp_path: Path
) -> None:
    """While a program is being started as the successor, and after a successor serves, none is started."""
    generations, _, _ = old
    program = "import os, sys; os.mkfifo(sys.argv[1]); open(sys.argv[1]).read(); sys.exit(3)"
    command = [sys.executable, "-c", program, str(tmp_path / "first")]
    results = run_threads(1, lambda: start_failing(generations, command))
    while not (tmp_path / "first").exists():
        time.thread_time()
    second = [*command[:-1], str(tmp_path / "second")]
    with pytest.raises(HandOverRefused, match="under way"):
        generations.hand_over(second)
    (tmp_path / "first").write_text("")
    assert joined(results) == ["the next generation ended with 3"]
    taken = take_over(generations.control)
    serve_taken(taken, "2")
    with taken.ready() as following:
        assert generations.retired.wait(60)
        with pytest.raises(HandOverRefused, match="or over"):
            generations.hand_over(second)
        for listener in following.listeners.values():
            listener.close()
    assert not (tmp_path / "second").exists()


def start_failing(generations: Generations, command: list[str]) -> str:
    """Start a program that never asks for the sockets."""
    try:
        generations.hand_over(command)
    except HandOverFailed as failed:
        return str(failed)
    return "handed over"


def test_too_many_to_hand_over(tmp_path: Path) -> None:
    """More listeners than a message carries are refused at once; names that do not fit are told to the successor."""
    with listen("tcp://127.0.0.1:0") as web:
        with pytest.raises(ValueError, match="249 listeners cannot be handed over: at most 248"):
            Generations(str(tmp_path / "control"), {f"{number}": web for number in range(249)})
        fitting = {f"{number}": web for number in range(248)}
        with Generations(str(tmp_path / "control"), fitting) as generations:
            taken = take_over(generations.control)
            assert sorted(taken.listeners) == sorted(fitting)
            taken.abandon()
        longer = {f"{number:300}": web for number in range(248)}
        said = "descriptors is too large: at most 65536 bytes"
        with Generations(f"{tmp_path}/longer", longer), pytest.raises(HandOverRefused, match=said):
            take_over(f"{tmp_path}/longer")


@pytest.mark.rule("L7")
def test_answer_that_does_not_come() -> None:
    """Nothing within the time is an error that says how long it was."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        began = time.monotonic()
        with pytest.raises(TimeoutError, match=r"no answer within 0\.05 s"):
            messages.receive(ours, 0.05)
        assert time.monotonic() - began < 30  # and not the age of the clock


def test_one_at_a_time(old: tuple[Generations, GatedListener, GatedListener]) -> None:
    """A second successor is refused while the first is starting, and may come when that has given up."""
    generations, _, _ = old
    first = take_over(generations.control)
    with pytest.raises(HandOverRefused, match="under way"):
        take_over(generations.control)
    first.abandon()
    deadline = time.monotonic() + 60
    while True:
        try:
            second = take_over(generations.control)
            break
        except HandOverRefused:
            assert time.monotonic() < deadline
    serve_taken(second, "2")
    with second.ready() as following:
        assert generations.retired.wait(60)
        for listener in following.listeners.values():
            listener.close()


@pytest.mark.rule("L+2")
def test_strangers_are_refused(old: tuple[Generations, GatedListener, GatedListener]) -> None:
    """Rubbish, another version, and another word at the control are answered with a refusal, and nothing happens."""
    generations, web, _ = old
    for data in (b"hello", b"[]", b"\xff", json.dumps({"version": 2, "kind": "take"}).encode(),
                 json.dumps({"version": 1, "kind": "give"}).encode()):  # fmt: skip
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
            stranger.connect(generations.control)
            stranger.send(data)
            answer = messages.receive(stranger, 60)
            assert answer is not None
            assert answer.kind == "refused"
    assert ask(web.getsockname()) == "1"
    with pytest.raises(FileNotFoundError):
        take_over(f"{generations.control}.none")
    with pytest.raises(LookupError):
        take_over()


@pytest.mark.rule("L+2")
@pytest.mark.parametrize(
    ("uid", "own", "is_heard"),
    [(0, 1000, True), (1000, 1000, True), (1001, 1000, False), (1000, 0, False)],
    ids=["root", "own", "other", "other of root"],
)
def test_who_is_heard(monkeypatch: pytest.MonkeyPatch, uid: int, own: int, is_heard: bool) -> None:
    """Only root and the program's own user may ask for its sockets; the kernel says who asks."""

    class Connection:
        def getsockopt(self, level: int, option: int, size: int) -> bytes:
            assert (level, option, size) == (socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            return struct.pack("3i", 7, uid, 100)

    monkeypatch.setattr(os, "geteuid", lambda: own)
    connection: Any = Connection()
    if is_heard:
        messages.check_peer(connection)
    else:
        with pytest.raises(HandOverRefused, match=f"the other side runs as uid {uid}"):
            messages.check_peer(connection)


ANNOUNCED = {"name": "\0control", "address": "unixpacket:/control", "file": None}
WEB = {"name": "web", "address": "tcp://127.0.0.1:80", "file": None}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"sockets": [ANNOUNCED]}, "does not say which"),
        ({"sockets": [ANNOUNCED], "generation": "1"}, "does not say which"),
        ({"sockets": None, "generation": 1}, "does not say which"),
        ({"sockets": ["web"], "generation": 1}, "does not say which"),
        ({"sockets": [{"name": "web"}], "generation": 1}, "does not say which"),
        ({"sockets": [ANNOUNCED | {"address": "nowhere"}], "generation": 1}, "does not say which"),
        ({"sockets": [ANNOUNCED | {"file": ["x", 1, "/x"]}], "generation": 1}, "does not say which"),
        ({"sockets": [ANNOUNCED | {"file": [1]}], "generation": 1}, "does not say which"),
        ({"sockets": [ANNOUNCED | {"limit": "x"}], "generation": 1}, "does not say which"),
        ({"sockets": [ANNOUNCED | {"limit": 1}], "generation": 1}, "gives a limit to what has none"),
        ({"sockets": [ANNOUNCED, WEB], "generation": 1}, "2 sockets were announced, 1 came"),
        ({"sockets": [WEB], "generation": 1}, "1 sockets were announced, 1 came"),
    ],
    ids=[
        "no generation",
        "text",
        "no list",
        "names",
        "no address",
        "odd address",
        "odd file",
        "no inode",
        "odd limit",
        "limit",
        "too few",
        "no control",
    ],
)
def test_what_is_taken_is_looked_at(tmp_path: Path, fields: dict[str, object], said: str) -> None:
    """A predecessor's message that does not fit is refused, and the sockets that came with it are closed."""
    given, peer = socket.socketpair()

    def give() -> None:
        connection, _ = control.accept()
        with connection, given:
            messages.expect(connection, ["take"], 60).close()
            messages.send(connection, "sockets", [given.fileno()] * 2, **fields)

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as control, peer:
        control.bind(str(tmp_path / "control"))
        control.listen()
        thread = threading.Thread(target=give)
        thread.start()
        with pytest.raises(HandOverRefused, match=said):
            take_over(str(tmp_path / "control"), timeout_seconds=60)
        thread.join()
        peer.settimeout(30)
        assert peer.recv(1) == b""


def test_draining(old: tuple[Generations, GatedListener, GatedListener]) -> None:
    """drain waits for what is unfinished, up to its time."""
    generations, _, _ = old
    begun, finish = threading.Event(), threading.Event()

    def work() -> None:
        with generations.serving():
            begun.set()
            finish.wait(60)

    thread = threading.Thread(target=work)
    with generations.serving():
        thread.start()
        assert begun.wait(60)
    assert not generations.drain(0.05)
    finish.set()
    assert generations.drain(60)
    thread.join()
