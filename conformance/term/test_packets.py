"""Packet mode: the master reads what the program did to its terminal."""

from __future__ import annotations

import os
import select
import termios
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.impl.term import (
    RESUME_OUTPUT,
    SUSPEND_OUTPUT,
    PacketEvent,
    flow,
    flush,
    restore,
    save,
    set_packet_mode,
)
from kernelproof.impl.term.calls import control

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelproof.conformance.seen import Seen
    from kernelproof.conformance.term.conftest import Pair, ReadNow


@pytest.fixture
def event(pair: Pair) -> Callable[[], bytes]:
    """Return what the master reads while poll reports POLLPRI."""

    def read() -> bytes:
        poll = select.poll()
        poll.register(pair.master, select.POLLPRI)
        assert poll.poll(10_000), "no POLLPRI"
        return os.read(pair.master, 100)

    return read


@behaviour("term.pty.packet-mode-data")
def test_output_has_a_zero_before_it(pair: Pair, read_now: ReadNow, seen: Seen) -> None:
    """In packet mode a read of the master begins with a zero byte, then comes what the slave wrote."""
    os.write(pair.slave, b"plain")
    before = read_now(pair.master)
    set_packet_mode(pair.master, True)
    os.write(pair.slave, b"packet")
    during = read_now(pair.master)
    set_packet_mode(pair.master, False)
    os.write(pair.slave, b"plain")
    assert seen([before, during, read_now(pair.master)]) == [b"plain", b"\0packet", b"plain"]


@behaviour("term.pty.packet-mode-control")
def test_what_was_done_is_told(pair: Pair, event: Callable[[], bytes], seen: Seen) -> None:
    """Flushed input, stopped and started output come as one byte with 0x01, 0x04 and 0x08, and poll says POLLPRI."""
    set_packet_mode(pair.master, True)
    flush(pair.slave)
    events = [event()]
    for action in (SUSPEND_OUTPUT, RESUME_OUTPUT):
        flow(pair.slave, action)
        events.append(event())
    assert seen(events) == [b"\x01", b"\x04", b"\x08"]
    assert [PacketEvent(each[0]).name for each in events] == ["FLUSH_READ", "STOP", "START"]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param("+IXON", "-IXON", b"\x10", marks=behaviour("term.pty.packet-mode-nostop"), id="nostop"),
        pytest.param("-IXON", "+IXON", b"\x20", marks=behaviour("term.pty.packet-mode-dostop"), id="dostop"),
    ],
)
def test_stop_characters_go_and_come(
    pair: Pair, event: Callable[[], bytes], before: str, after: str, expected: bytes, seen: Seen
) -> None:
    """Clearing IXON comes as 0x10, setting it again as 0x20."""
    restore(pair.slave, save(pair.slave).changed(before))
    set_packet_mode(pair.master, True)
    restore(pair.slave, save(pair.slave).changed(after))
    assert seen(event()) == expected


@behaviour("term.pty.packet-mode-slave")
def test_packet_mode_is_for_masters(pair: Pair, seen: Seen) -> None:
    """TIOCPKT on the slave gives ENOTTY."""
    assert seen.errno_of(control, pair.slave, "TIOCPKT", termios.TIOCPKT, b"\1\0\0\0") == "ENOTTY"
    assert seen.errno_of(set_packet_mode, pair.slave, True) == "ENOTTY"
