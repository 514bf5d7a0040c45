"""Attributes of a terminal: raw mode, what tcsetattr takes and refuses, and when it takes effect."""

from __future__ import annotations

import os
import signal
import termios
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.impl.term import (
    DRAIN,
    FLUSH,
    NOW,
    drain,
    input_waiting,
    make_raw,
    restore,
    save,
)
from kernelproof.impl.term.calls import get_attributes, set_attributes
from kernelproof.impl.term.linux import read_speeds, set_speeds

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelproof.conformance.seen import Seen
    from kernelproof.conformance.term.conftest import InSession, Job, Pair, ReadNow

RAW = {
    0: termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP | termios.INLCR | termios.IGNCR
    | termios.ICRNL | termios.IXON,
    1: termios.OPOST,
    2: termios.CSIZE | termios.PARENB,
    3: termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN,
}  # fmt: skip


@behaviour("term.raw.cfmakeraw-bits")
@pytest.mark.parametrize("fill", [True, False], ids=["all set before", "none set before"])
def test_raw_mode_changes_what_is_documented(pair: Pair, fill: bool, seen: Seen) -> None:
    """Raw mode clears the documented bits, sets CS8, and leaves every other bit of the four fields as it was."""
    before = termios.tcgetattr(pair.slave)
    for field, bits in RAW.items():
        before[field] = before[field] | bits if fill else before[field] & ~bits
    termios.tcsetattr(pair.slave, termios.TCSANOW, before)
    found = termios.tcgetattr(pair.slave)  # CS8 and no parity, whatever was asked

    was = make_raw(pair.slave)
    after = termios.tcgetattr(pair.slave)
    expected = [found[field] & ~RAW[field] | (termios.CS8 if field == 2 else 0) for field in range(4)]
    assert seen(after[:4]) == expected
    assert [was.iflag, was.oflag, was.cflag, was.lflag] == found[:4]


@behaviour("term.attr.tcgetattr-from-background")
def test_background_may_look(pair: Pair, in_session: InSession, job: Job, seen: Seen) -> None:
    """tcgetattr in a background group succeeds and stops nobody."""

    def look() -> list[int]:
        return list(save(pair.slave)[:4])

    assert seen(in_session(lambda: job(look))) == termios.tcgetattr(pair.slave)[:4]


@behaviour("term.attr.shared-by-both-ends")
def test_attributes_are_one_for_both_ends(pair: Pair, seen: Seen) -> None:
    """The master's attributes are the slave's, and what is changed by the master is changed for the slave."""
    assert get_attributes(pair.master) == termios.tcgetattr(pair.slave)
    restore(pair.master, save(pair.master).changed("-ECHO", "+IXANY", VERASE=8))
    slave = termios.tcgetattr(pair.slave)
    assert seen([bool(slave[3] & termios.ECHO), bool(slave[0] & termios.IXANY)]) == [False, True]
    assert slave[6][termios.VERASE] == b"\x08"
    assert slave == termios.tcgetattr(pair.master)


@behaviour("term.attr.not-a-terminal")
@pytest.mark.parametrize("kind", ["pipe", "null", "closed"])
def test_no_terminal_has_no_attributes(pair: Pair, kind: str, seen: Seen) -> None:
    """tcgetattr and tcsetattr give ENOTTY on what is no terminal, and EBADF on a closed descriptor."""
    state = save(pair.slave)
    fd = os.open("/dev/null", os.O_RDWR) if kind == "null" else os.pipe()[0]
    if kind == "closed":
        os.close(fd)
    expected = "EBADF" if kind == "closed" else "ENOTTY"
    assert seen.errno_of(get_attributes, fd) == expected
    assert seen.errno_of(set_attributes, fd, NOW, state.to_attributes()) == expected
    assert seen.errno_of(save, fd) == expected
    assert seen.errno_of(restore, fd, state) == expected


