"""A process in the foreground: signals go on to it, its terminal is copied, its exit status is taken.

Source: docs/terminals.md of opencontainers/runc; signal(7).
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # signal makes enums of its constants: 4 ms
import os

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from types import FrameType

DETACHED = -1
# These are about this process itself, or can't be caught.
_OWN = frozenset({signal.SIGCHLD, signal.SIGURG, signal.SIGPIPE, signal.SIGKILL, signal.SIGSTOP})


def forward_signals(pidfd: int) -> None:
    """From here on sends each signal that this process gets to the process of a pidfd."""

    def forward(number: int, frame: FrameType | None) -> None:
        _forward(pidfd, number)

    for number in signal.valid_signals() - _OWN:
        try:
            signal.signal(number, forward)
        except (OSError, ValueError):
            continue  # libc keeps two of the real-time signals for itself


def _forward(pidfd: int, number: int) -> None:
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return


def attend(pid: int, pidfd: int, master: int = -1, detach_keys: bytes = b"") -> int:
    """Stays with a child of this process until it ends, or its user detaches.

    Args:
        pid: the child.
        pidfd: its descriptor.
        master: of its terminal, which is copied to this process's; -1 for none.
        detach_keys: what is typed to leave it running.

    Returns:
        Its exit status, 128 + N if signal N killed it; DETACHED.

    Raises:
        OSError: the terminal can't be read or written.
    """
    forward_signals(pidfd)
    if master >= 0 and not _copy(pid, pidfd, master, detach_keys):
        return DETACHED
    code = os.waitstatus_to_exitcode(_wait(pid, pidfd))
    return 128 - code if code < 0 else code


def _wait(pid: int, pidfd: int) -> int:
    # The signals themselves are waited for: a handler of one that came right before waitpid(2) would run after it.
    wanted = signal.valid_signals() - _OWN | {signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
    try:
        while True:
            reap_orphans(pid)
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return status
            number = signal.sigwait(wanted)
            if number != signal.SIGCHLD:
                _forward(pidfd, number)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _copy(pid: int, pidfd: int, master: int, detach_keys: bytes) -> bool:
    """Whether the process ended, rather than its user detached."""
    # Measured: 20 ms, and most containers have no terminal.
    from kernelproof.impl.term.copying import copy_terminal
    from kernelproof.impl.term.modes import raw
    from kernelproof.impl.term.relay import DETACHED as LEFT

    signal.signal(signal.SIGCHLD, lambda number, frame: reap_orphans(pid))
    if not os.isatty(0):
        ended = copy_terminal(master, detach_keys=detach_keys, pidfd=pidfd)
    else:
        with raw(0):
            ended = copy_terminal(master, detach_keys=detach_keys, pidfd=pidfd, resize=True)
    os.close(master)
    return ended.reason != LEFT


def reap_orphans(pid: int) -> None:
    """Waits for children that have ended, which came to this process as a subreaper; not for the one of this pid."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid == pid:
            return  # it is told as long as it is there, perhaps before others; but then the wait is over
        os.waitpid(ended.si_pid, 0)


def become_subreaper() -> None:
    """Makes this process the one to which orphans below it are given, so that it can wait for a container's process.

    Raises:
        OSError: what prctl(2) gives.

    Source: PR_SET_CHILD_SUBREAPER(2const).
    """
    from kernelproof.impl._syscalls.prctl import prctl  # only where a container is in the foreground

    prctl(36, 1)
