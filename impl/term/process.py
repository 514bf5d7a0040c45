"""A program on a terminal of its own: started without fork, waited for by descriptor.

posix_spawn makes the child in a new session and opens the terminal as its first file, without O_NOCTTY: that makes it
the controlling terminal, at its right size, with no Python in between and nothing that threads could break.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

from kernelproof.impl.term.calls import IS_LINUX, LONGEST_MILLISECONDS, poll_until

if TYPE_CHECKING:
    from typing import Self


class Process:
    """A child process; a context manager that closes its descriptor.

    Attributes:
        pid: its process id, which is also that of its session and its first process group.
        pidfd: a descriptor that becomes readable when it ends, None where the system has no such thing.
    """

    __slots__ = ("_status", "pid", "pidfd")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
        self._status: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor. The process is neither ended nor waited for."""
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None

    @property
    def returncode(self) -> int | None:
        """How it ended, as far as `wait` has seen: its exit status, or 128 and the number of the signal."""
        return self._status

    def wait(self, timeout_seconds: float | None = None) -> int:
        """Wait until it ends, and return its exit status, or 128 and the number of the signal that ended it.

        Raises:
            TimeoutError: it did not end in time.
            OSError: ECHILD somebody else has waited for it.
        """
        if self._status is None:
            deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
            self._wait_until_ended(deadline)
            _, status = os.waitpid(self.pid, 0)
            code = os.waitstatus_to_exitcode(status)
            self._status = code if code >= 0 else 128 - code
        return self._status

    def _wait_until_ended(self, deadline: float | None) -> None:
        if deadline is None:
            return  # waitpid waits
        if self.pidfd is not None:
            poll = select.poll()
            poll.register(self.pidfd, select.POLLIN)
            ended = bool(poll_until(poll, deadline))
        else:
            ended = _wait_by_kqueue(self.pid, deadline)
        if not ended:
            raise TimeoutError(f"process {self.pid} did not end in time")

    def send_signal(self, number: int) -> None:
        """Send a signal to the process. One that has ended takes none, and that is no error.

        Raises:
            OSError: EPERM; EINVAL no such signal.
        """
        if self._status is not None:
            return
        try:
            if self.pidfd is not None and hasattr(signal, "pidfd_send_signal"):
                signal.pidfd_send_signal(self.pidfd, number)
            else:
                os.kill(self.pid, number)
        except ProcessLookupError:
            return


def _wait_by_kqueue(pid: int, deadline: float) -> bool:
    bsd: Any = select  # what these systems have in it
    if not hasattr(bsd, "kqueue"):
        raise NotImplementedError("waiting with a timeout needs pidfd_open or kqueue")
    queue = bsd.kqueue()
    try:
        flags = bsd.KQ_EV_ADD | bsd.KQ_EV_ONESHOT
        event = bsd.kevent(pid, bsd.KQ_FILTER_PROC, flags, bsd.KQ_NOTE_EXIT)
        longest = LONGEST_MILLISECONDS / 1000
        while not queue.control([event], 1, min(left := max(0.0, deadline - time.monotonic()), longest)):
            if left <= longest:
                return False
        return True
    except ProcessLookupError:
        return True
    finally:
        queue.close()


def spawn_on(
    terminal: str,
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    stderr: int | None = None,
    pass_fds: Sequence[int] = (),
) -> Process:
    """Start a program in a session of its own, with a terminal as controlling terminal, input and output.

    Args:
        terminal: path of the terminal; it is opened in the child.
        argv: the program, looked up in the PATH of `env`, and its arguments.
        env: its environment; None is this process's.
        cwd: its working directory; None is this process's.
        stderr: a descriptor for its errors; None is the terminal.
        pass_fds: descriptors above 2 that it is to have, which must be inheritable; it has no others.

    Raises:
        ValueError: no program.
        FileNotFoundError: it is not in the PATH.
        OSError: what execve(2), open(2) and chdir(2) give.
        NotImplementedError: this system's posix_spawn makes no session, or enters no directory.
    """
    if not argv:
        raise ValueError("no program to start")
    env = os.environ if env is None else env
    path = shutil.which(argv[0], path=env.get("PATH", os.defpath))
    if path is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), argv[0])
    if stderr is None or stderr > 2:
        return _spawn(path, terminal, argv, env, cwd, 0 if stderr is None else stderr, pass_fds)
    with above_standard(stderr) as copy:
        return _spawn(path, terminal, argv, env, cwd, copy, pass_fds)


def _spawn(
    path: str,
    terminal: str,
    argv: Sequence[str],
    env: Mapping[str, str],
    cwd: str | os.PathLike[str] | None,
    errors: int,
    pass_fds: Sequence[int],
) -> Process:
    # Its errors go to a descriptor whose place the terminal has not taken: 0, which it is itself, or one above 2.
    signals = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
    copies = [(0, 1), (errors, 2)]
    closed = [fd for fd in _inheritable() if fd not in pass_fds]
    if cwd is None:
        actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
            (os.POSIX_SPAWN_OPEN, 0, terminal, os.O_RDWR, 0),
            *((os.POSIX_SPAWN_DUP2, source, fd) for source, fd in copies),
            *((os.POSIX_SPAWN_CLOSE, fd) for fd in closed),
        ]
        pid = os.posix_spawn(path, list(argv), env, file_actions=actions, setsid=True, setsigmask=(), setsigdef=signals)
        return Process(pid)
    if not IS_LINUX:
        raise NotImplementedError("a working directory for the program: only on Linux")
    # Linux only, and only with a directory.
    from kernelproof.impl._syscalls.spawn import Close, Duplicate, FileAction, Open, spawn

    file_actions: list[FileAction] = [Open(0, terminal, os.O_RDWR)]
    file_actions += (Duplicate(source, fd) for source, fd in copies)
    file_actions += (Close(fd) for fd in closed)
    directory = os.fspath(cwd)
    return Process(
        spawn(os.path.abspath(path), argv, env, cwd=directory, file_actions=file_actions, default_signals=signals)
    )


@contextmanager
def above_standard(fd: int) -> Iterator[int]:
    """Give a copy of a descriptor above 2, where the actions of a spawn put nothing else in its place."""
    copy = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    try:
        yield copy
    finally:
        os.close(copy)


def _inheritable() -> list[int]:
    """Return the descriptors above 2 that a program would get: what this process inherited or made inheritable."""
    found = []
    for name in os.listdir("/dev/fd"):
        fd = int(name) if name.isdecimal() else 0
        with suppress(OSError):  # the directory itself, closed by now
            if fd > 2 and os.get_inheritable(fd):
                found.append(fd)
    return found
