"""Starts QEMU so that it never outlives whoever started it, and reaps it with what it used.

A QEMU gets `PR_SET_PDEATHSIG` SIGKILL from setpriv(1): no code of ours runs between fork and exec. That signal comes
when the *thread* that forked ends, so one thread forks all. A starter that died before the child asked for the signal
never sends it; so the child looks, once it has asked, whether that is still its parent.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue

from kernelproof.vm.errors import ProvisionError


@dataclass(frozen=True, slots=True)
class Usage:
    """What a machine took of its host.

    Args:
        cpu_seconds: User and system time of QEMU, from wait4(2).
        wall_seconds: From before the fork to after the reaping.
        peak_bytes: Largest resident set of QEMU, the shared template memory that it touched included.
        status: The wait status; `os.waitstatus_to_exitcode` reads it.
    """

    cpu_seconds: float
    wall_seconds: float
    peak_bytes: int
    status: int


# Run by sh(1) after setpriv, with the starter's PID as $0. QEMU opens its memory through the starter's `/proc/PID/fd`,
# and would end without it; but a starter that is being killed has that for a moment longer than it has children.
GUARD = 'unset PWD OLDPWD SHLVL; [ "$PPID" = "$0" ] && exec "$@"'  # (unset: what the shell itself adds)
_SHELL = "/bin/sh"

_Job = Callable[[], None]


def _work(jobs: SimpleQueue[_Job | None]) -> None:
    while (job := jobs.get()) is not None:
        job()


class Spawner:
    """One thread that forks all children of its owner; the thread lasts as long as anyone holds the spawner."""

    def __init__(self) -> None:
        self._setpriv = shutil.which("setpriv")
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._children: weakref.WeakSet[Child] = weakref.WeakSet()
        threading.Thread(target=_work, args=(self._jobs,), name="kernelproof-spawner", daemon=True).start()
        weakref.finalize(self, self._jobs.put, None).atexit = False

    def spawn(
        self, command: Sequence[str], *, descriptors: Sequence[int], errors: int, environment: Mapping[str, str]
    ) -> Child:
        """Start `command` in a session of its own, so that a Ctrl-C at the terminal does not reach it.

        Args:
            command: Argument vector; the first is an absolute path.
            descriptors: Those that the child inherits, under their numbers.
            errors: Descriptor for the child's stdout and stderr.
            environment: All of the child's environment.

        Raises:
            ProvisionError: setpriv(1) is absent.
            OSError: as fork(2) refuses: EAGAIN, ENOMEM.
        """
        setpriv = self._setpriv
        if setpriv is None:
            raise ProvisionError("start machine", "setpriv", "not found", "install util-linux")
        answer: SimpleQueue[subprocess.Popen[bytes] | BaseException] = SimpleQueue()

        def fork() -> None:
            try:
                process = subprocess.Popen(
                    (setpriv, "--pdeathsig", "KILL", "--", _SHELL, "-c", GUARD, str(os.getpid()), *command),
                    stdin=subprocess.DEVNULL,
                    stdout=errors,
                    stderr=errors,
                    pass_fds=tuple(descriptors),
                    start_new_session=True,
                    env=dict(environment),
                )
            except BaseException as error:  # noqa: BLE001 - raised again in the thread that asked
                answer.put(error)
            else:
                answer.put(process)

        began = time.monotonic()
        self._jobs.put(fork)
        started = answer.get()
        if isinstance(started, BaseException):
            raise started
        child = Child(started, self, began)
        self._children.add(child)
        return child

    def kill(self) -> None:
        """Kill all children, from any thread; who waits for one sees its end and reaps it."""
        for child in list(self._children):
            child.kill()


class Child:
    """A started process, killed and reaped when it is closed or forgotten.

    Args:
        process: Just started and not yet waited for.
        spawner: Kept alive, because the end of its thread would kill the process.
        began: When it was asked for, by the monotonic clock.
    """

    def __init__(self, process: subprocess.Popen[bytes], spawner: Spawner, began: float) -> None:
        self.pid = process.pid
        self.pidfd = os.pidfd_open(process.pid)
        process.returncode = 0  # reaped below by wait4, not by Popen
        self._spawner = spawner
        self._began = began
        self._usage: Usage | None = None
        self._reap = weakref.finalize(self, _kill_and_reap, self.pid, self.pidfd)

    def kill(self) -> None:
        """Kill it if it still runs; it is not reaped."""
        if self._usage is None:
            with suppress(OSError):  # it was reaped at this moment
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def close(self) -> Usage:
        """Kill it if it still runs, reap it, and say what it used; again and again the same."""
        if self._usage is None:
            ended = self._reap()
            if ended is None:
                raise RuntimeError(f"process {self.pid} was reaped at interpreter exit")
            status, used = ended
            cpu_seconds = used.ru_utime + used.ru_stime
            self._usage = Usage(cpu_seconds, time.monotonic() - self._began, used.ru_maxrss * 1024, status)
        return self._usage


def _kill_and_reap(pid: int, pidfd: int) -> tuple[int, resource.struct_rusage]:
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)  # one that ended already takes it too
    _, status, used = os.wait4(pid, 0)
    os.close(pidfd)
    return status, used
