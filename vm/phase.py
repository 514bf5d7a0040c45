"""When to take a snapshot in virtual time: just after the guest's timer interrupt, so that a short test ends before
the next one.

The tick, and what the kernel does on it (balancing of run queues, read-copy-update, load averages), is a tenth of all
code that a short test runs, and every clone of a template is as far from its next tick as the template was.
Reads what QEMU's monitor says about a CPU's local APIC (`info lapic N`).
"""

from __future__ import annotations

import re

MOSTLY = 0.9  # of a tick that must be ahead
TRIES = 200  # the guest runs some thousandths of a second between two: ten were seen to be enough

_COUNTS = re.compile(r"initial_count = (\d+) current_count = (\d+)")
_REQUESTED = re.compile(r"^IRR\s+(\S+)", re.MULTILINE)


def parse_tick_ahead(text: str) -> float | None:
    """How much of a tick is ahead: 1.0 just after one, 0.0 at the next; None where that can't be told.

    Args:
        text: What the monitor printed.

    Returns:
        0.0 also while an interrupt is requested that the guest did not take yet.
    """
    counts, requested = _COUNTS.search(text), _REQUESTED.search(text)
    if counts is None or requested is None or not int(counts[1]):
        return None
    return int(counts[2]) / int(counts[1]) if requested[1] == "(none)" else 0.0
