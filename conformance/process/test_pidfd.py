"""Descriptors of processes: threads, zombies and processes that are no children."""

from __future__ import annotations

import os
import select
import signal
import threading
from typing import TYPE_CHECKING, Any

from kernelproof import behaviour
from kernelproof.conformance.process.procfs import fdinfo, state
from kernelproof.impl._syscalls.pidfd import PidfdFlag, SignalScope, pidfd_getfd, pidfd_open, pidfd_send_signal
from kernelproof.impl._syscalls.sessions import setpgid
from kernelproof.impl._syscalls.waiting import IdType, WaitOption, wait4, waitid

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelproof.conformance.conftest import Bystander, Companion, InChild
    from kernelproof.conformance.seen import Seen


def zombie(companion: Companion) -> int:
    """The pid of a child that has ended and was not waited for."""
    pid = companion(lambda talk: None).pid
    waitid(IdType.PID, pid, WaitOption.EXITED | WaitOption.NOWAIT)
    assert state(pid) == "Z"
    return pid


def with_a_thread(function: Callable[[int], Any]) -> Any:
    """Call a function with the id of a second thread, which waits meanwhile."""
    ready, go = threading.Event(), threading.Event()
    ids: list[int] = []

    def live() -> None:
        ids.append(threading.get_native_id())
        ready.set()
        go.wait(30)

    thread = threading.Thread(target=live)
    thread.start()
    ready.wait(30)
    try:
        return function(ids[0])
    finally:
        go.set()
        thread.join()


def described_thread(fd: int) -> int:
    """Which process or thread a descriptor stands for, as /proc tells."""
    return int(fdinfo(fd)["Pid"])


@behaviour("process.pidfd.thread-id")
def test_thread_without_flag(in_child: InChild, seen: Seen) -> None:
    """The id of a thread that leads no group gives EINVAL."""
    assert seen(in_child(lambda: with_a_thread(lambda tid: seen.errno_of(pidfd_open, tid)))) == "EINVAL"


@behaviour("process.pidfd.thread-flag")
def test_thread_with_flag(in_child: InChild, seen: Seen) -> None:
    """With PIDFD_THREAD a thread that leads no group has a descriptor."""

    def open_it(tid: int) -> list[bool]:
        return [tid != os.getpid(), described_thread(pidfd_open(tid, PidfdFlag.THREAD)) == tid]

    assert seen(in_child(lambda: with_a_thread(open_it))) == [True, True]


@behaviour("process.pidfd.zombie-opens")
def test_descriptor_of_a_zombie(companion: Companion, seen: Seen) -> None:
    """A zombie has a descriptor."""
    pid = zombie(companion)
    assert seen(described_thread(pidfd_open(pid)) == pid) is True


@behaviour("process.pidfd.poll-reaped-hangup")
def test_poll_after_the_wait(companion: Companion, seen: Seen) -> None:
    """A descriptor whose process was waited for polls with a hangup as well."""
    pid = zombie(companion)
    poll = select.poll()
    poll.register(pidfd_open(pid), select.POLLIN)
    events = [event for _, event in poll.poll(0)]
    wait4(pid)
    assert events == [select.POLLIN]
    assert seen([event for _, event in poll.poll(0)]) == [select.POLLIN | select.POLLHUP]


@behaviour("process.pidfd.waitid-not-child")
def test_waiting_for_a_stranger(bystander: Bystander, in_child: InChild, seen: Seen) -> None:
    """waitid for a process that is no child gives ECHILD."""
    pidfd = pidfd_open(bystander())
    options = WaitOption.EXITED | WaitOption.NOHANG
    assert seen.errno_of(waitid, IdType.PIDFD, pidfd, options) == "no error"
    assert seen(in_child(lambda: seen.errno_of(waitid, IdType.PIDFD, pidfd, options))) == "ECHILD"


@behaviour("process.pidfd.signal-zombie")
def test_signal_to_a_zombie(companion: Companion, seen: Seen) -> None:
    """A signal to a zombie succeeds, and changes nothing."""
    pid = zombie(companion)
    answer = seen.errno_of(pidfd_send_signal, pidfd_open(pid), signal.SIGKILL)
    assert seen([answer, *wait4(pid)]) == ["no error", pid, 0]


@behaviour("process.pidfd.proc-dir-not-waitable")
def test_waiting_by_directory(bystander: Bystander, seen: Seen) -> None:
    """The directory /proc/PID takes signals, and can't be waited on: EBADF."""
    directory = os.open(f"/proc/{bystander()}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    answers = [
        seen.errno_of(pidfd_send_signal, directory, 0),
        seen.errno_of(waitid, IdType.PIDFD, directory, WaitOption.EXITED | WaitOption.NOHANG),
    ]
    assert seen(answers) == ["no error", "EBADF"]


@behaviour("process.pidfd.signal-process-group")
def test_signal_to_a_group(bystander: Bystander, seen: Seen) -> None:
    """PIDFD_SIGNAL_PROCESS_GROUP on a leader's descriptor signals its whole group and no others."""
    leader, member, other = bystander(), bystander(), bystander()
    for pid in (leader, member):
        setpgid(pid, leader)
    pidfd_send_signal(pidfd_open(leader), signal.SIGSTOP, SignalScope.PROCESS_GROUP)
    for pid in (leader, member):
        waitid(IdType.PID, pid, WaitOption.STOPPED)
    assert seen([state(pid) == "T" for pid in (leader, member, other)]) == [True, True, False]


@behaviour("process.pidfd.getfd-reaped")
def test_descriptor_of_nobody(companion: Companion, seen: Seen) -> None:
    """Fetching a descriptor from a process that was waited for gives ESRCH."""
    pid = zombie(companion)
    pidfd = pidfd_open(pid)
    wait4(pid)
    assert seen.errno_of(pidfd_getfd, pidfd, 0) == "ESRCH"
