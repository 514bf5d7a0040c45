"""Programs and their streams, both ends, without a machine."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from kernelproof.vm.attending import Attending, Program
from kernelproof.vm.channel import Channel
from kernelproof.vm.errors import ChannelError, GuestError
from kernelproof.vm.guest.frames import BYTES, encode_frame, encode_message
from kernelproof.vm.guest.streams import STDERR, STDIN, STDOUT, WINDOW
from kernelproof.vm.machine import Machine
from kernelproof.vm.tests.machine_side.local_machine import SECONDS, LocalMachine, open_machine


@pytest.fixture
def local() -> Iterator[LocalMachine]:
    with open_machine() as machine:
        yield machine


@pytest.fixture
def machine(local: LocalMachine) -> Machine:
    return cast("Machine", local)


class Heard:
    """A program with what it wrote."""

    def __init__(self, *argv: str, given: bytes = b"", terminal: tuple[int, int] | None = None) -> None:
        self.out, self.err = bytearray(), bytearray()
        self.attending = Attending(Program([argv], {"GIVEN": "ä"}, "/", terminal))
        self.attending.streams.write_to(STDOUT, None, on_data=self.out.extend)
        self.attending.streams.write_to(STDERR, None, on_data=self.err.extend)
        self._given = os.memfd_create("given", os.MFD_CLOEXEC)
        os.write(self._given, given)
        os.lseek(self._given, 0, os.SEEK_SET)
        if terminal is None:
            self.attending.streams.read_from(STDIN, self._given)

    def run(self, machine: Machine, timeout: float | None = None) -> int:
        try:
            returncode = self.attending.run(machine, SECONDS if timeout is None else timeout)
        finally:
            os.close(self._given)
        # What had ended already when its time was up keeps its own status.
        assert self.attending.timed_out is (timeout is not None)
        return returncode


def test_streams_are_kept_apart(machine: Machine) -> None:
    """Input reaches the program, its two outputs come back apart, and its status with them."""
    heard = Heard("sh", "-c", "cat; echo $GIVEN >&2; pwd >&2; exit 7", given=b"given\0\xff")
    assert heard.run(machine) == 7
    assert (bytes(heard.out), bytes(heard.err)) == (b"given\0\xff", "ä\n/\n".encode())


def test_killed_program(machine: Machine) -> None:
    """A program that a signal ends has minus its number."""
    assert Heard("sh", "-c", "kill -TERM $$").run(machine) == -signal.SIGTERM


def test_one_program_after_another(machine: Machine) -> None:
    """When one conversation is over the next begins, whatever was under way."""
    for _ in range(3):
        assert Heard("true", given=bytes(300_000)).run(machine) == 0
    heard = Heard("echo", "on")
    assert heard.run(machine) == 0
    assert heard.out == b"on\n"


def test_much_in_both_directions(machine: Machine) -> None:
    """Many windows of data go through unharmed, in both directions at once."""
    given = os.urandom(WINDOW * 5 + 17)
    heard = Heard("cat", given=given)
    assert heard.run(machine) == 0
    assert heard.out == given


@pytest.mark.parametrize(
    ("words", "kind"), [(("kernelproof-absent",), "FileNotFoundError"), (("/etc/passwd",), "PermissionError")]
)
def test_program_that_can_not_start(machine: Machine, words: tuple[str, ...], kind: str) -> None:
    """What can't be started is the guest's error; the agent goes on, also if input was under way."""
    with pytest.raises(GuestError) as caught:
        Heard(*words, given=bytes(200_000)).run(machine)
    assert caught.value.type == kind
    assert Heard("true").run(machine) == 0


def test_first_program_that_is_there(machine: Machine) -> None:
    """Of several programs the first one that is there is started."""
    attending = Attending(Program([("kernelproof-absent",), ("sh", "-c", "exit 4"), ("false",)]))
    assert attending.run(machine, 60) == 4


def test_what_is_left_behind_is_not_waited_for(machine: Machine) -> None:
    """A program's end is not put off by what it left running with its streams, and loses nothing that it wrote."""
    heard = Heard("sh", "-c", "sleep 1000 & head -c 60000 /dev/zero; echo $!")
    assert heard.run(machine) == 0  # and not killed when its time is up
    pid = int(heard.out[60000:])
    os.kill(pid, signal.SIGKILL)
    assert heard.out[:60000] == bytes(60000)


