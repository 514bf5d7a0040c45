"""Reading a master to its end."""

from __future__ import annotations

import os


def read_all(fd: int) -> bytes:
    """Read a master to its end."""
    data = b""
    try:
        while piece := os.read(fd, 4096):
            data += piece
    except OSError:
        pass
    return data
