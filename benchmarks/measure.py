"""Measuring for benchmarks: processor time by wait4(2), medians, ratios, one table and one JSON file a run.

Processor time is compared, as it hardly moves when the host is busy; wall time stands beside it. What is compared runs
interleaved in one run, round by round, so that a slow minute of the host hits all alike.
"""

from __future__ import annotations

import json
import os
import platform
import select
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results" / "benchmarks"


@dataclass(frozen=True, slots=True)
class Sample:
    """What one repetition took.

    Args:
        cpu_seconds: User and system time of the process and of all that it waited for.
        wall_seconds: From the start to the end.
    """

    cpu_seconds: float
    wall_seconds: float


@dataclass(frozen=True, slots=True)
class Ended:
    """A measured command: what it took, its exit status (minus the signal that ended it) and its output."""

    sample: Sample
    status: int
    output: str


@dataclass(slots=True)
class Series:
    """The repetitions of one thing.

    Args:
        name: What was done.
        cpu_limit: The median processor time that it may take, in seconds; None for no limit.
        wall_limit: Likewise for wall time.
    """

    name: str
    cpu_limit: float | None = None
    wall_limit: float | None = None
    samples: list[Sample] = field(default_factory=list)

    def median_cpu(self) -> float:
        """Median processor time in seconds."""
        return statistics.median(sample.cpu_seconds for sample in self.samples)

    def median_wall(self) -> float:
        """Median wall time in seconds."""
        return statistics.median(sample.wall_seconds for sample in self.samples)

    def is_within_limits(self) -> bool:
        """Whether both medians are at most their limits."""
        within_cpu = self.cpu_limit is None or self.median_cpu() <= self.cpu_limit
        return within_cpu and (self.wall_limit is None or self.median_wall() <= self.wall_limit)


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times less processor time one series took than another, by their medians.

    Args:
        name: What is compared.
        value: The ratio.
        at_least: What it has to reach; None where it is only told.
    """

    name: str
    value: float
    at_least: float | None = None

    def is_reached(self) -> bool:
        """Whether it is at least what it has to be."""
        return self.at_least is None or self.value >= self.at_least


@dataclass(frozen=True, slots=True)
class Bound:
    """A figure that is no time, and the most that it may be."""

    name: str
    value: float
    at_most: float

    def is_kept(self) -> bool:
        """Whether it is at most what it may be."""
        return self.value <= self.at_most


def run_measured(
    command: Sequence[str], *, environment: Mapping[str, str] | None = None, timeout: float = 600.0
) -> Ended:
    """Run a command in the repository's root and measure it.

    Args:
        command: Argument vector.
        environment: All of its environment; this process's own by default.
        timeout: Seconds until it is killed.

    Raises:
        TimeoutError: it was killed.
        OSError: it can't be started.
    """
    with tempfile.TemporaryFile() as output:
        began = time.monotonic()
        process = subprocess.Popen(
            list(command),
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        in_time = _ends_within(process.pid, timeout)
        if not in_time:
            os.killpg(process.pid, signal.SIGKILL)
        # Not Popen.wait: only wait4 tells what the process and those it waited for used.
        _, status, used = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read().decode(errors="backslashreplace")
    if not in_time:
        raise TimeoutError(f"{command[0]} was killed after {timeout} s\n{text[-2000:]}")
    return Ended(Sample(used.ru_utime + used.ru_stime, wall), process.returncode, text)


def _ends_within(pid: int, seconds: float) -> bool:
    pidfd = os.pidfd_open(pid)
    try:
        readable, _, _ = select.select([pidfd], [], [], seconds)
        return bool(readable)
    finally:
        os.close(pidfd)


def report(
    name: str,
    rows: Sequence[Series],
    ratios: Sequence[Ratio] = (),
    bounds: Sequence[Bound] = (),
    *,
    facts: Mapping[str, object],
) -> int:
    """Print the table, write results/benchmarks/NAME.json, and return 0 if all limits are kept, else 1."""
    print(format_table(rows, ratios, bounds), flush=True)
    kept = all(row.is_within_limits() for row in rows) and all(ratio.is_reached() for ratio in ratios)
    kept = kept and all(bound.is_kept() for bound in bounds)
    RESULTS.mkdir(parents=True, exist_ok=True)
    record = {
        "schema": 1,
        "name": name,
        "host": {"machine": platform.machine(), "cpus": os.cpu_count(), "python": platform.python_version()},
        "facts": dict(facts),
        "series": [asdict(row) for row in rows],
        "ratios": [asdict(ratio) for ratio in ratios],
        "bounds": [asdict(bound) for bound in bounds],
        "within_limits": kept,
    }
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"written to {path}", flush=True)
    return 0 if kept else 1


def format_table(rows: Sequence[Series], ratios: Sequence[Ratio] = (), bounds: Sequence[Bound] = ()) -> str:
    """The series as text: processor and wall time in seconds as minimum/median, and what they may take."""
    lines = [f"{'':44} {'runs':>4} {'cpu min/median':>16} {'limit':>6} {'wall min/median':>16} {'limit':>6}"]
    for row in rows:
        cpu, wall = ([getattr(sample, name) for sample in row.samples] for name in ("cpu_seconds", "wall_seconds"))
        lines.append(
            f"{row.name:44} {len(row.samples):4} {_span(cpu):>16} {_limit(row.cpu_limit):>6} {_span(wall):>16} "
            f"{_limit(row.wall_limit):>6}{'' if row.is_within_limits() else '  TOO MUCH'}"
        )
    for ratio in ratios:
        wanted = "" if ratio.at_least is None else f", wanted {ratio.at_least:.0f} x"
        lines.append(f"{ratio.name}: {ratio.value:.0f} x{wanted}{'' if ratio.is_reached() else '  TOO LITTLE'}")
    for bound in bounds:
        said = "" if bound.is_kept() else "  TOO MUCH"
        lines.append(f"{bound.name}: {bound.value:.0f}, at most {bound.at_most:.0f}{said}")
    return "\n".join(lines)


def _span(values: Sequence[float]) -> str:
    return f"{min(values):.3f}/{statistics.median(values):.3f}"


def _limit(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
