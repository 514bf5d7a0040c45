"""Guest memory in files without names, and whether the host has enough of it."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from kernelproof.vm.errors import ProvisionError

MIB = 1024 * 1024
HOST_SHARE_MIB = 192  # of QEMU itself and of what a clone copies on write: 113 MB measured after a heavy test

_UNLIMITED = 1 << 60  # version 1 writes a huge number where version 2 writes "max"


def create_memory(name: str, size: int) -> int:
    """A memory file of `size` bytes, all zero, none of it allocated; the caller closes the descriptor.

    Raises:
        OSError: as memfd_create(2) and ftruncate(2) refuse.
    """
    descriptor = os.memfd_create(f"kernelproof-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    return descriptor


def seal_memory(descriptor: int) -> None:
    """Make a memory file immutable for good: clones map it private, and pages not yet copied must not change.

    Raises:
        OSError: EBUSY, something still maps it shared and writable.
    """
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)


def copy_sparse(source: int, target: int) -> int:
    """Copy what is allocated of `source` to the same offsets of the empty file `target`; returns the bytes copied.

    Raises:
        OSError: as lseek(2), ftruncate(2) and sendfile(2) refuse: ENOSPC, EDQUOT, ENOMEM.
    """
    size = os.fstat(source).st_size
    os.ftruncate(target, size)
    copied = start = 0
    while (extent := next_extent(source, start)) is not None:
        start, end = extent
        os.lseek(target, start, os.SEEK_SET)
        while start < end:
            sent = os.sendfile(target, source, start, end - start)
            if sent == 0:
                raise OSError(errno.EIO, "file shrank while it was copied")
            start += sent
            copied += sent
    return copied


def next_extent(descriptor: int, start: int) -> tuple[int, int] | None:
    """Where the first data at or behind `start` begins and ends in a file; None where there is no more."""
    try:
        begin = os.lseek(descriptor, start, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:  # no data behind `start`
            return None
        raise
    return begin, os.lseek(descriptor, begin, os.SEEK_HOLE)


def parse_available(meminfo: str) -> int:
    """Bytes that the kernel says can be had, from the text of /proc/meminfo.

    Raises:
        ValueError: no MemAvailable in it.
    """
    for line in meminfo.splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise ValueError("no MemAvailable in meminfo")


def parse_room(limit: str, current: str) -> int | None:
    """Bytes left below a cgroup's limit, from the texts of its two interface files; None where there is no limit."""
    if limit.strip() == "max" or int(limit) >= _UNLIMITED:
        return None
    return max(0, int(limit) - int(current))


def read_available(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that this process may still use: of the host, and of each cgroup above it.

    Raises:
        OSError: /proc/meminfo can't be read.
    """
    rooms = [parse_available((proc / "meminfo").read_text())]
    for line in (proc / "self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            rooms += _rooms(cgroups, path, "memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            rooms += _rooms(cgroups / "memory", path, "memory.limit_in_bytes", "memory.usage_in_bytes")
    return min(rooms)


def _rooms(root: Path, path: str, limit: str, current: str) -> list[int]:
    folder = root / path.lstrip("/")
    found = []
    for cgroup in (folder, *folder.parents):
        if not cgroup.is_relative_to(root):
            break
        if (cgroup / limit).is_file() and (cgroup / current).is_file():
            found.append(parse_room((cgroup / limit).read_text(), (cgroup / current).read_text()))
    return [room for room in found if room is not None]


def check_memory(needed: int, given: int) -> None:
    """Refuse to start a machine that the host can't hold; a full host kills QEMU without a word.

    Raises:
        ProvisionError: says what is needed and what is given.
    """
    if given < needed:
        raise ProvisionError(
            "start machine",
            "memory",
            f"{needed // MIB} MiB are needed, {given // MIB} MiB can be had",
            "free memory, raise the container's memory limit, or use fewer workers (-n)",
        )
