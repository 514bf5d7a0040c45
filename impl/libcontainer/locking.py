"""One operation on a container at a time: an open-file-description lock on a file of its state directory.

Locks of POSIX belong to a process: two of its threads never exclude each other, and closing any descriptor of the file
gives the lock up. This one belongs to the descriptor that was opened for it.

Source: fcntl(2), "Open file description locks (non-POSIX)".
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from types import TracebackType

NAME = "lock"
_FLOCK_BYTES = 32  # struct flock: type and whence, two bytes each, start, length and pid, here all 0
_WHOLE_FILE = fcntl.F_WRLCK.to_bytes(2, sys.byteorder) + bytes(_FLOCK_BYTES - 2)


class StateLock:
    """Holds the lock of a state directory, from the `with` on until its end.

    Args:
        directory: descriptor of the state directory, which stays the caller's.
        wait: whether to wait for who holds it.

    Raises:
        OSError: EAGAIN: somebody else holds it and `wait` is False; ENOENT: the container is gone, perhaps while this
            waited.
    """

    __slots__ = ("_fd",)

    def __init__(self, directory: int, *, wait: bool = True) -> None:
        self._fd = os.open(NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600, dir_fd=directory)
        try:
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK, _WHOLE_FILE)
            if os.fstat(self._fd).st_nlink == 0:
                raise FileNotFoundError(errno.ENOENT, "the container was removed meanwhile", NAME)
        except OSError:
            os.close(self._fd)
            raise

    def note(self, text: bytes) -> None:
        """Writes a line into the file: what is known of the container even when its state is damaged (see salvaging).

        Raises:
            OSError: ENOSPC, EDQUOT, EIO.
        """
        os.pwrite(self._fd, text + b"\n", 0)

    def release(self) -> None:
        """Gives the lock up."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> StateLock:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.release()
