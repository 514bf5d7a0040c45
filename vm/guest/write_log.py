"""Reads the log of a disc that can lose its power, and makes the disc as it is found after a power cut.

What was written before the last flush is on the disc; what was written after it is lost. A real disc may keep some of
the latter, in any order: whoever must not lose data can't count on it, and who does not flush must see it gone.

Source: Linux, drivers/md/dm-log-writes.c and Documentation/admin-guide/device-mapper/log-writes.rst, "Log Ordering" and
the structures `log_write_super` and `log_write_entry`; QEMU's blklogwrites writes the same format.

    sector 0              magic, version, number of entries, sector size
    then, entry by entry  a sector with (sector, number of sectors, flags, length of data), its data behind it

It runs on both sides: in the guest for a test that goes on after the cut, on the host for a machine that does not.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

MAGIC, VERSION = 0x6A736677736872, 1
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8
_SUPER = struct.Struct("<QQQI")
_ENTRY = struct.Struct("<QQQQ")
_CHUNK = 1024 * 1024

Read = Callable[[int, int], bytes]


class IncompleteLog(ValueError):
    """An entry is being written at this moment: read again."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A write or a flush.

    Args:
        at: Where on the disc, in bytes.
        length: Bytes written; 0 for a flush.
        flags: `FLUSH`, `FUA`, `DISCARD`, `MARK`.
        data: Where in the log its data begins, in bytes.
    """

    at: int
    length: int
    flags: int
    data: int


@dataclass(frozen=True, slots=True)
class Extent:
    """How much of a log there is: its number of entries, and the size of its sectors in bytes."""

    entries: int
    sector: int


def read_extent(read: Read) -> Extent:
    """How much there is at this moment; QEMU says it at each flush. An empty log has no entries.

    Args:
        read: `read(length, offset)` gives bytes of the log.

    Raises:
        ValueError: not a log, or of another version.
    """
    magic, version, entries, sector = _SUPER.unpack(read(_SUPER.size, 0))
    if magic == 0:
        return Extent(0, 512)
    if magic != MAGIC or version != VERSION or sector < 512 or sector & (sector - 1):
        raise ValueError(f"not a log of writes: magic {magic:#x}, version {version}, sectors of {sector} bytes")
    return Extent(entries, sector)


def read_entries(read: Read, extent: Extent) -> Iterator[Entry]:
    """The first entries of the log, in their order.

    Raises:
        IncompleteLog: one of them is not there yet.
        ValueError: an entry that can't be; the log is full, or damaged.
    """
    at = extent.sector
    for number in range(extent.entries):
        sector, sectors, flags, _ = _ENTRY.unpack(read(_ENTRY.size, at))
        if sectors == 0 and flags == 0:
            raise IncompleteLog(f"entry {number} of {extent.entries} is not written yet")
        if flags & ~(FLUSH | FUA | DISCARD | MARK):
            raise ValueError(f"entry {number} of {extent.entries} has unknown flags: {flags:#x}")
        at += extent.sector
        yield Entry(sector * extent.sector, sectors * extent.sector, flags, at)
        if not flags & DISCARD:
            at += sectors * extent.sector


def select_durable(entries: Iterator[Entry]) -> list[Entry]:
    """Those writes that survive a power cut behind the last entry, in their order."""
    durable: list[tuple[int, Entry]] = []
    waiting: list[tuple[int, Entry]] = []
    for numbered in enumerate(entries):
        entry = numbered[1]
        (durable if entry.flags & FUA else waiting).append(numbered)
        if entry.flags & FLUSH:
            durable += waiting
            waiting = []
    return [entry for _, entry in sorted(durable, key=_number) if entry.length and not entry.flags & (DISCARD | MARK)]


def _number(numbered: tuple[int, Entry]) -> int:
    return numbered[0]


def replay(log: int, target: int, extent: Extent | None = None) -> int:
    """Write onto `target`, which is as the disc was at the beginning, what survives a power cut.

    Args:
        log: Descriptor of the log, open for reading.
        target: Descriptor of a file or a block device, open for writing.
        extent: How much of the log counts: all there is by default.

    Returns:
        The number of writes that survived.

    Raises:
        IncompleteLog, ValueError: as `read_entries`.
        OSError: as pread(2) and pwrite(2) refuse: EIO, ENOSPC.
    """

    def read(length: int, at: int) -> bytes:
        data = os.pread(log, length, at)
        if len(data) != length:
            raise ValueError(f"the log ends at {at + len(data)}: it is full")
        return data

    durable = select_durable(read_entries(read, extent or read_extent(read)))
    for entry in durable:
        for start in range(0, entry.length, _CHUNK):
            length = min(_CHUNK, entry.length - start)
            os.pwrite(target, read(length, entry.data + start), entry.at + start)
    return len(durable)
