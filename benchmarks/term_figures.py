"""The figures of impl.term: copies beside a bare read loop, pexpect and script, pairs, the matcher, imports.

    python benchmarks/term_figures.py [--megabytes 100] [--rounds 7]

Prints one line a figure. Each round lets all sides take turns at the same work, a program that writes so much to its
terminal; the best of the rounds counts, as other work on the machine only ever takes away. pexpect and script are left
out where they are missing. Exit status 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

from kernelproof.impl.term import DetachMatcher, PseudoterminalPair, WindowSize, copy_terminal, parse_keys

try:
    pexpect: Any = import_module("pexpect")
except ModuleNotFoundError:
    pexpect = None

SIZE = WindowSize(24, 80)
KEYS = parse_keys("ctrl-p,ctrl-q")
Work = Callable[[int], None]


def writer(count: int) -> list[str]:
    """Return a program that writes so many bytes."""
    script = f"import os\nleft = {count}\npiece = b'x' * 65536\nwhile left > 0: left -= os.write(1, piece[:left])"
    return [sys.executable, "-S", "-c", script]


def bare(count: int) -> None:
    """Read the master in a loop."""
    with PseudoterminalPair.open(SIZE) as pair, pair.spawn(writer(count)) as process:
        taken = 0
        while taken < count:
            taken += len(os.read(pair.master, 65536))
        process.wait()


def ours(count: int, keys: bytes = b"") -> None:
    """Copy the master to /dev/null."""
    with PseudoterminalPair.open(SIZE) as pair, pair.spawn(writer(count)) as process:
        stdin, typing = os.pipe()
        sink = os.open("/dev/null", os.O_WRONLY)
        ended = copy_terminal(pair.master, stdin, sink, detach_keys=keys, pidfd=process.pidfd)
        for fd in (stdin, typing, sink):
            os.close(fd)
        process.wait()
        assert ended.bytes_out >= count


def by_pexpect(count: int) -> None:
    """Read by pexpect."""
    argv = writer(count)
    child = pexpect.spawn(argv[0], argv[1:], maxread=65536)
    taken = 0
    while taken < count:
        taken += len(child.read_nonblocking(65536, timeout=60))
    child.close()


def by_script(count: int) -> None:
    """Let script(1) copy to /dev/null."""
    argv = writer(count)
    command = " ".join(f"'{word}'" if word != argv[-1] else '"$PROGRAM"' for word in argv)
    environment = {**os.environ, "PROGRAM": argv[-1]}
    subprocess.run(
        ["script", "-q", "-c", command, "/dev/null"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env=environment,
        check=True,
    )


def rates(works: dict[str, Work], count: int, rounds: int) -> dict[str, float]:
    """Return the best rate of each in MB/s; they take turns."""
    best = dict.fromkeys(works, 0.0)
    for _ in range(rounds):
        for name, work in works.items():
            start = time.perf_counter()
            work(count)
            best[name] = max(best[name], count / (time.perf_counter() - start) / 1e6)
    return best


def say(name: str, value: float, unit: str, goal: float | None = None, *, at_most: bool = False) -> bool:
    """Print a figure; return whether its goal is missed."""
    is_met = goal is None or (value <= goal if at_most else value >= goal)
    bound = "" if goal is None else f"  goal {'<=' if at_most else '>='} {goal:g}"
    print(f"{'ok  ' if is_met else 'MISS'} {name:58} {value:10.3f} {unit}{bound}", flush=True)
    return not is_met


def copies(count: int, rounds: int) -> int:
    """Measure copies; return how many goals are missed."""
    works: dict[str, Work] = {"bare read loop": bare, "ours": ours, "ours, with detach keys": lambda n: ours(n, KEYS)}
    if pexpect is not None:
        works["pexpect"] = by_pexpect
    if shutil.which("script"):
        works["script"] = by_script
    found = rates(works, count, rounds)
    for name, rate in found.items():
        say(f"copied by {name}", rate, "MB/s")
    missed = 0
    missed += say("ours / bare read loop", found["ours"] / found["bare read loop"], "", 0.95)
    for name in ("pexpect", "script"):
        if name in found:
            missed += say(f"ours / {name}", found["ours"] / found[name], "", 1.0)
    missed += say("copied, matcher off", found["ours"], "MB/s", 140)
    return missed + say("copied, matcher on", found["ours, with detach keys"], "MB/s", 80)


def small_things() -> int:
    """Measure pairs, programs and the matcher; return how many goals are missed."""
    start = time.perf_counter()
    for _ in range(1000):
        with PseudoterminalPair.open(SIZE) as pair:
            os.close(pair.peer())
    missed = 0
    missed += say("a pair with its peer and size", (time.perf_counter() - start) * 1000, "us")
    start = time.perf_counter()
    for _ in range(50):
        with PseudoterminalPair.open(SIZE) as pair, pair.spawn(["true"]) as process:
            process.wait()
    missed += say("a pair, a program on it, and its end", (time.perf_counter() - start) * 20, "ms")
    data = os.urandom(1 << 16)
    matcher = DetachMatcher(KEYS)
    start = time.perf_counter()
    for _ in range(1000):
        matcher.feed(data, 0)
    return missed + say("input through the matcher", 65.536 / (time.perf_counter() - start), "MB/s", 80)


def processor_time(statement: str, rounds: int = 25) -> float:
    """Return the least processor time of a new interpreter that does one thing, in seconds."""
    times = []
    for _ in range(rounds):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", statement], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times)


def imports() -> int:
    """Measure imports; return how many goals are missed."""
    bare_start, typing = processor_time("pass"), processor_time("import typing")
    package = processor_time("import kernelproof.impl.term") - bare_start
    missed = 0
    missed += say("import kernelproof.impl.term", package * 1e3, "ms", 8, at_most=True)
    used = "import typing; from kernelproof.impl.term import copy_terminal, raw, PseudoterminalPair"
    say("its pairs, blocks and copies, typing being loaded", (processor_time(used) - typing) * 1e3, "ms")
    return missed


def main() -> int:
    """Measure and print; 0 if every goal is reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=100, help="that a program writes (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="how often each is run (default: %(default)s)")
    options = parser.parse_args()
    missed = copies(options.megabytes * 1_000_000, options.rounds) + small_things() + imports()
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
