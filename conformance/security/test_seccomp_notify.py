"""System calls that a filter hands to another process, and what that one may answer."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
from typing import TYPE_CHECKING

import pytest

from kernelproof import behaviour
from kernelproof.conformance.security.filters import PROBED, filter_of, install, number_of, probe
from kernelproof.impl._syscalls import seccomp as calls
from kernelproof.impl._syscalls.pidfd import pidfd_getfd
from kernelproof.impl._syscalls.seccomp import FLAG_NEW_LISTENER, FLAG_WAIT_KILLABLE_RECV
from kernelproof.impl.libcontainer.security.actions import NOTIFY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kernelproof.conformance.conftest import Companion, InChild, Talk
    from kernelproof.conformance.seen import Seen


class Target:
    """A process whose calls are handed to the test.

    Attributes:
        talk: the talk with it; it says what its call gave.
        listener: the descriptor of its filter, in the test.
    """

    def __init__(self, talk: Talk, listener: int) -> None:
        self.talk = talk
        self.listener = listener


@pytest.fixture
def target(companion: Companion) -> Iterator[Callable[..., Target]]:
    """Start a process under a filter that notifies; asked for, it makes its calls and says what they gave."""
    opened: list[int] = []

    def start(function: Callable[[], object], *names: str, flags: int = 0) -> Target:
        def live(talk: Talk) -> None:
            talk.say(install(NOTIFY, *(names or (PROBED,)), flags=FLAG_NEW_LISTENER | flags))
            talk.hear()
            talk.say(function())

        talk = companion(live)
        pidfd = os.pidfd_open(talk.pid)
        listener = pidfd_getfd(pidfd, talk.hear())
        os.close(pidfd)
        opened.append(listener)
        return Target(talk, listener)

    yield start
    for listener in opened:
        os.close(listener)


@behaviour("seccomp.notify.listener-cloexec")
def test_listener_is_closed_by_exec(in_child: InChild, seen: Seen) -> None:
    """The listener's descriptor has FD_CLOEXEC."""
    flags = in_child(lambda: fcntl.fcntl(install(NOTIFY, flags=FLAG_NEW_LISTENER), fcntl.F_GETFD))
    assert seen(flags & fcntl.FD_CLOEXEC) == 1


@behaviour("seccomp.notify.one-listener")
def test_second_listener(in_child: InChild, seen: Seen) -> None:
    """A second filter with a listener gives EBUSY; one without is taken."""

    def ask() -> list[str]:
        program = filter_of(NOTIFY)
        return [seen.errno_of(calls.set_filter, program, flags) for flags in (FLAG_NEW_LISTENER, FLAG_NEW_LISTENER, 0)]

    assert seen(in_child(ask)) == ["no error", "EBUSY", "no error"]


@behaviour("seccomp.notify.spoofed-success")
def test_call_that_returns_what_it_is_told(target: Callable[..., Target], seen: Seen) -> None:
    """A value in the answer is what the call returns, without being done."""
    one = target(os.getppid, "getppid")
    one.talk.say()
    note = calls.receive(one.listener)
    assert (note.number, note.pid) == (number_of("getppid"), one.talk.pid)
    calls.respond(one.listener, note.id, value=424242)
    assert seen(one.talk.hear()) == 424242


@behaviour("seccomp.notify.spoofed-error")
def test_call_that_fails_as_it_is_told(target: Callable[..., Target], seen: Seen) -> None:
    """A negative errno in the answer is the call's."""
    one = target(lambda: probe(seen))
    one.talk.say()
    calls.respond(one.listener, calls.receive(one.listener).id, error=-errno.EXDEV)
    assert seen(one.talk.hear()) == "EXDEV"


@behaviour("seccomp.notify.continue")
def test_call_that_goes_on(target: Callable[..., Target], seen: Seen) -> None:
    """With the flag to continue the kernel does the call."""
    one = target(os.getppid, "getppid")
    one.talk.say()
    calls.respond(one.listener, calls.receive(one.listener).id, flags=calls.RESPONSE_CONTINUE)
    assert seen(one.talk.hear() == os.getpid())


@behaviour("seccomp.notify.continue-with-value")
def test_going_on_with_a_value(target: Callable[..., Target], seen: Seen) -> None:
    """The flag to continue with a value or an error gives EINVAL, and the call still waits."""
    one = target(lambda: probe(seen))
    one.talk.say()
    note = calls.receive(one.listener)
    more = calls.RESPONSE_CONTINUE
    answers = [
        seen.errno_of(calls.respond, one.listener, note.id, value=1, flags=more),
        seen.errno_of(calls.respond, one.listener, note.id, error=-1, flags=more),
    ]
    calls.respond(one.listener, note.id, flags=more)
    assert seen([*answers, one.talk.hear()]) == ["EINVAL", "EINVAL", "no error"]


