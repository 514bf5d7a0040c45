"""TAP and KTAP results as rows of the kernel's results file, beside those of pytest."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kernelproof.conformance.project import read_project
from kernelproof.conformance.report.files import results_path, write_results
from kernelproof.conformance.report.outcomes import Outcome
from kernelproof.conformance.report.reading import ResultsError, read_results
from kernelproof.conformance.report.records import Results, Row
from kernelproof.vm.errors import VmError
from kernelproof.vm.tap import Result

_FACTS = {
    "kernel": ("name", "series", "release", "package", "build", "config_digest"),
    "guest": ("root_digest", "python", "observers"),
    "machine": ("qemu", "accelerator", "time", "cpus"),
}
_SAME_KERNEL = ("release", "build", "config_digest")
_NO_CATALOGUE = "0" * 64
_ID = re.compile(r"[a-z0-9-]+\.[a-z0-9-]+\.[a-z0-9-]+")
_SLUG = 80  # characters


class Ran(NamedTuple):
    """A program that spoke TAP in a machine.

    Args:
        name: What it is called in results: its path below the project, or its name.
        facts: Of the machine.
        profile: Likewise.
        subject: Who acts: "stand-in" for who stands for `impl`, else a name of its own.
        clone: 16 bytes of the guest's kernel, as hexadecimal digits, if it could be asked.
        seconds: Wall time of all of it.
        problem: Why what it said is not all: it was lost, killed, or failed with all its tests passing.
        complaints: First lines of what the kernel complained of.
        log: The kernel log that goes with the problem or the complaints.
    """

    name: str
    facts: Mapping[str, Any]
    profile: str
    subject: str
    clone: str | None
    seconds: float
    problem: str | None = None
    complaints: tuple[str, ...] = ()
    log: str | None = None


def judge(result: Result) -> tuple[Outcome, str | None]:
    """A result's outcome, and why it is not simply a pass."""
    said = result.reason or result.diagnostics or None
    if result.directive == "SKIP":
        return Outcome.NOT_APPLICABLE, said or "skipped"
    if result.directive == "XFAIL" or (result.directive == "TODO" and not result.ok):
        return Outcome.DEVIATION, f"known ({result.directive}): {said or 'no reason given'}"
    if result.directive in ("TIMEOUT", "ERROR") and not result.ok:
        return Outcome.BROKEN, f"{result.directive}: {said or 'no reason given'}"
    return (Outcome.PASS, None) if result.ok else (Outcome.FAIL, said or "not ok")


def plan_rows(ran: Ran, results: Sequence[Result]) -> tuple[Row, ...]:
    """A row a result, one for the problem if there is one, and one for what the kernel complained of. Pure."""
    seen: Counter[str] = Counter()
    rows = []
    for result in results:
        outcome, reason = judge(result)
        rows.append(_row(ran, result.path, outcome, reason, seen, _seen(result, outcome)))
    if ran.problem is not None:
        rows.append(_row(ran, ("end",), Outcome.BROKEN, ran.problem, seen, None)._replace(log=ran.log))
    if ran.complaints:
        reason = "\n".join(f"kernel log: {line}" for line in ran.complaints)
        rows.append(_row(ran, ("kernel log",), Outcome.FAIL, reason, seen, None)._replace(log=ran.log))
    return tuple(rows)


def _seen(result: Result, outcome: Outcome) -> object:
    return ("ok" if result.ok else "not ok") if outcome is Outcome.DEVIATION else None


def _row(ran: Ran, path: Sequence[str], outcome: Outcome, reason: str | None, seen: Counter[str], value: object) -> Row:
    node = "::".join((ran.name, *path))
    seen[node] += 1
    if seen[node] > 1:  # programs may use a name twice
        node = f"{node} #{seen[node]}"
    return Row(
        behaviour=find_behaviour(ran.name, path),
        node=node,
        profile=ran.profile,
        subject=ran.subject,
        outcome=outcome,
        clone=ran.clone,
        wall_seconds=ran.seconds,
        guest_seconds=None,
        reason=reason,
        seen=value,
        log=None,
    )


def find_behaviour(program: str, path: Sequence[str]) -> str:
    """The statement that a result is about: the id that its description begins with, else one made of its names."""
    words = path[-1].split() if path else []
    first = words[0].rstrip(":") if words else ""
    if _ID.fullmatch(first):
        return first
    return f"tap.{_slug(program)}.{_slug('-'.join(path))}"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:_SLUG].strip("-") or "test"


def count(rows: Iterable[Row]) -> dict[str, int]:
    """How many there are of each outcome."""
    return dict(Counter(row.outcome.value for row in rows))


def write(folder: Path, project: Path, ran: Ran, rows: Sequence[Row]) -> tuple[Path, str | None]:
    """Put rows into the kernel's results file, in place of earlier ones of this program; make it if there is none.

    Returns:
        The file, and what is worth a word about it.

    Raises:
        VmError: the file holds results of another build of that kernel, or none that this version reads.
        OSError: it can't be written.
    """
    facts = {part: {name: ran.facts.get(part, {}).get(name) for name in names} for part, names in _FACTS.items()}
    owner = read_project(project)
    path = results_path(folder, facts["kernel"]["name"], whole=True)
    if not path.exists():
        return write_results(
            folder, Results(owner, _NO_CATALOGUE, **facts, selection=(), complete=True, rows=tuple(rows))
        ), None
    try:
        before = read_results(path)
    except ResultsError as error:
        raise _refusal(path, str(error)) from error
    for name in _SAME_KERNEL:
        if before.kernel.get(name) != facts["kernel"][name]:
            detail = f"{name} {before.kernel.get(name)} there, {facts['kernel'][name]} here"
            raise _refusal(path, f"is of another kernel: {detail}")
    others = [row for row in before.rows if not row.node.startswith(f"{ran.name}::")]
    note = None
    if others and before.project.commit != owner.commit:
        note = f"the other rows of {path} are of commit {before.project.commit or 'unknown'}"
    return write_results(folder, before._replace(rows=(*others, *rows))), note


def _refusal(path: Path, detail: str) -> VmError:
    return VmError("add results", str(path), detail, "move it away, or name another folder with --results-dir")
