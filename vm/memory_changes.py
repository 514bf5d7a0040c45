"""What changed between two states of one guest's memory, written down and applied again.

Most of the memory of a session is its base template's: what differs is a fraction of it, and all that is kept.
"""

from __future__ import annotations

import array
import errno
import os

from kernelproof.vm.memory import next_extent

PAGE = 4096
_CHUNK = 256 * PAGE


def write_changes(before: int, after: int, pages: int, index: int) -> int:
    """Write the pages that differ, and which they are; returns how many.

    Args:
        before: Descriptor of a memory file.
        after: Descriptor of one of the same size.
        pages: Descriptor of an empty file, for the content of the pages that differ, one behind the other.
        index: Descriptor of an empty file, for pairs of 32-bit numbers: the first page of a run, and how many it has.

    Raises:
        ValueError: they differ in size, or are no whole pages.
        OSError: as read(2) and write(2) refuse: ENOSPC, EDQUOT.
    """
    size = os.fstat(after).st_size
    if size != os.fstat(before).st_size or size % PAGE:
        raise ValueError(f"memory of {os.fstat(before).st_size} and of {size} bytes can't be compared")
    runs = array.array("I")
    for start in _list_chunks(before, after):
        old, new = os.pread(before, _CHUNK, start), os.pread(after, _CHUNK, start)
        if old == new:
            continue
        for offset in range(0, len(new), PAGE):
            if old[offset : offset + PAGE] == new[offset : offset + PAGE]:
                continue
            page = (start + offset) // PAGE
            if runs and runs[-2] + runs[-1] == page:
                runs[-1] += 1
            else:
                runs.extend((page, 1))
            _write_whole(pages, new[offset : offset + PAGE])
    _write_whole(index, runs.tobytes())
    return sum(runs[1::2])


def apply_changes(memory: int, pages: int, index: int) -> None:
    """Bring a memory file from the state before to the one after.

    Args:
        memory: Descriptor of the memory file; it is written to.
        pages: As `write_changes` wrote them.
        index: Likewise.

    Raises:
        ValueError: they do not fit each other, or the memory.
        OSError: as read(2) and sendfile(2) refuse: ENOMEM, EIO.
    """
    runs = array.array("I", os.pread(index, os.fstat(index).st_size, 0))
    end = max((first + count for first, count in zip(runs[::2], runs[1::2], strict=True)), default=0)
    if sum(runs[1::2]) * PAGE != os.fstat(pages).st_size or end * PAGE > os.fstat(memory).st_size:
        raise ValueError("the pages that are kept do not fit their index")
    position = 0
    for first, count in zip(runs[::2], runs[1::2], strict=True):
        os.lseek(memory, first * PAGE, os.SEEK_SET)
        stop = position + count * PAGE
        while position < stop:
            sent = os.sendfile(memory, pages, position, stop - position)
            if sent == 0:
                raise OSError(errno.EIO, "file shrank while it was copied")
            position += sent


def _list_chunks(before: int, after: int) -> list[int]:
    # Where either has data: between two holes there is nothing to compare.
    chunks: set[int] = set()
    for descriptor in (before, after):
        start = 0
        while (extent := next_extent(descriptor, start)) is not None:
            begin, start = extent
            chunks.update(range(begin // _CHUNK, -(-start // _CHUNK)))
    return [chunk * _CHUNK for chunk in sorted(chunks)]


def _write_whole(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
