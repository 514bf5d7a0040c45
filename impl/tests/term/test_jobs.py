"""Modes and job control: stopped, in the background, going on."""

from __future__ import annotations

import signal

import pytest

from kernelproof.impl.term import (
    raw,
)
from kernelproof.impl.tests.term.scripts import IMPORTS, Run

# T6: job control.

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
    signal.set_wakeup_fd(writing)
    with BLOCK:
        while True:
            ready = select.select([in_job, reading], [], [])[0]
            if reading in ready: os.read(reading, 100)
            if in_job in ready: os.write(out_job, os.read(in_job, 1))
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
