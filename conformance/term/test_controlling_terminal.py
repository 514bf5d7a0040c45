"""Sessions, their controlling terminal and the signals it sends, observed through /proc/PID/stat."""

from __future__ import annotations

import os
import signal
import termios
from fcntl import ioctl
from pathlib import Path
from typing import TYPE_CHECKING

from kernelproof import behaviour

if TYPE_CHECKING:
    from kernelproof.conformance.conftest import Bystander, InChild
    from kernelproof.conformance.seen import Seen
    from kernelproof.conformance.term.conftest import Pair


def controlling_terminal() -> int:
    """Return the device number of the caller's controlling terminal, 0 if it has none (proc_pid_stat(5), tty_nr)."""
    after_name = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    number = int(after_name[4])
    minor = (number >> 12) & 0xFFF00 | number & 0xFF
    return os.makedev((number >> 8) & 0xFF, minor) if number else 0


def is_pending(pid: int, number: int) -> bool:
    lines = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    pending = int(lines["SigPnd"], 16) | int(lines["ShdPnd"], 16)
    return bool(pending & 1 << number - 1)


@behaviour("term.ctty.open-by-leader", subject="stand-in")
def test_leader_gets_the_terminal_it_opens(pair: Pair, in_child: InChild) -> None:
    """A session leader without controlling terminal gets the terminal that it opens without O_NOCTTY."""

    def lead_and_open() -> list[int]:
        os.setsid()
        before = controlling_terminal()
        os.open(pair.path, os.O_RDWR)
        return [before, controlling_terminal()]

    assert in_child(lead_and_open) == [0, os.stat(pair.path).st_rdev]


@behaviour("term.ctty.o-noctty", subject="stand-in")
def test_o_noctty_gives_no_terminal(pair: Pair, in_child: InChild, seen: Seen) -> None:
    """A session leader that opens a terminal with O_NOCTTY has no controlling terminal: /dev/tty gives ENXIO."""

    def lead_and_open() -> list[int | str]:
        os.setsid()
        os.open(pair.path, os.O_RDWR | os.O_NOCTTY)
        without = seen.errno_of(os.open, "/dev/tty", os.O_RDWR)
        number = controlling_terminal()
        os.open(pair.path, os.O_RDWR)
        return [without, number, seen.errno_of(os.open, "/dev/tty", os.O_RDWR)]

    without, number, with_terminal = in_child(lead_and_open)
    assert seen(without) == "ENXIO"
    assert number == 0
    assert with_terminal == "no error"


@behaviour("term.ctty.tiocsctty-needs-leader", subject="stand-in")
def test_only_a_leader_takes_a_terminal(pair: Pair, in_child: InChild, seen: Seen) -> None:
    """TIOCSCTTY by root in a process that is no session leader is refused with EPERM; its leader may call it."""

    def take() -> list[int | str]:
        answer = seen.errno_of(ioctl, pair.slave, termios.TIOCSCTTY, 0)
        return [os.geteuid(), answer, controlling_terminal()]

    def lead_and_take() -> list[list[int | str]]:
        os.setsid()
        return [in_child(take), take()]

    member, leader = in_child(lead_and_take)
    assert seen(member) == [0, "EPERM", 0]
    assert leader == [0, "no error", os.stat(pair.path).st_rdev]


@behaviour("term.isig.intr-to-foreground", subject="stand-in")
def test_interrupt_key_reaches_the_foreground_group(
    pair: Pair, in_child: InChild, bystander: Bystander, seen: Seen
) -> None:
    """The INTR byte on the master sends SIGINT to each process of the foreground group and to none behind it."""

    def type_interrupt() -> dict[str, list[bool]]:
        os.setsid()
        ioctl(pair.slave, termios.TIOCSCTTY, 0)
        # Blocked here and so in what is forked: a signal then stays where it was sent.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        foreground, background = [bystander(), bystander()], [bystander()]
        for group in (foreground, background):
            for pid in group:
                os.setpgid(pid, group[0])
        os.tcsetpgrp(pair.slave, foreground[0])

        os.write(pair.master, b"\x03")
        # The line discipline signals first and echoes then, so with the echo nothing is under way.
        assert os.read(pair.master, 100) == b"^C"
        background.append(os.getpid())
        interrupted = {
            "foreground": [is_pending(pid, signal.SIGINT) for pid in foreground],
            "background": [is_pending(pid, signal.SIGINT) for pid in background],
        }
        for pid in (*foreground, background[0]):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        return interrupted

    interrupted = in_child(type_interrupt)
    assert seen(interrupted) == {"foreground": [True, True], "background": [False, False]}
