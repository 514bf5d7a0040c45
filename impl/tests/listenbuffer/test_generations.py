"""Hand-over between real processes: nobody is refused or lost."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from kernelproof.impl.listenbuffer import listen, messages
from kernelproof.impl.listenbuffer.generations import CONTROL
from kernelproof.impl.listenbuffer.handover import Generations, Taken, take_over
from kernelproof.impl.listenbuffer.inherit import look_at
from kernelproof.impl.tests.listenbuffer.generations import Address, ask, echo

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
assert box[0].drain(60)
if taken is not None:
    assert taken.wait_until_predecessor_ended(60)
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
            assert present.wait(120) == 0
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
        gone = taken.wait_until_predecessor_ended(60)
        taken.abandon()
    return gone


@pytest.mark.rule("L8", ours=end_by_descriptor, wrong=end_by_parent_number)
def test_the_predecessors_end_is_seen(tmp_path: Path, subject: Callable[[Path], bool]) -> None:
    """A generation that is no child of the old one learns that the old process is gone."""
    assert subject(tmp_path)


@pytest.mark.rule("L7")
def test_a_predecessor_that_dies_meanwhile(tmp_path: Path) -> None:
    """A generation whose predecessor was killed while it started up is the only one: it serves, and is taken over."""
    control = str(tmp_path / "control")
    program = [sys.executable, "-c", GENERATION, control, "tcp://127.0.0.1:0"]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as old:
        assert old.stdout is not None
        port = int(old.stdout.readline())
        taken = take_over(control)
        old.kill()
        old.wait()
    web = taken.listeners["web"]
    with socket.create_connection(("127.0.0.1", port), timeout=60) as waits, taken.ready() as following:
        echo(web, "2")
        waits.sendall(b"request")
        assert waits.recv(10) == b"2"
        third = take_over(control)
        echo(third.listeners["web"], "3")
        with third.ready():
            assert following.retired.wait(60)
            web.close()
            assert ask(("127.0.0.1", port)) == "3"
            third.listeners["web"].close()
    assert os.listdir(tmp_path) == []


@pytest.mark.rule("L+4")
def test_a_predecessor_that_dies_while_it_asks(tmp_path: Path) -> None:
    """Who has the address of a probe that never came, as the predecessor died before, is a client like others."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    alive, end = socket.socketpair()
    web = listen("tcp://127.0.0.1:0")

    def ask_and_die() -> None:
        with ours, alive:
            messages.expect(ours, ["ready"], 60)
            messages.send(ours, "probe", name="web", origin=list(client.getsockname()), word="word")
            messages.expect(ours, ["expecting"], 60)

    with closing(listen(f"unixpacket:{tmp_path}/control")) as control, socket.socket() as client:
        client.bind(("127.0.0.1", 0))
        found = {
            name: look_at(os.dup(one.real_fileno()), name, "hand-over")
            for name, one in (("web", web), (CONTROL, control))
        }
        addresses = {"web": web.address, CONTROL: control.address}
        taken = Taken(control.address.path, theirs, found, addresses, {}, {}, end, 2)
        threading.Thread(target=ask_and_die).start()
        echo(taken.listeners["web"], "2")
        with taken.ready():
            client.connect(web.getsockname())
            client.sendall(b"request")
            assert client.recv(10) == b"2"
        taken.listeners["web"].close()
    web.close()


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
