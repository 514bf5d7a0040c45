"""A descriptor that is readable while something has happened: what wakes a blocked poll."""

from __future__ import annotations

import os
from typing import Final

RETRY_SECONDS: Final = 0.1
"""When to accept again after accept(2) had no descriptors or no memory (EMFILE, ENFILE, ENOMEM …): no event tells
that there are some again."""


class Wake:
    """An eventfd where there is one, else a pipe. It is closed when the last user lets go of it."""

    def __init__(self) -> None:
        self._write: int | None = None
        if hasattr(os, "eventfd"):
            self.descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        else:
            self.descriptor, self._write = os.pipe()
            os.set_blocking(self.descriptor, False)
            os.set_blocking(self._write, False)

    def set(self) -> None:
        """Make it readable."""
        try:
            if self._write is None:
                os.eventfd_write(self.descriptor, 1)
            else:
                os.write(self._write, b"!")
        except BlockingIOError:
            return  # it is readable already

    def clear(self) -> None:
        """Make it unreadable."""
        try:
            while os.read(self.descriptor, 4096):
                pass
        except BlockingIOError:
            return

    def __del__(self) -> None:
        os.close(self.descriptor)
        if self._write is not None:
            os.close(self._write)
