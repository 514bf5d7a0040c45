"""What becomes of orphans, and what children get when a parent ends."""

from __future__ import annotations

import os
import select
import signal
import threading
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

from kernelproof import behaviour
from kernelproof.conformance.process.procfs import parent, signals_in
from kernelproof.impl._syscalls.ancestry import (
    is_child_subreaper,
    parent_death_signal,
    set_child_subreaper,
    set_parent_death_signal,
)
from kernelproof.impl._syscalls.execution import execve
from kernelproof.impl._syscalls.identity import setfsgid, setfsuid
from kernelproof.impl._syscalls.signals import MaskChange, change_signal_mask
from kernelproof.impl._syscalls.waiting import wait4
from kernelproof.impl.user import set_gids, set_uids

if TYPE_CHECKING:
    from kernelproof.conformance.conftest import Companion, InChild, OutputOf, Talk
    from kernelproof.conformance.seen import Seen

PR_GET_PDEATHSIG, PR_GET_CHILD_SUBREAPER = 2, 37
PYTHON = "/usr/bin/python3"


def ask_after_exec(option: int) -> None:
    """Run a program in place of this one that tells an attribute of prctl(2)."""
    told = f"import ctypes as c; n = c.c_int(); c.CDLL(None).prctl({option}, c.byref(n), 0, 0, 0); print(n.value)"
    execve(PYTHON, ["python3", "-I", "-S", "-c", told])


def have_an_orphan(companion: Companion) -> tuple[int, int]:
    """Have a child that leaves a child; return their pids, the first one waited for, the other's end the caller's."""

    def leave(talk: Talk) -> None:
        # It waits for a signal alone: whoever it can talk to is gone soon.
        talk.ask(companion(lambda talk: signal.pause()).pid)

    middle = companion(leave)
    orphan = middle.hear()
    middle.say()
    wait4(middle.pid)
    return middle.pid, orphan


@behaviour("process.subreaper.adopts-orphans")
def test_orphans_of_a_subreaper(in_child: InChild, companion: Companion, seen: Seen) -> None:
    """An orphan is a child of its nearest ancestor that is a subreaper, which can wait for it."""

    def adopt() -> list[Any]:
        _, before = have_an_orphan(companion)
        first = parent(before) == os.getpid()
        set_child_subreaper(True)
        os.kill(before, signal.SIGKILL)
        _, orphan = have_an_orphan(companion)
        second = parent(orphan) == os.getpid()
        os.kill(orphan, signal.SIGKILL)
        return [first, second, wait4(orphan) == (orphan, signal.SIGKILL)]

    assert seen(in_child(adopt)) == [False, True, True]


@behaviour("process.subreaper.not-inherited")
def test_child_of_a_subreaper(in_child: InChild, companion: Companion, seen: Seen) -> None:
    """A subreaper's child is none; an orphan of its own passes it by."""

    def adopt() -> list[bool]:
        set_child_subreaper(True)
        child = companion(lambda talk: talk.ask([is_child_subreaper(), have_an_orphan(companion)[1]]))
        is_subreaper, orphan = child.hear()
        adopts = parent(orphan) == os.getpid()
        os.kill(orphan, signal.SIGKILL)
        return [is_child_subreaper(), is_subreaper, adopts]

    assert seen(in_child(adopt)) == [True, False, True]


@behaviour("process.subreaper.kept-by-exec")
def test_subreaper_runs_a_program(output_of: OutputOf, seen: Seen) -> None:
    """execve keeps the attribute."""

    def run(is_subreaper: bool) -> str:
        def become() -> None:
            set_child_subreaper(is_subreaper)
            ask_after_exec(PR_GET_CHILD_SUBREAPER)

        return output_of(become)

    assert seen([run(False), run(True)]) == ["0\n", "1\n"]


