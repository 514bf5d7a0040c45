"""What changed from one run to another: regressions first. Pure.

`static/site.js` has the same rules for the page `what changed`; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from kernelproof.conformance.report.outcomes import JUDGED_SUBJECTS, Outcome
from kernelproof.conformance.report.records import Results, behaviour_outcomes

_RANK = {Outcome.PASS: 0, Outcome.DEVIATION: 1, Outcome.FAIL: 2, Outcome.BROKEN: 3}
_ALARM = 2  # ranks from here on


class Kind(StrEnum):
    """What sort of change; the order is that of telling."""

    REGRESSION = "regression"  # a worse outcome, or a new failure
    OTHER = "other"  # another value of a deviation, or broken before and failed now
    GONE = "gone"  # no answer any more
    IMPROVEMENT = "improvement"
    NEW = "new"  # an answer where there was none


class Answer(NamedTuple):
    """What became of a statement in a run: outcome, the value of a deviation, the reason if there is one."""

    outcome: Outcome
    seen: Any
    reason: str | None


class Change(NamedTuple):
    """One statement whose answer is another one; None where there is no answer."""

    behaviour: str
    kind: Kind
    old: Answer | None
    new: Answer | None


def find_kind(old: Answer | None, new: Answer | None) -> Kind | None:
    """The sort of a change; None: it is none. Not applicable is no answer."""
    before = None if old is None else _RANK.get(old.outcome)
    after = None if new is None else _RANK.get(new.outcome)
    if old is None or new is None or before is None or after is None:
        return _kind_of_half(before, after)
    if after != before:
        return Kind.REGRESSION if after > before else Kind.OTHER if after >= _ALARM else Kind.IMPROVEMENT
    return Kind.OTHER if old.outcome is Outcome.DEVIATION and old.seen != new.seen else None


def _kind_of_half(before: int | None, after: int | None) -> Kind | None:
    if after is not None:
        return Kind.REGRESSION if after >= _ALARM else Kind.NEW
    return None if before is None else Kind.GONE


def read_answers(results: Results) -> dict[str, Answer]:
    """Each statement's answer; what only peers were asked has none."""
    answers = {name: Answer(outcome, None, None) for name, outcome in behaviour_outcomes(results.rows).items()}
    for row in sorted(results.rows, key=lambda row: row.node):
        answer = answers.get(row.behaviour)
        if answer is None or row.subject not in JUDGED_SUBJECTS or row.outcome is not answer.outcome:
            continue
        if answer.reason is None and answer.seen is None:
            seen = row.seen if row.outcome is Outcome.DEVIATION else None
            answers[row.behaviour] = Answer(answer.outcome, seen, row.reason)
    return answers


def compare(old: Mapping[str, Answer], new: Mapping[str, Answer]) -> list[Change]:
    """Every change, regressions first, then by id."""
    changes = [
        Change(name, kind, old.get(name), new.get(name))
        for name in {*old, *new}
        if (kind := find_kind(old.get(name), new.get(name))) is not None
    ]
    kinds = list(Kind)
    return sorted(changes, key=lambda change: (kinds.index(change.kind), change.behaviour))
