"""Signals: who may send them, how many are kept, and what execve makes of them."""

from __future__ import annotations

import os
import signal
import struct
from typing import TYPE_CHECKING, Any

from kernelproof import behaviour
from kernelproof.conformance.conftest import NOBODY, become_plain
from kernelproof.conformance.process.procfs import fdinfo, is_alive, signals_in, state
from kernelproof.impl._syscalls.execution import execve
from kernelproof.impl._syscalls.limits import Resource, prlimit
from kernelproof.impl._syscalls.sessions import setpgid
from kernelproof.impl._syscalls.signals import (
    Disposition,
    MaskChange,
    change_signal_mask,
    kill,
    set_disposition,
    signalfd,
    sigqueue,
)
from kernelproof.impl._syscalls.waiting import IdType, WaitOption, wait4, waitid

if TYPE_CHECKING:
    from kernelproof.conformance.conftest import Bystander, Companion, InChild, OutputOf, Talk, Unprivileged
    from kernelproof.conformance.seen import Seen

RTMIN = signal.SIGRTMIN
RECORD = 128  # struct signalfd_siginfo
VALUE_AT = 44  # its ssi_int


def block(*numbers: int) -> None:
    """Block signals."""
    change_signal_mask(MaskChange.BLOCK, numbers)


@behaviour("process.signal.kill-null")
def test_signal_zero(bystander: Bystander, companion: Companion, unprivileged: Unprivileged, seen: Seen) -> None:
    """Signal 0 says who is there and may be signalled, and delivers nothing."""
    alive, gone = bystander(), companion(lambda talk: None).pid
    wait4(gone)
    answers = [seen.errno_of(kill, alive, 0), seen.errno_of(kill, gone, 0)]
    answers.append(unprivileged(lambda: seen.errno_of(kill, alive, 0)))
    assert seen([*answers, is_alive(alive)]) == ["no error", "ESRCH", "EPERM", True]


@behaviour("process.signal.kill-zombie")
def test_signal_to_a_zombie(companion: Companion, seen: Seen) -> None:
    """A signal to a zombie succeeds, and does not change how it ended."""
    pid = companion(lambda talk: None).pid
    waitid(IdType.PID, pid, WaitOption.EXITED | WaitOption.NOWAIT)
    assert state(pid) == "Z"
    assert seen([seen.errno_of(kill, pid, signal.SIGKILL), *wait4(pid)]) == ["no error", pid, 0]


@behaviour("process.signal.kill-permission")
def test_signal_to_another_user(bystander: Bystander, unprivileged: Unprivileged, seen: Seen) -> None:
    """Without CAP_KILL a process of other uids can't be signalled: EPERM."""
    pid = bystander()
    assert seen(unprivileged(lambda: seen.errno_of(kill, pid, signal.SIGKILL))) == "EPERM"
    assert is_alive(pid)


@behaviour("process.signal.kill-invalid")
def test_signal_that_does_not_exist(bystander: Bystander, seen: Seen) -> None:
    """Signal 65 gives EINVAL, and so does a negative one."""
    pid = bystander()
    assert seen([seen.errno_of(kill, pid, number) for number in (65, -1)]) == ["EINVAL", "EINVAL"]


@behaviour("process.signal.killpg-partial-success")
def test_group_of_several_users(
    bystander: Bystander, companion: Companion, unprivileged: Unprivileged, seen: Seen
) -> None:
    """A signal to a group succeeds if one member could be signalled, and gives EPERM if none could."""

    def live(talk: Talk) -> None:
        become_plain(NOBODY)
        talk.ask()

    leader, member, alone = bystander(), companion(live), bystander()
    member.hear()
    setpgid(leader, leader)
    setpgid(member.pid, leader)
    setpgid(alone, alone)
    answers = unprivileged(lambda: [seen.errno_of(kill, -group, signal.SIGKILL) for group in (leader, alone)])
    ended = wait4(member.pid)[1]
    assert seen([*answers, ended, is_alive(leader)]) == ["no error", "EPERM", signal.SIGKILL, True]


