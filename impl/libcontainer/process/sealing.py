"""A copy of the interpreter that nobody can write to: what a container may reach as /proc/PID/exe is that one.

A process that is on its way into a container still runs the host's interpreter. Whoever is in the container, or the
program itself if it is /proc/self/exe, can get hold of that file and overwrite it. A sealed memory file has no name on
the host, can't be written by anybody, and even the page cache of the host's file is not reached through it.

The copy is made once, by who starts helpers: its memory is no container's. What makes it is with what the command does
first, which can load nothing else (nsinit.scripts.first). Its 7 MB are there once in a program, however many runtimes
that has.

Source: CVE-2019-5736; memfd_create(2), "File sealing"; fcntl(2), F_ADD_SEALS.
"""

from __future__ import annotations

import os
import threading

from kernelproof.impl.libcontainer.nsinit.scripts.first import copy_sealed

__all__ = ["copy_sealed", "interpreter"]


class Shared:
    """A sealed copy of the interpreter for all that need one at a time; a child of fork(2) has its parent's."""

    def __init__(self) -> None:
        self._descriptor = -1
        self._users = 0
        self.renew()

    def renew(self) -> None:
        """Make another lock: a child may find the old one held by a thread that it has not."""
        self._lock = threading.Lock()

    def take(self) -> int:
        """Its descriptor, close-on-exec; made for the first user. Not to be closed but to be given back.

        Raises:
            OSError: the interpreter can't be read, or there is no memory.
        """
        with self._lock:
            if self._users == 0:
                self._descriptor = copy_sealed()
            self._users += 1
            return self._descriptor

    def give_back(self) -> None:
        """Close it after the last user."""
        with self._lock:
            self._users -= 1
            if self._users == 0:
                os.close(self._descriptor)


interpreter = Shared()
os.register_at_fork(after_in_child=interpreter.renew)
