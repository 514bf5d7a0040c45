"""Blocks of raw, cbreak and no echo: back after everything, also after the end of the program."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from kernelproof.impl.term import (
    FLUSH,
    LEAVE,
    Mode,
    PseudoterminalPair,
    TermState,
    cbreak,
    echo_disabled,
    make_raw_state,
    no_echo,
    raw,
    save,
)
from kernelproof.impl.term.modes import Mode as ModeClass
from kernelproof.impl.tests.term.conftest import Program

Run = Callable[[str], Program]
IMPORTS = """
import os, signal, sys, time, termios
from kernelproof.impl import term
from kernelproof.impl.term import cbreak, make_raw, raw, save, set_foreground_group
"""
READY = "print('ready', flush=True)"
SLEEP = "while True: time.sleep(60)"


@pytest.fixture
def peer() -> Iterator[int]:
    """The peer of a pair."""
    with PseudoterminalPair.open() as pair:
        fd = pair.peer()
        yield fd
        os.close(fd)


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
    """A terminal that is hung up in the block is no error at its end."""
    pair = PseudoterminalPair.open()
    fd = pair.peer()
    with raw(fd):
        pair.close()
    os.close(fd)


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


# T6: job control.


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until something is so, looking again each time a millisecond has gone by."""
    deadline = time.monotonic() + seconds
    event = threading.Event()
    while not condition():
        assert time.monotonic() < deadline
        event.wait(0.001)


# A shell with a job in the foreground, which answers when it is asked, so after all handlers that were due.
JOB = """
def tell(what): print(what, save(0).is_canonical, flush=True)
def ask(): os.write(to_job, b'?'); os.read(from_job, 1)
def stop(): os.kill(job, signal.SIGTSTP); os.waitpid(job, os.WUNTRACED)
in_job, to_job = os.pipe()
from_job, out_job = os.pipe()
job = os.fork()
if job == 0:
    os.setpgid(0, 0)
    set_foreground_group(0, os.getpid())
    with BLOCK:
        while True:
            os.read(in_job, 1)
            os.write(out_job, b'!')
ask()
tell('running')
"""
STOPS_OURS = "raw(0, signals=[signal.SIGTSTP], on_resume=lambda size: print('size', *size[:2], flush=True))"
STOPS_PLAIN = "raw(0)"


@pytest.mark.rule("T6", ours=STOPS_OURS, wrong=STOPS_PLAIN)
def test_stop_puts_back_and_going_on_sets_again(run_script: Run, subject: str) -> None:
    """While the program is stopped the terminal is as before; it goes on in its mode, with the new size."""
    program = run_script(
        f"{IMPORTS}{JOB.replace('BLOCK', subject)}\n"
        "stop(); tell('stopped')\n"
        "term.set_window_size(0, term.WindowSize(5, 6))\n"
        "os.kill(job, signal.SIGCONT); ask(); tell('again')\n"
        "os.kill(job, 9)\n"
    )
    out = program.read_to_end().decode().split()
    assert out == ["running", "False", "stopped", "True", "size", "5", "6", "again", "False"]


@pytest.mark.rule("T6")
def test_mode_is_not_set_in_the_background(run_script: Run) -> None:
    """A program that goes on in the background leaves the terminal alone until it has the foreground again."""
    program = run_script(
        f"{IMPORTS}{JOB.replace('BLOCK', 'raw(0, signals=[signal.SIGTSTP])')}\n"
        "stop(); tell('stopped')\n"
        "set_foreground_group(0, os.getpgrp())\n"
        "os.kill(job, signal.SIGCONT); ask(); tell('background')\n"
        "set_foreground_group(0, job)\n"
        "os.kill(job, signal.SIGCONT); ask(); tell('foreground')\n"
        "os.kill(job, 9)\n"
    )
    out = program.read_to_end().decode().split()
    assert out == ["running", "False", "stopped", "True", "background", "True", "foreground", "False"]


RESTORE_OURS = "term.restore(0, term.make_raw_state(term.save(0)))"
RESTORE_PLAIN = (
    "state = term.make_raw_state(term.save(0)).to_attributes(); termios.tcsetattr(0, termios.TCSANOW, state)"
)


@pytest.mark.rule("T6", ours=RESTORE_OURS, wrong=RESTORE_PLAIN)
def test_background_is_not_stopped(run_script: Run, subject: str) -> None:
    """A process of a background group sets attributes without being stopped, and SIGTTOU is as before after it."""
    program = run_script(
        f"{IMPORTS}"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os.setpgid(0, 0)\n"
        f"    {subject}\n"
        "    os._exit(signal.SIGTTOU in signal.pthread_sigmask(signal.SIG_BLOCK, []))\n"
        "pid, status = os.waitpid(child, os.WUNTRACED)\n"
        "print(os.WIFSTOPPED(status), status, flush=True)\n"
        "os.kill(child, 9)\n"
    )
    assert program.read_until(b"\n").split() == [b"False", b"0"]


