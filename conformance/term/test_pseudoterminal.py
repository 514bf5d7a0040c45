"""What the two ends of a pseudoterminal share, and how its line discipline hands out input."""

from __future__ import annotations

import os
import struct
import termios
from fcntl import ioctl
from typing import TYPE_CHECKING

from kernelproof import behaviour

if TYPE_CHECKING:
    from kernelproof.conformance.seen import Seen
    from kernelproof.conformance.term.conftest import Pair


@behaviour("term.winsize.master-slave-shared", subject="stand-in")
def test_window_size_is_one_for_both_ends(pair: Pair, seen: Seen) -> None:
    """The window size that TIOCSWINSZ stores through the master is the one the slave has, in all four fields."""
    ioctl(pair.master, termios.TIOCSWINSZ, struct.pack("4H", 50, 132, 1056, 800))
    slave = struct.unpack("4H", ioctl(pair.slave, termios.TIOCGWINSZ, bytes(8)))
    assert seen(slave) == (50, 132, 1056, 800)


@behaviour("term.canon.one-line-per-read", subject="stand-in")
def test_read_returns_one_line(pair: Pair, seen: Seen) -> None:
    """In canonical mode a read returns one line, though a second waits and the buffer has room for both."""
    os.write(pair.master, b"first\nsecond\n")
    assert seen(os.read(pair.slave, 100)) == b"first\n"
    assert seen(os.read(pair.slave, 100)) == b"second\n"


@behaviour("term.canon.eof-mid-line", subject="stand-in")
def test_end_of_file_character_sends_what_was_typed(pair: Pair, seen: Seen) -> None:
    """EOF typed after "ab" hands out these two bytes at once, without itself and without a newline."""
    os.write(pair.master, b"ab\x04")
    assert seen(os.read(pair.slave, 100)) == b"ab"
    os.write(pair.master, b"next\n")
    assert os.read(pair.slave, 100) == b"next\n"