@behaviour("term.attr.bad-optional-action")
@pytest.mark.parametrize("action", [-1, 3, 99])
def test_unknown_action(pair: Pair, action: int, seen: Seen) -> None:
    """tcsetattr with another action than the three gives EINVAL and changes nothing."""
    before = termios.tcgetattr(pair.slave)
    state = save(pair.slave).changed("-ECHO")
    assert seen.errno_of(set_attributes, pair.slave, action, state.to_attributes()) == "EINVAL"
    assert seen.errno_of(restore, pair.slave, state, action) == "EINVAL"
    assert termios.tcgetattr(pair.slave) == before


@pytest.mark.parametrize(
    ("when", "left"),
    [
        pytest.param(NOW, b"typed\n", marks=behaviour("term.attr.tcsanow-keeps-input"), id="now"),
        pytest.param(DRAIN, b"typed\n", marks=behaviour("term.attr.tcsadrain-keeps-input"), id="drain"),
        pytest.param(FLUSH, None, marks=behaviour("term.attr.tcsaflush-discards-input"), id="flush"),
    ],
)
def test_input_when_attributes_change(
    pair: Pair, when: int, left: bytes | None, arrived: Callable[[int], None], read_now: ReadNow, seen: Seen
) -> None:
    """TCSANOW and TCSADRAIN leave what was typed, TCSAFLUSH throws it away; the attributes are there after each."""
    os.write(pair.master, b"typed\n")
    arrived(pair.slave)
    assert input_waiting(pair.slave) == 6
    restore(pair.slave, save(pair.slave).changed("-ECHO"), when)
    assert not termios.tcgetattr(pair.slave)[3] & termios.ECHO
    assert seen(read_now(pair.slave)) == left


@behaviour("term.attr.drain-does-not-wait-for-master-reader")
def test_drain_waits_for_no_reader(pair: Pair, read_now: ReadNow, seen: Seen) -> None:
    """TCSADRAIN and tcdrain return although nobody has read what the slave wrote."""
    os.write(pair.slave, b"unread")
    taken = restore(pair.slave, save(pair.slave).changed("-ECHO"), DRAIN)
    drain(pair.slave)
    assert seen([taken.echoes, read_now(pair.master)]) == [False, b"unread"]
    assert not termios.tcgetattr(pair.slave)[3] & termios.ECHO


@behaviour("term.attr.unsupported-part-of-request")
def test_request_that_is_met_in_part(pair: Pair, seen: Seen) -> None:
    """Asked for CS7 and no echo, a pseudoterminal clears ECHO and stays at CS8, and restore says so."""
    wanted = save(pair.slave).changed("+CS7", "-ECHO")
    assert seen.errno_of(set_attributes, pair.slave, NOW, wanted.to_attributes()) == "no error"
    after = termios.tcgetattr(pair.slave)
    assert seen([after[2] & termios.CSIZE, after[3] & termios.ECHO]) == [termios.CS8, 0]
    assert wanted.diff(restore(pair.slave, wanted.changed("+ECHO"))) == "cflag -CS7 +CS8; lflag +ECHO"


@behaviour("term.attr.nothing-supported-einval")
def test_request_that_cannot_be_met_at_all(pair: Pair, seen: Seen) -> None:
    """Asked for CS7 and nothing else, tcsetattr gives EINVAL."""
    before = termios.tcgetattr(pair.slave)
    wanted = save(pair.slave).changed("+CS7")
    assert seen.errno_of(restore, pair.slave, wanted) == "EINVAL"
    assert seen.errno_of(set_attributes, pair.slave, NOW, wanted.to_attributes()) == "EINVAL"
    assert termios.tcgetattr(pair.slave) == before


