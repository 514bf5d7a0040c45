"""What a call of nsinit costs before it does anything: interpreter, installed command, modules, a configuration.

    python benchmarks/nsinit_figures.py [--rounds 40]

Prints one line a figure. All sides take turns in each round, in the other order each time; the least of the rounds
counts, in processor time, which other work on the machine touches least. The command is installed as pip leaves it:
our two scripts, and beside them an entry point of the usual kind. Exit status 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path

from kernelproof.impl.libcontainer.config.jsontext import parse
from kernelproof.impl.libcontainer.config.reading import parse_config
from kernelproof.impl.libcontainer.config.templates import default_config

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "impl/libcontainer/nsinit/scripts"
ENTRY = """#!{python}
# -*- coding: utf-8 -*-
import re
import sys
from kernelproof.impl.libcontainer.nsinit.main import main
if __name__ == '__main__':
    sys.argv[0] = re.sub(r'(-script\\.pyw|\\.exe)?$', '', sys.argv[0])
    sys.exit(main())
"""


def install(prefix: Path) -> Path:
    """An environment of its own with the package and both kinds of command; returns its folder of programs."""
    venv.create(prefix, symlinks=True)
    programs = prefix / "bin"
    python = programs / "python"
    site = next(prefix.glob("lib/python3*/site-packages"))
    (site / "kernelproof").symlink_to(ROOT / "kernelproof")
    shutil.copy(SCRIPTS / "nsinit", programs)
    half = (SCRIPTS / "nsinit-python").read_text().replace("#!python", f"#!{python}", 1)
    for name, text in (("nsinit-python", half), ("entry-point", ENTRY.format(python=python))):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    return programs


def processor_milliseconds(words: list[str]) -> float:
    """Runs a program without environment; the processor time of it and its children."""
    sink = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    actions = [(os.POSIX_SPAWN_DUP2, sink, 1), (os.POSIX_SPAWN_DUP2, sink, 2)]
    pid = os.posix_spawn(words[0], words, {}, file_actions=actions)
    os.close(sink)
    usage = os.wait4(pid, 0)[2]
    return (usage.ru_utime + usage.ru_stime) * 1e3


def take_turns(sides: dict[str, list[str]], rounds: int) -> dict[str, list[float]]:
    """Each side's times, one a round."""
    for words in sides.values():
        processor_milliseconds(words)  # compiles what is not compiled yet
    found: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in sorted(sides, reverse=bool(number % 2)):
            found[name].append(processor_milliseconds(sides[name]))
    return found


def microseconds(work: Callable[[], object], rounds: int) -> float:
    """The least time of a piece of work in this process."""
    best = float("inf")
    for _ in range(rounds * 10):
        begin = time.perf_counter_ns()
        work()
        best = min(best, (time.perf_counter_ns() - begin) / 1e3)
    return best


def engine_configuration() -> bytes:
    """A configuration as engines write it: dozens of mounts, a filter with hundreds of names."""
    value = json.loads(default_config().dump())
    value["mounts"] += [
        {"destination": f"/etc/x{n}", "type": "bind", "source": f"/run/x{n}", "options": ["bind", "rprivate"]}
        for n in range(10)
    ]
    rules = [{"names": [f"call{n}_{m}" for m in range(60)], "action": "SCMP_ACT_ALLOW"} for n in range(8)]
    value["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "syscalls": rules}
    return json.dumps(value).encode()


def report_starts(rounds: int) -> bool:
    """Prints what the ways to start cost; whether ours costs less than an entry point."""
    with tempfile.TemporaryDirectory() as folder:
        programs = install(Path(folder) / "venv")
        python, state = str(programs / "python"), ["--root", f"{folder}/none", "state", "x"]
        found = take_turns(
            {
                "interpreter -I -S": [python, "-I", "-S", "-c", "pass"],
                "interpreter with site": [python, "-c", "pass"],
                "nsinit --version": [str(programs / "nsinit"), "--version"],
                "entry point --version": [str(programs / "entry-point"), "--version"],
                "nsinit state, no container": [str(programs / "nsinit"), *state],
                "entry point state, no container": [str(programs / "entry-point"), *state],
            },
            rounds,
        )
    for name, times in found.items():
        print(f"{name:34} {min(times):7.2f} ms least, {statistics.median(times):7.2f} ms median")
    ours, usual = min(found["nsinit --version"]), min(found["entry point --version"])
    print(f"{'nsinit / entry point':34} {ours / usual:7.2f}")
    return ours < usual


def report_configurations(rounds: int) -> None:
    """Prints what a configuration costs, beside the standard library's parser alone."""
    data = engine_configuration()
    print(f"{'configuration':34} {len(data):7} bytes")
    for name, work in (
        ("json.loads", lambda: json.loads(data)),
        ("jsontext.parse", lambda: parse(data)),
        ("read, decoded and checked", lambda: parse_config(data)),
    ):
        print(f"{name:34} {microseconds(work, rounds):7.0f} us least")


def main() -> int:
    """Prints all figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    held = report_starts(rounds)
    report_configurations(rounds)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
