"""A terminal in another mode for the time of a block, and back after it, whatever happens.

    with raw(0):
        key = os.read(0, 1)

The state that the block found is put back at its end and on exceptions, so blocks nest. Signals are left alone unless
they are named; with `guard`, a small process puts the terminal back even after SIGKILL.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Iterable
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, TypeAlias

from kernelproof.impl.term.guard import Guard
from kernelproof.impl.term.states import (
    NOW,
    TermState,
    make_cbreak_state,
    make_no_echo_state,
    make_raw_state,
    restore,
    save,
    set_blocking,
)
from kernelproof.impl.term.window import WindowSize, read_window_size

if TYPE_CHECKING:
    pass

Handler: TypeAlias = "Callable[[int, FrameType | None], object] | int | signal.Handlers | None"
OnResume: TypeAlias = "Callable[[WindowSize], object] | None"


class Mode:
    """A terminal in another mode for the time of a block.

    Args:
        fd: the terminal.
        make: makes the state for the block from the one found.
        guard: start a process that puts the terminal back if this one is killed, or replaced by exec. Within a guarded
            block of the same terminal that block's is enough: what the outermost one found comes back.
        leave: what that process writes to the terminal then, say guard.LEAVE.
        signals: on which the terminal is put back before what would have happened happens. After SIGTSTP, and after
            handlers that return, the mode is set again, in the foreground only. Only the main thread may name signals.
        on_resume: called with the window size, which may be another one, when the program goes on after a stop.
        when: NOW, DRAIN or FLUSH, as for restore.
    """

    def __init__(
        self,
        fd: int,
        make: Callable[[TermState], TermState],
        *,
        guard: bool = False,
        leave: bytes = b"",
        signals: Iterable[int] = (),
        on_resume: OnResume = None,
        when: int = NOW,
    ) -> None:
        self._given = fd
        self._make = make
        self._with_guard = guard
        self._leave = leave
        self._signals = tuple(signal.Signals(number) for number in signals)
        self._on_resume = on_resume
        self._when = when
        self._before: dict[int, Handler] = {}
        self._is_entered = False

    def __enter__(self) -> TermState:
        """Set the mode and return the state that was found.

        Raises:
            OSError: ENOTTY no terminal; EBADF; EIO hung up; what starting the guard gives.
            ValueError: signals outside the main thread.
            RuntimeError: the block was entered already; make another one to nest.
        """
        if self._is_entered:
            raise RuntimeError("this block was entered already")
        # A descriptor of our own: the caller's number may be another file at the end of the block.
        self._fd = os.dup(self._given)
        try:
            self._saved = save(self._fd)
            self._blocking = os.get_blocking(self._fd)
            self._wanted = self._make(self._saved)
            self._guard = Guard(self._fd, self._saved, self._blocking, self._leave) if self._with_guard else None
        except BaseException:
            os.close(self._fd)
            raise
        try:
            self._is_entered = True
            self._install()
            restore(self._fd, self._wanted, self._when)
        except BaseException:
            self._end()
            raise
        return self._saved

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        self._is_entered = False  # from here on a signal's handler does not set the mode again
        try:
            self._put_back()
        finally:
            # Only now: a signal until here still finds its handler, and a kill the watcher.
            self._uninstall()
            if self._guard is not None:
                self._guard.end()
            os.close(self._fd)

    def _put_back(self) -> None:
        try:
            restore(self._fd, self._saved)
        except OSError as error:
            if error.errno != errno.EIO:  # a terminal that was hung up has no state
                raise
        set_blocking(self._fd, self._blocking)

    def _install(self) -> None:
        stops = {signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
        more = {signal.SIGCONT} if stops & set(self._signals) else set()
        for number in dict.fromkeys((*self._signals, *more)):
            handler = self._continue if number == signal.SIGCONT else self._handle
            self._before[number] = signal.signal(number, handler)

    def _uninstall(self) -> None:
        for number, before in self._before.items():
            ours = self._continue if number == signal.SIGCONT else self._handle
            if signal.getsignal(number) == ours:  # else somebody has put his own there since
                signal.signal(number, signal.SIG_DFL if before is None else before)
        self._before.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """Put the terminal back, let happen what would have happened, and if that returns set the mode again."""
        self._put_back()
        before = self._before.get(number)
        if callable(before):
            before(number, frame)
        elif before != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
            signal.signal(number, self._handle)  # here only after a stop, or if the default is to do nothing
        self._set_again()

    def _continue(self, number: int, frame: FrameType | None) -> None:
        before = self._before.get(number)
        if callable(before):
            before(number, frame)
        if self._set_again() and self._on_resume is not None:
            self._on_resume(read_window_size(self._fd))

    def _set_again(self) -> bool:
        if not self._is_entered:
            return False
        # In the background the terminal belongs to the shell; SIGCONT comes again with the foreground.
        try:
            is_ours = os.tcgetpgrp(self._fd) == os.getpgrp()
        except OSError:
            is_ours = True  # not our controlling terminal, so nobody's background
        if is_ours:
            restore(self._fd, self._wanted)
        return is_ours


def raw(
    fd: int,
    *,
    keep_output_processing: bool = False,
    guard: bool = False,
    leave: bytes = b"",
    signals: Iterable[int] = (),
    on_resume: OnResume = None,
    when: int = NOW,
) -> Mode:
    """Return a block in raw mode; see make_raw_state and Mode."""
    return Mode(
        fd,
        lambda state: make_raw_state(state, keep_output_processing=keep_output_processing),
        guard=guard,
        leave=leave,
        signals=signals,
        on_resume=on_resume,
        when=when,
    )


def cbreak(
    fd: int,
    *,
    guard: bool = False,
    leave: bytes = b"",
    signals: Iterable[int] = (),
    on_resume: OnResume = None,
    when: int = NOW,
) -> Mode:
    """Return a block in which keys come at once and without echo, and still make signals; see Mode."""
    return Mode(fd, make_cbreak_state, guard=guard, leave=leave, signals=signals, on_resume=on_resume, when=when)


def no_echo(
    fd: int, *, guard: bool = False, signals: Iterable[int] = (), on_resume: OnResume = None, when: int = NOW
) -> Mode:
    """Return a block without echo, for a password; see Mode. FLUSH drops what was typed before it."""
    return Mode(fd, make_no_echo_state, guard=guard, signals=signals, on_resume=on_resume, when=when)


echo_disabled = no_echo