@behaviour("term.attr.background-tcsetattr-stops")
def test_background_is_stopped(pair: Pair, in_session: InSession, job: Job, seen: Seen) -> None:
    """tcsetattr in a background group stops it by SIGTTOU, TOSTOP or not; restore, which blocks it, is not stopped."""
    state = save(pair.slave)
    assert "TOSTOP" not in state.names("lflag")
    attributes = state.changed("-ECHO").to_attributes()
    assert seen(in_session(lambda: job(lambda: set_attributes(pair.slave, NOW, attributes)))) == "stopped by SIGTTOU"
    assert termios.tcgetattr(pair.slave)[3] & termios.ECHO


@behaviour("term.attr.background-tcsetattr-ignored-sigttou")
@pytest.mark.parametrize("how", ["ignored", "blocked"])
def test_background_that_does_not_mind(pair: Pair, in_session: InSession, job: Job, how: str, seen: Seen) -> None:
    """With SIGTTOU ignored or blocked a background process changes the attributes, and gets no signal."""
    state = save(pair.slave).changed("-ECHO")

    def change() -> str:
        if how == "ignored":
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            set_attributes(pair.slave, NOW, state.to_attributes())
        else:
            restore(pair.slave, state)
        return "pending" if signal.SIGTTOU in signal.sigpending() else "done"

    assert seen(in_session(lambda: job(change))) == "done"
    assert not termios.tcgetattr(pair.slave)[3] & termios.ECHO


@behaviour("term.attr.orphaned-tcsetattr-eio")
def test_orphan_in_the_background(pair: Pair, in_session: InSession, job: Job, seen: Seen) -> None:
    """tcsetattr in an orphaned background group gives EIO and changes nothing; restore is not refused."""
    state = save(pair.slave).changed("-ECHO")

    def change() -> list[object]:
        answer = seen.errno_of(set_attributes, pair.slave, NOW, state.to_attributes())
        return [answer, bool(termios.tcgetattr(pair.slave)[3] & termios.ECHO), restore(pair.slave, state).echoes]

    assert seen(in_session(lambda: job(change, orphaned=True))) == ["EIO", True, False]


@behaviour("term.attr.survive-close-of-slave")
def test_attributes_outlive_the_slave(pair: Pair, seen: Seen) -> None:
    """What was changed on a slave is there when it is opened again after its last close."""
    fd = os.open(pair.path, os.O_RDWR | os.O_NOCTTY)
    keeper = os.dup(pair.slave)
    restore(fd, save(fd).changed("-ECHO", VERASE=8))
    changed = termios.tcgetattr(fd)
    for each in (fd, keeper, pair.slave):
        os.close(each)
    again = os.open(pair.path, os.O_RDWR | os.O_NOCTTY)
    assert seen(termios.tcgetattr(again)) == changed
    assert [changed[3] & termios.ECHO, changed[6][termios.VERASE]] == [0, b"\x08"]
    os.dup2(again, pair.slave)  # the fixture closes it


@behaviour("term.attr.zero-baud-on-pty")
def test_speed_zero_hangs_up_nothing(pair: Pair, read_now: ReadNow, seen: Seen) -> None:
    """B0 as output speed is stored on a pseudoterminal, and a write to the slave arrives as before."""
    restore(pair.slave, save(pair.slave)._replace(output_speed=termios.B0))
    assert termios.tcgetattr(pair.slave)[5] == termios.B0
    os.write(pair.slave, b"still here")
    assert seen(read_now(pair.master)) == b"still here"


@behaviour("term.attr.termios2-arbitrary-speed")
def test_any_speed(pair: Pair, seen: Seen) -> None:
    """TCSETS2 with BOTHER takes a speed without constant, and TCGETS2 returns that number."""
    set_speeds(pair.slave, 12345, 1234567)
    assert seen(read_speeds(pair.master)) == (12345, 1234567)
    # The C library of the tests knows no such speed; the bits of the old call say "other", 0o10000.
    assert termios.tcgetattr(pair.slave)[2] & 0o10017 == 0o10000
    with pytest.raises(ValueError, match="32 bits"):
        set_speeds(pair.slave, 0, 2**32)
    assert read_speeds(pair.slave) == (12345, 1234567)
