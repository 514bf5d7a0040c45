"""Queues, packet mode, exclusive mode, speeds and sessions: what is refused, and what is put back."""

from __future__ import annotations

import errno
import os
import select
import signal
import termios
from collections.abc import Callable, Iterator

import pytest

from kernelproof.impl.term import (
    PacketEvent,
    PseudoterminalPair,
    drain,
    flow,
    flush,
    input_waiting,
    leave_controlling_terminal,
    output_waiting,
    parse_packet,
    push_input,
    read_packet,
    restore,
    save,
    send_break,
    set_packet_mode,
)
from kernelproof.impl.term.calls import sigttou_blocked
from kernelproof.impl.term.linux import is_exclusive, read_session, read_speeds, set_exclusive, set_speeds


@pytest.fixture
def pair() -> Iterator[PseudoterminalPair]:
    """A pair."""
    with PseudoterminalPair.open() as opened:
        yield opened


CALLS: dict[str, Callable[[int], object]] = {
    "flush": flush,
    "drain": drain,
    "flow": lambda fd: flow(fd, termios.TCOON),
    "send_break": send_break,
    "input_waiting": input_waiting,
    "output_waiting": output_waiting,
    "push_input": lambda fd: push_input(fd, 10),
    "set_packet_mode": lambda fd: set_packet_mode(fd, True),
    "leave_controlling_terminal": leave_controlling_terminal,
    "read_session": read_session,
    "read_speeds": read_speeds,
    "set_speeds": lambda fd: set_speeds(fd, 9600, 9600),
    "is_exclusive": is_exclusive,
    "set_exclusive": lambda fd: set_exclusive(fd, True),
}


@pytest.mark.parametrize("name", CALLS)
def test_no_terminal_is_named(name: str) -> None:
    """On what is no terminal each call gives ENOTTY with the call in a note, on a closed descriptor EBADF."""
    null = os.open("/dev/null", os.O_RDWR)
    with pytest.raises(OSError, match="Inappropriate ioctl") as refused:
        CALLS[name](null)
    assert refused.value.errno == errno.ENOTTY
    assert any(f"on descriptor {null}" in note for note in refused.value.__notes__)
    os.close(null)
    with pytest.raises(OSError, match="Bad file descriptor") as refused:
        CALLS[name](null)
    assert refused.value.errno == errno.EBADF


def test_queues_count_and_empty(pair: PseudoterminalPair) -> None:
    """What was typed is counted once its line is finished, and thrown away by flush."""
    peer = pair.peer()
    os.write(pair.master, b"abc\n")
    assert select.select([peer], [], [], 60)[0]
    assert [input_waiting(peer), output_waiting(peer)] == [4, 0]
    flush(peer)
    assert input_waiting(peer) == 0
    drain(peer)
    send_break(peer)
    os.close(peer)


def test_packets(pair: PseudoterminalPair) -> None:
    """A packet is what happened or output; the end of a master in packet mode is an end of file."""
    peer = pair.peer()
    set_packet_mode(pair.master, True)
    flush(peer)
    assert read_packet(pair.master) == (PacketEvent.FLUSH_READ, b"")
    os.write(peer, b"text")
    assert read_packet(pair.master) == (PacketEvent(0), b"text")
    with pytest.raises(EOFError):
        parse_packet(b"")
    assert parse_packet(b"\x14").events == PacketEvent.STOP | PacketEvent.NO_STOP
    os.close(peer)


@pytest.mark.parametrize("byte", [-1, 256])
def test_no_byte_is_pushed(pair: PseudoterminalPair, byte: int) -> None:
    """Only a byte can be pushed into the input."""
    with pytest.raises(ValueError, match="range"):
        push_input(pair.master, byte)


def test_speeds_of_any_number(pair: PseudoterminalPair) -> None:
    """Speeds are set and read as numbers, also by a process that is refused nothing else; 33 bits are an error."""
    set_speeds(pair.master, 1200, 31250)
    assert read_speeds(pair.master) == (1200, 31250)
    for wrong in (-1, 2**32):
        with pytest.raises(ValueError, match="32 bits"):
            set_speeds(pair.master, 9600, wrong)
    assert read_speeds(pair.master) == (1200, 31250)


def test_exclusive_mode(pair: PseudoterminalPair) -> None:
    """Exclusive mode is set, seen and ended."""
    peer = pair.peer()
    set_exclusive(peer, True)
    assert is_exclusive(peer)
    set_exclusive(peer, False)
    assert not is_exclusive(peer)
    os.close(peer)


def test_flags_by_name(pair: PseudoterminalPair) -> None:
    """A state is changed by the names that diff prints; unknown names, missing signs and no characters are errors."""
    state = save(pair.master)
    wanted = state.changed("-ECHO", "+ECHONL", "+TAB3", VINTR=7)
    assert state.diff(wanted) == "oflag +TAB3; lflag -ECHO +ECHONL; VINTR 3->7"
    assert restore(pair.master, wanted) == wanted
    assert wanted.changed("+ECHO", "-ECHONL", "+TAB0", VINTR=3) == state
    for flag, error in (("ECHO", ValueError), ("+NOSUCH", LookupError), ("-CS8", ValueError)):
        with pytest.raises(error):
            state.changed(flag)
    with pytest.raises(LookupError):
        state.changed(VNOSUCH=1)
    with pytest.raises(ValueError, match="0 to 255"):
        state.changed(VINTR=256)


def test_signal_is_blocked_in_this_thread_for_the_call_only() -> None:
    """SIGTTOU is blocked for the block, and stays blocked where it was before."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, set())
    with sigttou_blocked():
        assert signal.SIGTTOU in signal.pthread_sigmask(signal.SIG_BLOCK, set())
    assert signal.pthread_sigmask(signal.SIG_BLOCK, set()) == before
