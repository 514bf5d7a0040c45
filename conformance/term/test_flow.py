"""Queues of a terminal thrown away, and output that is suspended: by calls, and by characters."""

from __future__ import annotations

import os
import select
import termios
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.impl.term import (
    RESUME_OUTPUT,
    SEND_STOP,
    SUSPEND_OUTPUT,
    PacketEvent,
    drain,
    flow,
    flush,
    read_packet,
    restore,
    save,
    send_break,
    set_packet_mode,
)
from kernelproof.impl.term.calls import break_line, control_flow, drain_output, flush_queue

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelproof.conformance.seen import Seen
    from kernelproof.conformance.term.conftest import InSession, Job, Pair, ReadNow


@behaviour("term.flush.tciflush")
def test_unread_input_is_thrown_away(pair: Pair, arrived: Callable[[int], None], read_now: ReadNow, seen: Seen) -> None:
    """After tcflush with TCIFLUSH a line that was typed is gone: a read that does not wait gives EAGAIN."""
    os.write(pair.master, b"typed\n")
    os.set_blocking(pair.slave, False)
    arrived(pair.slave)
    flush(pair.slave)
    assert seen.errno_of(os.read, pair.slave, 100) == "EAGAIN"
    os.write(pair.master, b"later\n")
    assert read_now(pair.slave) == b"later\n"


@behaviour("term.flush.bad-selector")
def test_unknown_queue(pair: Pair, read_now: ReadNow, seen: Seen) -> None:
    """tcflush with another selector than the three gives EINVAL and throws nothing away."""
    os.write(pair.master, b"typed\n")
    for selector in (-1, 3, 99):
        assert seen.errno_of(flush_queue, pair.slave, selector) == "EINVAL"
        assert seen.errno_of(flush, pair.slave, selector) == "EINVAL"
    assert read_now(pair.slave) == b"typed\n"


@behaviour("term.flush.background-stops")
@pytest.mark.parametrize(
    ("plain", "blocking"),
    [
        pytest.param(lambda fd: flush_queue(fd, termios.TCIFLUSH), lambda fd: flush(fd), id="tcflush"),
        pytest.param(lambda fd: control_flow(fd, termios.TCOON), lambda fd: flow(fd, RESUME_OUTPUT), id="tcflow"),
        pytest.param(lambda fd: drain_output(fd), lambda fd: drain(fd), id="tcdrain"),
        pytest.param(lambda fd: break_line(fd, 0), lambda fd: send_break(fd), id="tcsendbreak"),
    ],
)
def test_background_is_stopped(
    pair: Pair,
    in_session: InSession,
    job: Job,
    plain: Callable[[int], None],
    blocking: Callable[[int], None],
    seen: Seen,
) -> None:
    """In a background group these calls stop it by SIGTTOU though TOSTOP is clear; the blocking forms pass."""
    assert not termios.tcgetattr(pair.slave)[3] & termios.TOSTOP
    assert in_session(lambda: job(lambda: blocking(pair.slave))) is None
    assert seen(in_session(lambda: job(lambda: plain(pair.slave)))) == "stopped by SIGTTOU"


@behaviour("term.flow.tcooff-blocks-writer")
def test_output_is_suspended(pair: Pair, read_now: ReadNow, seen: Seen) -> None:
    """Between tcflow(TCOOFF) and tcflow(TCOON) a write to the slave that does not wait gives EAGAIN."""
    os.set_blocking(pair.slave, False)
    flow(pair.slave, SUSPEND_OUTPUT)
    suspended = seen.errno_of(os.write, pair.slave, b"x")
    nothing = read_now(pair.master)
    flow(pair.slave, RESUME_OUTPUT)
    os.write(pair.slave, b"y")
    assert seen([suspended, nothing, read_now(pair.master)]) == ["EAGAIN", None, b"y"]


