"""The table at the end of a run: subsystem by outcome, as plain lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from kernelproof.conformance.report.outcomes import JUDGED_SUBJECTS, Outcome
from kernelproof.conformance.report.records import Row, behaviour_outcomes

_COLUMNS = (Outcome.PASS, Outcome.FAIL, Outcome.BROKEN, Outcome.DEVIATION, Outcome.NOT_APPLICABLE)


def format_table(rows: tuple[Row, ...], subsystems: Mapping[str, str]) -> list[str]:
    """Return the table of behaviours by subsystem and outcome.

    Args:
        rows: The run's rows on one kernel.
        subsystems: The subsystem of each behaviour; one that is not there is counted under "(unknown)".
    """
    outcomes = behaviour_outcomes(rows)
    counts: dict[str, Counter[Outcome]] = {}
    for behaviour, outcome in outcomes.items():
        counts.setdefault(subsystems.get(behaviour, "(unknown)"), Counter())[outcome] += 1
    if not counts:
        return _peer_lines(rows)
    lines = [("behaviours", *(column.words for column in _COLUMNS))]
    lines += [(name, *_cells(counts[name])) for name in sorted(counts)]
    if len(counts) > 1:
        lines.append(("all", *_cells(sum(counts.values(), Counter()))))
    return _aligned(lines) + _peer_lines(rows)


def _cells(counter: Counter[Outcome]) -> tuple[str, ...]:
    return tuple(str(counter[column] or "") for column in _COLUMNS)


def _aligned(lines: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [_aligned_line(line, widths) for line in lines]


def _aligned_line(line: tuple[str, ...], widths: Sequence[int]) -> str:
    cells = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
    return "  ".join([line[0].ljust(widths[0]), *cells]).rstrip()


def _peer_lines(rows: tuple[Row, ...]) -> list[str]:
    peers: dict[str, Counter[Outcome]] = {}
    for row in rows:
        if row.subject not in JUDGED_SUBJECTS:
            peers.setdefault(row.subject, Counter())[row.outcome] += 1
    return [f"beside it, {name}: " + _counted(peers[name]) for name in sorted(peers)]


def _counted(counter: Counter[Outcome]) -> str:
    return ", ".join(f"{counter[column]} {column.words}" for column in _COLUMNS if counter[column])
