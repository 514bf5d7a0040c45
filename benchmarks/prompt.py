"""What a prompt costs: processor time and wall time from the command to the prompt, and out of it again.

    python benchmarks/prompt.py [--kernel 6.12] [--runs 10]

Prints minimum and median; exit status 1 if the minimum of the processor time is not below the limit. The first run,
which may have to boot, does not count.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time

from kernelproof.vm.tests.pseudoterminal import sit_at

LIMIT = 1.0  # seconds of processor time: of the command, of its machine, and of what they started


def measure(kernel: str) -> tuple[float, float]:
    """Processor seconds of all of it, wall seconds to the prompt."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with sit_at([sys.executable, "-m", "kernelproof.cli", "shell", "-q", "--kernel", kernel]) as person:
        began = time.monotonic()
        person.read_until(b"# ")
        wall = time.monotonic() - began
        person.type(b"exit\n")
        if (status := person.wait()) != 0:
            raise SystemExit(f"the shell ended with status {status}: {person.seen.decode(errors='replace')}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What a prompt costs.")
    parser.add_argument("--kernel", default="6.12")
    parser.add_argument("--runs", type=int, default=10)
    arguments = parser.parse_args()
    measure(arguments.kernel)
    used, walls = zip(*(measure(arguments.kernel) for _ in range(arguments.runs)), strict=True)
    for name, figures in (("processor", used), ("wall", walls)):
        print(f"{name:10} min {min(figures):.2f} s  median {statistics.median(figures):.2f} s")
    return int(min(used) >= LIMIT)


if __name__ == "__main__":
    sys.exit(main())
