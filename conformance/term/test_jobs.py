"""Job control: what a process group in the background may do with its terminal, and the keys that make signals."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kernelproof import behaviour
from kernelproof.impl.term import read_foreground_group, restore, save, set_foreground_group
from kernelproof.impl.term.calls import get_foreground_group, put_foreground_group

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelproof.conformance.conftest import Bystander, InChild
    from kernelproof.conformance.seen import Seen
    from kernelproof.conformance.term.conftest import InSession, Job, Pair, ReadNow


def read_errno(fd: int) -> str:
    """What a read gives in the background: an errno's name."""
    try:
        os.read(fd, 1)
    except OSError as error:
        return {5: "EIO", 11: "EAGAIN"}.get(error.errno or 0, str(error))
    return "no error"


@behaviour("term.jobs.background-read-sigttin")
def test_reader_in_the_background_is_stopped(pair: Pair, in_session: InSession, job: Job, seen: Seen) -> None:
    """A read of the controlling terminal by a background group stops it by SIGTTIN; in the foreground it reads."""
    os.set_blocking(pair.slave, False)

    def read_in_front() -> str:
        set_foreground_group(pair.slave, os.getpgrp())
        return read_errno(pair.slave)

    jobs = lambda: [job(lambda: read_errno(pair.slave)), job(read_in_front)]  # noqa: E731
    assert seen(in_session(jobs)) == ["stopped by SIGTTIN", "EAGAIN"]


@behaviour("term.jobs.background-read-eio")
@pytest.mark.parametrize("how", ["ignored", "blocked", "orphaned"])
def test_reader_that_cannot_be_stopped(pair: Pair, in_session: InSession, job: Job, how: str, seen: Seen) -> None:
    """A background read gives EIO when SIGTTIN is ignored or blocked, or when the group is orphaned."""
    os.set_blocking(pair.slave, False)

    def read() -> str:
        if how == "ignored":
            signal.signal(signal.SIGTTIN, signal.SIG_IGN)
        if how == "blocked":
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTIN})
        return read_errno(pair.slave)

    assert seen(in_session(lambda: job(read, orphaned=how == "orphaned"))) == "EIO"


@pytest.fixture
def background_write(pair: Pair, in_session: InSession, job: Job) -> Callable[..., Any]:
    """Write to the terminal in the background, TOSTOP set or not, and return what became of it."""

    def run(tostop: str, how: str = "") -> Any:
        restore(pair.slave, save(pair.slave).changed(tostop))

        def write() -> str | int:
            if how == "ignored":
                signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            if how == "blocked":
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
            try:
                return os.write(pair.slave, b"text")
            except OSError as error:
                return "EIO" if error.errno == 5 else str(error)

        return in_session(lambda: job(write, orphaned=how == "orphaned"))

    return run


@behaviour("term.jobs.background-write-allowed")
def test_writer_in_the_background(
    pair: Pair, background_write: Callable[..., Any], read_now: ReadNow, seen: Seen
) -> None:
    """With TOSTOP clear a background group writes to its terminal."""
    assert background_write("+TOSTOP") == "stopped by SIGTTOU"
    assert seen([background_write("-TOSTOP"), read_now(pair.master)]) == [4, b"text"]


@behaviour("term.jobs.background-write-tostop")
@pytest.mark.parametrize(("how", "expected"), [("", "stopped by SIGTTOU"), ("ignored", 4), ("blocked", 4)])
def test_writer_is_stopped_when_asked(
    background_write: Callable[..., Any], how: str, expected: object, seen: Seen
) -> None:
    """With TOSTOP set a background write stops the group by SIGTTOU, unless that is blocked or ignored."""
    assert seen(background_write("+TOSTOP", how)) == expected


@behaviour("term.jobs.orphaned-write-tostop-eio")
def test_orphaned_writer(background_write: Callable[..., Any], seen: Seen) -> None:
    """With TOSTOP set a write of an orphaned background group gives EIO."""
    assert seen(background_write("+TOSTOP", "orphaned")) == "EIO"


