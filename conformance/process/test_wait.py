"""Waiting for children."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernelproof import behaviour
from kernelproof.conformance.process.procfs import stat_fields, state
from kernelproof.impl._syscalls.signals import Disposition, kill, set_disposition
from kernelproof.impl._syscalls.waiting import IdType, WaitOption, wait4, waitid

if TYPE_CHECKING:
    from kernelproof.conformance.conftest import Bystander, Companion, InChild, Talk
    from kernelproof.conformance.seen import Seen

EXITED, KILLED, STOPPED, CONTINUED = 1, 2, 5, 6  # CLD_ codes


def exit_when_told(talk: Talk) -> None:
    """End with the status that one hears."""
    os._exit(talk.hear())


@behaviour("process.wait.no-child")
def test_nobody_to_wait_for(in_child: InChild, seen: Seen) -> None:
    """Without children wait gives ECHILD."""

    def wait() -> list[str]:
        return [seen.errno_of(wait4, -1), seen.errno_of(waitid, IdType.ALL, 0, WaitOption.EXITED)]

    assert seen(in_child(wait)) == ["ECHILD", "ECHILD"]


@behaviour("process.wait.sigchld-ignored")
def test_ignored_children(in_child: InChild, companion: Companion, seen: Seen) -> None:
    """Where SIGCHLD is ignored children leave no zombie; wait returns when the last has ended, with ECHILD."""

    def wait() -> list[Any]:
        set_disposition(signal.SIGCHLD, Disposition.IGN)
        children = [companion(exit_when_told) for _ in range(2)]
        alive = [wait4(-1, WaitOption.NOHANG)]
        for child in children:
            child.say(0)
        answer = seen.errno_of(wait4, -1)
        return [alive, answer, [Path(f"/proc/{child.pid}").exists() for child in children]]

    assert seen(in_child(wait)) == [[[0, 0]], "ECHILD", [False, False]]


@behaviour("process.wait.wnowait")
def test_looking_without_taking(companion: Companion, seen: Seen) -> None:
    """With WNOWAIT a child is reported and can be waited for again."""
    child = companion(exit_when_told)
    child.say(5)
    options = (WaitOption.EXITED | WaitOption.NOWAIT, WaitOption.EXITED)
    found = []
    for each in options:
        change = waitid(IdType.PID, child.pid, each)
        assert change is not None
        found.append([change.pid == child.pid, change.status, Path(f"/proc/{child.pid}").exists()])
    assert seen(found) == [[True, 5, True], [True, 5, False]]


@behaviour("process.wait.stopped-continued")
def test_stop_and_continue(bystander: Bystander, seen: Seen) -> None:
    """A stop and a continue are reported once each."""
    pid = bystander()
    found: list[Any] = []
    for number, option in ((signal.SIGSTOP, WaitOption.STOPPED), (signal.SIGCONT, WaitOption.CONTINUED)):
        kill(pid, number)
        change = waitid(IdType.PID, pid, option)
        assert change is not None
        found += [[change.code, change.status], state(pid) == "T", waitid(IdType.PID, pid, option | WaitOption.NOHANG)]
    assert seen(found) == [[STOPPED, signal.SIGSTOP], True, None, [CONTINUED, signal.SIGCONT], False, None]


@behaviour("process.wait.exit-status-8-bits")
def test_parent_sees_eight_bits(companion: Companion, seen: Seen) -> None:
    """Of the exit status 300 the parent sees the low 8 bits, 44."""
    child = companion(exit_when_told)
    child.say(300)
    waitid(IdType.PID, child.pid, WaitOption.EXITED | WaitOption.NOWAIT)
    exit_code_of_the_zombie = int(stat_fields(child.pid)[49])
    _, status = wait4(child.pid)
    assert seen(os.waitstatus_to_exitcode(status)) == 44
    assert exit_code_of_the_zombie == status == 44 << 8


@behaviour("process.wait.waitid-needs-event")
def test_waiting_for_nothing(bystander: Bystander, seen: Seen) -> None:
    """waitid for none of the three events gives EINVAL."""
    pid = bystander()
    options = (0, WaitOption.NOHANG, WaitOption.NOHANG | WaitOption.EXITED)
    assert seen([seen.errno_of(waitid, IdType.PID, pid, each) for each in options]) == ["EINVAL", "EINVAL", "no error"]
