"""Process 1 of a PID namespace: its signals, its end, and the orphans that come to it."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from kernelproof import behaviour
from kernelproof.conformance.namespaces.conftest import live
from kernelproof.conformance.process.children import make_process
from kernelproof.conformance.process.procfs import namespace, open_namespace, parent, signals_in, status_words
from kernelproof.impl._syscalls.namespaces import CloneFlag, setns, unshare
from kernelproof.impl._syscalls.reboot import RebootCommand, reboot
from kernelproof.impl._syscalls.signals import MaskChange, change_signal_mask, kill
from kernelproof.impl._syscalls.waiting import IdType, WaitOption, waitid

if TYPE_CHECKING:
    from kernelproof.conformance.conftest import Companion, InChild, Talk
    from kernelproof.conformance.seen import Seen

STOPPED = 5  # CLD_STOPPED of waitid(2)


def obey(talk: Talk) -> None:
    """Send the signals that one is told of to process 1, and answer."""
    while True:
        kill(1, talk.hear())
        talk.say()


def ended_by(talk: Talk) -> int:
    """Wait for a companion to be killed, and return the signal."""
    status = os.waitpid(talk.pid, 0)[1]
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


@behaviour("namespaces.pid.first-child-is-one")
def test_first_two_processes_of_a_pid_namespace(in_child: InChild, companion: Companion, seen: Seen) -> None:
    """The first process that is forked after unshare(CLONE_NEWPID) has pid 1 in the new namespace, the next pid 2."""

    def fork_two() -> list[list[int]]:
        unshare(CloneFlag.NEWPID)
        children = [companion(live) for _ in range(2)]
        return [[child.ask(), int(status_words("NSpid", child.pid)[-1])] for child in children]

    assert seen(in_child(fork_two)) == [[1, 1], [2, 2]]


@behaviour("namespaces.pid.init-exit-kills-all")
def test_end_of_process_one(in_child: InChild, companion: Companion, seen: Seen) -> None:
    """When process 1 ends, the others are killed with SIGKILL."""

    def act() -> list[int]:
        unshare(CloneFlag.NEWPID)
        init, others = companion(lambda talk: talk.hear()), [companion(live) for _ in range(2)]
        init.say()
        return [ended_by(each) for each in (*others, init)]  # process 1 is not gone before the others are

    assert seen(in_child(act)) == [signal.SIGKILL, signal.SIGKILL, 0]


@behaviour("namespaces.pid.fork-after-init-death")
def test_fork_without_process_one(in_child: InChild, companion: Companion, seen: Seen) -> None:
    """Once the first child has ended, a fork gives ENOMEM."""

    def act() -> list[str]:
        unshare(CloneFlag.NEWPID)
        init = companion(lambda talk: talk.hear())
        before = seen.errno_of(make_process)
        init.say()
        os.waitpid(init.pid, 0)
        return [before, seen.errno_of(make_process), seen.errno_of(os.fork)]

    assert seen(in_child(act)) == ["no error", "ENOMEM", "ENOMEM"]


@behaviour("namespaces.pid.setns-after-init-death")
def test_fork_into_a_dead_namespace(in_child: InChild, companion: Companion, seen: Seen) -> None:
    """A fork after setns to a PID namespace whose process 1 has ended gives ENOMEM."""

    def make(talk: Talk) -> None:
        unshare(CloneFlag.NEWPID)
        init = companion(lambda talk: talk.hear())
        talk.ask(init.pid)
        init.say()
        os.waitpid(init.pid, 0)
        talk.say()

    maker = companion(make)
    fd = open_namespace("pid", maker.hear())

    def act() -> str:
        setns(fd, CloneFlag.NEWPID)
        return seen.errno_of(make_process)

    alive = in_child(act)
    maker.ask()
    assert seen([alive, in_child(act)]) == ["no error", "ENOMEM"]


@behaviour("namespaces.pid.init-ignores-unhandled-from-inside")
def test_signals_from_a_member(in_child: InChild, companion: Companion, seen: Seen) -> None:
    """SIGTERM and SIGKILL from a member have no effect on a process 1 without handlers."""

    def act() -> list[int]:
        unshare(CloneFlag.NEWPID)
        init, other = companion(live), companion(obey)
        for number in (signal.SIGTERM, signal.SIGKILL):
            other.ask(number)
        return [init.ask(), len(signals_in("ShdPnd", init.pid))]

    assert seen(in_child(act)) == [1, 0]


@behaviour("namespaces.pid.init-handles-signal-from-inside")
def test_handled_signal_from_a_member(in_child: InChild, companion: Companion, seen: Seen) -> None:
    """A signal that process 1 has a handler for reaches it from a member."""

    def handle(talk: Talk) -> None:
        reading, writing = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(writing, False)
        signal.signal(signal.SIGTERM, lambda number, frame: None)
        signal.set_wakeup_fd(writing)  # by the handler itself: what is in Python may run later
        talk.say()
        talk.ask(os.read(reading, 1)[0])  # its end would be that of all members

    def act() -> Any:
        unshare(CloneFlag.NEWPID)
        init, other = companion(handle), companion(obey)
        init.hear()
        other.ask(signal.SIGTERM)
        return init.hear()

    assert seen(in_child(act)) == signal.SIGTERM


@behaviour("namespaces.pid.init-ignores-term-from-parent")
def test_unhandled_signal_from_outside(in_child: InChild, companion: Companion, seen: Seen) -> None:
    """SIGTERM from the parent namespace does not end a process 1 without a handler for it; another process it does."""

    def act() -> list[int]:
        unshare(CloneFlag.NEWPID)
        init, other = companion(live), companion(live)
        for each in (init, other):
            kill(each.pid, signal.SIGTERM)
        return [init.ask(), len(signals_in("ShdPnd", init.pid)), ended_by(other)]

    assert seen(in_child(act)) == [1, 0, signal.SIGTERM]


@behaviour("namespaces.pid.init-killed-from-parent")
def test_kill_from_outside(in_child: InChild, companion: Companion, seen: Seen) -> None:
    """SIGKILL from an ancestor namespace ends process 1."""

    def act() -> int:
        unshare(CloneFlag.NEWPID)
        init = companion(live)
        init.ask()
        kill(init.pid, signal.SIGKILL)
        return ended_by(init)

    assert seen(in_child(act)) == signal.SIGKILL


@behaviour("namespaces.pid.init-stopped-from-parent")
def test_stop_from_outside(in_child: InChild, companion: Companion, seen: Seen) -> None:
    """SIGSTOP from an ancestor namespace stops process 1."""

    def act() -> list[Any]:
        unshare(CloneFlag.NEWPID)
        init = companion(live)
        init.ask()
        kill(init.pid, signal.SIGSTOP)
        change = waitid(IdType.PID, init.pid, WaitOption.STOPPED)
        assert change is not None
        return [change.code, change.status, status_words("State", init.pid)[0]]

    assert seen(in_child(act)) == [STOPPED, signal.SIGSTOP, "T"]


@behaviour("namespaces.pid.signal-from-ancestor-has-pid-zero")
def test_sender_outside_is_zero(in_child: InChild, companion: Companion, seen: Seen) -> None:
    """A signal from an ancestor namespace has 0 as its sender's pid, one from a member that member's."""

    def tell_senders(talk: Talk) -> None:
        change_signal_mask(MaskChange.BLOCK, {signal.SIGTERM})
        talk.ask()
        for _ in range(2):
            talk.say(signal.sigwaitinfo({signal.SIGTERM}).si_pid)

    def act() -> list[int]:
        unshare(CloneFlag.NEWPID)
        init, other = companion(tell_senders), companion(obey)
        init.ask()
        other.ask(signal.SIGTERM)
        senders = [init.hear()]
        kill(init.pid, signal.SIGTERM)
        return [*senders, init.hear()]

    assert seen(in_child(act)) == [2, 0]


@behaviour("namespaces.pid.orphans-go-to-init")
def test_orphan_comes_to_process_one(in_child: InChild, companion: Companion, seen: Seen) -> None:
    """A process whose parent in the namespace ends is a child of process 1 from then on."""

    def have_an_orphan(talk: Talk) -> None:
        middle = companion(have_a_child)
        told = middle.hear()
        before = middle.ask()
        middle.say()
        os.waitpid(middle.pid, 0)
        talk.ask([told, before])

    def have_a_child(talk: Talk) -> None:
        last = companion(tell_pid)
        talk.ask(last.hear())
        talk.ask(os.getpid())

    def act() -> list[Any]:
        unshare(CloneFlag.NEWPID)
        init = companion(have_an_orphan)
        orphan, before = init.hear()
        found = next(pid for pid in pids() if status_words("NSpid", pid)[-1] == str(orphan) and is_in(pid, init.pid))
        return [before, parent(found) == init.pid]

    assert seen(in_child(act)) == [2, True]


def tell_pid(talk: Talk) -> None:
    """Say which process this is, and live on when nobody is there to talk to; the end of its namespace is its own."""
    talk.say(os.getpid())
    signal.pause()


def pids() -> list[int]:
    """All processes that this one sees."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def is_in(pid: int, other: int) -> bool:
    """Whether two processes are in one PID namespace."""
    return namespace("pid", pid) == namespace("pid", other)


