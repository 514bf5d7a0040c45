"""Window sizes, set by one end of a pair and read by the other, and the signal that tells of them."""

from __future__ import annotations

import os
import signal
import struct
import termios
from fcntl import ioctl
from typing import TYPE_CHECKING, Any

import pytest

from kernelproof import behaviour
from kernelproof.impl.term import WindowSize, is_terminal, read_window_size, set_foreground_group, set_window_size
from kernelproof.impl.term.calls import control

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelproof.conformance.conftest import Bystander
    from kernelproof.conformance.seen import Seen
    from kernelproof.conformance.term.conftest import InSession, Pair

SIZE = WindowSize(24, 80, 640, 384)


def size_at(fd: int) -> tuple[int, ...]:
    """The window size as the standard library reads it."""
    return struct.unpack("4H", ioctl(fd, termios.TIOCGWINSZ, bytes(8)))


@behaviour("term.winsize.master-slave-shared")
def test_window_size_is_one_for_both_ends(pair: Pair, seen: Seen) -> None:
    """The window size that TIOCSWINSZ stores through the master is the one the slave has, in all four fields."""
    set_window_size(pair.master, WindowSize(50, 132, 1056, 800))
    assert seen(size_at(pair.slave)) == (50, 132, 1056, 800)
    assert read_window_size(pair.slave) == size_at(pair.master)


@behaviour("term.winsize.kernel-does-not-use")
def test_any_size_is_stored(pair: Pair, seen: Seen) -> None:
    """65535 rows by 1 column is stored and read back, and a new pair has 0 by 0."""
    assert read_window_size(pair.slave) == size_at(pair.slave) == (0, 0, 0, 0)
    set_window_size(pair.slave, WindowSize(65535, 1))
    assert seen(size_at(pair.master)) == (65535, 1, 0, 0)
    with pytest.raises(ValueError, match="rows=65536 is not 0 to 65535"):
        set_window_size(pair.slave, WindowSize(65536, 1))
    assert size_at(pair.master) == (65535, 1, 0, 0)


@pytest.fixture
def sizes_signalled(
    pair: Pair, in_session: InSession, bystander: Bystander, pending: Callable[[int], set[str]]
) -> Callable[..., Any]:
    """Set window sizes one after the other, and say after each who of foreground and background has SIGWINCH."""

    def run(*sizes: WindowSize) -> Any:
        def resize() -> list[list[bool]]:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGWINCH})  # pending then, also if it would be ignored
            signal.signal(signal.SIGWINCH, lambda *_: None)
            found = []
            for size in sizes:
                front, behind = bystander(), bystander()
                for pid in (front, behind):
                    os.setpgid(pid, pid)
                set_foreground_group(pair.slave, front)
                set_window_size(pair.master, size)
                found.append(["SIGWINCH" in pending(pid) for pid in (front, behind)])
            return found

        return in_session(resize)

    return run


@behaviour("term.winsize.sigwinch-foreground")
def test_change_signals_the_foreground(sizes_signalled: Callable[..., Any], seen: Seen) -> None:
    """A change of the size sends SIGWINCH to the foreground group and to none behind it."""
    assert seen(sizes_signalled(SIZE)) == [[True, False]]


@behaviour("term.winsize.sigwinch-only-on-change")
def test_same_size_signals_nobody(sizes_signalled: Callable[..., Any], seen: Seen) -> None:
    """Storing the size that is there sends no SIGWINCH."""
    assert seen(sizes_signalled(SIZE, SIZE)) == [[True, False], [False, False]]


@behaviour("term.winsize.sigwinch-on-pixels")
def test_pixels_are_a_change(sizes_signalled: Callable[..., Any], seen: Seen) -> None:
    """A size that differs in pixels only sends SIGWINCH."""
    sizes = (SIZE, SIZE._replace(x_pixels=800), SIZE._replace(x_pixels=800, y_pixels=600))
    assert seen(sizes_signalled(*sizes)) == [[True, False]] * 3


@behaviour("term.winsize.sigwinch-ignored-by-default")
def test_size_change_disturbs_nobody(pair: Pair, in_session: InSession, seen: Seen) -> None:
    """A process without handler for SIGWINCH goes on, its read not interrupted, when its terminal gets another size."""

    def read_through_a_change() -> list[Any]:
        signal.signal(signal.SIGWINCH, signal.SIG_DFL)
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            # In the foreground group, waiting in read(2), which a signal with a handler would interrupt (PEP 475).
            os.write(writer, os.read(pair.slave, 100))
            os._exit(0)
        set_window_size(pair.master, SIZE)
        os.write(pair.master, b"line\n")
        answer = os.read(reader, 100).decode()
        _, status = os.waitpid(pid, 0)
        return [answer, status, list(size_at(pair.slave))]

    assert seen(in_session(read_through_a_change)) == ["line\n", 0, list(SIZE)]


@behaviour("term.winsize.not-a-terminal")
@pytest.mark.parametrize("kind", ["pipe", "file", "null", "closed"])
def test_no_terminal_has_no_size(kind: str, seen: Seen) -> None:
    """TIOCGWINSZ on a pipe, a file or /dev/null gives ENOTTY, and on a closed descriptor EBADF."""
    reader, writer = os.pipe()
    fd = {
        "pipe": lambda: reader,
        "file": lambda: os.open("/etc/passwd", os.O_RDONLY),
        "null": lambda: os.open("/dev/null", os.O_RDWR),
        "closed": lambda: os.dup(reader),
    }[kind]()
    if kind == "closed":
        os.close(fd)
    expected = "EBADF" if kind == "closed" else "ENOTTY"
    assert seen.errno_of(control, fd, "TIOCGWINSZ", termios.TIOCGWINSZ, bytes(8)) == expected
    assert seen.errno_of(read_window_size, fd) == expected
    assert seen.errno_of(set_window_size, fd, SIZE) == expected
    assert seen.errno_of(is_terminal, fd) == ("EBADF" if kind == "closed" else "no error")
    assert kind == "closed" or is_terminal(fd) is False
    for each in {reader, writer, fd} - ({fd} if kind == "closed" else set()):
        os.close(each)