@behaviour("term.flow.tcioff-sends-stop")
def test_stop_is_sent(pair: Pair, read_now: ReadNow, seen: Seen) -> None:
    """tcflow(TCIOFF) on the slave makes the master read the STOP character."""
    flow(pair.slave, SEND_STOP)
    assert seen(read_now(pair.master)) == b"\x13"


@behaviour("term.flow.bad-action")
def test_unknown_flow_action(pair: Pair, seen: Seen) -> None:
    """tcflow with an unknown action gives EINVAL."""
    for action in (-1, 4, 99):
        assert seen.errno_of(control_flow, pair.slave, action) == "EINVAL"
        assert seen.errno_of(flow, pair.slave, action) == "EINVAL"


def set_flags(pair: Pair, *flags: str) -> None:
    restore(pair.slave, save(pair.slave).changed("-ECHO", *flags))
    os.set_blocking(pair.slave, False)


@pytest.fixture
def typed_event(pair: Pair) -> Callable[[bytes], PacketEvent | None]:
    """Type a key at the master, which is in packet mode, and return what that did to the terminal; None: nothing."""
    set_packet_mode(pair.master, True)

    def type_key(key: bytes) -> PacketEvent | None:
        os.write(pair.master, key)
        poll = select.poll()
        poll.register(pair.master, select.POLLPRI)
        return read_packet(pair.master).events if poll.poll(500) else None

    return type_key


@behaviour("term.flow.xoff-stops-output")
def test_stop_character_stops_output(
    pair: Pair, typed_event: Callable[[bytes], PacketEvent | None], read_now: ReadNow, seen: Seen
) -> None:
    """With IXON, STOP from the master stops output and is not read, START lets it go on; without IXON it is read."""
    set_flags(pair, "+IXON")
    stopped = typed_event(b"\x13"), seen.errno_of(os.write, pair.slave, b"x")
    started = typed_event(b"\x11"), seen.errno_of(os.write, pair.slave, b"y")
    os.write(pair.master, b"line\n")
    assert seen([stopped, started, read_now(pair.master), read_now(pair.slave)]) == [
        (PacketEvent.STOP, "EAGAIN"),
        (PacketEvent.START, "no error"),
        b"\0y",
        b"line\n",
    ]
    set_flags(pair, "-IXON")
    assert read_packet(pair.master).events == PacketEvent.NO_STOP
    assert typed_event(b"\x13\n") is None
    assert [os.write(pair.slave, b"z"), read_now(pair.slave)] == [1, b"\x13\n"]


@behaviour("term.flow.ixany-any-char-restarts")
@pytest.mark.parametrize(
    ("flag", "event", "after"), [("+IXANY", PacketEvent.START, "no error"), ("-IXANY", None, "EAGAIN")]
)
def test_any_character_restarts_output(
    pair: Pair,
    flag: str,
    event: PacketEvent | None,
    after: str,
    typed_event: Callable[[bytes], PacketEvent | None],
    seen: Seen,
) -> None:
    """With IXANY any character after STOP lets output go on; without it only START does."""
    set_flags(pair, "+IXON", flag)
    assert typed_event(b"\x13") == PacketEvent.STOP
    assert seen.errno_of(os.write, pair.slave, b"x") == "EAGAIN"
    assert typed_event(b"a") == event
    assert seen.errno_of(os.write, pair.slave, b"x") == after


@behaviour("term.flow.ixoff-not-set-by-default")
def test_flow_control_of_a_new_pair(pair: Pair, seen: Seen) -> None:
    """A new pair has IXON and not IXOFF, and neither direction is suspended."""
    state = save(pair.slave)
    iflag = termios.tcgetattr(pair.slave)[0]
    assert seen([flag in state.names("iflag") for flag in ("IXON", "IXOFF")]) == [True, False]
    assert [bool(iflag & termios.IXON), bool(iflag & termios.IXOFF)] == [True, False]
    assert os.write(pair.slave, b"x") == 1
