"""Nothing that is open reaches the program but what it is to have.

Source: close_range(2); OCI runtime specification 1.3, runtime-linux.md, "File descriptors".
"""

from __future__ import annotations

import errno
import os

from kernelproof.impl._syscalls.descriptors import CLOSE_RANGE_CLOEXEC, LAST, close_range
from kernelproof.impl.libcontainer.operations import Operation, Site
from kernelproof.impl.libcontainer.security.procfs import handle_of, open_own


class CloseOnExec(Operation):
    """Has execve close every descriptor from a number on."""

    __slots__ = ("first",)
    stage = "final"
    first: int

    def describe(self) -> str:
        """What will happen."""
        return f"close every descriptor from {self.first} on when the program starts"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: no procfs, where the kernel has no close_range that marks.
        """
        try:
            close_range(self.first, LAST, CLOSE_RANGE_CLOEXEC)
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EINVAL, errno.EPERM):
                raise
            _mark_each(site, self.first)


def _mark_each(site: Site, first: int) -> None:
    with handle_of(site) as handle:
        directory = open_own(handle, "fd", os.O_RDONLY | os.O_DIRECTORY)
        try:
            numbers = [int(name) for name in os.listdir(directory)]
        finally:
            os.close(directory)
    for number in numbers:
        try:
            if number >= first:
                os.set_inheritable(number, False)
        except OSError as error:
            if error.errno != errno.EBADF:  # the directory's own, closed since
                raise