def test_endless_output_left_behind(machine: Machine) -> None:
    """What others go on writing after the program's end is not read for ever."""
    heard = Heard("sh", "-c", "yes & echo $! >&2; exit 3")
    assert heard.run(machine) == 3
    os.kill(int(heard.err), signal.SIGKILL)


def test_reader_that_goes_away(machine: Machine) -> None:
    """When nobody reads the output, the program gets SIGPIPE."""
    reading, writing = os.pipe()
    heard = Heard("yes")
    heard.attending.streams.write_to(STDOUT, writing)
    os.close(reading)
    assert heard.run(machine) == -signal.SIGPIPE
    os.close(writing)


def test_signals_reach_the_program(machine: Machine) -> None:
    """A signal goes to the program's process group."""
    heard = Heard("sh", "-c", "trap 'exit 9' INT; echo ready; sleep 60 & wait")

    def on_data(data: bytes) -> None:
        heard.attending.kill(signal.SIGINT)

    heard.attending.streams.write_to(STDOUT, None, on_data=on_data)
    assert heard.run(machine) == 9


def test_time_is_up(machine: Machine) -> None:
    """A program that takes too long is killed, and that is told."""
    heard = Heard("sleep", "60")
    assert heard.run(machine, 0.2) == -signal.SIGKILL


def test_terminal(machine: Machine) -> None:
    """A program on a terminal sees its size, and its changes by a signal."""
    script = """
import os, select, signal
reading, writing = os.pipe2(os.O_NONBLOCK)
signal.set_wakeup_fd(writing)
def tell(*_):
    size = os.get_terminal_size()
    print(size.lines, size.columns, flush=True)
    if size.lines == 40:
        os._exit(6)
signal.signal(signal.SIGWINCH, tell)
tell()
while True:
    select.select([reading], [], [])  # a signal that comes right before is in it
    os.read(reading, 100)
"""
    heard = Heard(sys.executable, "-c", script, terminal=(31, 97))

    def on_data(data: bytes) -> None:
        heard.out.extend(data)
        if heard.out.endswith(b"31 97\r\n"):
            heard.attending.resize(40, 132)

    heard.attending.streams.write_to(STDOUT, None, on_data=on_data)
    assert heard.run(machine) == 6
    assert b"40 132" in heard.out


@pytest.mark.parametrize("terminal", [None, (24, 80)], ids=["streams", "terminal"])
def test_signals_that_python_ignores(machine: Machine, terminal: tuple[int, int] | None) -> None:
    """What the agent's Python ignores, its programs don't."""
    heard = Heard("grep", "SigIgn", "/proc/self/status", terminal=terminal)
    assert heard.run(machine) == 0
    ignored = int(heard.out.split()[1], 16)
    assert not ignored & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1)


def test_interrupt_key(machine: Machine) -> None:
    """Ctrl-C at the program's terminal is SIGINT to what is in the foreground."""
    reading, writing = os.pipe()
    heard = Heard("sh", "-c", "echo ready; exec sleep 60", terminal=(24, 80))
    heard.attending.streams.read_from(STDIN, reading)
    heard.attending.streams.write_to(STDOUT, None, on_data=lambda data: os.write(writing, b"\x03"))
    assert heard.run(machine) == -signal.SIGINT
    os.close(reading)
    os.close(writing)


def test_leaving_kills_the_program(machine: Machine) -> None:
    """A conversation that is left takes its program with it."""
    heard = Heard("sh", "-c", "echo $$; exec sleep 60")
    heard.attending.streams.write_to(STDOUT, None, on_data=lambda data: heard.attending.leave())
    assert heard.run(machine) == -signal.SIGKILL


