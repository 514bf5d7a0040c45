"""Breaks `impl` in small ways and tells what no test notices: `nox -s mutants [-- --hollow] [options]`."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence

from answers import Answers
from hollow_run import judge, run_hollow
from machines import ROOT, RunFailed

RESULTS = ROOT / "results" / "mutants"


def main(arguments: Sequence[str]) -> int:
    """Run; returns the exit status: 1 if something survives."""
    options = parse_arguments(arguments)
    try:
        return hollow(options)
    except RunFailed as error:
        print(f"mutants: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("mutants: interrupted; what was found is kept, and the next run goes on from there", file=sys.stderr)
        return 130


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="mutants", description=__doc__)
    parser.add_argument("paths", nargs="*", default=["conformance"], help="with --hollow: which tests")
    parser.add_argument("--hollow", action="store_true", help="empty the functions that each behaviour's test calls")
    parser.add_argument("--kernel", default="6.12")
    parser.add_argument("--workers", default="auto", metavar="N", help="pytest's -n")
    return parser.parse_args(arguments)


def hollow(options: argparse.Namespace) -> int:
    """Empty what tests call."""
    more = ("-n", options.workers, "--vm-timeout", "40")
    answers = run_hollow(options.paths, options.kernel, more, Answers(RESULTS / "hollow.jsonl", "nodeid"), tell)
    verdicts = {nodeid: judge(answer) for nodeid, answer in answers.items()}
    table = Counter((nodeid.split("/")[1], verdict.how) for nodeid, verdict in verdicts.items())
    for (folder, how), number in sorted(table.items()):
        print(f"{folder:14} {how:14} {number:5}")
    passing = [nodeid for nodeid, verdict in verdicts.items() if verdict.fails is False]
    for nodeid in passing:
        called = answers[nodeid].get("guest", {}).get("called", [])
        print(f"still passes: {nodeid}  (calls {', '.join(called) or 'nothing'})")
    print(f"{len(verdicts)} tests, {len(passing)} of them still pass when what they call does nothing")
    return 1 if passing else 0


def tell(text: str) -> None:
    """Say how far it is."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
