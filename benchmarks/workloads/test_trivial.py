"""The least that a benchmark measures; alone in its file, so that a machine that boots for it imports nothing more."""

from __future__ import annotations

import pytest

MOST_ROUNDS = 50


@pytest.mark.machine
@pytest.mark.parametrize("turn", range(MOST_ROUNDS))
def test_trivial(turn: int) -> None:
    """Nothing but the machine, pytest and one assertion."""
    assert turn >= 0