def test_output_goes_to_descriptors(machine: Machine, tmp_path: Path) -> None:
    """All of a program's output is in the file that it was to go to when the conversation is over."""
    with (tmp_path / "out").open("wb") as out:
        heard = Heard("head", "-c", "1000000", "/dev/zero")
        heard.attending.streams.write_to(STDOUT, out.fileno())
        assert heard.run(machine) == 0
    assert (tmp_path / "out").read_bytes() == bytes(1_000_000)


def test_credit_that_comes_with_the_end(local: LocalMachine) -> None:
    """A program's last bytes are sent where the credit for them comes in the moment of its end, and nothing after."""
    rest = 40_000  # less than a pipe holds: the program writes them and ends without anyone reading
    program = f"echo $$ >&2; head -c {WINDOW + rest} /dev/zero; echo written >&2; exec sleep 60"
    streams = {STDOUT: bytearray(), STDERR: bytearray()}

    def hear(stream: int, is_enough: Callable[[bytearray], bool]) -> None:
        while not is_enough(streams[stream]):
            kind, payload = local.channel.receive(time.monotonic() + SECONDS)
            assert kind == BYTES, "no more of the streams comes"
            streams[int.from_bytes(payload[:4], "big")] += payload[4:]

    with local.attending(Attending(Program([("sh", "-c", program)])).message()) as channel:
        hear(STDOUT, lambda heard: len(heard) == WINDOW)
        hear(STDERR, lambda heard: heard.endswith(b"written\n"))
        pid = int(streams[STDERR].split()[0])
        os.kill(local.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, local.pid, os.WSTOPPED | os.WNOWAIT)
        pidfd = os.pidfd_open(pid)
        os.kill(pid, signal.SIGKILL)
        select.select([pidfd], [], [])
        os.close(pidfd)
        channel.send(encode_message({"kind": "credit", "stream": STDOUT, "bytes": rest}), time.monotonic() + SECONDS)
        os.kill(local.pid, signal.SIGCONT)
        hear(STDOUT, lambda heard: len(heard) == WINDOW + rest)
    assert streams[STDOUT] == bytes(WINDOW + rest)


# --- a guest that lies


def converse(*frames: bytes) -> Attending:
    """A conversation with a guest that says only this."""
    ours, theirs = socket.socketpair()
    control, other = socket.socketpair()
    pidfd = os.pidfd_open(os.getpid())
    with theirs, other:
        channel = Channel(ours, control, pidfd)
        attending = Attending(Program([("x",)]))
        attending.streams.write_to(STDOUT, None)
        try:
            theirs.setblocking(False)
            theirs.sendall(b"".join(frames))
            attending.relay(channel, time.monotonic() + 60)
        finally:
            channel.close()
            os.close(pidfd)
    return attending


@pytest.mark.parametrize(
    ("frame", "seen"),
    [
        (encode_frame(BYTES, b"x"), "too few"),
        (encode_message({"kind": "credit", "stream": 1, "bytes": -1}), "credit"),
        (encode_message({"kind": "credit", "stream": 1}), "'bytes' is missing"),
        (encode_message({"kind": "connect", "stream": 1, "target": ["tcp", "127.0.0.1", 22]}), "kind 'connect' came"),
        (encode_message({"kind": "attended", "returncode": "0"}), "no int"),
        (encode_message({"kind": "exec-result"}), "came, due was"),
    ],
    ids=["short", "credit", "credit-of-nothing", "connect", "status", "other"],
)
def test_lie(frame: bytes, seen: str) -> None:
    """What the protocol does not allow ends the conversation at once; a guest can open no connection here."""
    with pytest.raises(ChannelError, match=seen):
        converse(frame)


def test_streams_that_nobody_opened() -> None:
    """Data on a stream that the host did not open goes nowhere, and what comes after it is heard."""
    frames = [encode_frame(BYTES, number.to_bytes(4) + b"data") for number in (0, 2, 16, 4_000_000_000)]
    attending = converse(*frames, encode_message({"kind": "attended", "returncode": 7}))
    assert attending._answer == {"kind": "attended", "returncode": 7}