@pytest.mark.rule("T6")
def test_blocked_sigttou_stays_blocked(peer: int) -> None:
    """Who has SIGTTOU blocked keeps it so."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    with raw(peer):
        pass
    assert signal.SIGTTOU in signal.pthread_sigmask(signal.SIG_SETMASK, before)


# T5, T+1: the watcher.

GUARDED = "raw(0, guard=True, leave=term.LEAVE)"
NOT_GUARDED = "raw(0)"


def kill_in_raw_mode(run_script: Run, block: str, before_kill: str = "") -> tuple[Program, TermState, float]:
    """Run a program that sets raw mode and lets reads not wait, kill it, and return it with the state before."""
    program = run_script(
        f"{IMPORTS}with {block}:\n    os.set_blocking(0, False)\n    {before_kill}\n    {READY}\n    {SLEEP}"
    )
    before = program.before
    program.read_until(b"ready")
    assert save(program.pair.master) != before
    program.process.send_signal(signal.SIGKILL)
    program.process.wait(30)
    return program, before, time.monotonic()


@pytest.mark.rule("T5", ours=GUARDED, wrong=NOT_GUARDED)
@pytest.mark.rule("T+1")
def test_terminal_comes_back_after_a_kill(run_script: Run, subject: str) -> None:
    """After SIGKILL the attributes are back; machine/test_kernel.py says within which time."""
    program, before, start = kill_in_raw_mode(run_script, subject)
    wait_until(lambda: save(program.pair.master) == before or time.monotonic() > start + 5)
    assert save(program.pair.master) == before


@pytest.mark.rule("T+1")
def test_watcher_leaves_modes_and_lets_reads_wait_again() -> None:
    """The watcher writes what leaves the modes of full-screen programs, and the shell's reads wait again."""
    script = (
        f"{IMPORTS}with raw(0, guard=True, leave=term.LEAVE):\n"
        "    os.set_blocking(0, False); os.write(1, b'ready'); os.kill(os.getpid(), 9)\n"
    )
    from kernelproof.impl.tests.term.conftest import script_argv  # beside the fixture

    with PseudoterminalPair.open() as pair:
        shell = pair.peer()  # as a shell holds it, the same open file as the program's
        pid = os.posix_spawn(
            sys.executable,
            script_argv(script),
            dict(os.environ),
            file_actions=[(os.POSIX_SPAWN_DUP2, shell, fd) for fd in (0, 1)],
        )
        os.waitpid(pid, 0)
        out = b""
        while not out.endswith(LEAVE):
            out += os.read(pair.master, 4096)
        assert out == b"ready" + LEAVE
        wait_until(lambda: os.get_blocking(shell))
        os.close(shell)


@pytest.mark.rule("T+1")
def test_watcher_sees_a_death_that_the_pipe_does_not_tell(run_script: Run) -> None:
    """A forked child that holds the pipe open does not keep the terminal raw."""
    # It would die with the session otherwise. And the watcher has time to start, else it finds the death at once.
    child = "signal.signal(signal.SIGHUP, signal.SIG_IGN); os.fork() or (time.sleep(60), os._exit(0)); time.sleep(0.5)"
    program, before, _ = kill_in_raw_mode(run_script, "raw(0, guard=True)", child)
    wait_until(lambda: save(program.pair.master) == before)
    os.killpg(program.process.pid, signal.SIGKILL)


@pytest.mark.rule("T+1")
def test_watcher_sees_an_exec(run_script: Run) -> None:
    """A program that replaces itself by another one leaves the terminal as it was."""
    program = run_script(f"{IMPORTS}block = raw(0, guard=True); block.__enter__(); os.execvp('sleep', ['sleep', '60'])")
    before = program.before
    seen: list[bool] = []

    def is_back() -> bool:
        seen.append(save(program.pair.master) != before)
        return any(seen) and not seen[-1]

    wait_until(is_back)


@pytest.mark.rule("T+1")
def test_watcher_ends_with_the_block(peer: int) -> None:
    """After the block no watcher is left, no descriptor, and no child to wait for."""
    before = os.listdir("/dev/fd")
    for _ in range(3):
        with raw(peer, guard=True):
            pass
    assert os.listdir("/dev/fd") == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.rule("T+1")
def test_watcher_uses_no_processor_and_no_terminal(run_script: Run) -> None:
    """The watcher is in a session of its own, and sleeps."""
    program = run_script(f"{IMPORTS}with raw(0, guard=True):\n    {READY}\n    {SLEEP}")
    program.read_until(b"ready")
    with open(f"/proc/{program.process.pid}/task/{program.process.pid}/children") as file:
        (watcher,) = file.read().split()

    def fields() -> list[str]:
        with open(f"/proc/{watcher}/stat") as file:
            return file.read().rpartition(")")[2].split()

    wait_until(lambda: fields()[0] == "S")
    assert fields()[3] == watcher  # its session
    first = [int(number) for number in fields()[11:13]]
    threading.Event().wait(0.2)
    assert [int(number) for number in fields()[11:13]] == first


def test_guard_needs_an_interpreter(peer: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an interpreter to run the watcher there is an error, and the terminal is as before."""
    monkeypatch.setattr(sys, "executable", "")
    before = save(peer)
    with pytest.raises(RuntimeError, match="needs a Python interpreter"), raw(peer, guard=True):
        pass
    assert save(peer) == before
