"""What the two pytest plugins cost a pytest that asks for no machine: with them and without, in turn.

    .venv/bin/python benchmarks/plugins.py [--rounds 15]

Prints both and the difference of their least processor times; exit status 1 if that is over the limit.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from measure import Bound, Series, report, run_measured

LIMIT_MILLISECONDS = 20.0
PLUGINS = ("kernelproof.vm.plugin", "kernelproof.conformance.plugin")


def main() -> int:
    """Measure and report; 0 if the limit is kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="runs of each (default: %(default)s)")
    options = parser.parse_args()
    wanted = [word for plugin in PLUGINS for word in ("-p", plugin)]
    with_them, without = Series("one trivial test, both plugins"), Series("one trivial test, no plugin")
    with tempfile.TemporaryDirectory(prefix="kernelproof-bench-") as folder:
        measure_run(Path(folder), wanted, Series("warm-up"))  # writes bytecode
        for _ in range(options.rounds):
            measure_run(Path(folder), wanted, with_them)
            measure_run(Path(folder), [], without)
    least, bare = (min(sample.cpu_seconds for sample in series.samples) for series in (with_them, without))
    cost = Bound("cost of the plugins, milliseconds of CPU", (least - bare) * 1000, LIMIT_MILLISECONDS)
    return report("plugins", [with_them, without], bounds=[cost], facts={"plugins": PLUGINS})


def measure_run(folder: Path, words: list[str], series: Series) -> None:
    """Run one trivial test of a foreign folder and put on record what it took."""
    (folder / "test_trivial.py").write_text("def test_trivial():\n    pass\n")
    unwanted = ("PYTEST", "PYTHON", "KERNELPROOF")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), *words]
    ended = run_measured([*command, str(folder)], environment=environment)
    if ended.status != 0:
        raise RuntimeError(f"pytest ended with {ended.status}\n{ended.output[-4000:]}")
    series.samples.append(ended.sample)


if __name__ == "__main__":
    sys.exit(main())
