"""Sessions and their controlling terminal, observed through /proc/PID/stat and /dev/tty."""

from __future__ import annotations

import os
import signal
import stat
import termios
from typing import TYPE_CHECKING, Any

import pytest

from kernelproof import behaviour
from kernelproof.impl.term import (
    PseudoterminalPair,
    leave_controlling_terminal,
    set_controlling_terminal,
    set_foreground_group,
)
from kernelproof.impl.term.calls import control
from kernelproof.impl.term.linux import TIOCGSID, open_peer, read_session

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelproof.conformance.conftest import Bystander, InChild
    from kernelproof.conformance.seen import Seen
    from kernelproof.conformance.term.conftest import InSession, Job, Pair, ReadNow, StartRival, TerminalOf

USER = 1000


def dev_tty() -> str:
    """What opening /dev/tty gives: "no error", or an errno's name."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))
    except OSError as error:
        return "ENXIO" if error.errno == 6 else str(error)
    return "no error"


def device_of(pair: Pair) -> int:
    return os.stat(pair.path).st_rdev


@behaviour("term.ctty.open-by-leader")
def test_leader_gets_the_terminal_it_opens(pair: Pair, in_child: InChild, terminal_of: TerminalOf, seen: Seen) -> None:
    """A session leader without controlling terminal gets the terminal that it opens without O_NOCTTY."""

    def lead_and_open() -> list[int]:
        os.setsid()
        before = terminal_of()
        open_peer(pair.master, os.O_RDWR)
        return [before, terminal_of()]

    assert seen(in_child(lead_and_open)) == [0, device_of(pair)]


@behaviour("term.ctty.o-noctty")
def test_o_noctty_gives_no_terminal(pair: Pair, in_child: InChild, terminal_of: TerminalOf, seen: Seen) -> None:
    """A session leader that opens a terminal with O_NOCTTY has no controlling terminal: /dev/tty gives ENXIO."""

    def lead_and_open() -> list[Any]:
        os.setsid()
        open_peer(pair.master, os.O_RDWR | os.O_NOCTTY)
        without = [dev_tty(), terminal_of()]
        open_peer(pair.master, os.O_RDWR)
        return [without, dev_tty()]

    assert seen(in_child(lead_and_open)) == [["ENXIO", 0], "no error"]


@behaviour("term.ctty.dev-tty-is-synonym")
def test_dev_tty_is_ones_own_terminal(
    pair: Pair, in_session: InSession, in_child: InChild, read_now: ReadNow, seen: Seen
) -> None:
    """/dev/tty is character device 5:0, and what two sessions write to it arrives each at its own terminal."""
    found = os.stat("/dev/tty")
    assert stat.S_ISCHR(found.st_mode)
    assert found.st_rdev == os.makedev(5, 0)

    def write(text: bytes) -> int:
        fd = os.open("/dev/tty", os.O_RDWR)
        return os.write(fd, text)

    with PseudoterminalPair.open() as other:

        def lead_other() -> int:
            os.setsid()
            set_controlling_terminal(other.peer())
            return write(b"other")

        peer = other.peer()  # keeps the pair from hanging up
        assert [in_session(lambda: write(b"first")), in_child(lead_other)] == [5, 5]
        assert seen([read_now(pair.master), read_now(other.master)]) == [b"first", b"other"]
        os.close(peer)


@behaviour("term.ctty.tiocsctty-needs-leader")
def test_only_a_leader_takes_a_terminal(pair: Pair, in_child: InChild, terminal_of: TerminalOf, seen: Seen) -> None:
    """TIOCSCTTY by root in a process that is no session leader is refused with EPERM; its leader may call it."""

    def take() -> list[Any]:
        answers = [
            seen.errno_of(control, pair.slave, "TIOCSCTTY", termios.TIOCSCTTY, 0),
            seen.errno_of(set_controlling_terminal, pair.slave),
        ]
        return [os.geteuid(), *answers, terminal_of()]

    def lead_and_take() -> list[Any]:
        os.setsid()
        return [in_child(take), take()]

    member, leader = in_child(lead_and_take)
    assert seen(member) == [0, "EPERM", "EPERM", 0]
    assert leader == [0, "no error", "no error", device_of(pair)]


@behaviour("term.ctty.tiocsctty-second-terminal")
def test_second_terminal_is_refused(pair: Pair, in_session: InSession, terminal_of: TerminalOf, seen: Seen) -> None:
    """TIOCSCTTY by a leader that has another controlling terminal is refused with EPERM, and the first stays."""

    def take_another() -> list[Any]:
        with PseudoterminalPair.open() as other:
            return [seen.errno_of(set_controlling_terminal, other.peer()), terminal_of()]

    assert seen(in_session(take_another)) == ["EPERM", device_of(pair)]


@behaviour("term.ctty.tiocsctty-same-again")
def test_same_terminal_may_be_taken_again(
    pair: Pair, in_session: InSession, terminal_of: TerminalOf, seen: Seen
) -> None:
    """TIOCSCTTY on the terminal that is the caller's controlling terminal succeeds."""

    def again() -> list[Any]:
        return [seen.errno_of(set_controlling_terminal, pair.slave), terminal_of()]

    assert seen(in_session(again)) == ["no error", device_of(pair)]


