"""How long a user waits: one selected test with everything cached, and the first one with nothing cached.

    .venv/bin/python benchmarks/start_up.py [--kernel 6.12] [--rounds 5] [--fresh]

`--fresh` also measures a run with an empty cache, once: it downloads anew. What is compared with its limit there is
processor time, as a download waits: apt, unpacking, packing and the boot of the base template are in it.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile

from measure import Series, report, run_measured

SECOND_RUN = 4.0  # seconds, of processor time too
FIRST_RUN_CPU = 60.0


def main() -> int:
    """Measure and report; 0 if every limit is kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", default="6.12", help="one of the project's kernels (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="how often the second run is made (default: %(default)s)")
    parser.add_argument("--fresh", action="store_true", help="measure a run with an empty cache too")
    options = parser.parse_args()
    command = [sys.executable, "-m", "pytest", "conformance", "--kernel", options.kernel, "-k", "mydocker0"]

    # Without Python's bytecode every start compiles all anew, which is not what is asked.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    first = Series("first run, empty cache", cpu_limit=FIRST_RUN_CPU)
    second = Series("second run of one selected test", cpu_limit=SECOND_RUN, wall_limit=SECOND_RUN)
    if options.fresh:
        with tempfile.TemporaryDirectory(prefix="kernelproof-bench-") as cache:
            measure_run(command, {**environment, "KERNELPROOF_CACHE": cache}, first)
    measure_run(command, environment, Series("warm-up"))
    for _ in range(options.rounds):
        measure_run(command, environment, second)
    return report("start_up", [first, second] if options.fresh else [second], facts={"kernel": options.kernel})


def measure_run(command: list[str], environment: dict[str, str], series: Series) -> None:
    """Run the test and put on record what the run took, its machines included.

    Raises:
        RuntimeError: it did not pass; with what pytest printed.
    """
    ended = run_measured(command, environment=environment, timeout=1800)
    if ended.status != 0:
        raise RuntimeError(f"pytest ended with {ended.status}\n{ended.output[-4000:]}")
    series.samples.append(ended.sample)


if __name__ == "__main__":
    sys.exit(main())
