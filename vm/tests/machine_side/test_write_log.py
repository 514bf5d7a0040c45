"""What survives a power cut, from the log of a disc: by value, and against a model of a disc with a cache."""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelproof.vm.guest import power
from kernelproof.vm.guest.write_log import (
    DISCARD,
    FLUSH,
    FUA,
    MAGIC,
    Extent,
    IncompleteLog,
    read_extent,
    replay,
)

SECTOR = 512
Step = tuple[int, int, bytes]  # sector, flags, data


def format_log(steps: Iterable[Step], *, entries: int | None = None) -> bytes:
    body = b""
    count = 0
    for sector, flags, data in steps:
        count += 1
        body += struct.pack("<QQQQ", sector, len(data) // SECTOR, flags, 0).ljust(SECTOR, b"\0")
        body += b"" if flags & DISCARD else data
    head = struct.pack("<QQQI", MAGIC, 1, count if entries is None else entries, SECTOR).ljust(SECTOR, b"\0")
    return head + body


def replayed(log: bytes, size: int, extent: Extent | None = None) -> bytes:
    with tempfile.TemporaryFile() as file, tempfile.TemporaryFile() as target:
        file.write(log)
        file.flush()
        target.truncate(size)
        replay(file.fileno(), target.fileno(), extent)
        return os.pread(target.fileno(), size, 0)


def block(letter: str, sectors: int = 1) -> bytes:
    return letter.encode() * SECTOR * sectors


def test_only_what_was_flushed() -> None:
    """What was written before the last flush is there, what was written after it is not."""
    log = format_log([(0, 0, block("a")), (2, 0, block("b", 2)), (0, FLUSH, b""), (0, 0, block("c"))])
    assert replayed(log, 4 * SECTOR) == block("a") + bytes(SECTOR) + block("b", 2)


def test_write_through() -> None:
    """A write through the cache is there without a flush, and a later one that waits does not hide it."""
    log = format_log([(0, 0, block("a")), (0, FUA, block("b")), (1, 0, block("c"))])
    assert replayed(log, 2 * SECTOR) == block("b") + bytes(SECTOR)


def test_write_through_keeps_its_place() -> None:
    """An older write that is flushed later does not come to lie above a newer one that went through."""
    log = format_log([(0, 0, block("a")), (0, FUA, block("b")), (0, FLUSH, b"")])
    assert replayed(log, SECTOR) == block("b")


def test_discard() -> None:
    """A discarded range has no data in the log, and what follows is read at its place."""
    log = format_log([(0, 0, block("a")), (0, DISCARD, block("x", 3)), (1, 0, block("b")), (0, FLUSH, b"")])
    assert replayed(log, 2 * SECTOR) == block("a") + block("b")


def test_empty_log() -> None:
    """A disc that was never flushed is as it was."""
    assert replayed(bytes(2 * SECTOR), SECTOR) == bytes(SECTOR)
    assert replayed(format_log([(0, 0, block("a"))], entries=0), SECTOR) == bytes(SECTOR)


def test_earlier_moment() -> None:
    """What was flushed after the moment of the cut does not count."""
    log = format_log([(0, 0, block("a")), (0, FLUSH, b""), (0, 0, block("b")), (0, FLUSH, b"")])
    assert replayed(log, SECTOR, Extent(3, SECTOR)) == block("a")
    assert replayed(log, SECTOR) == block("b")


def test_entry_under_way() -> None:
    """An entry that is counted and not there yet is told, as it may be flushed."""
    hole = [(0, 0, b""), (0, FLUSH, b"")]
    with pytest.raises(IncompleteLog, match="entry 0 of 2"):
        replayed(format_log(hole), SECTOR)


@pytest.mark.parametrize(
    ("log", "seen"),
    [
        (struct.pack("<QQQI", 1, 1, 1, SECTOR), "magic 0x1"),
        (struct.pack("<QQQI", MAGIC, 2, 1, SECTOR), "version 2"),
        (struct.pack("<QQQI", MAGIC, 1, 1, 100), "sectors of 100"),
        (format_log([(0, 64, block("a"))]), "unknown flags: 0x40"),
        (format_log([(0, 0, block("a")), (0, FLUSH, b"")])[: 2 * SECTOR], "full"),
    ],
)
def test_damaged_log(log: bytes, seen: str) -> None:
    """What is no log, or ends too early, is refused by name."""
    with pytest.raises(ValueError, match=seen):
        replayed(log.ljust(SECTOR, b"\0"), SECTOR)


steps = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from([0, 0, 0, FUA, FLUSH]), st.integers(1, 2), st.binary(min_size=1)),
    max_size=12,
)


@given(steps, st.data())
def test_against_a_model(choices: list[tuple[int, int, int, bytes]], data: st.DataObject) -> None:
    """Whatever was done, a cut leaves what a disc with a write cache holds when its cache is gone."""
    log: list[Step] = []
    cached, durable = bytearray(8 * SECTOR), bytearray(8 * SECTOR)
    waiting: set[int] = set()
    for sector, flags, count, seed in choices:
        content = b"" if flags == FLUSH else (seed * SECTOR * count)[: SECTOR * count]
        log.append((sector, flags, content))
        touched = {*range(sector, sector + len(content) // SECTOR)}
        cached[sector * SECTOR : sector * SECTOR + len(content)] = content
        waiting |= touched
        through = waiting if flags == FLUSH else touched if flags == FUA else set()
        for number in through:
            durable[number * SECTOR : (number + 1) * SECTOR] = cached[number * SECTOR : (number + 1) * SECTOR]
        waiting = waiting - through
    assert replayed(format_log(log), 8 * SECTOR) == bytes(durable)


def test_extent() -> None:
    """The number of entries is what the log's first sector says."""
    log = format_log([(0, 0, block("a")), (0, FLUSH, b"")])
    assert read_extent(lambda length, at: log[at : at + length]) == Extent(2, SECTOR)


def test_no_such_disc(tmp_path: Path) -> None:
    """A machine without a disc that loses has nothing to cut."""
    with pytest.raises(FileNotFoundError):
        power.cut("scratch", tmp_path)
