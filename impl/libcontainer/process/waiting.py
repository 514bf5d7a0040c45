"""Whether a created container still waits for its start: what each look at a state asks, and no more than that.

The socket's other half, with the messages that go over it, is in `rendezvous`, which loads ten times as much.
"""

from __future__ import annotations

import os

NAME = "start"


def is_waiting(directory: int) -> bool:
    """Whether the socket is there: the container was not started yet.

    Args:
        directory: descriptor of the state directory.
    """
    try:
        os.stat(NAME, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
