"""The figures of impl.term: copies beside a bare read loop, pexpect and script, pairs, the matcher, imports.

    python benchmarks/term_figures.py [--megabytes 20] [--rounds 25]

Prints one line a figure. Each round lets all sides take turns at the same work, a program that writes so much to its
terminal, in the other order each time; the best of the rounds counts, as other work on the machine only ever takes
away. Many short rounds find a quiet moment for each side; few long ones do not, and their ratio is a matter of luck.
Beside the rates stands the processor time of the reading process, which other work does not touch. pexpect and script
are left out where they are missing. Exit status 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import os
import resource
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

from kernelproof.impl.term import DetachMatcher, PseudoterminalPair, WindowSize, copy_terminal, parse_keys, raw

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


class Best(NamedTuple):
    """The best of the rounds of one side."""

    rate: float  # MB/s
    spent: float  # processor time of this process, in ms for 100 MB


def rates(works: dict[str, Work], count: int, rounds: int) -> dict[str, Best]:
    """Return the best of each; they take turns, forwards and backwards."""
    best = dict.fromkeys(works, Best(0.0, float("inf")))
    for number in range(rounds):
        for name, work in list(works.items())[:: -1 if number % 2 else 1]:
            start, used = time.perf_counter(), time.process_time()
            work(count)
            rate = count / (time.perf_counter() - start) / 1e6
            spent = (time.process_time() - used) * 1e11 / count
            best[name] = Best(max(best[name].rate, rate), min(best[name].spent, spent))
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
    for name, best in found.items():
        say(f"copied by {name}", best.rate, "MB/s")
        if name != "script":  # which works in a process of its own
            say(f"  processor time of its reader, 100 MB by {name}", best.spent, "ms")
    bare_loop, own = found["bare read loop"], found["ours"]
    missed = 0
    missed += say("ours / bare read loop", own.rate / bare_loop.rate, "", 0.95)
    say("processor time, bare read loop / ours", bare_loop.spent / own.spent, "")
    for name in ("pexpect", "script"):
        if name in found:
            missed += say(f"ours / {name}", own.rate / found[name].rate, "", 1.0)
    missed += say("copied, matcher off", own.rate, "MB/s", 140)
    return missed + say("copied, matcher on", found["ours, with detach keys"].rate, "MB/s", 80)


def keys() -> int:
    """Measure what a key and what waiting cost a relay in a process of its own; return how many goals are missed."""
    count = 500
    with PseudoterminalPair.open(SIZE) as local, PseudoterminalPair.open(SIZE) as inner:
        terminal, program = local.peer(), inner.peer()
        with raw(terminal), raw(program):
            pid = os.fork()
            if pid == 0:
                copy_terminal(inner.master, terminal, terminal, detach_keys=b"q")
                os._exit(0)

            def press(key: bytes) -> float:
                start = time.perf_counter()
                os.write(local.master, key)
                os.read(program, 1)
                return time.perf_counter() - start

            press(b"a")  # the relay is there
            before = voluntary_switches(pid)
            delays = [press(b"a") for _ in range(count)]
            select.select([], [], [], 0.2)  # until it sleeps again
            switches, used = voluntary_switches(pid) - before, ticks(pid)
            select.select([], [], [], 2)
            idle = ticks(pid) - used
            os.write(local.master, b"q")
            os.waitpid(pid, 0)
        os.close(terminal)
        os.close(program)
    missed = int(say("wake-ups for a key", switches / count, "", 1.01, at_most=True))
    missed += say("processor time in two idle seconds", idle, "ticks", 0, at_most=True)
    return missed + say("a key's way through the relay", min(delays) * 1e6, "us", 1000, at_most=True)


def voluntary_switches(pid: int) -> int:
    """Return how often a process went to sleep."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("voluntary_ctxt_switches"))


def ticks(pid: int) -> int:
    """Return the processor time of a process in clock ticks."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        return sum(int(field) for field in file.read().rpartition(")")[2].split()[11:13])


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
    parser.add_argument("--megabytes", type=int, default=20, help="that a program writes (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=25, help="how often each is run (default: %(default)s)")
    options = parser.parse_args()
    missed = copies(options.megabytes * 1_000_000, options.rounds) + keys() + small_things() + imports()
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
