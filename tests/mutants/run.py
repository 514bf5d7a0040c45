"""Breaks `impl` in small ways and tells what no test notices.

    nox -s mutants                      a sample of edits: unit tests first, then machine tests that may come there
    nox -s mutants -- --list            which edits these are
    nox -s mutants -- --hollow [PATH …] each behaviour's test, with the functions of `impl` that it calls doing nothing

What is found is kept in results/mutants/; the next run asks only what is not known or has changed since. Exit status 1
if something survives without a reason in tests/mutants/reasons.toml.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from answers import Answers, digest_of
from edits import Edit, read_edits, read_observers
from hollow_run import judge, run_hollow
from machine_run import try_machines
from machines import HERE, ROOT, RunFailed
from mutant_run import PACKAGES, try_unit_tests
from reasons import ReasonsError, parse_reasons
from sampling import sample

RESULTS = ROOT / "results" / "mutants"
OBSERVERS = "observers"  # in place of a package: what behaviours see with
NUMBER, SEED = 320, 2014
ROUNDS = 6


def main(arguments: Sequence[str]) -> int:
    """Run; returns the exit status."""
    options = parse_arguments(arguments)
    try:
        return hollow(options) if options.hollow else mutants(options)
    except (RunFailed, ReasonsError) as error:
        print(f"mutants: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("mutants: interrupted; what was found is kept, and the next run goes on from there", file=sys.stderr)
        return 130


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="nox -s mutants --", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("paths", nargs="*", default=["conformance"], help="with --hollow: which tests")
    add("--hollow", action="store_true", help="empty the functions that each behaviour's test calls")
    add("--list", action="store_true", help="show the chosen edits and end")
    add("--sample", type=int, default=NUMBER, metavar="N", help=f"how many edits; 0 for all (default {NUMBER})")
    add("--seed", type=int, default=SEED, help=f"of the choice (default {SEED})")
    add("--package", action="append", choices=(*PACKAGES, OBSERVERS), help="only this one; more than once for more")
    add("--rounds", type=int, default=ROUNDS, help=f"machine tests on an edit, 0 for unit tests alone ({ROUNDS})")
    add("--kernel", default="6.12", help="of the machines")
    add("--workers", default="auto", metavar="N", help="pytest's -n, for machines")
    text = "pytest's --vm-scope: module is several times faster, and what a test finds there may be another one's"
    add("--scope", choices=("test", "module"), default="test", help=text)
    return parser.parse_args(arguments)


def mutants(options: argparse.Namespace) -> int:
    """Edit functions."""
    everything = {package: read_edits(ROOT, f"impl/{package}") for package in PACKAGES}
    everything[OBSERVERS] = read_observers(ROOT)
    names = {edit.name for edits in everything.values() for edit in edits}
    reasons = parse_reasons((HERE / "reasons.toml").read_text("utf-8"), names)
    chosen = sample(everything, options.sample, options.seed)
    chosen = {package: edits for package, edits in chosen.items() if package in (options.package or everything)}
    if options.list:
        for edits in chosen.values():
            for edit in edits:
                print(f"{edit.path}:{edit.line}  {edit.function}: {edit.old!r} -> {edit.new!r} #{edit.number}")
        return 0
    store = Answers(RESULTS / "mutants.jsonl", "name")
    chosen = {package: with_survivors(edits, everything[package], store.read()) for package, edits in chosen.items()}
    for package, edits in chosen.items():
        if package == OBSERVERS:
            note_untried(edits, store)
        else:
            try_unit_tests(package, edits, store, RESULTS, tell)
    if options.rounds:
        known = store.read()
        left = [edit for edits in chosen.values() for edit in edits if is_open(known[edit.name], reasons)]
        try_machines(left, store, options.kernel, options.rounds, ("-n", options.workers), tell)
    return report(chosen, store.read(), reasons)


def with_survivors(chosen: Sequence[Edit], edits: Sequence[Edit], known: Mapping[str, Mapping[str, Any]]) -> list[Edit]:
    """What was chosen, and what survived in other samples: that stays on the list until something notices it."""
    survivors = {edit for edit in edits if known.get(edit.name, {"outcome": "killed"})["outcome"] != "killed"}
    return sorted({*chosen, *survivors})


def note_untried(edits: Sequence[Edit], store: Answers) -> None:
    """No unit test sees with these; machine tests are asked where nothing is known, or the file has changed."""
    known = store.read()
    for edit in edits:
        source = digest_of([ROOT / edit.path])
        if known.get(edit.name, {}).get("source") != source:
            answer = {"name": edit.name, "digest": "", "source": source, "where": "unit", "outcome": "not reached"}
            store.add(answer | {"by": ""})


def is_open(answer: Mapping[str, Any], reasons: Mapping[str, str]) -> bool:
    """Whether machine tests have something to say about an edit."""
    return answer["outcome"] != "killed" and answer["where"] == "unit" and answer["name"] not in reasons


def report(
    chosen: Mapping[str, Sequence[Edit]], known: Mapping[str, Mapping[str, Any]], reasons: Mapping[str, str]
) -> int:
    """Print a table, and what survives with its difference; returns the exit status."""
    survivors = []
    print(f"{'package':14} {'edits':>6} {'unit':>6} {'machine':>8} {'reason':>7} {'survive':>8}")
    for package, edits in chosen.items():
        counts: Counter[str] = Counter()
        for edit in edits:
            answer = known[edit.name]
            how = answer["where"] if answer["outcome"] == "killed" else "reason" if edit.name in reasons else "survive"
            counts[how] += 1
            survivors += [edit] if how == "survive" else []
        print(
            f"{package:14} {len(edits):6} {counts['unit']:6} {counts['machine']:8} {counts['reason']:7} "
            f"{counts['survive']:8}"
        )
    for edit in survivors:
        print(f"\n{edit.path}:{edit.line} in {edit.function} #{edit.number}: {known[edit.name]['outcome']}")
        print(f"  - {edit.old}\n  + {edit.new}")
    total = sum(map(len, chosen.values()))
    print(f"\n{total} edits, {len(survivors)} of them survive without a reason")
    return 1 if survivors else 0


def hollow(options: argparse.Namespace) -> int:
    """Empty what tests call."""
    more = ("-n", options.workers, "--vm-timeout", "60", "--vm-scope", options.scope, "--dist", "loadfile")
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
