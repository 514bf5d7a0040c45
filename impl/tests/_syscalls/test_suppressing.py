"""What is suppressed is what was named, and nothing else."""

from __future__ import annotations

import pytest

from kernelproof.impl._syscalls.suppressing import suppress


def test_what_was_named_is_suppressed() -> None:
    """The block ends at the exception, also at one of a class below; what comes after the block is done."""
    reached = []
    with suppress(ValueError, OSError):
        reached.append(1)
        raise FileNotFoundError
    assert reached == [1]
    with suppress(ValueError):
        reached.append(2)
    assert reached == [1, 2]


def test_what_was_not_named_is_raised() -> None:
    """Any other exception comes through as it is."""
    with pytest.raises(KeyError), suppress(ValueError):
        raise KeyError
    with pytest.raises(KeyboardInterrupt), suppress():
        raise KeyboardInterrupt