def take_from_rival(
    pair: Pair, in_child: InChild, rival: StartRival, terminal_of: TerminalOf, *, steal: bool, uid: int = 0
) -> list[Any]:
    """Take the terminal of another session, and return the answer, one's terminal then, and the rival's /dev/tty."""
    other = rival(dev_tty)

    def take() -> list[Any]:
        os.setsid()
        os.setresuid(uid, uid, uid)
        try:
            set_controlling_terminal(pair.slave, steal=steal)
        except PermissionError:
            answer = "EPERM"
        else:
            answer = "no error"
        return [answer, terminal_of()]

    return [*in_child(take), other.ask()]


@behaviour("term.ctty.in-use-eperm")
def test_terminal_of_another_session_is_refused(
    pair: Pair, in_child: InChild, rival: StartRival, terminal_of: TerminalOf, seen: Seen
) -> None:
    """TIOCSCTTY with 0 on the controlling terminal of another session is refused with EPERM, to root too."""
    taken = take_from_rival(pair, in_child, rival, terminal_of, steal=False)
    assert seen(taken) == ["EPERM", 0, "no error"]


@behaviour("term.ctty.steal")
def test_terminal_is_stolen(
    pair: Pair, in_child: InChild, rival: StartRival, terminal_of: TerminalOf, seen: Seen
) -> None:
    """TIOCSCTTY with 1 by CAP_SYS_ADMIN takes it from another session, whose process gets ENXIO from /dev/tty."""
    taken = take_from_rival(pair, in_child, rival, terminal_of, steal=True)
    assert seen(taken) == ["no error", device_of(pair), "ENXIO"]


@behaviour("term.ctty.steal-unprivileged")
def test_stealing_needs_the_capability(
    pair: Pair, in_child: InChild, rival: StartRival, terminal_of: TerminalOf, seen: Seen
) -> None:
    """TIOCSCTTY with 1 without CAP_SYS_ADMIN is refused with EPERM if another session has the terminal."""
    taken = take_from_rival(pair, in_child, rival, terminal_of, steal=True, uid=USER)
    assert seen(taken) == ["EPERM", 0, "no error"]


@behaviour("term.ctty.one-session-per-terminal")
def test_terminal_has_one_session(
    pair: Pair, in_child: InChild, rival: StartRival, terminal_of: TerminalOf, seen: Seen
) -> None:
    """A leader that opens the controlling terminal of another session does not get it: ENXIO from /dev/tty."""
    other = rival(dev_tty)

    def open_it() -> list[Any]:
        os.setsid()
        open_peer(pair.master, os.O_RDWR)
        return [terminal_of(), dev_tty()]

    assert seen([*in_child(open_it), other.ask()]) == [0, "ENXIO", "no error"]


@behaviour("term.ctty.tiocnotty-leader")
def test_leader_gives_up_the_terminal(
    pair: Pair,
    in_session: InSession,
    bystander: Bystander,
    pending: Callable[[int], set[str]],
    terminal_of: TerminalOf,
    seen: Seen,
) -> None:
    """TIOCNOTTY by the leader sends SIGHUP and SIGCONT to the foreground group, and the session has no terminal."""

    def give_up() -> list[Any]:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGCONT})
        front, behind = bystander(), bystander()
        for pid in (front, behind):
            os.setpgid(pid, pid)
        set_foreground_group(pair.slave, front)
        before = terminal_of(behind)
        leave_controlling_terminal(pair.slave)
        terminals = [terminal_of(pid) for pid in ("self", front, behind)]
        return [before, sorted(pending(front)), sorted(pending(behind)), terminals]

    assert seen(in_session(give_up)) == [device_of(pair), ["SIGCONT", "SIGHUP"], [], [0, 0, 0]]


