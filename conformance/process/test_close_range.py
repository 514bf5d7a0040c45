"""close_range(2)."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from kernelproof import behaviour
from kernelproof.impl._syscalls.descriptors import CLOSE_RANGE_CLOEXEC, CLOSE_RANGE_UNSHARE, close_range

if TYPE_CHECKING:
    from kernelproof.conformance.conftest import InChild
    from kernelproof.conformance.seen import Seen

FIRST, LAST = 500, 502


def numbers(task: int | str = "self") -> list[int]:
    """Which of the descriptors of these tests are open in a task."""
    return [number for number in range(FIRST, LAST + 1) if os.path.lexists(f"/proc/{task}/fd/{number}")]


@pytest.fixture
def three() -> None:
    """Three descriptors with numbers in a row, not close-on-exec."""
    for number in range(FIRST, LAST + 1):
        os.dup2(0, number)


@behaviour("process.close-range.first-above-last")
@pytest.mark.usefixtures("three")
def test_range_upside_down(seen: Seen) -> None:
    """A first number above the last gives EINVAL and closes nothing."""
    assert seen([seen.errno_of(close_range, LAST, FIRST), numbers()]) == ["EINVAL", [500, 501, 502]]


@behaviour("process.close-range.unknown-flag")
@pytest.mark.usefixtures("three")
def test_unknown_flag(seen: Seen) -> None:
    """A flag that close_range does not have gives EINVAL and closes nothing."""
    answers = [seen.errno_of(close_range, FIRST, LAST, flag) for flag in (1, 1 << 30)]
    assert seen([*answers, numbers()]) == ["EINVAL", "EINVAL", [500, 501, 502]]


@behaviour("process.close-range.cloexec")
@pytest.mark.usefixtures("three")
def test_marking(seen: Seen) -> None:
    """With CLOSE_RANGE_CLOEXEC descriptors are marked and stay open."""
    close_range(FIRST, LAST - 1, CLOSE_RANGE_CLOEXEC)
    assert seen([numbers(), [os.get_inheritable(number) for number in numbers()]]) == [
        [500, 501, 502],
        [False, False, True],
    ]


@behaviour("process.close-range.nothing-open")
@pytest.mark.usefixtures("three")
def test_empty_range(seen: Seen) -> None:
    """A range without an open descriptor succeeds, and gaps in a range do no harm."""
    close_range(LAST - 1, LAST - 1)
    found = [numbers(), seen.errno_of(close_range, 600, 700), seen.errno_of(close_range, FIRST, LAST), numbers()]
    assert seen(found) == [[500, 502], "no error", "no error", []]


@behaviour("process.close-range.unshare")
@pytest.mark.usefixtures("three")
def test_table_of_another_task(in_child: InChild, seen: Seen) -> None:
    """With CLOSE_RANGE_UNSHARE a task that shared the table keeps its descriptors."""

    def act() -> list[Any]:
        found: list[Any] = []

        def close() -> None:
            found.append(numbers(f"self/task/{threading.get_native_id()}"))
            close_range(FIRST, LAST, CLOSE_RANGE_UNSHARE)
            found.append(numbers(f"self/task/{threading.get_native_id()}"))

        thread = threading.Thread(target=close)
        thread.start()
        thread.join()
        return [*found, numbers()]

    assert seen(in_child(act)) == [[500, 501, 502], [], [500, 501, 502]]
