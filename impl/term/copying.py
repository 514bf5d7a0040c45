"""Copy between a master and the local terminal until one of them ends: one loop, by poll.

    with PseudoterminalPair.open(read_window_size(0)) as pair, pair.spawn(["sh"]) as process, raw(0, guard=True):
        ended = copy_terminal(pair.master, 0, 1, resize=True, pidfd=process.pidfd)

The loop waits in the kernel and nowhere else: no processor time when nothing happens, one wake-up for a key.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType

from kernelproof.impl.term.calls import IS_LINUX, poll_until
from kernelproof.impl.term.detach import HOLD_SECONDS, DetachMatcher
from kernelproof.impl.term.relay import TIMED_OUT, Ended, Relay
from kernelproof.impl.term.states import set_blocking
from kernelproof.impl.term.window import read_window_size, set_window_size

_MULTIPLEXER = (5, 2)  # Linux: opening it again is another master


def copy_terminal(
    master: int,
    stdin: int = 0,
    stdout: int = 1,
    *,
    detach_keys: bytes = b"",
    hold_seconds: float = HOLD_SECONDS,
    resize: bool = False,
    pidfd: int | None = None,
    send_end: bool = True,
    on_output: Callable[[bytes], object] | None = None,
    timeout_seconds: float | None = None,
) -> Ended:
    """Copy stdin to a master and the master to stdout until the master is hung up, and return why it ended.

    The terminal's mode is the caller's: see raw(). Other open files are left as they were, also whether they block.

    Args:
        master: descriptor of a master.
        stdin: where input comes from; at its end the copy goes on.
        stdout: where output goes. Who does not take it holds up the program, not the input.
        detach_keys: sequence that ends the copy; the bytes of parse_keys.
        hold_seconds: how long a beginning of it is held back.
        resize: give the master the window size of stdin, now and whenever it changes. Only in the main thread, as it
            takes SIGWINCH and SIGCONT for that time; the handlers that were there are called too.
        pidfd: a process whose end ends the copy, after what it wrote.
        send_end: at the end of stdin, type the peer's end-of-file character, if it reads lines and has one; twice if
            the last line had no end.
        on_output: gets what was read from the master, before it is written; say a recorder's `output`.
        timeout_seconds: end after that time.

    Raises:
        OSError: what read(2), write(2) and poll(2) give, but what only says that a side has ended: EIO and EPIPE.
        ValueError: resize outside the main thread.
        Exception: what on_output raises.
    """
    with prepared(
        master,
        stdin,
        stdout,
        detach_keys=detach_keys,
        hold_seconds=hold_seconds,
        resize=resize,
        pidfd=pidfd,
        send_end=send_end,
        on_output=on_output,
        timeout_seconds=timeout_seconds,
    ) as (relay, follower, deadline):
        return _run(relay, deadline, follower)


proxy = copy_terminal


@contextmanager
def prepared(
    master: int,
    stdin: int,
    stdout: int,
    *,
    detach_keys: bytes,
    hold_seconds: float,
    resize: bool,
    pidfd: int | None,
    send_end: bool,
    on_output: Callable[[bytes], object] | None,
    timeout_seconds: float | None,
) -> Iterator[tuple[Relay, Follower | None, float | None]]:
    """Give what a copy is driven with, its deadline too, on descriptors that do not block; they are put back after it.

    Raises as copy_terminal.
    """
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    with ExitStack() as stack:
        stack.enter_context(non_blocking_master(master))
        source = stack.enter_context(non_blocking(stdin, os.O_RDONLY))
        sink = stack.enter_context(non_blocking(stdout, os.O_WRONLY))
        matcher = DetachMatcher(detach_keys, hold_seconds) if detach_keys else None
        relay = Relay(master, source, sink, matcher=matcher, pidfd=pidfd, send_end=send_end, on_output=on_output)
        yield relay, stack.enter_context(Follower(stdin, master)) if resize else None, deadline


def _run(relay: Relay, deadline: float | None, follower: Follower | None) -> Ended:
    waiter = _Waiter()
    while (ended := relay.ended) is None:
        wanted = relay.interests()
        if follower is not None:
            wanted[follower.fd] = select.POLLIN
        due = min((each for each in (relay.deadline(), deadline) if each is not None), default=None)
        ready = waiter.wait(wanted, due)
        now = time.monotonic()
        for fd, events in ready:
            if follower is not None and fd == follower.fd:
                follower.follow()
            else:
                relay.handle(fd, events, now)
        relay.tick(now)
        if deadline is not None and now >= deadline:
            relay.stop(TIMED_OUT)
    return ended


class _Waiter:
    """poll(2) that is told of changes only."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._registered: dict[int, int] = {}

    def wait(self, wanted: dict[int, int], due: float | None) -> list[tuple[int, int]]:
        if wanted != self._registered:
            for fd in self._registered.keys() - wanted.keys():
                self._poll.unregister(fd)
            for fd in wanted:
                self._poll.register(fd, wanted[fd])
            self._registered = wanted
        # A millisecond more than is left: not to wake up right before the time, and again.
        return poll_until(self._poll, None if due is None else due + 0.001)


