"""Signals that can be read: in the pipe when they come, not when a handler gets to run."""

from __future__ import annotations

import os
import select
import signal
import threading

from kernelproof.cli.signals import SignalPipe

NUMBERS = (signal.SIGUSR1, signal.SIGUSR2)


def test_signal_is_there_before_a_handler_could_run() -> None:
    """While the main thread runs no instruction of Python, a signal is in the pipe."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)
    readable: list[bool] = []

    def send() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, NUMBERS)
        select.select([], [], [], 0.2)  # the main thread waits for us by then
        os.kill(os.getpid(), signal.SIGUSR1)
        readable.append(bool(select.select([pipe], [], [], 60)[0]))

    try:
        with SignalPipe(NUMBERS) as pipe:
            thread = threading.Thread(target=send)
            thread.start()
            thread.join()
            assert pipe.take() == [signal.SIGUSR1]
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert readable == [True]


def test_others_signals_are_not_in_it() -> None:
    """A signal that somebody else has a handler for is not taken, and all is as before after the block."""
    seen: list[int] = []
    kept = signal.signal(signal.SIGUSR2, lambda number, _: seen.append(number))
    first = signal.getsignal(signal.SIGUSR1)
    try:
        with SignalPipe([signal.SIGUSR1]) as pipe:
            for number in (signal.SIGUSR2, signal.SIGUSR1):
                signal.raise_signal(number)
            pipe.put(signal.SIGUSR1)
            assert pipe.take() == [signal.SIGUSR1] * 2
            assert pipe.take() == []
    finally:
        signal.signal(signal.SIGUSR2, kept)
    assert seen == [signal.SIGUSR2]
    assert signal.getsignal(signal.SIGUSR1) == first
    assert signal.set_wakeup_fd(-1) == -1
