"""Descriptors of mounts that are made on the side of the host and attached inside: however many, they leave room.

Each must stay open from one side to the other. Hundreds of them would use up the numbers below the soft limit, so that
nothing else could be opened; those from the middle of the limit on get numbers above it. The limit is raised for that
moment only: the container has the one that the runtime was given.
"""

from __future__ import annotations

import os
from fcntl import F_DUPFD_CLOEXEC, fcntl

from kernelproof.impl._syscalls.limits import Resource, prlimit
from kernelproof.impl.libcontainer.operations import Site

_FEW = 64  # so many numbers are below the middle of every limit that a runtime can work with
_MORE = 65536


def keep(site: Site, name: str, fd: int) -> None:
    """Put a descriptor into `site.descriptors`, which owns it from here on; by a higher number if low ones run short.

    Raises:
        OSError: EMFILE there are more than the limit and the caller's rights allow.

    Source: getrlimit(2), RLIMIT_NOFILE; fcntl(2), F_DUPFD.
    """
    site.descriptors[name] = fd if fd < _FEW else _above_limit(fd)


def _above_limit(fd: int) -> int:
    soft, hard = prlimit(0, Resource.NOFILE)
    if fd < soft // 2:
        return fd
    try:
        prlimit(0, Resource.NOFILE, (soft + _MORE, max(hard, soft + _MORE)))
    except PermissionError:  # without CAP_SYS_RESOURCE, or above fs.nr_open
        if hard == soft:
            return fd
        prlimit(0, Resource.NOFILE, (hard, hard))
    try:
        moved = fcntl(fd, F_DUPFD_CLOEXEC, soft)
    finally:
        prlimit(0, Resource.NOFILE, (soft, hard))
    os.close(fd)
    return moved