@behaviour("namespaces.pid.joined-child-orphan-goes-outside")
def test_orphan_that_came_by_setns(in_child: InChild, companion: Companion, seen: Seen) -> None:
    """A process that setns put into a namespace goes to process 1 of its parent's namespace when that parent ends."""

    def join(init: int, talk: Talk) -> None:
        setns(open_namespace("pid", init), CloneFlag.NEWPID)
        child = companion(tell_pid)
        talk.ask([child.pid, child.hear()])

    def keep(talk: Talk) -> None:
        unshare(CloneFlag.NEWPID)
        init = companion(live)
        init.ask()
        talk.ask(init.pid)

    init = companion(keep).hear()
    middle = companion(lambda talk: join(init, talk))
    orphan, inside = middle.hear()
    before = parent(orphan) == middle.pid
    middle.say()
    os.waitpid(middle.pid, 0)
    assert is_in(orphan, init)
    assert inside == 2
    assert seen([before, parent(orphan)]) == [True, 1]


@behaviour("namespaces.pid.reboot-restart")
def test_restart_inside(in_child: InChild, companion: Companion, seen: Seen) -> None:
    """RESTART in a PID namespace ends its process 1, as by SIGHUP."""
    assert seen(in_child(lambda: end_by_reboot(companion, RebootCommand.RESTART))) == signal.SIGHUP