@behaviour("seccomp.notify.recv-buffer-not-zeroed")
def test_buffer_with_something_in_it(target: Callable[..., Target], seen: Seen) -> None:
    """A buffer that is not zero gives EINVAL, and the notification stays."""
    one = target(lambda: probe(seen))
    one.talk.say()
    answers = [
        seen.errno_of(calls.receive, one.listener, buffer=b"\0" * place + b"\1" + b"\0" * (79 - place))
        for place in (0, 79)
    ]
    calls.respond(one.listener, calls.receive(one.listener).id, flags=calls.RESPONSE_CONTINUE)
    assert seen([*answers, one.talk.hear()]) == ["EINVAL", "EINVAL", "no error"]


@behaviour("seccomp.notify.stale-id")
def test_target_that_has_ended(target: Callable[..., Target], seen: Seen) -> None:
    """The id of a notification whose target was killed gives ENOENT, and before that it was valid."""
    one = target(lambda: probe(seen))
    one.talk.say()
    note = calls.receive(one.listener)
    before = seen.errno_of(calls.check_id, one.listener, note.id)
    os.kill(one.talk.pid, signal.SIGKILL)
    os.waitpid(one.talk.pid, 0)
    assert seen([before, seen.errno_of(calls.check_id, one.listener, note.id)]) == ["no error", "ENOENT"]


@behaviour("seccomp.notify.answered-twice")
def test_second_answer(target: Callable[..., Target], seen: Seen) -> None:
    """A second answer, while the target has not taken the first one, gives EINPROGRESS."""
    one = target(lambda: probe(seen))
    one.talk.say()
    note = calls.receive(one.listener)
    os.sched_setaffinity(0, {0})
    os.sched_setaffinity(one.talk.pid, {0})
    # On one CPU, and in a class that gives it up to nobody, this process goes on before the target does.
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
    calls.respond(one.listener, note.id, error=-errno.EXDEV)
    second = seen.errno_of(calls.respond, one.listener, note.id, error=-errno.EDOM)
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    assert one.talk.hear() == "EXDEV"
    assert seen(second) == "EINPROGRESS"


@behaviour("seccomp.notify.poll-hangup")
def test_nobody_is_filtered_any_more(target: Callable[..., Target], seen: Seen) -> None:
    """The listener tells a hang-up once the last process under the filter has ended and was waited for."""
    one = target(lambda: 0)
    poll = select.poll()
    poll.register(one.listener, select.POLLIN)
    before = poll.poll(0)
    one.talk.ask()
    os.waitpid(one.talk.pid, 0)
    (_, after), *_ = poll.poll(10_000) or [(0, 0)]
    assert seen([before, bool(after & select.POLLHUP)]) == [[], True]


def read_own(path: str) -> str:
    """What a descriptor that comes as an answer reads."""
    return os.read(os.open(path, os.O_RDONLY), 100).decode()


@behaviour("seccomp.notify.addfd")
def test_descriptor_for_the_target(target: Callable[..., Target], seen: Seen) -> None:
    """A copy of the supervisor's descriptor is in the target, under the number that is returned."""
    one = target(lambda: read_own("/there/is/none"), "openat")
    reader, writer = os.pipe()
    os.write(writer, b"from outside")
    one.talk.say()
    note = calls.receive(one.listener)
    number = calls.add_descriptor(one.listener, note.id, reader)
    there = os.readlink(f"/proc/{one.talk.pid}/fd/{number}") == os.readlink(f"/proc/self/fd/{reader}")
    calls.respond(one.listener, note.id, value=number)
    assert seen([there, one.talk.hear()]) == [True, "from outside"]


@behaviour("seccomp.notify.addfd-newfd-without-flag")
def test_number_without_the_flag(target: Callable[..., Target], seen: Seen) -> None:
    """A number for the descriptor without the flag that says so gives EINVAL; with it the number is taken."""
    one = target(lambda: probe(seen))
    one.talk.say()
    note = calls.receive(one.listener)
    answers = [
        seen.errno_of(calls.add_descriptor, one.listener, note.id, 0, newfd=50, flags=flags)
        for flags in (0, calls.ADDFD_SETFD)
    ]
    there = os.path.lexists(f"/proc/{one.talk.pid}/fd/50")
    calls.respond(one.listener, note.id, flags=calls.RESPONSE_CONTINUE)
    one.talk.hear()
    assert seen([*answers, there]) == ["EINVAL", "no error", True]


@behaviour("seccomp.notify.wait-killable")
def test_received_call_is_not_interrupted(target: Callable[..., Target], seen: Seen) -> None:
    """A signal with a handler does not interrupt a call that the supervisor has received; without the flag it does."""

    def call() -> str:
        signal.signal(signal.SIGUSR1, lambda *_: None)
        signal.siginterrupt(signal.SIGUSR1, True)
        return probe(seen)

    found = []
    for flags in (FLAG_WAIT_KILLABLE_RECV, 0):
        one = target(call, flags=flags)
        one.talk.say()
        note = calls.receive(one.listener)
        os.kill(one.talk.pid, signal.SIGUSR1)
        if not flags:
            found.append(one.talk.hear())
        valid = seen.errno_of(calls.check_id, one.listener, note.id)
        if flags:
            calls.respond(one.listener, note.id, error=-errno.EXDEV)
            found.append(one.talk.hear())
        found.append(valid)
    assert seen(found) == ["EXDEV", "no error", "EINTR", "ENOENT"]
