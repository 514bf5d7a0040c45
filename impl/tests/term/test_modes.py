"""Blocks of raw, cbreak and no echo: back after everything that goes on within."""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
import termios
import threading
from collections.abc import Callable

import pytest

from kernelproof.impl.term import (
    FLUSH,
    Mode,
    PseudoterminalPair,
    cbreak,
    echo_disabled,
    make_raw_state,
    no_echo,
    raw,
    save,
)
from kernelproof.impl.term.modes import Mode as ModeClass
from kernelproof.impl.tests.term.scripts import IMPORTS, READY, SLEEP, Run

# Blocks.


@pytest.mark.parametrize("block", [raw, cbreak, no_echo, echo_disabled])
def test_block_puts_back_what_it_found(block: Callable[[int], Mode], peer: int) -> None:
    """After the block, and after an exception in it, the terminal is as before; in it, it is another."""
    before = save(peer)
    with block(peer) as found:
        assert found == before
        assert save(peer) != before
        assert not save(peer).echoes
    assert save(peer) == before
    with pytest.raises(KeyError), block(peer):
        raise KeyError
    assert save(peer) == before


def test_blocks_nest(peer: int) -> None:
    """Each block puts back what it found, so nested ones end in order, also with other changes between."""
    before = save(peer)
    with no_echo(peer):
        quiet = save(peer)
        with raw(peer):
            with cbreak(peer):
                pass
            assert save(peer) == make_raw_state(quiet)
        assert save(peer) == quiet
    assert save(peer) == before


