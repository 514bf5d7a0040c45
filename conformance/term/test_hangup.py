"""One end of a pair is closed: what the other one sees."""

from __future__ import annotations

import os
import select
import signal
from typing import TYPE_CHECKING, Any

import pytest

from kernelproof import behaviour
from kernelproof.impl._syscalls.terminals import vhangup
from kernelproof.impl.term import (
    PseudoterminalPair,
    WindowSize,
    is_terminal,
    read_window_size,
    save,
    set_controlling_terminal,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.seen import Seen

USER = 1000


@pytest.fixture
def opened() -> Iterator[PseudoterminalPair]:
    """A pair whose ends the test closes."""
    with PseudoterminalPair.open(WindowSize(24, 80)) as pair:
        yield pair


@behaviour("term.hangup.master-close-sighup")
def test_leader_is_told_of_the_hangup(in_child: InChild, seen: Seen) -> None:
    """Closing the last descriptor of the master sends SIGHUP, and SIGCONT, to the leader whose terminal it is."""

    def lead() -> list[Any]:
        signals = {signal.SIGHUP, signal.SIGCONT}
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        os.setsid()
        with PseudoterminalPair.open() as opened:
            set_controlling_terminal(opened.peer())
            copy = os.dup(opened.master)
        before = signal.sigpending() & signals
        os.close(copy)
        return [len(before), sorted(number.name for number in signal.sigpending() & signals)]

    assert seen(in_child(lead)) == [0, ["SIGCONT", "SIGHUP"]]


@behaviour("term.hangup.slave-after-master-close")
def test_hung_up_slave_is_at_its_end(opened: PseudoterminalPair, seen: Seen) -> None:
    """After the master is gone a read of the slave returns nothing; the attributes and the size give EIO."""
    slave = opened.peer()
    os.write(opened.master, b"unread\n")
    opened.close()
    assert seen(os.read(slave, 100)) == b""
    assert [seen.errno_of(call, slave) for call in (save, read_window_size, is_terminal)] == ["EIO"] * 3
    assert not os.isatty(slave)
    os.close(slave)


@behaviour("term.hangup.slave-write-after-master-close")
def test_hung_up_slave_takes_nothing(opened: PseudoterminalPair, seen: Seen) -> None:
    """After the master is gone a write to the slave gives EIO."""
    slave = opened.peer()
    assert os.write(slave, b"x") == 1
    opened.close()
    assert seen.errno_of(os.write, slave, b"x") == "EIO"
    os.close(slave)


@behaviour("term.hangup.master-read-after-last-slave-close")
def test_master_reads_to_the_end(opened: PseudoterminalPair, seen: Seen) -> None:
    """After the last close of the slave the master reads what was written, then gives EIO, and poll says POLLHUP."""
    slave = opened.peer()
    os.write(slave, b"last words")
    os.close(slave)
    poll = select.poll()
    poll.register(opened.master, select.POLLIN)
    (_, events), *_ = poll.poll(10_000)
    assert events & select.POLLHUP
    text = os.read(opened.master, 100)
    assert text == b"last words"
    assert seen.errno_of(os.read, opened.master, 100) == "EIO"


@behaviour("term.hangup.slave-reopen-revives")
def test_pair_lives_again(opened: PseudoterminalPair, seen: Seen) -> None:
    """A slave that is opened again after the master gave EIO makes the pair usable again."""
    os.close(opened.peer())
    assert seen.errno_of(os.read, opened.master, 100) == "EIO"
    slave = opened.peer()
    os.write(slave, b"output")
    first = os.read(opened.master, 100)
    os.write(opened.master, b"input\n")
    assert seen([first, os.read(slave, 100)]) == [b"output", b"input\n"]
    os.close(slave)


@behaviour("term.hangup.vhangup-privilege")
def test_vhangup_needs_the_capability(in_child: InChild, seen: Seen) -> None:
    """vhangup without CAP_SYS_TTY_CONFIG gives EPERM."""

    def hang_up() -> list[Any]:
        os.setresuid(USER, USER, USER)
        return [seen.errno_of(vhangup), os.getuid()]

    assert seen(in_child(hang_up)) == ["EPERM", USER]
