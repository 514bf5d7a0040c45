"""The five outcomes of a behaviour and how several of them make one.

What it is not for: pytest's own words. How an outcome shows in pytest (passed, failed, error, skipped)
is decided where reports are read.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Outcome(StrEnum):
    """What became of a documented statement on one kernel."""

    PASS = "pass"
    FAIL = "fail"
    BROKEN = "broken"
    DEVIATION = "deviation"
    NOT_APPLICABLE = "not_applicable"

    @property
    def words(self) -> str:
        """The outcome as people read it."""
        return self.value.replace("_", " ")


# Worst first: a machine that broke says nothing about the kernel, so it must be seen before a failure is believed.
WORST_FIRST = (Outcome.BROKEN, Outcome.FAIL, Outcome.DEVIATION, Outcome.PASS, Outcome.NOT_APPLICABLE)

# The subjects that answer for the kernel; every other subject is a peer, shown beside them.
JUDGED_SUBJECTS = ("impl", "stand-in")


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """Return the one outcome that stands for several: broken > fail > deviation > pass > not applicable.

    Raises:
        ValueError: There is none to choose from.
    """
    seen = set(outcomes)
    for outcome in WORST_FIRST:
        if outcome in seen:
            return outcome
    raise ValueError("no outcome to choose from")