@behaviour("process.signal.kill-stop-uncatchable")
def test_signals_without_handler(in_child: InChild, seen: Seen) -> None:
    """SIGKILL and SIGSTOP are neither ignored nor handled: EINVAL."""

    def set_each() -> list[str]:
        numbers = (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM)
        ignored = [seen.errno_of(set_disposition, number, Disposition.IGN) for number in numbers]
        return [*ignored, *(seen.errno_of(signal.signal, number, lambda *_: None) for number in numbers)]

    assert seen(in_child(set_each)) == ["EINVAL", "EINVAL", "no error"] * 2


@behaviour("process.signal.standard-do-not-queue")
def test_standard_signal_is_delivered_once(in_child: InChild, seen: Seen) -> None:
    """A standard signal that is sent five times while it is blocked is delivered once."""

    def send_five(number: int) -> int:
        block(number)
        for _ in range(5):
            kill(os.getpid(), number)
        delivered = 0
        while signal.sigtimedwait({number}, 0) is not None:
            delivered += 1
        return delivered

    # Signals that do queue arrive five times: the count can tell.
    assert seen(in_child(lambda: [send_five(signal.SIGUSR1), send_five(RTMIN)])) == [1, 5]


@behaviour("process.signal.realtime-queue-in-order")
def test_order_of_one_number(in_child: InChild, seen: Seen) -> None:
    """Real-time signals of one number are all delivered, in the order in which they were sent."""

    def send() -> list[int]:
        block(RTMIN)
        for value in (3, 1, 2):
            sigqueue(os.getpid(), RTMIN, value)
        records = os.read(signalfd({RTMIN}), 10 * RECORD)
        return [struct.unpack_from("=i", records, at + VALUE_AT)[0] for at in range(0, len(records), RECORD)]

    assert seen(in_child(send)) == [3, 1, 2]


@behaviour("process.signal.realtime-lowest-first")
def test_order_of_several_numbers(in_child: InChild, seen: Seen) -> None:
    """Of several real-time signals the one with the lowest number is delivered first."""

    def send() -> list[int]:
        numbers = [RTMIN + step for step in (2, 0, 1)]
        block(*numbers)
        for number in numbers:
            kill(os.getpid(), number)
        return [signal.sigwait(numbers) - RTMIN for _ in numbers]

    assert seen(in_child(send)) == [0, 1, 2]


@behaviour("process.signal.queue-limit")
def test_limit_of_queued_signals(unprivileged: Unprivileged, seen: Seen) -> None:
    """Beyond RLIMIT_SIGPENDING sigqueue gives EAGAIN, and kill still makes a standard signal pending."""

    def send() -> list[Any]:
        block(RTMIN, signal.SIGUSR1)
        prlimit(0, Resource.SIGPENDING, (3, 3))
        answers = [seen.errno_of(sigqueue, os.getpid(), RTMIN) for _ in range(4)]
        return [answers, seen.errno_of(kill, os.getpid(), signal.SIGUSR1), signal.SIGUSR1 in signals_in("ShdPnd")]

    assert seen(unprivileged(send, 4242)) == [["no error"] * 3 + ["EAGAIN"], "no error", True]


def signals_after_exec(output_of: OutputOf, prepare: Any) -> dict[str, set[int]]:
    """Run a program after a function, and return the signals of its status: SigIgn, SigCgt, SigBlk, ShdPnd."""

    def become() -> None:
        prepare()
        execve("/bin/cat", ["cat", "/proc/self/status"])

    lines = dict(line.split(":\t", 1) for line in output_of(become).splitlines() if ":\t" in line)
    sets = {name: int(lines[name], 16) for name in ("SigIgn", "SigCgt", "SigBlk", "ShdPnd")}
    return {name: {number for number in range(1, 65) if bits >> (number - 1) & 1} for name, bits in sets.items()}