def test_a_signal_at_the_end_sets_nothing_again(peer: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Going on after a stop, while the block puts the terminal back, does not set the mode again."""
    before = save(peer)
    real = os.set_blocking

    def interrupted(fd: int, blocking: bool) -> None:
        real(fd, blocking)
        signal.raise_signal(signal.SIGCONT)

    with raw(peer, signals=[signal.SIGTSTP]):
        os.set_blocking(peer, False)  # to be put back, the last thing that is
        monkeypatch.setattr(os, "set_blocking", interrupted)
    assert save(peer) == before


def test_block_is_entered_once(peer: int) -> None:
    """One block cannot be nested in itself; it can be used again."""
    block = raw(peer)
    with block, pytest.raises(RuntimeError, match="entered already"), block:
        pass
    with block:
        assert not save(peer).is_canonical
    assert save(peer).is_canonical


def test_output_processing_may_stay(peer: int) -> None:
    """Raw mode can leave newlines written to be translated."""
    with raw(peer, keep_output_processing=True):
        assert save(peer).oflag & termios.OPOST


def test_not_a_terminal_changes_nothing() -> None:
    """A file that is no terminal is an error, and no descriptor is left."""
    reading, writing = os.pipe()
    before = os.listdir("/dev/fd")
    with pytest.raises(OSError, match="Inappropriate ioctl"), raw(reading):
        pass
    with pytest.raises(OSError, match="Inappropriate ioctl"), raw(reading, guard=True):
        pass
    assert os.listdir("/dev/fd") == before
    os.close(reading)
    os.close(writing)


def test_block_keeps_its_terminal(peer: int) -> None:
    """A number that is another file at the end of the block is not touched; the terminal is put back."""
    before = save(peer)
    other = PseudoterminalPair.open()
    own = os.dup(peer)
    with raw(own):
        fd = other.peer()
        os.dup2(fd, own)
        os.close(fd)
        with raw(own):
            pass
        state = save(own)
    assert save(own) == state
    assert save(peer) == before
    os.close(own)
    other.close()


def test_hung_up_terminal_has_nothing_to_put_back() -> None:
    """A terminal that is hung up in the block is no error at its end, and no descriptor is left."""
    before = os.listdir("/dev/fd")
    pair = PseudoterminalPair.open()
    fd = pair.peer()
    with raw(fd):
        pair.close()
    with pytest.raises(OSError, match="Input/output error"):
        save(fd)
    os.close(fd)
    assert os.listdir("/dev/fd") == before


def test_terminal_that_is_not_put_back_is_told(peer: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the terminal can't be put back for another reason than that it was hung up, the caller hears of it."""
    before = os.listdir("/dev/fd")

    def refuse(*_: object) -> None:
        raise termios.error(errno.EINVAL, os.strerror(errno.EINVAL))

    block = raw(peer)
    block.__enter__()
    monkeypatch.setattr(termios, "tcsetattr", refuse)
    with pytest.raises(OSError, match="Invalid argument"):
        block.__exit__(None, None, None)
    assert os.listdir("/dev/fd") == before


def test_blocking_is_put_back(peer: int) -> None:
    """Whether reads wait is as before after the block."""
    with raw(peer):
        os.set_blocking(peer, False)
    assert os.get_blocking(peer)


def test_typed_before_is_dropped_when_asked(peer: int) -> None:
    """With FLUSH, what was typed before the question is no part of the answer."""
    with PseudoterminalPair.open() as pair:
        fd = pair.peer()
        os.write(pair.master, b"early\n")
        assert select.select([fd], [], [], 30)[0]
        with no_echo(fd, when=FLUSH):
            os.write(pair.master, b"secret\n")
            assert os.read(fd, 100) == b"secret\n"
        os.close(fd)


# T10: handlers.


def set_raw_of_2014(fd: int) -> object:
    """Put the terminal in raw mode, and on SIGINT put it back and end the process with status 0."""
    state = save(fd)
    termios.tcsetattr(fd, termios.TCSANOW, make_raw_state(state).to_attributes())
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    return state


def set_raw_ours(fd: int) -> object:
    block = raw(fd)
    block.__enter__()
    return block


@pytest.mark.rule("T10", ours=set_raw_ours, wrong=set_raw_of_2014)
def test_no_handler_unasked(peer: int, subject: Callable[[int], object]) -> None:
    """Raw mode leaves the handlers of all signals alone."""
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    try:
        kept = subject(peer)
        after = {number: signal.getsignal(number) for number in signal.valid_signals()}
        if isinstance(kept, ModeClass):
            kept.__exit__(None, None, None)
    finally:
        signal.signal(signal.SIGINT, before[signal.SIGINT])
    assert after == before


ENDS_OURS = "block = raw(0, signals=[signal.SIGTERM, signal.SIGHUP, signal.SIGINT]); block.__enter__()"
ENDS_AS_IN_2014 = "make_raw(0); [signal.signal(n, lambda *_: sys.exit(0)) for n in (1, 2, 15)]"


@pytest.mark.rule("T10", ours=ENDS_OURS, wrong=ENDS_AS_IN_2014)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signal_puts_back_and_ends_as_it_would(run_script: Run, number: int, subject: str) -> None:
    """A signal that ends the program puts the terminal back and ends it, by that signal."""
    program = run_script(f"{IMPORTS}{subject}\n{READY}\n{SLEEP}")
    before = program.before
    program.read_until(b"ready")
    assert save(program.pair.master) != before
    program.process.send_signal(number)
    assert program.process.wait(30) == 128 + number
    assert save(program.pair.master) == before


@pytest.mark.rule("T10")
def test_handlers_before_are_called(run_script: Run) -> None:
    """A handler that was there is called with the terminal put back; when it returns the mode is set again."""
    program = run_script(
        f"{IMPORTS}"
        "signal.signal(signal.SIGUSR1, lambda *_: print('handled', save(0).is_canonical, flush=True))\n"
        "signal.signal(signal.SIGUSR2, signal.SIG_IGN)\n"
        "with raw(0, signals=[signal.SIGUSR1, signal.SIGUSR2]):\n"
        "    with cbreak(0, signals=[signal.SIGUSR1]):\n"
        "        os.kill(os.getpid(), signal.SIGUSR1); print(save(0).is_canonical, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGUSR2); print(save(0).is_canonical, flush=True)\n"
        "print(signal.getsignal(signal.SIGUSR2) == signal.SIG_IGN, signal.getsignal(signal.SIGUSR1).__name__)\n"
        "try:\n"
        "    with raw(0, signals=[signal.SIGINT]): os.kill(os.getpid(), signal.SIGINT)\n"
        "except KeyboardInterrupt: print('interrupted', save(0).is_canonical)\n"
    )
    out = program.read_to_end().decode().split()
    assert out == ["handled", "True", "False", "False", "True", "<lambda>", "interrupted", "True"]


@pytest.mark.rule("T10")
def test_handler_put_there_since_stays(peer: int) -> None:
    """A handler that was put there in the block is not taken away at its end."""

    def other(*_: object) -> None: ...

    before = signal.getsignal(signal.SIGUSR1)
    with raw(peer, signals=[signal.SIGUSR1]):
        signal.signal(signal.SIGUSR1, other)
    assert signal.getsignal(signal.SIGUSR1) is other
    signal.signal(signal.SIGUSR1, before)


def test_signals_need_the_main_thread(peer: int) -> None:
    """Signals in another thread are an error, and the terminal is as before."""
    before = save(peer)
    caught: list[BaseException] = []

    def enter() -> None:
        try:
            with raw(peer, signals=[signal.SIGTERM]):
                pass
        except ValueError as error:
            caught.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert len(caught) == 1
    assert save(peer) == before
