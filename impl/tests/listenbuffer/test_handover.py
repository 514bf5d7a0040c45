"""Hand-over between generations: nobody is refused or lost, and what fails changes nothing."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from kernelproof.impl.listenbuffer import Gate, GatedListener, HandOverFailed, HandOverRefused, listen, messages
from kernelproof.impl.listenbuffer.handover import Generations, Taken, take_over

Address = tuple[str, int]


def echo(listener: socket.socket, name: str, stop: threading.Event | None = None) -> threading.Thread:
    """Answer each connection with a name, in a thread, until the listener is closed."""

    def serve() -> None:
        while stop is None or not stop.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                connection.recv(100)
                connection.sendall(name.encode())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


def ask(address: Address, timeout: float = 10) -> str:
    """Connect, send a request, and return the answer."""
    with socket.create_connection(address, timeout=timeout) as client:
        client.sendall(b"request")
        return client.recv(100).decode()


# --- L1, L2, L3: what others do, and ours -----------------------------------------------------------------------------


def restart_by_closing(address: Address) -> Iterator[None]:
    """Close, then listen again."""
    old = socket.create_server(address)
    yield
    old.close()
    yield
    new = socket.create_server(address)
    echo(new, "new")
    yield
    new.close()


def restart_ours(address: Address) -> Iterator[None]:
    """The gate stays; only the accepting is replaced."""
    listener = listen(f"tcp://{address[0]}:{address[1]}")
    yield
    listener.gate.pause()
    yield
    echo(listener, "new")
    listener.activate()
    yield
    listener.close()


@pytest.mark.rule("L1", ours=restart_ours, wrong=restart_by_closing, raises=ConnectionRefusedError)
def test_connections_during_a_restart_wait(subject: Callable[[Address], Iterator[None]]) -> None:
    """A client that comes while nobody accepts is connected, and answered afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address: Address = free.getsockname()
    steps = subject(address)
    next(steps)
    next(steps)
    with socket.create_connection(address, timeout=5) as client:
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
        clients = [stack.enter_context(socket.create_connection(old.getsockname(), timeout=3)) for _ in range(8)]
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
    for connection, _ in listener.drain(5):
        with connection:
            connection.recv(100)
            connection.sendall(b"late")
    listener.close()


@pytest.mark.rule("L3", ours=stop_by_draining, wrong=stop_by_closing, raises=ConnectionError)
def test_what_waits_is_answered_before_the_end(subject: Callable[[GatedListener], None]) -> None:
    """A listener that ends without a successor answers those who were connected already."""
    listener = listen("tcp://127.0.0.1:0")
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(listener.getsockname(), timeout=5)) for _ in range(5)]
        for client in clients:
            client.sendall(b"request")
        subject(listener)
        assert [client.recv(100) for client in clients] == [b"late"] * 5


# --- the protocol -----------------------------------------------------------------------------------------------------


@pytest.fixture
def old(tmp_path: Path) -> Iterator[tuple[Generations, GatedListener, GatedListener]]:
    """A first generation that serves on TCP and on a unix socket."""
    web, local = listen("tcp://127.0.0.1:0"), listen(f"unix:{tmp_path}/app.sock")
    with web, local, Generations(f"{tmp_path}/control", {"web": web, "local": local}, ready_seconds=1) as generations:
        for listener in (web, local):
            listener.activate()
            echo(listener, "1")
        yield generations, web, local


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
        assert previous.retired.wait(5)
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
            self.taken.ready(timeout_seconds=10)


@pytest.mark.rule("L11", ours=Asked, wrong=NoQuestions)
@pytest.mark.rule("L+4")
def test_alive_is_not_ready(
    old: tuple[Generations, GatedListener, GatedListener], monkeypatch: pytest.MonkeyPatch, subject: type[NoQuestions]
) -> None:
    """A successor that says ready and does not accept is not believed: the old generation goes on serving."""
    monkeypatch.setattr("kernelproof.impl.listenbuffer.handover.PROBE_SECONDS", 0.3)
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
        generations.hand_over(arguments, timeout_seconds=2)
    return 0