@behaviour("process.signal.exec-resets-handlers")
def test_handlers_of_a_program(output_of: OutputOf, seen: Seen) -> None:
    """A signal with a handler has its default action after execve."""

    def handle() -> None:
        signal.signal(signal.SIGUSR1, lambda *_: None)
        assert signal.SIGUSR1 in signals_in("SigCgt")

    after = signals_after_exec(output_of, handle)
    assert seen([signal.SIGUSR1 in after[name] for name in ("SigCgt", "SigIgn")]) == [False, False]


@behaviour("process.signal.exec-keeps-ignored")
def test_ignored_signals_of_a_program(output_of: OutputOf, seen: Seen) -> None:
    """An ignored signal is ignored after execve."""
    after = signals_after_exec(output_of, lambda: set_disposition(signal.SIGUSR1, Disposition.IGN))
    assert seen([number in after["SigIgn"] for number in (signal.SIGUSR1, signal.SIGUSR2)]) == [True, False]


@behaviour("process.signal.exec-keeps-mask-and-pending")
def test_mask_of_a_program(output_of: OutputOf, seen: Seen) -> None:
    """The mask and the pending signals are the same after execve."""

    def prepare() -> None:
        block(signal.SIGUSR1, signal.SIGUSR2)
        kill(os.getpid(), signal.SIGUSR2)

    after = signals_after_exec(output_of, prepare)
    assert seen([sorted(after["SigBlk"]), sorted(after["ShdPnd"])]) == [
        [signal.SIGUSR1, signal.SIGUSR2],
        [signal.SIGUSR2],
    ]


@behaviour("process.signalfd.non-blocking-empty")
def test_nothing_to_read(in_child: InChild, seen: Seen) -> None:
    """A read of a non-blocking signalfd gives EAGAIN while nothing is pending."""

    def read() -> list[Any]:
        block(signal.SIGUSR1)
        fd = signalfd({signal.SIGUSR1}, os.O_NONBLOCK)
        empty = seen.errno_of(os.read, fd, RECORD)
        kill(os.getpid(), signal.SIGUSR1)
        return [empty, len(os.read(fd, RECORD))]

    assert seen(in_child(read)) == ["EAGAIN", RECORD]


@behaviour("process.signalfd.short-buffer")
def test_short_buffer(in_child: InChild, seen: Seen) -> None:
    """A read of less than a record gives EINVAL, and the signal stays pending."""

    def read() -> list[Any]:
        block(signal.SIGUSR1)
        kill(os.getpid(), signal.SIGUSR1)
        fd = signalfd({signal.SIGUSR1}, os.O_NONBLOCK)
        return [seen.errno_of(os.read, fd, RECORD - 1), signal.SIGUSR1 in signals_in("ShdPnd")]

    assert seen(in_child(read)) == ["EINVAL", True]


@behaviour("process.signalfd.reader-not-creator")
def test_reader_gets_its_own(in_child: InChild, companion: Companion, seen: Seen) -> None:
    """An inherited signalfd gives the reader's signals and not its creator's."""

    def read(talk: Talk, fd: int) -> None:
        before = seen.errno_of(os.read, fd, RECORD)
        kill(os.getpid(), signal.SIGUSR2)
        talk.ask([before, os.read(fd, RECORD)[0]])

    def act() -> list[Any]:
        block(signal.SIGUSR1, signal.SIGUSR2)
        fd = signalfd({signal.SIGUSR1, signal.SIGUSR2}, os.O_NONBLOCK)
        kill(os.getpid(), signal.SIGUSR1)
        theirs = companion(lambda talk: read(talk, fd)).hear()
        return [theirs, os.read(fd, 10 * RECORD)[0]]

    assert seen(in_child(act)) == [["EAGAIN", signal.SIGUSR2], signal.SIGUSR1]


@behaviour("process.signalfd.kill-ignored")
def test_signals_that_cannot_be_read(seen: Seen) -> None:
    """SIGKILL and SIGSTOP in the set of a signalfd are passed over."""
    fd = signalfd({signal.SIGKILL, signal.SIGSTOP, signal.SIGUSR1})
    assert seen(int(fdinfo(fd)["sigmask"], 16)) == 1 << (signal.SIGUSR1 - 1)
