"""Input by lines: what was typed at the master, and what a read of the slave returns."""

from __future__ import annotations

import os
import signal
import termios
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.impl.term import input_waiting, restore, save

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelproof.conformance.seen import Seen
    from kernelproof.conformance.term.conftest import InSession, Pair, ReadNow


@pytest.fixture
def typed(pair: Pair, read_now: ReadNow) -> Callable[..., list[bytes | None]]:
    """Type at the master, without echo, and return what each of some reads of the slave gives."""

    def run(keys: bytes, *, reads: int = 1) -> list[bytes | None]:
        restore(pair.slave, save(pair.slave).changed("-ECHO"))
        os.write(pair.master, keys)
        return [read_now(pair.slave) for _ in range(reads)]

    return run


@behaviour("term.canon.no-data-before-newline")
def test_unfinished_line_cannot_be_read(
    pair: Pair, typed: Callable[..., list[bytes | None]], read_now: ReadNow, seen: Seen
) -> None:
    """Without its newline a line is not there: a read that does not wait gives EAGAIN."""
    os.set_blocking(pair.slave, False)
    assert typed(b"unfinished") == [None]
    assert seen.errno_of(os.read, pair.slave, 100) == "EAGAIN"
    assert input_waiting(pair.slave) == 0
    os.write(pair.master, b"\n")
    assert seen(read_now(pair.slave)) == b"unfinished\n"


@behaviour("term.canon.one-line-per-read")
def test_read_returns_one_line(typed: Callable[..., list[bytes | None]], seen: Seen) -> None:
    """In canonical mode a read returns one line, though a second waits and the buffer has room for both."""
    assert seen(typed(b"first\nsecond\n", reads=3)) == [b"first\n", b"second\n", None]


@behaviour("term.canon.short-read-keeps-rest")
def test_rest_of_a_line_stays(pair: Pair, read_now: ReadNow, seen: Seen) -> None:
    """A read of three bytes takes these of a line, and the next read the rest of it."""
    restore(pair.slave, save(pair.slave).changed("-ECHO"))
    os.write(pair.master, b"abcdef\nnext\n")
    first = os.read(pair.slave, 3)
    assert seen([first, read_now(pair.slave), read_now(pair.slave)]) == [b"abc", b"def\n", b"next\n"]


@behaviour("term.canon.eof-at-line-start")
def test_end_of_file_at_the_start_of_a_line(typed: Callable[..., list[bytes | None]], seen: Seen) -> None:
    """EOF as first character of a line makes one read return nothing, and reading goes on after it."""
    assert seen(typed(b"\x04more\n", reads=3)) == [b"", b"more\n", None]


@behaviour("term.canon.eof-mid-line")
def test_end_of_file_character_sends_what_was_typed(typed: Callable[..., list[bytes | None]], seen: Seen) -> None:
    """EOF typed after "ab" hands out these two bytes at once, without itself and without a newline."""
    assert seen(typed(b"ab\x04next\n", reads=3)) == [b"ab", b"next\n", None]


@behaviour("term.canon.line-limit-4096")
def test_line_is_cut_at_4096_bytes(pair: Pair, read_now: ReadNow, seen: Seen) -> None:
    """Of 6000 bytes and a newline, 4095 bytes and the newline are read."""
    restore(pair.slave, save(pair.slave).changed("-ECHO"))
    os.set_blocking(pair.slave, False)
    for _ in range(60):
        assert os.write(pair.master, b"x" * 100) == 100
    os.write(pair.master, b"\nafter\n")
    assert seen(read_now(pair.slave)) == b"x" * 4095 + b"\n"
    assert read_now(pair.slave) == b"after\n"


@behaviour("term.canon.erase-stops-at-line-start")
def test_erase_stays_in_its_line(typed: Callable[..., list[bytes | None]], seen: Seen) -> None:
    """ERASE takes back one character, and never one of a line before."""
    assert seen(typed(b"one\nab\x7f\x7f\x7f\x7fc\n", reads=3)) == [b"one\n", b"c\n", None]


