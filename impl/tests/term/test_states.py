"""Attributes as values, window sizes, and the functions of 2014."""

from __future__ import annotations

import errno
import os
import select
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelproof.impl.term import (
    DRAIN,
    FLUSH,
    ErrInvalidState,
    InvalidStateError,
    PseudoterminalPair,
    TermState,
    WindowSize,
    Winsize,
    disable_echo,
    get_fd_info,
    get_winsize,
    is_terminal,
    make_cbreak_state,
    make_no_echo_state,
    make_raw,
    make_raw_state,
    read_window_size,
    restore,
    restore_terminal,
    save,
    save_state,
    set_raw_terminal,
    set_raw_terminal_output,
    set_window_size,
    set_winsize,
    std_streams,
)
from kernelproof.impl.term.states import from_attributes


@pytest.fixture
def peer() -> Iterator[int]:
    """The peer of a pair."""
    with PseudoterminalPair.open() as pair:
        fd = pair.peer()
        yield fd
        os.close(fd)


@pytest.fixture
def pipe() -> Iterator[int]:
    """The reading end of a pipe."""
    reading, writing = os.pipe()
    yield reading
    os.close(reading)
    os.close(writing)


# Raw mode.

CLEARED = {
    "iflag": ("IGNBRK", "BRKINT", "PARMRK", "ISTRIP", "INLCR", "IGNCR", "ICRNL", "IXON"),
    "oflag": ("OPOST",),
    "cflag": ("PARENB",),
    "lflag": ("ECHO", "ECHONL", "ICANON", "ISIG", "IEXTEN"),
}


def test_raw_clears_these_bits_and_no_others(peer: int) -> None:
    """Raw mode clears the bits of cfmakeraw, sets CS8, MIN 1 and TIME 0, and leaves every other bit."""
    nines = (9,) * len(save(peer).characters)
    full = TermState(0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 15, 15, nines)
    made = make_raw_state(full)
    for field, names in CLEARED.items():
        cleared = sum(getattr(termios, name) for name in names)
        if field == "cflag":
            cleared |= termios.CSIZE & ~termios.CS8
        assert getattr(made, field) == 0xFFFFFFFF & ~cleared
    assert made.character("VMIN") == 1
    assert made.character("VTIME") == 0
    others = [index for index in range(len(full.characters)) if index not in (termios.VMIN, termios.VTIME)]
    assert [made.characters[index] for index in others] == [full.characters[index] for index in others]
    assert make_raw_state(full, keep_output_processing=True).oflag == full.oflag


def test_raw_is_what_the_terminal_takes(peer: int) -> None:
    """A terminal set to raw mode says so, and is as before when its state is restored."""
    before = save(peer)
    raw = restore(peer, make_raw_state(before))
    assert raw == make_raw_state(before)
    assert restore(peer, before) == before


def test_cbreak_and_no_echo(peer: int) -> None:
    """cbreak clears ECHO and ICANON, no echo clears ECHO; signals stay."""
    state = save(peer)
    assert state.diff(make_cbreak_state(state)) == "lflag -ECHO -ICANON"
    assert state.diff(make_no_echo_state(state)) == "lflag -ECHO"
    assert (state.echoes, make_no_echo_state(state).echoes) == (True, False)
    assert (state.is_canonical, make_cbreak_state(state).is_canonical) == (True, False)


def test_flush_drops_input_and_drain_keeps_it() -> None:
    """FLUSH throws away input that nobody read; NOW and DRAIN keep it."""
    with PseudoterminalPair.open() as pair:
        fd = pair.peer()
        restore(fd, make_raw_state(save(fd)))
        for when, kept in ((DRAIN, True), (FLUSH, False)):
            os.write(pair.master, b"x")
            assert select.select([fd], [], [], 30)[0]  # it takes a moment to arrive, and only then can be dropped
            restore(fd, save(fd), when)
            os.set_blocking(fd, False)
            try:
                assert (os.read(fd, 10) == b"x") is kept
            except BlockingIOError:
                assert not kept
        os.close(fd)


# Values.


@pytest.mark.rule("T+5")
def test_state_prints_with_names(peer: int) -> None:
    """A state prints its flags by name."""
    lines = str(save(peer)).splitlines()
    assert [line.split()[0] for line in lines] == ["iflag", "oflag", "cflag", "lflag", "characters"]
    assert "ICANON" in lines[3].split()
    assert "CS8" in lines[2].split()
    assert "VINTR=3" in lines[4].split()


@pytest.mark.rule("T+5")
def test_difference_is_named(peer: int) -> None:
    """The difference of two states names flags, characters and speeds; equal states have none."""
    state = save(peer)
    assert state.diff(state) == ""
    assert state == save(peer)
    characters = list(state.characters)
    characters[termios.VINTR] = 7
    other = state._replace(
        lflag=state.lflag ^ termios.ECHO ^ termios.TOSTOP,
        cflag=state.cflag & ~termios.CSIZE | termios.CS7,
        characters=tuple(characters),
        output_speed=termios.B0,
    )
    assert state.diff(other) == (
        f"cflag -CS8 +CS7; lflag -ECHO +TOSTOP; VINTR 3->7; output_speed {state.output_speed}->0"
    )
    assert "0x" in state.diff(state._replace(iflag=state.iflag | 1 << 30))


@pytest.mark.rule("T+5")
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.lists(st.integers(0, 255), min_size=32, max_size=32))
def test_attributes_round_trip(iflag: int, lflag: int, characters: list[int]) -> None:
    """Every state survives the form that termios takes."""
    state = TermState(iflag, 0, 0, lflag, 15, 15, tuple(characters))
    assert from_attributes(state.to_attributes()) == state


