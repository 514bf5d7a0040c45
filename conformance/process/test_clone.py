"""clone(2) and fork(2): which flags go together, and what a child has of its parent."""

from __future__ import annotations

import fcntl
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernelproof import behaviour
from kernelproof.conformance.process.children import cloned
from kernelproof.conformance.process.procfs import fdinfo, open_flags, signals_in
from kernelproof.impl._syscalls.clones import check_clone
from kernelproof.impl._syscalls.namespaces import CloneFlag, clone3
from kernelproof.impl._syscalls.signals import MaskChange, Timer, change_signal_mask, kill, set_timer
from kernelproof.impl._syscalls.waiting import WaitOption, wait4

if TYPE_CHECKING:
    from kernelproof.conformance.conftest import Companion, InChild, Talk
    from kernelproof.conformance.seen import Seen

THREAD = CloneFlag.THREAD | CloneFlag.SIGHAND | CloneFlag.VM


@behaviour("process.clone3.thread-with-exit-signal")
def test_exit_signal_of_a_thread(in_child: InChild, seen: Seen) -> None:
    """A thread or a sibling with an exit signal gives EINVAL, and without one is accepted."""
    flags = (THREAD, CloneFlag.PARENT)

    def ask(number: int) -> list[str]:
        return [seen.errno_of(check_clone, each, exit_signal=number) for each in flags]

    assert seen(in_child(lambda: [ask(0), ask(signal.SIGCHLD)])) == [["no error"] * 2, ["EINVAL"] * 2]


@behaviour("process.clone3.sighand-needs-vm")
def test_signal_handlers_without_memory(seen: Seen) -> None:
    """Shared signal handlers without shared memory give EINVAL."""
    flags = (CloneFlag.SIGHAND | CloneFlag.VM, CloneFlag.SIGHAND)
    assert seen([seen.errno_of(check_clone, each) for each in flags]) == ["no error", "EINVAL"]


@behaviour("process.clone3.detached-rejected")
def test_detached(seen: Seen) -> None:
    """The obsolete flag CLONE_DETACHED gives EINVAL."""
    assert seen([seen.errno_of(check_clone, each) for each in (0, CloneFlag.DETACHED)]) == ["no error", "EINVAL"]


@behaviour("process.clone3.no-exit-signal-needs-wall")
def test_child_without_exit_signal(in_child: InChild, seen: Seen) -> None:
    """A child without exit signal is waited for with __WALL only."""

    def wait() -> list[Any]:
        child = clone3(0, exit_signal=0).pid
        if child == 0:
            os._exit(7)
        return [seen.errno_of(wait4, child), wait4(child, WaitOption.ALL)[1] >> 8]

    assert seen(in_child(wait)) == ["ECHILD", 7]


@behaviour("process.clone3.pidfd-close-on-exec")
def test_descriptor_of_a_child(in_child: InChild, seen: Seen) -> None:
    """The descriptor that clone3 makes is close-on-exec."""

    def make() -> bool:
        child = clone3(CloneFlag.PIDFD)
        if child.pid == 0:
            os._exit(0)
        assert int(fdinfo(child.pidfd)["Pid"]) == child.pid
        return bool(open_flags(child.pidfd) & os.O_CLOEXEC)

    assert seen(in_child(make)) is True


@behaviour("process.fork.no-pending-signals")
def test_pending_signals_of_a_child(in_child: InChild, companion: Companion, seen: Seen) -> None:
    """A child has no pending signal, though its parent has one that both block."""

    def look() -> list[Any]:
        change_signal_mask(MaskChange.BLOCK, {signal.SIGUSR1})
        kill(os.getpid(), signal.SIGUSR1)
        child = companion(lambda talk: talk.ask(), cloned)
        child.hear()
        return [sorted(signals_in(name, pid)) for pid in (os.getpid(), child.pid) for name in ("ShdPnd", "SigBlk")]

    number = [int(signal.SIGUSR1)]
    assert seen(in_child(look)) == [number, number, [], number]


@behaviour("process.fork.no-timers")
def test_timers_of_a_child(in_child: InChild, companion: Companion, seen: Seen) -> None:
    """The signal of a timer that was set before a fork comes to the parent alone."""

    def look() -> list[Any]:
        change_signal_mask(MaskChange.BLOCK, {signal.SIGALRM})
        set_timer(Timer.REAL, 50_000)
        child = companion(lambda talk: talk.ask(signal.getitimer(signal.ITIMER_REAL)), cloned)
        running = child.hear()
        came = signal.sigtimedwait({signal.SIGALRM}, 30)
        return [running, came is not None, sorted(signals_in("ShdPnd", child.pid))]

    assert seen(in_child(look)) == [[0.0, 0.0], True, []]


@behaviour("process.fork.no-record-locks")
def test_record_locks_of_a_child(in_child: InChild, companion: Companion, tmp_path: Path, seen: Seen) -> None:
    """A child does not hold its parent's record lock: it can't have it itself, and loses it to nobody."""

    def look() -> Any:
        fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        fcntl.lockf(fd, fcntl.LOCK_EX)
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # who holds it may have it again
        return companion(lambda talk: talk.say(seen.errno_of(fcntl.lockf, fd, fcntl.LOCK_EX | fcntl.LOCK_NB)), cloned)

    assert seen(in_child(lambda: look().hear())) == "EAGAIN"


@behaviour("process.fork.flock-inherited")
def test_flock_of_a_child(companion: Companion, tmp_path: Path, seen: Seen) -> None:
    """A lock of flock stays until parent and child have closed the descriptor."""
    path = tmp_path / "file"
    path.touch()

    def hold(talk: Talk) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(fd, fcntl.LOCK_EX)
        child = companion(lambda talk: close(talk, fd), cloned)
        talk.ask()
        os.close(fd)
        talk.ask()
        child.ask()
        talk.ask()

    def close(talk: Talk, fd: int) -> None:
        talk.hear()
        os.close(fd)
        talk.ask()

    holder = companion(hold)
    holder.hear()
    with path.open("rb") as file:
        answers = [seen.errno_of(fcntl.flock, file, fcntl.LOCK_EX | fcntl.LOCK_NB)]
        for _ in range(2):
            holder.ask()
            answers.append(seen.errno_of(fcntl.flock, file, fcntl.LOCK_EX | fcntl.LOCK_NB))
    assert seen(answers) == ["EAGAIN", "EAGAIN", "no error"]


@behaviour("process.fork.shared-offset")
def test_inherited_descriptor(in_child: InChild, companion: Companion, tmp_path: Path, seen: Seen) -> None:
    """An inherited descriptor has offset and status flags in common with the parent's."""
    path = tmp_path / "file"
    path.write_bytes(b"content")

    def change(talk: Talk, fd: int) -> None:
        os.lseek(fd, 5, os.SEEK_SET)
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
        talk.say()

    def look() -> list[Any]:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        companion(lambda talk: change(talk, fd), cloned).hear()
        return [os.lseek(fd, 0, os.SEEK_CUR), bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND)]

    assert seen(in_child(look)) == [5, True]
