"""The report's figures: 2,000 statements on 10 kernels, built and (where there is a browser) loaded.

    python benchmarks/report_figures.py [--statements 2000] [--kernels 10] [--runs 3] [--keep DIR]

Prints one line a figure: what, the median, and the goal. CPU of the whole command, start of the interpreter included.
Exit status 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kernelproof.conformance.catalogue import read_catalogue

ROOT = Path(__file__).resolve().parent.parent
GOAL_BUILD, GOAL_LOAD = 3.0, 1.0  # seconds
_SUBSYSTEMS = ("cgroup", "limits", "mount", "namespaces", "netlink", "process", "security", "socket", "term", "users")
_LOG = "\n".join(f"[   12.{number:06}] task demo:{number} blocked for more than 120 seconds" for number in range(40))
_SEED = 7


def make_suite(folder: Path, statements: int) -> None:
    """Write a catalogue of so many statements, ten in eleven with a test of a dozen lines."""
    (folder / "behaviours").mkdir(parents=True)
    (folder / "witnesses").mkdir()
    (folder / "witnesses/value.py").write_text('"""Prints what is seen."""\n\nprint("EINVAL")\n')
    for place, subsystem in enumerate(_SUBSYSTEMS):
        numbers = range(place, statements, len(_SUBSYSTEMS))
        catalogue = "".join(_entry(subsystem, number) for number in numbers)
        (folder / f"behaviours/{subsystem}.toml").write_text(catalogue)
        for first in range(0, len(numbers), 20):
            tests = "".join(_test(subsystem, number) for number in numbers[first : first + 20] if number % 11)
            path = folder / subsystem / f"test_{subsystem}_{first}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(f'"""Tests about {subsystem}."""\n\n{tests}')


def _name(subsystem: str, number: int) -> str:
    return f"{subsystem}.part{number // 40}.statement-{number}"


def _entry(subsystem: str, number: int) -> str:
    text = (
        f'[[behaviour]]\nid = "{_name(subsystem, number)}"\n'
        f'statement = "When the kernel is asked for the thing of number {number}, it answers <{number}> & no more."\n'
        f'source = "{subsystem}({number % 8 + 1}), man-pages 6.9.1, DESCRIPTION"\nneeds = ["CAP_SYS_ADMIN"]\n'
    )
    if number % 50 == 1:
        text += (
            '[[behaviour.deviations]]\nkernels = ">=6.1"\nseen = "EINVAL"\nwitness = "witnesses/value.py"\n'
            f'reason = "do_thing() in fs/{subsystem}.c looks at the size first."\n'
        )
    return text + "\n"


def _test(subsystem: str, number: int) -> str:
    body = "\n".join(f'    assert things["{line}"] == "{number} & <{line}>"' for line in range(10))
    return (
        f'@behaviour("{_name(subsystem, number)}")\ndef test_thing_{number}(things: dict[str, str]) -> None:\n'
        f'    """It answers so."""\n{body}\n\n\n'
    )


def make_results(folder: Path, suite: Path, kernels: int) -> list[Path]:
    """Write results of so many kernels, with a few of each outcome."""
    catalogue = read_catalogue([suite / "behaviours"])
    chance = random.Random(_SEED)
    paths = []
    for place in range(kernels):
        kernel = f"{5 + place // 4}.{10 + place % 4}"
        numbered = [entry for entry in catalogue.entries.values() if int(entry.id.rpartition("-")[2]) % 11]
        rows = [_row(entry.id, bool(entry.deviations) and place > 2, chance) for entry in numbered]
        paths.append(folder / f"{kernel}.json")
        paths[-1].write_text(json.dumps(_document(kernel, catalogue.digest, rows)))
    return paths


def _row(behaviour: str, deviates: bool, chance: random.Random) -> dict[str, Any]:
    drawn = chance.random()
    outcome = "fail" if drawn < 0.005 else "broken" if drawn < 0.007 else "not_applicable" if drawn < 0.02 else "pass"
    if deviates and outcome == "pass":
        outcome = "deviation"
    subsystem, _, number = behaviour.partition(".")[0], "", behaviour.rpartition("-")[2]
    return {
        "behaviour": behaviour,
        "node": f"suite/{subsystem}/test_{subsystem}.py::test_thing_{number}",
        "profile": "plain",
        "subject": "impl",
        "outcome": outcome,
        "clone": f"{chance.getrandbits(128):032x}",
        "wall_seconds": round(chance.uniform(0.2, 4), 6),
        "guest_seconds": round(chance.uniform(0.1, 2), 6),
        "reason": None if outcome == "pass" else f"AssertionError: assert 'EPERM' == 'EINVAL' <of {number}>",
        "seen": "EINVAL" if outcome == "deviation" else None,
        "log": _LOG if outcome in ("fail", "broken") else None,
    }


def _document(kernel: str, digest: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    facts = {"series": kernel, "release": f"{kernel}.9-cloud", "package": "linux-image", "build": "1"}
    return {
        "schema": 1,
        "project": {"version": "1.0", "commit": "a" * 40, "dirty": False},
        "catalogue": {"digest": digest},
        "kernel": {"name": kernel, **facts, "config_digest": "c" * 64},
        "guest": {"root_digest": "d" * 64, "python": "3.13", "observers": {"pyroute2": "0.9"}},
        "machine": {"qemu": "10.0", "accelerator": "tcg", "time": "virtual", "cpus": 2},
        "selection": [],
        "complete": True,
        "results": list(rows),
    }


def build(suite: Path, results: Sequence[Path], site: Path) -> float:
    """Build a report with the command, and return its seconds of CPU."""
    before = os.times()
    words = ["report", *map(str, results), "-o", str(site), "--behaviours", str(suite / "behaviours"), "-q"]
    subprocess.run([sys.executable, "-m", "kernelproof.cli", *words], check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def load(browser_module: Any, site: Path, page: str, expression: str) -> tuple[float, float]:
    """Load a page in a new browser: seconds until its script was done and it was drawn, and CPU of its main thread."""
    with browser_module.Browser(browser_module.find_browser()) as browser, browser.page() as shown:
        shown.go((site / "about.html").as_uri())  # the browser itself has started
        shown.call("Performance.enable", timeDomain="threadTicks")
        before = _read_task_seconds(shown)
        shown.go((site / page).as_uri())
        assert shown.evaluate(expression), page
        drawn = float(shown.evaluate(_DRAWN)) / 1000
        return drawn, _read_task_seconds(shown) - before


def _read_task_seconds(page: Any) -> float:
    metrics = page.call("Performance.getMetrics")["metrics"]
    return float(next(one["value"] for one in metrics if one["name"] == "TaskDuration"))


_DRAWN = """
new Promise((done) => requestAnimationFrame(() => setTimeout(() => done(Math.max(
  performance.getEntriesByType("navigation")[0].loadEventEnd,
  performance.getEntriesByName("kernelproof-ready")[0].startTime,
  ...performance.getEntriesByType("paint").map((entry) => entry.startTime),
)))))
"""
PAGES = (
    ("index.html", "document.querySelectorAll('.matrix tbody tr').length == 10"),
    ("explore.html", "document.querySelectorAll('#found tr').length > 50"),
    ("changes.html", "document.querySelectorAll('#changes li').length > 5"),
)


def read_browser_module() -> Any:
    """The tests' browser."""
    spec = importlib.util.spec_from_file_location("kernelproof_browser", ROOT / "tests/report/browser.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tell(name: str, seconds: Sequence[float], goal: float) -> bool:
    """Print a figure; whether its goal is reached."""
    median = statistics.median(seconds)
    spread = f"{min(seconds):.2f} to {max(seconds):.2f}"
    print(f"{'ok  ' if median <= goal else 'MISS'} {name:44} {median:6.2f} s ({spread})  goal <= {goal:g}")
    return median <= goal


def main() -> int:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--statements", type=int, default=2000)
    parser.add_argument("--kernels", type=int, default=10)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave suite, results and report there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kernelproof-report-") as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        make_suite(folder / "suite", arguments.statements)
        results = make_results(folder, folder / "suite", arguments.kernels)
        what = f"{arguments.statements} statements x {arguments.kernels} kernels"
        times = [build(folder / "suite", results, folder / "site") for _ in range(arguments.runs)]
        met = [tell(f"build, {what}, CPU", times, GOAL_BUILD)]
        browser = read_browser_module()
        if browser.find_browser() is None:
            print("no browser: loading was not measured (KERNELPROOF_BROWSER names one)")
        else:
            for page, expression in PAGES:
                pairs = [load(browser, folder / "site", page, expression) for _ in range(arguments.runs)]
                met.append(tell(f"load and draw {page}", [drawn for drawn, _ in pairs], GOAL_LOAD))
                tell(f"  CPU of its main thread, {page}", [seconds for _, seconds in pairs], GOAL_LOAD)
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
