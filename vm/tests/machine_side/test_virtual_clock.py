"""The clock of a saved machine for another pace."""

from __future__ import annotations

import struct

import pytest

from kernelproof.vm.virtual_clock import keep_clock

SECTION = b"\x05\x0ctimer/icount\0\0\0\x01"


def state(bias: int, count: int) -> bytes:
    """As much of a machine's state as has a clock."""
    return b"before" + SECTION + struct.pack(">qq", bias, count) + b"behind"


def shows(saved: bytes, shift: int) -> int:
    """What QEMU's clock shows: cpu-timers.c, icount_get()."""
    bias, count = struct.unpack_from(">qq", saved, saved.index(SECTION) + len(SECTION))
    return int(bias + (count << shift))


@pytest.mark.parametrize(("made", "loaded"), [(3, 0), (0, 0), (0, 3), (1, 2)])
def test_clock_goes_on(made: int, loaded: int) -> None:
    """It shows the same to who multiplies by less or more; nothing else is changed."""
    before = state(-5, 6_000_000_000)
    after = keep_clock(before, made, loaded)
    assert shows(after, loaded) == shows(before, made) == -5 + (6_000_000_000 << made)
    assert len(after) == len(before)
    assert after[: 6 + len(SECTION)] == before[: 6 + len(SECTION)]
    assert after[-14:] == before[-14:]  # with the count


@pytest.mark.parametrize(
    "saved",
    [b"", b"no clock", state(0, 1)[:-10], state(0, 1) * 2, state(0, 1).replace(b"icount\0\0\0\1", b"icount\0\0\0\2")],
    ids=["empty", "none", "cut", "two", "another version"],
)
def test_what_has_no_clock_is_refused(saved: bytes) -> None:
    """No count of instructions, a part of one, or two, are told and not guessed at."""
    with pytest.raises(ValueError, match=r"[0-2] counts of instructions in a machine's state of \d+ bytes"):
        keep_clock(saved, 3, 0)
