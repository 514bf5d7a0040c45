"""The bounding set of capabilities, limited as a whole."""

from __future__ import annotations

from pathlib import Path

from kernelproof.impl._syscalls.capabilities import limit_bounding


def test_what_is_kept_is_what_was_there() -> None:
    """Nothing is taken where all is to stay, and the answer is what the kernel shows of this thread."""
    (line,) = (line for line in Path("/proc/thread-self/status").read_text().splitlines() if line.startswith("CapBnd"))
    assert limit_bounding((1 << 64) - 1) == int(line.split()[1], 16)
