"""How likely a process is chosen when memory runs out: oom_score_adj and oom_score."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernelproof import behaviour
from kernelproof.conformance.conftest import NOBODY, become_plain
from kernelproof.impl.user import WriteFile, perform

if TYPE_CHECKING:
    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.seen import Seen

ADJUSTMENT = Path("/proc/self/oom_score_adj")


def adjust(number: int) -> None:
    """Set this process's adjustment."""
    perform(WriteFile(str(ADJUSTMENT), str(number)))


@behaviour("process.oom.range")
def test_range_of_adjustments(in_child: InChild, seen: Seen) -> None:
    """-1000 and 1000 are accepted, and beyond them EINVAL."""

    def set_each() -> list[Any]:
        answers = [seen.errno_of(adjust, number) for number in (-1001, -1000, 1001, 1000)]
        return [*answers, int(ADJUSTMENT.read_text())]

    assert seen(in_child(set_each)) == ["EINVAL", "no error", "EINVAL", "no error", 1000]


@behaviour("process.oom.minimum-disables")
def test_lowest_adjustment(in_child: InChild, seen: Seen) -> None:
    """With -1000 the score is 0, and with 1000 it is not."""

    def scores() -> list[bool]:
        found = []
        for number in (1000, -1000):
            adjust(number)
            found.append(int(Path("/proc/self/oom_score").read_text()) == 0)
        return found

    assert seen(in_child(scores)) == [False, True]


@behaviour("process.oom.lowering-needs-capability")
def test_lowering_without_capability(in_child: InChild, seen: Seen) -> None:
    """Without CAP_SYS_RESOURCE it can't be set below what a privileged process set: EACCES."""

    def lower() -> list[Any]:
        adjust(500)
        become_plain(NOBODY)
        answers = [seen.errno_of(adjust, number) for number in (600, 500, 499)]
        return [*answers, int(ADJUSTMENT.read_text())]

    assert seen(in_child(lower)) == ["no error", "no error", "EACCES", 500]