@pytest.mark.rule("L7", ours=hand_over_ours, wrong=trust_the_child, raises=TimeoutError)
def test_a_child_that_dies_changes_nothing(
    old: tuple[Generations, GatedListener, GatedListener], subject: Callable[[Generations, list[str]], int]
) -> None:
    """After a successor died during its start, the old generation answers."""
    generations, web, _ = old
    subject(generations, [sys.executable, "-c", "raise SystemExit(3)"])
    assert ask(web.getsockname(), timeout=3) == "1"


@pytest.mark.rule("L7")
def test_failures_leave_the_old_generation(old: tuple[Generations, GatedListener, GatedListener]) -> None:
    """A child that ends, one that is late, one that takes and dies, and one that takes and is late change nothing."""
    generations, web, _ = old
    address = web.getsockname()
    takes = "from kernelproof.impl.listenbuffer.handover import take_over; import os, threading; t = take_over(); "
    for program, expected, timeout in (
        ("raise SystemExit(3)", "ended with 3", 5.0),
        ("import threading; threading.Event().wait()", "was not ready in time", 0.3),
        (takes + "os.kill(os.getpid(), 9)", "ended with -9", 5.0),
        (takes + "threading.Event().wait()", "was not ready in time", 1.5),
    ):
        with pytest.raises(HandOverFailed, match=expected):
            generations.hand_over([sys.executable, "-c", program], timeout_seconds=timeout)
        assert ask(address) == "1"
        assert not generations.retired.is_set()


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
    deadline = time.monotonic() + 5
    while True:
        try:
            second = take_over(generations.control)
            break
        except HandOverRefused:
            assert time.monotonic() < deadline
    serve_taken(second, "2")
    with second.ready() as following:
        assert generations.retired.wait(5)
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
            answer = messages.receive(stranger, 5)
            assert answer is not None
            assert answer.kind == "refused"
    assert ask(web.getsockname()) == "1"
    with pytest.raises(FileNotFoundError):
        take_over(f"{generations.control}.none")
    with pytest.raises(LookupError):
        take_over()


def test_draining(old: tuple[Generations, GatedListener, GatedListener]) -> None:
    """drain waits for what is unfinished, up to its time."""
    generations, _, _ = old
    finish = threading.Event()

    def work() -> None:
        with generations.serving():
            finish.wait(10)

    thread = threading.Thread(target=work)
    with generations.serving():
        thread.start()
    assert not generations.drain(0.05)
    finish.set()
    assert generations.drain(5)
    thread.join()


# --- real processes ---------------------------------------------------------------------------------------------------

GENERATION = """
import os, socket, sys, threading
from kernelproof.impl.listenbuffer import listen
from kernelproof.impl.listenbuffer.handover import Generations, take_over

control, address, *watched = sys.argv[1:]

def serve(listener, name, generations):
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with generations[0].serving() if generations else connection, connection:
            data = connection.recv(100)
            if data:
                connection.sendall(name)

retired = threading.Event()
box = []
try:
    taken = take_over(control)
    listeners, name = taken.listeners, str(taken.generation).encode()
except (FileNotFoundError, ConnectionRefusedError):
    taken, listeners, name = None, {"web": listen(address)}, b"1"
threads = [threading.Thread(target=serve, args=(listeners["web"], name, box)) for _ in range(2)]
for thread in threads:
    thread.start()
if taken is None:
    listeners["web"].activate()
    box.append(Generations(control, listeners, on_retire=retired.set))
else:
    box.append(taken.ready(on_retire=retired.set))
print(listeners["web"].getsockname()[1], flush=True)
if watched:
    threading.Thread(target=lambda: (sys.stdin.read(), retired.set()), daemon=True).start()
retired.wait()
listeners["web"].close()
for thread in threads:
    thread.join()
box[0].close()
assert box[0].drain(10)
if taken is not None:
    assert taken.wait_until_predecessor_ended(10)
"""


