"""A large suite: how long until the first result, what a test of it takes, how much memory machines have.

    .venv/bin/python benchmarks/scale.py [--kernel 6.12] [--rounds 3] [--first] [--each] [--kernels]

Without one of the last three all are measured. `--first`: 2,000 generated tests in 70 files, with a cache that knows
them; what is compared is processor time, of pytest and of all machines, until the first test's result. `--each`: 200 of
the least tests there are on two workers; their wall time means something on an idle machine only. `--kernels`: the
memory that a run on all kernels has, its machines and templates included; the first time each kernel is fetched.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from items import WORKLOADS
from measure import ROOT, Bound, Sample, Series, report, run_measured
from suite import edit, write_suite

FIRST_CPU = {  # seconds until the first result
    "second full run": 10.0,
    "after one edited file": 6.0,
    "-k of one test": 5.0,
    "one file": 2.5,
    "one node id": 2.5,
}
SELECTED = ("-k of one test", "one file")  # (one node id finds the session of its file)
EACH_WALL = 0.09  # seconds for each of 200 tests on two workers
PRIVATE_BYTES = 95e6  # of a clone
ALL_BYTES = 5e9  # of a run on six kernels with two workers
MIB = 1024 * 1024


def main() -> int:
    """Measure and report; 0 if every limit is kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", default="6.12", help="one of the project's kernels (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is run (default: %(default)s)")
    for part in ("first", "each", "kernels"):
        parser.add_argument(f"--{part}", action="store_true", help="measure this part; see above")
    options = parser.parse_args()
    everything = not (options.first or options.each or options.kernels)
    rows: list[Series] = []
    bounds: list[Bound] = []
    with tempfile.TemporaryDirectory(prefix="kernelproof-scale-") as folder:
        if options.first or everything:
            rows += measure_first(Path(folder), options.kernel, options.rounds)
        if options.each or everything:
            row, private = measure_each(Path(folder), options.kernel, options.rounds)
            rows.append(row)
            bounds.append(private)
        if options.kernels or everything:
            bounds.append(measure_kernels(Path(folder)))
    return report("scale", rows, bounds=bounds, facts={"kernel": options.kernel})


