"""How much a test in a machine of its own takes, from the fork of its QEMU until its first report is there.

    .venv/bin/python benchmarks/clone.py [--kernel 6.12] [--rounds 12]

"whole" is until that QEMU is killed and reaped. Reports are sent when the item's teardown is over. Collection and the
session template are made once a run and not part of it.
"""

from __future__ import annotations

import argparse
import sys

from items import Recorder, run_items
from measure import Series, report

# Seconds of processor time that the median may take.
LIMITS = {
    "test_trivial": 0.16,
    "test_bridge_veth": 0.35,
    "test_sleep_five_seconds": 0.25,
    "test_subprocess": None,
}


def main() -> int:
    """Measure and report; 0 if every limit is kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", default="6.12", help="one of the project's kernels (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=12, help="how often each is run (default: %(default)s)")
    options = parser.parse_args()
    recorder = Recorder(tuple(LIMITS), options.rounds)
    run_items(recorder, options.kernel)
    rows = [Series(name, LIMITS[name], samples=samples) for name, samples in recorder.until_report.items()]
    rows += [Series(f"{name}, whole", samples=samples) for name, samples in recorder.samples.items()]
    return report("clone", rows, facts=recorder.facts)


if __name__ == "__main__":
    sys.exit(main())