class Load:
    """Clients that connect, ask and count, in threads, until stopped."""

    def __init__(self, address: Address, threads: int) -> None:
        self.address = address
        self.answers: dict[str, int] = {}
        self.errors: list[str] = []
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run) for _ in range(threads)]
        for thread in self.threads:
            thread.start()

    def run(self) -> None:
        """One client after the other."""
        while not self.stop.is_set():
            try:
                answer = ask(self.address)
            except OSError as error:
                with self.lock:
                    self.errors.append(repr(error))
                continue
            with self.lock:
                self.answers[answer] = self.answers.get(answer, 0) + 1

    def end(self) -> None:
        """Stop the clients."""
        self.stop.set()
        for thread in self.threads:
            thread.join()


@pytest.mark.rule("L1")
@pytest.mark.rule("L3")
@pytest.mark.rule("L8")
@pytest.mark.long
def test_no_connection_is_lost_in_restarts_under_load(tmp_path: Path, full_number: Callable[[int], int]) -> None:
    """While clients ask without pause, generations follow each other, and every request is answered by one of them."""
    restarts = max(2, full_number(20))
    program, control = [sys.executable, "-c", GENERATION], str(tmp_path / "control")

    def start() -> tuple[subprocess.Popen[str], int]:
        process = subprocess.Popen(
            [*program, control, "tcp://127.0.0.1:0", "watched"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        return process, int(process.stdout.readline())

    present, port = start()
    load = Load(("127.0.0.1", port), 4)
    try:
        for _ in range(restarts):
            following, same = start()
            assert same == port
            assert present.wait(30) == 0
            for pipe in (present.stdin, present.stdout):
                assert pipe is not None
                pipe.close()
            present = following
        while sum(load.answers.values()) < full_number(10_000) and not load.errors:
            time.thread_time()
    finally:
        load.end()
        present.communicate()
    assert load.errors == []
    assert "" not in load.answers
    assert len(load.answers) >= restarts
    assert not (tmp_path / "control").exists()


def end_by_parent_number(tmp_path: Path) -> bool:
    """Ask for the parent's number: a generation that is no child of the old one never learns of its end."""
    return os.getppid() == 1


def end_by_descriptor(tmp_path: Path) -> bool:
    """Ours: the predecessor's end is the end of a descriptor."""
    program = [sys.executable, "-c", GENERATION, str(tmp_path / "control"), "tcp://127.0.0.1:0"]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as old:
        assert old.stdout is not None
        old.stdout.readline()
        taken = take_over(str(tmp_path / "control"))
        assert not taken.wait_until_predecessor_ended(0.05)
        old.kill()
        old.wait()
        gone = taken.wait_until_predecessor_ended(5)
        taken.abandon()
    return gone


@pytest.mark.rule("L8", ours=end_by_descriptor, wrong=end_by_parent_number)
def test_the_predecessors_end_is_seen(tmp_path: Path, subject: Callable[[Path], bool]) -> None:
    """A generation that is no child of the old one learns that the old process is gone."""
    assert subject(tmp_path)


@pytest.mark.rule("L10")
@pytest.mark.rule("L+2")
def test_hand_over_starts_the_next_generation(tmp_path: Path) -> None:
    """hand_over starts a program, returns when it serves, and clients are answered by it."""
    with listen("tcp://127.0.0.1:0") as web, Generations(str(tmp_path / "control"), {"web": web}) as generations:
        web.activate()
        echo(web, "1")
        address = web.getsockname()
        pid = generations.hand_over([sys.executable, "-c", GENERATION, str(tmp_path / "control"), ""])
        web.close()
        assert {ask(address) for _ in range(5)} == {"2"}
        with closing(listen("tcp://127.0.0.1:0")):
            os.kill(pid, 15)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -15