def environment() -> dict[str, str]:
    """This one's, with Python's bytecode kept: without it every start compiles all anew, which is not what is asked."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def run_recorded(record: Path, arguments: Iterable[str], *, stop: bool = False) -> dict[str, object]:
    """Run pytest by way of first_result.py and return what that wrote.

    Raises:
        RuntimeError: a test did not pass; with what pytest printed.
    """
    script = [sys.executable, str(ROOT / "benchmarks" / "first_result.py"), str(record)]
    command = [*script, *(["--stop"] if stop else []), "-q", "-p", "no:cacheprovider", *arguments]
    ended = run_measured(command, environment=environment(), timeout=1800)
    if ended.status != 0:
        raise RuntimeError(f"pytest ended with {ended.status}\n{ended.output[-4000:]}")
    found: dict[str, object] = json.loads(record.read_text(encoding="utf-8"))
    return found


def measure_first(folder: Path, kernel: str, rounds: int) -> list[Series]:
    """The time until the first result of runs of the large suite, after one full run that is not counted."""
    suite = folder / "suite"
    suite.mkdir()
    write_suite(suite)
    file = "part3/test_file31.py"
    arguments = {
        "second full run": [],
        "after one edited file": [],
        "-k of one test": ["-k", "test_file42 and test_number_7"],
        "one file": [str(suite / file)],
        "one node id": [f"{suite / file}::test_number_9"],
    }
    place = ["--rootdir", str(suite), "-c", str(suite / "pyproject.toml"), "--kernel", kernel]
    series = {name: Series(f"first result: {name}", cpu_limit=limit) for name, limit in FIRST_CPU.items()}
    # Run twice: the first time after an edit elsewhere, which has no limit of its own.
    edited = {name: Series(f"first result: {name}, after an edit elsewhere") for name in SELECTED}
    for turn in range(-1, rounds):  # the first turn makes what the others find
        for name, words in arguments.items():
            if name == "after one edited file":
                edit(suite, turn)
            chosen = words if words and not words[0].startswith("-") else [*words, str(suite)]
            for found in (edited, series):
                if name in found:
                    record = run_recorded(folder / "record.json", [*place, *chosen], stop=True)
                    if turn >= 0:
                        found[name].samples.append(Sample(number(record, "first_cpu"), number(record, "first_wall")))
    return [*series.values(), *edited.values()]


def number(record: dict[str, object], name: str) -> float:
    """A number of a record."""
    return float(str(record[name]))


def measure_each(folder: Path, kernel: str, rounds: int) -> tuple[Series, Bound]:
    """What each of 200 trivial tests takes on two workers, and the memory that a clone has for itself."""
    each = Series("each of 200 trivial tests, -n 2", wall_limit=EACH_WALL)
    trivial = folder / "trivial"
    trivial.mkdir()
    text = (WORKLOADS / "test_trivial.py").read_text(encoding="utf-8").replace("MOST_ROUNDS = 50", "MOST_ROUNDS = 200")
    (trivial / "test_trivial.py").write_text(text, encoding="utf-8")
    (trivial / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    words = ["--rootdir", str(trivial), "-c", str(trivial / "pytest.ini"), "--kernel", kernel, str(trivial)]
    for _ in range(rounds):
        ended = run_measured([sys.executable, "-m", "pytest", "-q", "-n", "2", *words], environment=environment())
        if ended.status != 0 or "200 passed" not in ended.output:
            raise RuntimeError(f"pytest ended with {ended.status}\n{ended.output[-4000:]}")
        each.samples.append(Sample(ended.sample.cpu_seconds / 200, ended.sample.wall_seconds / 200))
    record = run_recorded(folder / "record.json", [*words, "-k", "[1]"])
    private = record["private_bytes"]
    assert isinstance(private, list)
    clones = [size for size in private if size]
    return each, Bound("memory private to a clone, MB", statistics.median(clones) / 1e6, PRIVATE_BYTES / 1e6)


def measure_kernels(folder: Path) -> Bound:
    """The most memory that a run on all kernels with two workers had at any moment that was looked at."""
    suite = folder / "kernels"
    suite.mkdir()
    (suite / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    (suite / "test_trivial.py").write_text((WORKLOADS / "test_trivial.py").read_text(encoding="utf-8"), "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--kernel", "all", "--rootdir", str(suite)]
    command += ["-c", str(suite / "pytest.ini"), str(suite)]
    most = 0
    with tempfile.TemporaryFile() as output:
        run = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=output, stderr=output)
        while run.poll() is None:
            most = max(most, measure_tree(run.pid))
            time.sleep(0.2)  # the time between two looks
        if run.returncode != 0:
            output.seek(0)
            raise RuntimeError(f"pytest ended with {run.returncode}\n{output.read()[-4000:].decode(errors='replace')}")
    return Bound("memory of a run on all kernels, -n 2, MB", most / 1e6, ALL_BYTES / 1e6)


def measure_tree(root: int) -> int:
    """Bytes of anonymous memory of a process and all below it, and of the memory files that they hold, each once."""
    total = 0
    files: dict[tuple[int, int], int] = {}
    for pid in list_tree(root):
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()
            total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss_Anon:"))
            for entry in os.scandir(f"/proc/{pid}/fd"):
                if os.readlink(entry.path).startswith("/memfd:"):
                    status = os.stat(entry.path)
                    files[status.st_dev, status.st_ino] = status.st_blocks * 512
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
    return total + sum(files.values())


def list_tree(root: int) -> Sequence[int]:
    """The process and all below it, as /proc tells at this moment."""
    found = [root]
    for pid in found:
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text("ascii").split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


if __name__ == "__main__":
    sys.exit(main())
