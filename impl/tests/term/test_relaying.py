"""What a copy costs, a relay alone, last words, records."""

from __future__ import annotations

import io
import os
import select
import signal
import threading
from collections.abc import Callable

import pytest

from kernelproof.impl.term import (
    DETACHED,
    EXITED,
    TIMED_OUT,
    DetachMatcher,
    Ended,
    Header,
    PseudoterminalPair,
    Recorder,
    Recording,
    Relay,
    WindowSize,
    copy_terminal,
    read_window_size,
    save,
    set_window_size,
)
from kernelproof.impl.term.copying import Follower
from kernelproof.impl.term.relay import _Flow
from kernelproof.impl.tests.term.programs import SIZE, Program
from kernelproof.impl.tests.term.sides import Local

# Cost.


def test_key_passes_with_one_wake_up_and_waiting_costs_nothing(run_script: Callable[[str], Program]) -> None:
    """A key costs one wait that ends; without keys no wait does."""
    program = run_script(
        "import os, select\n"
        "from kernelproof.impl.term import PseudoterminalPair, copy_terminal, raw\n"
        "from kernelproof.impl.term import copying\n"
        "waits = []\n"
        "class Waiter(copying._Waiter):\n"
        "    def wait(self, wanted, due):\n"
        "        os.write(1, b'.')\n"
        "        ready = super().wait(wanted, due); waits.append(len(ready)); return ready\n"
        "copying._Waiter = Waiter\n"
        "pair = PseudoterminalPair.open()\n"
        "peer = pair.peer()\n"
        "with raw(0), raw(peer):\n"
        "    print('ready', flush=True)\n"
        "    copy_terminal(pair.master, 0, 1, detach_keys=b'q')\n"
        "print('waits', waits, os.read(peer, 10), flush=True)\n"
    )
    program.read_until(b"ready")
    for key in (b"a", b"b", b"c", b"q"):
        program.read_until(b".")  # it is about to wait
        threading.Event().wait(0.1)
        os.write(program.pair.master, key)
    assert b"waits [1, 1, 1, 1] b'abc'" in program.read_until(b"\n").replace(b"\r", b"") + program.read_to_end()


def test_relay_alone(pair: PseudoterminalPair, local: Local) -> None:
    """The relay waits for nothing by itself: it says what it is interested in, and what ended it."""
    for fd in (pair.master, local.stdin, local.stdout):
        os.set_blocking(fd, False)
    relay = Relay(pair.master, local.stdin, local.stdout)
    assert relay.interests() == {local.stdin: select.POLLIN, pair.master: select.POLLIN}
    assert relay.ended is None
    relay.handle(local.stdin, select.POLLIN, 0)
    relay.handle(pair.master, select.POLLIN, 0)
    relay.tick(0)
    assert (relay.ended, relay.deadline()) == (None, None)
    relay.stop()
    relay.stop("later")
    assert relay.ended == Ended(TIMED_OUT, 0, 0)


def test_relay_is_done_with_input_after_the_keys(pair: PseudoterminalPair, local: Local) -> None:
    """After the detach keys nothing more is read from the input, and what was typed behind them is told."""
    relay = Relay(pair.master, local.stdin, local.stdout, matcher=DetachMatcher(b"\x10\x11"))
    os.write(local.typing, b"ab\x10\x11rest\n")
    assert select.select([local.stdin], [], [], 30)[0]
    relay.handle(local.stdin, select.POLLIN, 0)
    assert relay.ended is not None
    assert (relay.ended.reason, relay.ended.rest[:4]) == (DETACHED, b"rest")
    assert local.stdin not in relay.interests()


@pytest.mark.rule("T7")
def test_last_words_of_a_process_are_waited_for(pair: PseudoterminalPair, local: Local) -> None:
    """When the process has ended and its output still waits, the copy ends after the output."""
    peer = pair.peer()
    os.write(peer, b"last")
    assert select.select([pair.master], [], [], 30)[0]
    relay = Relay(pair.master, local.stdin, local.stdout, pidfd=local.screen)
    ends = []
    for fd in (local.screen, pair.master):
        relay.handle(fd, select.POLLIN, 0)
        ends.append(relay.ended)
    assert ends == [None, Ended(EXITED, 0, 4)]
    os.close(peer)


