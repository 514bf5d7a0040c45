"""What a results file holds: `results/<kernel>.json`, one file a kernel, one row an item.

The published form is `results.schema.json` beside this module; `SCHEMA` is its number and rises with every
change that an older reader would misunderstand.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from kernelproof.conformance.report.outcomes import JUDGED_SUBJECTS, Outcome, worst

SCHEMA = 1


class Row(NamedTuple):
    """One test item on one kernel.

    Args:
        behaviour: The statement's id in the catalogue.
        node: pytest's node id.
        profile: The profile of the machine.
        subject: Who acted: "impl", "stand-in" or a peer's name.
        outcome: What became of it.
        clone: 16 random bytes of the machine's own kernel as 32 hex digits; None when it was lost before it spoke.
        wall_seconds: On the host, from asking for the machine to its last report.
        guest_seconds: By the guest's clock, which jumps over idle waits when time is virtual.
        reason: Why it is not simply a pass, in one paragraph.
        seen: The value that the test recorded last, as JSON.
        log: The kernel's log lines that explain the outcome.
    """

    behaviour: str
    node: str
    profile: str
    subject: str
    outcome: Outcome
    clone: str | None
    wall_seconds: float | None
    guest_seconds: float | None
    reason: str | None
    seen: Any
    log: str | None

    def as_json(self) -> dict[str, Any]:
        """Return the row as the results file spells it; seconds are rounded to microseconds."""
        row = self._asdict()
        row["outcome"] = self.outcome.value
        for key in ("wall_seconds", "guest_seconds"):
            row[key] = None if row[key] is None else round(row[key], 6)
        return row


class Project(NamedTuple):
    """Whose suite ran: kernelproof's version, the suite's commit, and whether its files differed from that commit."""

    version: str | None
    commit: str | None
    dirty: bool | None


class Results(NamedTuple):
    """A results file.

    Args:
        project: What was run.
        catalogue_digest: SHA-256 over the catalogue's files.
        kernel, guest, machine: Facts of the machines, as `vm` gave them.
        selection: What narrowed the run, as on the command line; empty for a whole run.
        complete: Whether every selected item came to its end.
        rows: In any order; the file has them sorted.
    """

    project: Project
    catalogue_digest: str
    kernel: dict[str, Any]
    guest: dict[str, Any]
    machine: dict[str, Any]
    selection: tuple[str, ...]
    complete: bool
    rows: tuple[Row, ...]

    @property
    def is_whole(self) -> bool:
        """Whether nothing was left out: only such a run may replace the kernel's results."""
        return self.complete and not self.selection

    def as_json(self) -> dict[str, Any]:
        """Return the file's content; the order of rows does not depend on who ran first."""
        return {
            "schema": SCHEMA,
            "project": self.project._asdict(),
            "catalogue": {"digest": self.catalogue_digest},
            "kernel": self.kernel,
            "guest": self.guest,
            "machine": self.machine,
            "selection": list(self.selection),
            "complete": self.complete,
            "results": [row.as_json() for row in sorted(self.rows, key=_row_order)],
        }


def _row_order(row: Row) -> tuple[str, str, str, str]:
    return (row.behaviour, row.subject, row.node, row.clone or "")


def behaviour_outcomes(rows: tuple[Row, ...]) -> dict[str, Outcome]:
    """Return each behaviour's outcome: the worst of its rows whose subject is `impl` or `stand-in`.

    A behaviour that only peers were asked about has none.
    """
    judged: dict[str, list[Outcome]] = {}
    for row in rows:
        if row.subject in JUDGED_SUBJECTS:
            judged.setdefault(row.behaviour, []).append(row.outcome)
    return {behaviour: worst(outcomes) for behaviour, outcomes in judged.items()}