@behaviour("process.pdeathsig.fires-on-parent-thread")
def test_end_of_the_parent_thread(in_child: InChild, companion: Companion, seen: Seen) -> None:
    """The signal comes when the thread that made the child ends, though its process lives on."""

    def wait_for_it(talk: Talk) -> None:
        change_signal_mask(MaskChange.BLOCK, {signal.SIGUSR1})
        set_parent_death_signal(signal.SIGUSR1)
        talk.ask(sorted(signals_in("ShdPnd")))
        signal.sigwait({signal.SIGUSR1})
        talk.ask(os.getppid())

    def start(children: list[Talk]) -> None:
        with warnings.catch_warnings():  # the main thread, which only waits, holds no lock that the child wants
            warnings.simplefilter("ignore", DeprecationWarning)
            children.append(companion(wait_for_it))
        assert children[0].hear() == []  # nothing yet

    def act() -> bool:
        children: list[Talk] = []
        thread = threading.Thread(target=start, args=(children,))
        thread.start()
        thread.join()
        told: bool = children[0].ask() == os.getpid()
        return told

    assert seen(in_child(act)) is True


@behaviour("process.pdeathsig.too-late")
def test_parent_that_has_ended(in_child: InChild, companion: Companion, seen: Seen) -> None:
    """Where the parent has ended before no signal is sent."""

    def be_late(talk: Talk) -> None:
        change_signal_mask(MaskChange.BLOCK, {signal.SIGUSR1})
        report = os.dup(answers)
        gone = os.pidfd_open(os.getppid())
        talk.say()
        wait_for(gone)
        set_parent_death_signal(signal.SIGUSR1)
        os.write(report, bytes([parent_death_signal(), len(signals_in("ShdPnd"))]))

    def leave(talk: Talk) -> None:
        companion(be_late).hear()

    told, answers = os.pipe()
    wait4(companion(leave).pid)
    assert seen(list(os.read(told, 2))) == [signal.SIGUSR1, 0]


def wait_for(fd: int) -> None:
    """Wait until a descriptor can be read."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    assert poll.poll(30_000)


@behaviour("process.pdeathsig.cleared-by-fork")
def test_setting_of_a_child(in_child: InChild, companion: Companion, seen: Seen) -> None:
    """A child has no parent-death signal, though its parent has."""

    def look() -> list[Any]:
        set_parent_death_signal(signal.SIGUSR1)
        return [parent_death_signal(), companion(lambda talk: talk.say(parent_death_signal())).hear()]

    assert seen(in_child(look)) == [signal.SIGUSR1, 0]


@behaviour("process.pdeathsig.kept-by-exec")
def test_setting_of_a_program(output_of: OutputOf, seen: Seen) -> None:
    """execve of an ordinary program keeps the setting."""

    def become() -> None:
        set_parent_death_signal(signal.SIGUSR1)
        ask_after_exec(PR_GET_PDEATHSIG)

    assert seen(output_of(become)) == f"{int(signal.SIGUSR1)}\n"


@behaviour("process.pdeathsig.cleared-by-setuid")
def test_change_of_ids(in_child: InChild, seen: Seen) -> None:
    """A change of an effective or a filesystem id clears the setting; one of a real id does not."""
    changes = (
        lambda: set_uids(effective=1000),
        lambda: set_gids(effective=1000),
        lambda: setfsuid(1000),
        lambda: setfsgid(1000),
        lambda: set_uids(real=1000),
    )

    def after(change: Any) -> int:
        set_parent_death_signal(signal.SIGUSR1)
        change()
        return parent_death_signal()

    found = [in_child(partial(after, change)) for change in changes]
    assert seen(found) == [0, 0, 0, 0, signal.SIGUSR1]


@behaviour("process.pdeathsig.invalid-signal")
def test_signal_that_does_not_exist(in_child: InChild, seen: Seen) -> None:
    """Signal 65 gives EINVAL, 64 is accepted."""
    answers = in_child(lambda: [seen.errno_of(set_parent_death_signal, number) for number in (64, 65)])
    assert seen(answers) == ["no error", "EINVAL"]