@behaviour("term.jobs.tcsetpgrp-from-background")
def test_foreground_is_taken_from_the_background(pair: Pair, in_session: InSession, job: Job, seen: Seen) -> None:
    """tcsetpgrp in a background group stops it by SIGTTOU; with the signal blocked it succeeds."""

    def take() -> bool:
        set_foreground_group(pair.slave, os.getpgrp())
        return os.tcgetpgrp(pair.slave) == os.getpgrp()

    def take_plainly() -> None:
        put_foreground_group(pair.slave, os.getpgrp())

    assert seen(in_session(lambda: [job(take_plainly), job(take)])) == ["stopped by SIGTTOU", True]


@behaviour("term.jobs.tcsetpgrp-other-session")
def test_group_of_another_session(pair: Pair, in_session: InSession, seen: Seen) -> None:
    """tcsetpgrp with a group of another session gives EPERM and changes nothing."""
    foreign = os.getpgrp()

    def put() -> list[Any]:
        answers = [
            seen.errno_of(put_foreground_group, pair.slave, foreign),
            seen.errno_of(set_foreground_group, pair.slave, foreign),
        ]
        return [*answers, os.tcgetpgrp(pair.slave) == os.getpgrp()]

    assert seen(in_session(put)) == ["EPERM", "EPERM", True]


@behaviour("term.jobs.tcsetpgrp-negative")
def test_negative_group(pair: Pair, in_session: InSession, seen: Seen) -> None:
    """tcsetpgrp with a negative number gives EINVAL."""

    def put() -> list[str]:
        return [
            seen.errno_of(put_foreground_group, pair.slave, -5),
            seen.errno_of(set_foreground_group, pair.slave, -5),
        ]

    assert seen(in_session(put)) == ["EINVAL", "EINVAL"]


@behaviour("term.jobs.tcsetpgrp-no-such-group")
def test_group_that_does_not_exist(pair: Pair, in_session: InSession, seen: Seen) -> None:
    """tcsetpgrp with a number that no process has gives EPERM."""
    nobody = int(Path("/proc/sys/kernel/pid_max").read_text()) - 1

    def put() -> list[str]:
        return [
            seen.errno_of(set_foreground_group, pair.slave, nobody),
            seen.errno_of(put_foreground_group, pair.slave, nobody),
        ]

    typed, plain = in_session(put)
    assert typed == plain
    assert seen(plain) == "EPERM"


@behaviour("term.jobs.tcgetpgrp-not-controlling")
def test_foreground_of_a_foreign_terminal(pair: Pair, in_child: InChild, seen: Seen) -> None:
    """tcgetpgrp on a slave that is not the caller's controlling terminal gives ENOTTY."""

    def get() -> list[str]:
        os.setsid()
        return [seen.errno_of(get_foreground_group, pair.slave), seen.errno_of(read_foreground_group, pair.slave)]

    assert seen(in_child(get)) == ["ENOTTY", "ENOTTY"]


@behaviour("term.jobs.tcgetpgrp-without-foreground")
def test_foreground_group_that_has_died(pair: Pair, in_session: InSession, bystander: Bystander, seen: Seen) -> None:
    """When the foreground group has died, tcgetpgrp returns a number above 1 that is no process group."""

    def let_it_die() -> list[Any]:
        front = bystander()
        os.setpgid(front, front)
        set_foreground_group(pair.slave, front)
        os.kill(front, signal.SIGKILL)
        os.waitpid(front, 0)
        group = read_foreground_group(pair.slave)
        return [group > 1, seen.errno_of(os.killpg, group, 0)]

    assert seen(in_session(let_it_die)) == [True, "ESRCH"]