@contextmanager
def non_blocking_master(master: int) -> Iterator[None]:
    """Make a master non-blocking for the time of the block."""
    before = set_blocking(master, False)
    try:
        yield
    finally:
        set_blocking(master, before)


@contextmanager
def non_blocking(fd: int, access: int) -> Iterator[int]:
    """Give a descriptor of the same file that does not block, and leave other descriptors of it alone if possible.

    Whether reads wait belongs to the open file, which the shell and others share: a program that dies leaves them a
    terminal that gives EAGAIN. So a terminal or pipe is opened anew, where the system can; else the flag is set, and
    set back at the end.
    """
    found = os.fstat(fd)
    if stat.S_ISREG(found.st_mode) or not os.get_blocking(fd):
        yield fd  # a regular file never blocks, and has an offset to keep
        return
    is_master = stat.S_ISCHR(found.st_mode) and (os.major(found.st_rdev), os.minor(found.st_rdev)) == _MULTIPLEXER
    own = _open_again(fd, access) if IS_LINUX and not is_master else None
    if own is not None:
        try:
            yield own
        finally:
            os.close(own)
        return
    os.set_blocking(fd, False)
    try:
        yield fd
    finally:
        os.set_blocking(fd, True)


def _open_again(fd: int, access: int) -> int | None:
    try:
        return os.open(f"/proc/self/fd/{fd}", access | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        # A socket; another user's terminal; no proc; a pipe whose other end is gone; a device that opens once only.
        if error.errno not in (errno.ENXIO, errno.EACCES, errno.ENOENT, errno.EPERM, errno.EBUSY, errno.EIO):
            raise
        return None


class Follower:
    """Keeps a master's window size that of a terminal, by SIGWINCH, and by SIGCONT after a stop.

    The handler writes one byte and nothing more; `follow` does the work when `fd` is readable. A handler runs between
    two instructions, too late for who has just begun to wait: so Python writes one too when the signal comes, if no
    event loop has asked for that already.
    """

    def __init__(self, terminal: int, master: int) -> None:
        self._terminal = terminal
        self._master = master
        self._before: dict[int, Callable[[int, FrameType | None], object] | int | signal.Handlers | None] = {}

    def __enter__(self) -> Follower:
        """Set the size, and take the signals. Raises ValueError outside the main thread."""
        self.fd, self._writing = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._writing, False)
        try:
            for number in (signal.SIGWINCH, signal.SIGCONT):
                self._before[number] = signal.signal(number, self._handle)
            if (other := signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)) != -1:
                signal.set_wakeup_fd(other)
            self.follow()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._before and (other := signal.set_wakeup_fd(-1)) != self._writing:
            signal.set_wakeup_fd(other)
        for number, before in self._before.items():
            if signal.getsignal(number) == self._handle:  # else somebody has put his own there since
                signal.signal(number, signal.SIG_DFL if before is None else before)
        os.close(self.fd)
        os.close(self._writing)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        with suppress(BlockingIOError):  # full: it will be looked at anyway
            os.write(self._writing, b"!")
        before = self._before.get(number)
        if callable(before):
            before(number, frame)

    def follow(self) -> None:
        """Give the master the terminal's size."""
        with suppress(BlockingIOError):
            os.read(self.fd, 4096)
        try:
            set_window_size(self._master, read_window_size(self._terminal))
        except OSError as error:
            if error.errno not in (errno.EIO, errno.ENOTTY):
                raise  # else hung up, or no terminal: there is no size to follow
