"""Finds between which two kernels an answer changed, by the fewest questions. Pure but for the question itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from kernelproof.conformance.report.comparison import Answer
from kernelproof.conformance.report.outcomes import Outcome

Ask = Callable[[str], Answer | None]
_TELLING = (Outcome.PASS, Outcome.DEVIATION, Outcome.FAIL)


class Found(NamedTuple):
    """Where an answer changed.

    Args:
        last: The newest kernel known to answer as before; None if none told anything.
        first: The oldest known to answer otherwise; None if all that were asked answer alike.
        answers: Of the kernels that were asked or known; None: it told nothing.
        asked: The kernels that were asked, in that order.
    """

    last: str | None
    first: str | None
    answers: Mapping[str, Answer | None]
    asked: tuple[str, ...]

    def between(self, kernels: Sequence[str]) -> list[str]:
        """The kernels between the two, none of which told anything."""
        if self.last is None or self.first is None:
            return []
        return list(kernels[kernels.index(self.last) + 1 : kernels.index(self.first)])


def is_telling(answer: Answer | None) -> bool:
    """Whether an answer says anything about the kernel: a broken test and one that is not applicable do not."""
    return answer is not None and answer.outcome in _TELLING


def is_same(one: Answer | None, other: Answer | None) -> bool:
    """Whether two answers are the same one: by outcome, and by the value of a deviation."""
    return one is not None and other is not None and (one.outcome, one.seen) == (other.outcome, other.seen)


def bisect(kernels: Sequence[str], ask: Ask, known: Mapping[str, Answer]) -> Found:
    """Find the newest change.

    Both ends are asked, then always the kernel in the middle of what is left; one that tells nothing is stepped
    around. What changed and changed back in between may be missed.

    Args:
        kernels: Oldest first.
        ask: Runs the behaviour on a kernel; None: it could not be run.
        known: Answers that cost nothing.
    """
    search = _Search(kernels, ask, known)
    pair = search.find_known_pair() or search.find_ends()
    if pair is None:
        return search.found(None, None)
    low, high = pair
    if is_same(search.answer(low), search.answer(high)):
        return search.found(high, None)
    while (middle := search.find_middle(low, high)) is not None:
        if not is_telling(search.answer(middle)):
            continue
        if is_same(search.answer(middle), search.answer(low)):
            low = middle
        else:
            high = middle
    return search.found(low, high)


class _Search:
    # Kernels by number, and what is known of them so far.
    def __init__(self, kernels: Sequence[str], ask: Ask, known: Mapping[str, Answer]) -> None:
        self._kernels = tuple(kernels)
        self._ask = ask
        self._answers: dict[str, Answer | None] = {name: known[name] for name in kernels if name in known}
        self._asked: list[str] = []

    def answer(self, number: int) -> Answer | None:
        name = self._kernels[number]
        if name not in self._answers:
            self._asked.append(name)
            self._answers[name] = self._ask(name)
        return self._answers[name]

    def find_known_pair(self) -> tuple[int, int] | None:
        # The newest change among what is known already.
        told = [number for number, name in enumerate(self._kernels) if is_telling(self._answers.get(name))]
        pairs = list(pairwise(told))
        changed = [pair for pair in pairs if not is_same(self.answer(pair[0]), self.answer(pair[1]))]
        return changed[-1] if changed else None

    def find_ends(self) -> tuple[int, int] | None:
        numbers = range(len(self._kernels))
        low = next((number for number in numbers if is_telling(self.answer(number))), None)
        if low is None:
            return None
        high = next(number for number in reversed(numbers) if number == low or is_telling(self.answer(number)))
        return low, high

    def find_middle(self, low: int, high: int) -> int | None:
        open_numbers = [number for number in range(low + 1, high) if self._is_open(number)]
        return min(open_numbers, key=lambda number: abs(2 * number - low - high), default=None)

    def _is_open(self, number: int) -> bool:
        name = self._kernels[number]
        return name not in self._answers or is_telling(self._answers[name])

    def found(self, last: int | None, first: int | None) -> Found:
        names = [None if number is None else self._kernels[number] for number in (last, first)]
        return Found(names[0], names[1], self._answers, tuple(self._asked))