@behaviour("term.jobs.newly-orphaned-stopped")
def test_stopped_group_that_becomes_orphaned(
    pair: Pair, in_session: InSession, pending: Callable[[int], set[str]], arrived: Callable[[int], None], seen: Seen
) -> None:
    """When an exit orphans a group with a stopped member, that gets SIGHUP, and SIGCONT lets it go on."""

    def orphan() -> list[Any]:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        said, saying = os.pipe()
        parent = os.fork()
        if parent == 0:
            os.setpgid(0, 0)
            stopped = os.fork()
            if stopped == 0:
                os.setpgid(0, 0)
                signal.sigwait({signal.SIGHUP})  # after it was stopped and continued
                os.write(saying, b"hung up")
                os._exit(0)
            os.setpgid(stopped, stopped)
            set_foreground_group(pair.slave, stopped)
            os.write(pair.master, b"\x1a")
            _, status = os.waitpid(stopped, os.WUNTRACED)
            os.write(saying, b"stopped " if os.WIFSTOPPED(status) else b"ended ")
            os._exit(0)
        os.close(saying)
        os.waitpid(parent, 0)
        text = b""
        while b"hung up" not in text:
            arrived(said)
            text += os.read(said, 100)
        return [text.decode()]

    assert seen(in_session(orphan)) == ["stopped hung up"]


@pytest.fixture
def typed_key(
    pair: Pair,
    in_session: InSession,
    bystander: Bystander,
    pending: Callable[[int], set[str]],
    arrived: Callable[[int], None],
    read_now: ReadNow,
) -> Callable[..., Any]:
    """Type something, and return the signals of two processes in front, of two behind, and what is read."""

    def run(keys: bytes, *flags: str) -> Any:
        restore(pair.slave, save(pair.slave).changed("-ECHO", *flags))

        def type_keys() -> list[Any]:
            # Blocked here and so in what is forked: a signal then stays where it was sent.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP})
            front, behind = [bystander(), bystander()], [bystander()]
            for group in (front, behind):
                for pid in group:
                    os.setpgid(pid, group[0])
            set_foreground_group(pair.slave, front[0])
            os.write(pair.master, keys)
            os.write(pair.master, b"end\n")
            arrived(pair.slave)  # and so has all that was typed before
            set_foreground_group(pair.slave, os.getpgrp())
            line = read_now(pair.slave)
            signals = [sorted(pending(pid)) for pid in (*front, *behind, os.getpid())]
            return [signals, None if line is None else line.decode()]

        return in_session(type_keys)

    return run


@behaviour("term.isig.intr-to-foreground")
def test_interrupt_key_reaches_the_foreground_group(typed_key: Callable[..., Any], seen: Seen) -> None:
    """The INTR byte on the master sends SIGINT to each process of the foreground group and to none behind it."""
    assert seen(typed_key(b"\x03")) == [[["SIGINT"], ["SIGINT"], [], []], "end\n"]


@behaviour("term.isig.quit-and-susp")
def test_quit_key(typed_key: Callable[..., Any], seen: Seen) -> None:
    """QUIT sends SIGQUIT to the foreground group and is not read."""
    assert seen(typed_key(b"\x1c")) == [[["SIGQUIT"], ["SIGQUIT"], [], []], "end\n"]


@behaviour("term.isig.susp")
def test_suspend_key(typed_key: Callable[..., Any], seen: Seen) -> None:
    """SUSP sends SIGTSTP to the foreground group and is not read."""
    assert seen(typed_key(b"\x1a")) == [[["SIGTSTP"], ["SIGTSTP"], [], []], "end\n"]


@behaviour("term.isig.signal-flushes-input")
@pytest.mark.parametrize(("flag", "line"), [("-NOFLSH", "end\n"), ("+NOFLSH", "abcend\n")])
def test_signal_throws_input_away(typed_key: Callable[..., Any], flag: str, line: str, seen: Seen) -> None:
    """INTR throws away what was typed before it, unless NOFLSH is set."""
    assert seen(typed_key(b"abc\x03", flag)) == [[["SIGINT"], ["SIGINT"], [], []], line]


@behaviour("term.isig.off-passes-bytes")
def test_keys_without_signals(typed_key: Callable[..., Any], seen: Seen) -> None:
    """With ISIG clear 0x03 is input and makes no signal."""
    assert seen(typed_key(b"\x03", "-ISIG")) == [[[], [], [], []], "\x03end\n"]
