"""The window size of a terminal: rows, columns, and the same in pixels where somebody knows."""

from __future__ import annotations

import struct
import termios
from typing import NamedTuple

from kernelproof.impl.term.calls import control

_FORMAT = "HHHH"  # struct winsize, on every system
_LARGEST = 65535


class WindowSize(NamedTuple):
    """A window size. The kernel stores what it is given; a new pseudoterminal has 0 by 0, which means unknown."""

    rows: int
    columns: int
    x_pixels: int = 0
    y_pixels: int = 0

    @property
    def height(self) -> int:
        """The rows, by their name of 2014."""
        return self.rows

    @property
    def width(self) -> int:
        """The columns, by their name of 2014."""
        return self.columns

    @property
    def is_known(self) -> bool:
        """Whether somebody has set a size."""
        return self.rows > 0 and self.columns > 0


Winsize = WindowSize  # the name of 2014


def read_window_size(fd: int) -> WindowSize:
    """Return the window size of a terminal, from either end of a pair.

    Args:
        fd: a descriptor of it.

    Raises:
        OSError: ENOTTY no terminal; EBADF no open descriptor; EIO hung up.

    Source: TIOCGWINSZ(2const).
    """
    stored = control(fd, "TIOCGWINSZ", termios.TIOCGWINSZ, bytes(struct.calcsize(_FORMAT)))
    assert isinstance(stored, bytes)
    return WindowSize(*struct.unpack(_FORMAT, stored))


def set_window_size(fd: int, size: WindowSize) -> None:
    """Set the window size of a terminal; its foreground group gets SIGWINCH if it is another one than before.

    Args:
        fd: a descriptor of it, of either end of a pair.
        size: of 0 to 65535 each.

    Raises:
        ValueError: a number is negative or over 65535.
        OSError: ENOTTY no terminal; EBADF no open descriptor; EIO hung up.

    Source: TIOCSWINSZ(2const).
    """
    for name, number in zip(size._fields, size, strict=True):
        if not 0 <= number <= _LARGEST:
            raise ValueError(f"window size: {name}={number} is not 0 to {_LARGEST}")
    control(fd, "TIOCSWINSZ", termios.TIOCSWINSZ, struct.pack(_FORMAT, *size))


get_winsize = read_window_size  # the names of 2014
set_winsize = set_window_size