def test_what_is_no_state() -> None:
    """A list that tcgetattr does not give is refused."""
    for bad in ([], [1, 2, 3, 4, 5, 6, 7], [1, 2, 3, 4, 5, 6, [b""]], [1, 2, 3, 4, 5, 6, ["x"]]):
        with pytest.raises(InvalidStateError):
            from_attributes(bad)  # type: ignore[arg-type]


def test_unknown_character(peer: int) -> None:
    """A control character that the system has not is a LookupError."""
    with pytest.raises(LookupError, match="VNONE"):
        save(peer).character("VNONE")


# What is a terminal.


def peer_is_terminal(fd: int) -> bool:
    """Ask isatty, which says no to everything that goes wrong."""
    return os.isatty(fd)


@pytest.mark.rule("T9", ours=is_terminal, wrong=peer_is_terminal, raises=pytest.fail.Exception)
def test_closed_descriptor_is_not_no_terminal(subject: Callable[[int], bool]) -> None:
    """A closed descriptor is an error with its errno, not "no terminal"."""
    reading, writing = os.pipe()
    os.close(reading)
    os.close(writing)
    with pytest.raises(OSError, match="Bad file descriptor"):
        subject(reading)


@pytest.mark.rule("T9")
def test_what_is_a_terminal(peer: int, pipe: int, tmp_path: Path) -> None:
    """A peer is a terminal; a pipe, a file and /dev/null are none."""
    assert is_terminal(peer)
    assert not is_terminal(pipe)
    with (tmp_path / "file").open("w") as file, open("/dev/null") as null:
        assert not is_terminal(file.fileno())
        assert not is_terminal(null.fileno())


@pytest.mark.rule("T9")
def test_hung_up_terminal_is_an_error() -> None:
    """A terminal that was hung up says EIO, which is not "no terminal"."""
    pair = PseudoterminalPair.open()
    fd = pair.peer()
    pair.close()
    for call in (is_terminal, save, read_window_size):
        with pytest.raises(OSError, match="Input/output error") as caught:
            call(fd)
        assert caught.value.errno == errno.EIO
    os.close(fd)


def test_not_a_terminal_is_named(pipe: int) -> None:
    """Where a terminal is needed, another file is ENOTTY, with the call and the descriptor in a note."""
    state = TermState(0, 0, 0, 0, 0, 0, (0,) * 32)
    calls: dict[str, Callable[[], object]] = {
        "tcgetattr": lambda: save(pipe),
        "tcsetattr": lambda: restore(pipe, state),
        "ioctl(TIOCGWINSZ)": lambda: read_window_size(pipe),
        "ioctl(TIOCSWINSZ)": lambda: set_window_size(pipe, WindowSize(1, 1)),
    }
    for name, call in calls.items():
        with pytest.raises(OSError, match="Inappropriate ioctl") as caught:
            call()
        assert caught.value.errno == errno.ENOTTY
        assert caught.value.__notes__ == [f"{name} on descriptor {pipe}"]


# Window sizes.


def test_size_with_pixels_through_both_ends(peer: int) -> None:
    """All four numbers set at one end are read at the other."""
    set_window_size(peer, WindowSize(24, 80, 640, 480))
    assert read_window_size(peer) == WindowSize(24, 80, 640, 480)
    with PseudoterminalPair.open(WindowSize(65535, 1, 65535, 65535)) as pair:
        assert pair.size == WindowSize(65535, 1, 65535, 65535)


def test_new_terminal_has_an_unknown_size(peer: int) -> None:
    """0 by 0 is no error, and means unknown."""
    assert read_window_size(peer) == WindowSize(0, 0)
    assert not read_window_size(peer).is_known
    assert WindowSize(1, 1).is_known


@pytest.mark.parametrize("size", [(65536, 1), (1, -1), (1, 1, 65536), (1, 1, 1, 70000)])
def test_size_that_does_not_fit(peer: int, size: tuple[int, ...]) -> None:
    """A number over 65535 is an error that names it, and the size stays."""
    with pytest.raises(ValueError, match=r"window size: \w+=-?\d+ is not 0 to 65535"):
        set_window_size(peer, WindowSize(*size))
    assert read_window_size(peer) == WindowSize(0, 0)


# The functions of 2014.


def test_winsize_of_2014(peer: int) -> None:
    """A size is read back as it was set, with the names height and width."""
    set_winsize(peer, Winsize(200, 201))
    found = get_winsize(peer)
    assert (found.height, found.width, found.x_pixels, found.y_pixels) == (200, 201, 0, 0)


def test_states_of_2014(peer: int) -> None:
    """A saved state is restored, also through another descriptor; without one there is an error."""
    state = save_state(peer)
    assert set_raw_terminal(peer) == state
    assert not save(peer).is_canonical
    again = os.open(os.ttyname(peer), os.O_RDWR | os.O_NOCTTY)
    restore_terminal(again, state)
    os.close(again)
    assert save(peer) == state
    assert make_raw(peer) == state
    disable_echo(peer, state)
    assert state.diff(save(peer)) == "lflag -ECHO"
    assert set_raw_terminal_output(peer) == save(peer)
    for call in (restore_terminal, disable_echo):
        with pytest.raises(ErrInvalidState, match="Invalid terminal state"):
            call(peer, None)


def test_descriptor_of_a_file(peer: int, tmp_path: Path) -> None:
    """A file object or a number gives its descriptor, and whether it is a terminal."""
    assert get_fd_info(peer) == (peer, True)
    with (tmp_path / "file").open("w") as file:
        assert get_fd_info(file) == (file.fileno(), False)
    with pytest.raises(TypeError, match="a str has no descriptor"):
        get_fd_info("tty")
    assert std_streams() == (sys.stdin, sys.stdout, sys.stderr)
