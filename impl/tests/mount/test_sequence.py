"""A mount table is a sequence, as collections.abc has it, without being derived from that."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from kernelproof.impl.mount import MountTable

LINES = "".join(f"{number} 1 0:{number} / /{name} rw - tmpfs {name} rw\n" for number, name in ((2, "a"), (3, "b")))


def test_a_table_is_a_sequence() -> None:
    """It has what a tuple of its mounts has: places, slices, both directions, patterns, counts."""
    table: object = MountTable.parse(LINES)
    assert isinstance(table, Sequence)
    assert isinstance(table, MountTable)
    first, second = table.mounts
    assert [table[0], *table[1:]] == [first, second] == list(table)
    assert list(reversed(table)) == [second, first]
    assert (len(table), table.count(first), table.index(second), second in table) == (2, 1, 1, True)
    match table:
        case [one, _]:
            assert one is first
        case _:
            pytest.fail("no pattern of a sequence")
    with pytest.raises(ValueError, match="not in tuple"):
        table.index(second, 0, 1)
