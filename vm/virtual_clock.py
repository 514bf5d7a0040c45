"""Keeps the virtual clock of a saved machine where it was, for a QEMU that counts an instruction as another time. Pure.

QEMU saves how many instructions ran and what is to be added, not the time: the clock of whoever multiplies the count by
less would go back. What is added is changed instead.

Sources: QEMU, system/cpu-timers.c, `icount_vmstate_timers`; migration/savevm.h, QEMU_VM_SUBSECTION.
"""

from __future__ import annotations

import struct

_NAME = b"timer/icount"
# QEMU_VM_SUBSECTION, its name's length and name, its version; then qemu_icount_bias and qemu_icount.
_HEADER = struct.pack(f">BB{len(_NAME)}sI", 5, len(_NAME), _NAME, 1)
_FIELDS = struct.Struct(">qq")


def keep_clock(state: bytes, made: int, loaded: int) -> bytes:
    """The device state of a machine for another pace: its clock shows the same, and goes on at that.

    Args:
        state: As QEMU's migration wrote it.
        made: Of the machine that it was saved of: an instruction took 2 to this power nanoseconds.
        loaded: Likewise, of the machine that will load it.

    Raises:
        ValueError: there is not exactly one count of instructions in it.
    """
    before, found, rest = state.partition(_HEADER)
    if not found or _HEADER in rest or len(rest) < _FIELDS.size:
        raise ValueError(f"{state.count(_HEADER)} counts of instructions in a machine's state of {len(state)} bytes")
    bias, count = _FIELDS.unpack_from(rest)
    kept = _FIELDS.pack(bias + (count << made) - (count << loaded), count)
    return before + found + kept + rest[_FIELDS.size :]