@behaviour("namespaces.pid.reboot-halt")
@pytest.mark.parametrize("command", ["HALT", "POWER_OFF"])
def test_halt_inside(command: str, in_child: InChild, companion: Companion, seen: Seen) -> None:
    """HALT and POWER_OFF in a PID namespace end its process 1, as by SIGINT."""
    assert seen(in_child(lambda: end_by_reboot(companion, RebootCommand[command]))) == signal.SIGINT


def end_by_reboot(companion: Companion, command: RebootCommand) -> int:
    """Let a member of a new PID namespace call reboot, and return the signal that process 1 seems ended by."""
    unshare(CloneFlag.NEWPID)
    init = companion(live)
    caller = companion(lambda talk: reboot(command))
    os.waitpid(caller.pid, 0)  # process 1 is not gone before
    return ended_by(init)


@behaviour("namespaces.pid.reboot-other-command")
def test_other_command_inside(in_child: InChild, companion: Companion, seen: Seen) -> None:
    """CAD_ON in a PID namespace gives EINVAL."""

    def act() -> Any:
        unshare(CloneFlag.NEWPID)
        init = companion(lambda talk: talk.say([os.getpid(), seen.errno_of(reboot, RebootCommand.CAD_ON)]))
        return init.hear()

    assert seen(in_child(act)) == [1, "EINVAL"]