@behaviour("term.ctty.tiocnotty-member")
def test_member_gives_up_the_terminal(
    pair: Pair, in_session: InSession, job: Job, terminal_of: TerminalOf, seen: Seen
) -> None:
    """TIOCNOTTY by a member detaches that process alone; the leader can still open /dev/tty."""

    def give_up() -> list[Any]:
        leave_controlling_terminal(pair.slave)
        return [terminal_of(), dev_tty()]

    assert seen(in_session(lambda: [job(give_up), dev_tty()])) == [[0, "ENXIO"], "no error"]


@behaviour("term.ctty.tiocnotty-not-ours")
def test_terminal_of_others_is_not_given_up(pair: Pair, in_child: InChild, rival: StartRival, seen: Seen) -> None:
    """TIOCNOTTY on a terminal that is not the caller's controlling one gives ENOTTY, and its session keeps it."""
    other = rival(dev_tty)

    def leave() -> list[str]:
        os.setsid()
        return [
            seen.errno_of(control, pair.slave, "TIOCNOTTY", termios.TIOCNOTTY),
            seen.errno_of(leave_controlling_terminal, pair.slave),
        ]

    assert seen([*in_child(leave), other.ask()]) == ["ENOTTY", "ENOTTY", "no error"]


@behaviour("term.ctty.setsid-drops-terminal")
def test_new_session_has_no_terminal(
    pair: Pair, in_session: InSession, in_child: InChild, terminal_of: TerminalOf, read_now: ReadNow, seen: Seen
) -> None:
    """After setsid a process has no controlling terminal, and can still write to its old descriptor."""

    def leave() -> list[Any]:
        before = terminal_of()
        os.setsid()
        return [before, terminal_of(), dev_tty(), os.write(pair.slave, b"text")]

    assert seen(in_session(lambda: in_child(leave))) == [device_of(pair), 0, "ENXIO", 4]
    assert read_now(pair.master) == b"text"


@behaviour("term.ctty.leader-exit-sighup")
def test_end_of_the_leader_hangs_up_the_foreground(
    pair: Pair, in_session: InSession, bystander: Bystander, pending: Callable[[int], set[str]], seen: Seen
) -> None:
    """When the session leader exits, each process of the foreground group is sent SIGHUP."""

    def start_and_exit() -> list[int]:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        front, also, behind = bystander(), bystander(), bystander()
        for pid, group in ((front, front), (also, front), (behind, behind)):
            os.setpgid(pid, group)
        set_foreground_group(pair.slave, front)
        return [front, also, behind]

    pids = in_session(start_and_exit)
    signals = ["SIGHUP" in pending(pid) for pid in pids]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert seen(signals) == [True, True, False]


@behaviour("term.ctty.leader-exit-no-hangup-on-pty")
def test_survivors_keep_their_descriptors(
    pair: Pair, in_session: InSession, terminal_of: TerminalOf, arrived: Callable[[int], None], seen: Seen
) -> None:
    """After the leader's exit a survivor has no controlling terminal, and reads and writes the slave as before."""

    def start_and_exit() -> int:
        leader = os.pidfd_open(os.getpid())
        before = terminal_of()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        pid = os.fork()
        if pid == 0:
            os.setpgid(0, 0)
            arrived(leader)  # a pidfd is readable when its process has ended
            line = os.read(pair.slave, 100)
            os.write(pair.slave, b"%d %s" % (terminal_of(), line))
            os._exit(0)
        return before

    assert in_session(start_and_exit) == device_of(pair)
    os.write(pair.master, b"typed\n")
    said = b""
    while not said.endswith(b" typed\r\n"):  # the line's end may come by itself
        arrived(pair.master)
        said += os.read(pair.master, 100)
    assert seen(said) == b"typed\r\n0 typed\r\n"


@behaviour("term.ctty.tcgetsid-foreign")
def test_session_of_a_foreign_terminal(pair: Pair, in_child: InChild, rival: StartRival, seen: Seen) -> None:
    """TIOCGSID on a slave that is not the caller's controlling terminal gives ENOTTY."""
    rival(dev_tty)

    def ask() -> list[str]:
        return [
            seen.errno_of(control, pair.slave, "TIOCGSID", TIOCGSID, bytes(4)),
            seen.errno_of(read_session, pair.slave),
        ]

    assert seen(in_child(ask)) == ["ENOTTY", "ENOTTY"]


@behaviour("term.ctty.tcgetsid-master")
def test_master_knows_the_session(pair: Pair, rival: StartRival, seen: Seen) -> None:
    """TIOCGSID on a master returns the session that has the slave as controlling terminal."""
    with pytest.raises(OSError, match="Inappropriate ioctl"):
        read_session(pair.master)
    other = rival(lambda: [os.getsid(0), read_session(pair.slave)])
    session = read_session(pair.master)
    assert other.ask() == [other.pid, other.pid]
    assert seen(session) == other.pid
