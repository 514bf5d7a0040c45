"""Starts QEMU so that it never outlives whoever started it, and reaps it with what it used.

A QEMU is forked from one that is linked already: see `kernelproof.vm.linked`. Where that can't be had it gets
`PR_SET_PDEATHSIG` SIGKILL from setpriv(1): no code of ours runs between fork and exec. The signal comes when the
*thread* that forked ends, so one thread forks all. A starter that died before the child asked for the signal never
sends it; so the child looks, once it has asked, whether that is still its parent.
"""

from __future__ import annotations

import logging
import os
import resource
import shutil
import signal
import socket
import subprocess
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TypeVar, cast

from kernelproof.vm.errors import ProvisionError
from kernelproof.vm.linked import Linked, NotLinked
from kernelproof.vm.standing import Standing
from kernelproof.vm.tracee import TraceeEnded

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a machine took of its host.

    Args:
        cpu_seconds: User and system time of QEMU, from wait4(2); of a fork with what the fork took of its stem.
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


class _Forks:
    """How the one thread starts processes; used by it alone."""

    def __init__(self) -> None:
        self._linked: dict[tuple[str, tuple[tuple[str, str], ...]], Linked | None] = {}

    def start(
        self, command: Sequence[str], descriptors: Sequence[int], errors: int, environment: Mapping[str, str]
    ) -> int:
        for _ in range(2):  # once more if the linked process was killed
            linked = self._find(command[0], environment)
            if linked is None:
                break
            try:
                return linked.spawn(command, descriptors, errors)
            except TraceeEnded:
                linked.close()
        return _start_plainly(command, descriptors, errors, environment)

    def _find(self, executable: str, environment: Mapping[str, str]) -> Linked | None:
        key = (executable, tuple(sorted(environment.items())))
        found = self._linked.get(key)
        if key not in self._linked or (found is not None and found.closed):
            try:
                self._linked[key] = Linked.start(executable, environment)
            except NotLinked as error:
                logging.getLogger(__name__).info("each machine links its QEMU anew: %s", error)
                self._linked[key] = None
        return self._linked[key]

    def close(self) -> None:
        for linked in self._linked.values():
            if linked is not None:
                linked.close()


def _start_plainly(
    command: Sequence[str], descriptors: Sequence[int], errors: int, environment: Mapping[str, str]
) -> int:
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise ProvisionError("start machine", "setpriv", "not found", "install util-linux")
    process = subprocess.Popen(
        (setpriv, "--pdeathsig", "KILL", "--", _SHELL, "-c", GUARD, str(os.getpid()), *command),
        stdin=subprocess.DEVNULL,
        stdout=errors,
        stderr=errors,
        pass_fds=tuple(descriptors),
        start_new_session=True,
        env=dict(environment),
    )
    process.returncode = 0  # reaped by wait4, not by Popen
    return process.pid


_Job = Callable[[_Forks], None]


def _work(jobs: SimpleQueue[_Job | None]) -> None:
    forks = _Forks()
    try:
        while (job := jobs.get()) is not None:
            job(forks)
            del job  # it may hold a child, and that the spawner: neither would ever end
    finally:
        forks.close()


class Spawner:
    """One thread that forks all children of its owner; the thread lasts as long as anyone holds the spawner."""

    def __init__(self) -> None:
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
        began = time.monotonic()
        pid = self._do(lambda forks: forks.start(command, descriptors, errors, environment))
        return self._adopt(pid, began)

    def stand(self, child: Child, sending: socket.socket, receiving: int, places: Sequence[Sequence[int]]) -> Standing:
        """Stop a child for good, so that others can be forked from it; its end is no longer the `Child`'s matter.

        Args:
            child: It was spawned here.
            sending: As for `Standing.stop`; so are the others.
            receiving: Likewise.
            places: Likewise.

        Raises:
            NotStanding: the child is gone then.
        """
        child.give_up()
        return self._do(lambda forks: Standing.stop(child.pid, sending, receiving, places, self))

    def fork(self, standing: Standing, descriptors: Sequence[int]) -> Child:
        """Fork a process from one that stands.

        Args:
            standing: Made by `stand`.
            descriptors: As for `Standing.fork`.

        Raises:
            NotStanding, OSError: as there.
        """
        began = time.monotonic()
        pid, seconds = self._do(lambda forks: standing.fork(descriptors))
        return self._adopt(pid, began, seconds)

    def _adopt(self, pid: int, began: float, seconds: float = 0.0) -> Child:
        child = Child(pid, self, began, seconds)
        self._children.add(child)
        return child

    def _do(self, act: Callable[[_Forks], T]) -> T:
        """Let the one thread act."""
        answer: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()

        def answer_it(forks: _Forks) -> None:
            try:
                answer.put((act(forks), None))
            except BaseException as error:  # noqa: BLE001 - raised again in the thread that asked
                answer.put((None, error))

        self._jobs.put(answer_it)
        result, error = answer.get()
        if error is not None:
            raise error
        return cast("T", result)

    def kill(self) -> None:
        """Kill all children, from any thread; who waits for one sees its end and reaps it."""
        for child in list(self._children):
            child.kill()


class Child:
    """A started process, killed and reaped when it is closed or forgotten.

    Args:
        pid: Of a process that just started and was not yet waited for.
        spawner: Kept alive, because the end of its thread would kill the process.
        began: When it was asked for, by the monotonic clock.
        seconds: Processor time that another process took to make it.
    """

    def __init__(self, pid: int, spawner: Spawner, began: float, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.pid = pid
        try:
            self.pidfd = os.pidfd_open(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        self._spawner = spawner
        self._began = began
        self._usage: Usage | None = None
        self._reap = weakref.finalize(self, _kill_and_reap, self.pid, self.pidfd)

    def kill(self) -> None:
        """Kill it if it still runs; it is not reaped."""
        if self._usage is None:
            with suppress(OSError):  # it was reaped at this moment
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def give_up(self) -> None:
        """Leave its end to another."""
        self._reap.detach()
        os.close(self.pidfd)
        self._usage = Usage(0.0, 0.0, 0, 0)

    def close(self) -> Usage:
        """Kill it if it still runs, reap it, and say what it used; again and again the same."""
        if self._usage is None:
            ended = self._reap()
            if ended is None:
                raise RuntimeError(f"process {self.pid} was reaped at interpreter exit")
            status, used = ended
            cpu_seconds = self.seconds + used.ru_utime + used.ru_stime
            self._usage = Usage(cpu_seconds, time.monotonic() - self._began, used.ru_maxrss * 1024, status)
        return self._usage


def _kill_and_reap(pid: int, pidfd: int) -> tuple[int, resource.struct_rusage]:
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)  # one that ended already takes it too
    _, status, used = os.wait4(pid, 0)
    os.close(pidfd)
    return status, used