@behaviour("term.canon.kill-discards-line")
def test_kill_takes_the_line(typed: Callable[..., list[bytes | None]], seen: Seen) -> None:
    """KILL takes back what was typed since the last newline or EOF, and is not read itself."""
    assert seen(typed(b"kept\nlost\x15x\nhere\x04lost\x15y\n", reads=5)) == [b"kept\n", b"x\n", b"here", b"y\n", None]


@behaviour("term.canon.werase-needs-iexten")
def test_word_erase_is_an_extension(pair: Pair, typed: Callable[..., list[bytes | None]], seen: Seen) -> None:
    """WERASE takes back a word while IEXTEN is set, and is a byte of the line while it is not."""
    assert seen(typed(b"one two\x17three\n")) == [b"one three\n"]
    restore(pair.slave, save(pair.slave).changed("-IEXTEN"))
    assert seen(typed(b"one two\x17three\n")) == [b"one two\x17three\n"]


@behaviour("term.canon.lnext-quotes")
def test_next_character_is_literal(
    pair: Pair, in_session: InSession, pending: Callable[[int], set[str]], seen: Seen
) -> None:
    """LNEXT makes the INTR character after it one of the line, and no signal; without LNEXT there is one."""

    def type_quoted() -> list[str | bool]:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        os.write(pair.master, b"a\x16\x03b\n")
        line = os.read(pair.slave, 100).decode()
        views: list[str | bool] = [line, "SIGINT" in pending(os.getpid())]
        os.write(pair.master, b"\x03plain\n")
        return [*views, os.read(pair.slave, 100).decode(), "SIGINT" in pending(os.getpid())]

    assert seen(in_session(type_quoted)) == ["a\x03b\n", False, "plain\n", True]


@behaviour("term.canon.veol-extra-delimiter")
def test_further_character_may_end_a_line(pair: Pair, typed: Callable[..., list[bytes | None]], seen: Seen) -> None:
    """A byte that is set as VEOL ends a line and is part of what is read."""
    restore(pair.slave, save(pair.slave).changed(VEOL=ord(";")))
    assert seen(typed(b"one;two\n", reads=3)) == [b"one;", b"two\n", None]


@behaviour("term.canon.vdisable")
def test_character_can_be_switched_off(
    pair: Pair, in_session: InSession, pending: Callable[[int], set[str]], seen: Seen
) -> None:
    """With VINTR set to 0, both 0x03 and 0x00 are input and make no signal."""

    def type_both() -> list[str | bool]:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        restore(pair.slave, save(pair.slave).changed(VINTR=0))
        os.write(pair.master, b"a\x03\x00b\n")
        return [os.read(pair.slave, 100).decode(), "SIGINT" in pending(os.getpid())]

    assert seen(in_session(type_both)) == ["a\x03\x00b\n", False]


@behaviour("term.canon.switch-to-raw-releases-partial")
def test_leaving_canonical_mode_gives_what_waits(
    pair: Pair, typed: Callable[..., list[bytes | None]], read_now: ReadNow, seen: Seen
) -> None:
    """What was typed without newline can be read once ICANON is cleared."""
    assert typed(b"partial") == [None]
    restore(pair.slave, save(pair.slave).changed("-ICANON"))
    assert seen(read_now(pair.slave)) == b"partial"


@behaviour("term.canon.default-mode")
def test_new_pair_reads_lines(pair: Pair, seen: Seen) -> None:
    """A new pair is canonical with ECHO, ISIG and ICRNL, and has the usual control characters."""
    state = save(pair.slave)
    assert {"ICANON", "ECHO", "ISIG"} <= set(state.names("lflag"))
    assert "ICRNL" in state.names("iflag")
    names = ("VINTR", "VQUIT", "VERASE", "VKILL", "VEOF", "VSUSP")
    assert seen([state.character(name) for name in names]) == [0x03, 0x1C, 0x7F, 0x15, 0x04, 0x1A]
    iflag, _, _, lflag, _, _, codes = termios.tcgetattr(pair.slave)
    assert [iflag & termios.ICRNL, lflag & (termios.ICANON | termios.ECHO | termios.ISIG)] == [
        termios.ICRNL,
        termios.ICANON | termios.ECHO | termios.ISIG,
    ]
    assert b"".join(codes[getattr(termios, name)] for name in names) == b"\x03\x1c\x7f\x15\x04\x1a"