def test_copy_is_recorded(local: Local) -> None:
    """A recorder hears what the program wrote."""
    file = io.StringIO()
    with (
        PseudoterminalPair.open(SIZE) as pair,
        pair.spawn(["printf", "caf\\303\\251"]) as process,
        Recorder(file, Header(SIZE)) as recorder,
    ):
        copy_terminal(pair.master, local.stdin, local.stdout, on_output=recorder.output)
        process.wait(30)
    recording = Recording(file.getvalue().splitlines())
    assert recording.header.size == SIZE
    assert "".join(event.data for event in recording) == "café"


def test_program_in_raw_mode_through_everything(run_script: Callable[[str], Program]) -> None:
    """A whole chain, terminal to program to pair to program, passes keys and answers, and puts the terminal back."""
    program = run_script(
        "from kernelproof.impl.term import PseudoterminalPair, copy_terminal, raw, read_window_size\n"
        "size = read_window_size(0)\n"
        "with PseudoterminalPair.open(size) as pair, pair.spawn(['sh']) as process, raw(0, guard=True):\n"
        "    print('ready', flush=True)\n"
        "    ended = copy_terminal(pair.master, resize=True, pidfd=process.pidfd)\n"
        "print(ended.reason, process.wait(), flush=True)\n"
    )
    program.read_until(b"ready")
    os.write(program.pair.master, b"stty size; exit 5\n")
    out = program.read_to_end()
    assert b"24 80" in out
    assert out.split()[-2:] in ([b"exited", b"5"], [b"up", b"5"])
    assert save(program.pair.master) == program.before


# Signals.


def test_size_is_given_at_once(peer: int) -> None:
    """Whoever is followed has the terminal's size before any signal comes."""
    set_window_size(peer, WindowSize(11, 77))
    with PseudoterminalPair.open(WindowSize(5, 5)) as other, Follower(peer, other.master):
        assert read_window_size(other.master) == WindowSize(11, 77)


def test_new_size_is_told_beside_an_event_loop(peer: int) -> None:
    """Where Python tells somebody else of signals, a new size is told all the same, by the handler."""
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    before = signal.set_wakeup_fd(theirs)
    try:
        with PseudoterminalPair.open() as other, Follower(peer, other.master) as follower:
            signal.raise_signal(signal.SIGWINCH)
            assert select.select([follower.fd], [], [], 0)[0]
        assert signal.set_wakeup_fd(before) == theirs
    finally:
        signal.set_wakeup_fd(before)
        os.close(ours)
        os.close(theirs)


def test_what_is_written_after_the_sink_is_gone_goes_nowhere() -> None:
    """A sink that is gone is not written to again: its number may be another file's by then."""
    reading, writing = os.pipe()
    flow = _Flow(0, writing)
    os.close(reading)
    assert not flow.write(b"lost")
    os.close(writing)
    reading, again = os.pipe()
    os.dup2(again, writing)
    try:
        assert not flow.write(b"to nobody")
        assert not select.select([reading], [], [], 0)[0]
    finally:
        for fd in {reading, again, writing}:
            os.close(fd)


def test_new_size_is_there_before_a_handler_could_run(peer: int) -> None:
    """While the main thread runs no instruction of Python, a signal of a new size ends a wait for it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGWINCH})
    readable: list[bool] = []

    def send() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGWINCH})
        select.select([], [], [], 0.2)  # the main thread waits for us by then
        os.kill(os.getpid(), signal.SIGWINCH)
        readable.append(bool(select.select([follower.fd], [], [], 60)[0]))

    try:
        with PseudoterminalPair.open() as other, Follower(peer, other.master) as follower:
            thread = threading.Thread(target=send)
            thread.start()
            thread.join()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert readable == [True]
    assert signal.set_wakeup_fd(-1) == -1
