"""The figures of impl.user: a passwd of 100,000 lines read, searched and asked for, beside others on the same file.

    python benchmarks/user_figures.py [--lines 100000] [--rounds 9]

Prints one line a figure: ours, the other, the ratio, and the goal. Times are processor time, of child processes too,
and the best of the rounds, which take turns: other work on the machine only ever adds. As root, the file is bound over
/etc/passwd in a mount namespace of its own, so that getent and pwd read it; else those lines are left out. Exit status
1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import pwd
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kernelproof.impl._syscalls.mount import MountFlag, mount
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare
from kernelproof.impl.user import lookup_uid, lookup_user, owner_ranges, parse_subid, read_passwd, resolve_user

Work = Callable[[], object]


@dataclass(frozen=True, slots=True)
class PlainUser:
    """What the plain loop builds: the same fields, as a frozen dataclass."""

    name: str
    password: str
    uid: int
    gid: int
    gecos: str
    home: str
    shell: str
    line: int


def plain_loop(path: Path) -> list[PlainUser]:
    """Read a passwd file by str.split, with no check but int()."""
    users = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if line:
            name, password, uid, gid, gecos, home, shell = line.split(":")
            users.append(PlainUser(name, password, int(uid), int(gid), gecos, home, shell, number))
    return users


class Figure(NamedTuple):
    """One figure: ours beside the other, and the bound on ours / other, or on ours if there is no other."""

    name: str
    ours: Work
    other: Work | None
    bound: float | None  # None: for information


def spent() -> float:
    """Return the processor time that this process and its reaped children took so far, in seconds."""
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)


def best_of(figure: Figure, rounds: int) -> tuple[float, float | None]:
    """Return the best time of each side in seconds; the sides take turns."""
    ours: list[float] = []
    others: list[float] = []
    for _ in range(rounds):
        for work, times in ((figure.ours, ours), (figure.other, others)):
            if work is not None:
                start = spent()
                result = work()
                times.append(spent() - start)
                del result
    return min(ours), min(others, default=None)


def run(*argv: str) -> Work:
    """Return the work of running a command to its end."""
    return lambda: subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)


def python(statement: str) -> Work:
    """Return the work of a new interpreter that does one thing."""
    return run(sys.executable, "-c", statement)


def write_files(folder: Path, lines: int) -> tuple[Path, Path]:
    """Write a passwd and a subuid file of so many lines."""
    passwd, subuid = folder / "passwd", folder / "subuid"
    passwd.write_text(
        "root:x:0:0:root:/root:/bin/bash\n"
        + "".join(
            f"user{each:06}:x:{10000 + each}:{10000 + each}:User number {each},,,:/home/user{each:06}:/bin/bash\n"
            for each in range(1, lines)
        )
    )
    subuid.write_text("".join(f"user{each:06}:{100000 + 1000 * each}:1000\n" for each in range(lines)))
    return passwd, subuid


def bind_over_etc(passwd: Path) -> bool:
    """Make the file this process's /etc/passwd, in a mount namespace that ends with it; False without the right."""
    try:
        unshare(CloneFlag.NEWNS)
        mount(None, "/", None, MountFlag.REC | MountFlag.PRIVATE)
        mount(passwd, "/etc/passwd", None, MountFlag.BIND)
    except PermissionError:
        return False
    return True


def list_figures(passwd: Path, subuid: Path, lines: int, bound_over: bool) -> list[Figure]:
    """Return what is measured."""
    last, uid = f"user{lines - 1:06}", 10000 + lines - 1
    text = subuid.read_text()
    figures = [
        Figure("whole passwd to records / split loop to frozen dataclasses", lambda: read_passwd(passwd),
               lambda: plain_loop(passwd), 0.5),
        Figure("whole passwd to records, seconds", lambda: read_passwd(passwd), None, 0.3),
        Figure("last user by name, seconds", lambda: lookup_user(last, passwd), None, 0.010),
        Figure("last user by uid, seconds", lambda: lookup_uid(uid, passwd), None, 0.015),
        Figure("last user as user[:group], seconds", lambda: resolve_user(last, passwd=passwd), None, 0.015),
        Figure("last owner of subuid searched / read whole", lambda: owner_ranges(text, last, uid),
               lambda: parse_subid(text), 0.05),
    ]  # fmt: skip
    if bound_over:
        figures += [
            Figure("last user by name / getent passwd", lambda: lookup_user(last), run("getent", "passwd", last), 1.0),
            Figure("last user by uid / getent passwd", lambda: lookup_uid(uid), run("getent", "passwd", str(uid)), 1.0),
            Figure("whole passwd to records / pwd.getpwall(), which is C", read_passwd, pwd.getpwall, None),
        ]
    return figures


def import_cost(statement: str, before: str, rounds: int) -> float:
    """Return what a statement adds to a new interpreter that has done something else before, in seconds."""
    ours, bare = best_of(Figure("", python(f"{before}; {statement}"), python(before), None), rounds)
    assert bare is not None
    return ours - bare


def main() -> int:
    """Measure and print; 0 if every goal is reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=100_000, help="of the files (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=9, help="how often each is run (default: %(default)s)")
    options = parser.parse_args()
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        passwd, subuid = write_files(Path(folder), options.lines)
        for figure in list_figures(passwd, subuid, options.lines, bind_over_etc(passwd)):
            ours, other = best_of(figure, options.rounds)
            ratio = ours if other is None else ours / other
            is_met = figure.bound is None or ratio <= figure.bound
            missed += not is_met
            beside = "" if other is None else f"  other {other * 1e3:8.2f} ms  ratio {ratio:6.3f}"
            goal = "" if figure.bound is None else f"  goal <= {figure.bound:g}"
            print(f"{'ok  ' if is_met else 'MISS'} {figure.name:58} ours {ours * 1e3:8.2f} ms{beside}{goal}")
    look_ups = "from kernelproof.impl.user import lookup_user, resolve_user"
    for name, statement, before, bound in (
        ("import kernelproof.impl.user", "import kernelproof.impl.user", "pass", 0.008),
        ("its look-ups, typing being loaded", look_ups, "import typing", 0.008),
        ("its look-ups, typing included", look_ups, "pass", None),
        ("typing alone", "import typing", "pass", None),
    ):
        cost = import_cost(statement, before, 3 * options.rounds)
        is_met = bound is None or cost <= bound
        missed += not is_met
        goal = "" if bound is None else "  goal <= 8 ms"
        print(f"{'ok  ' if is_met else 'MISS'} {name:58} ours {cost * 1e3:8.2f} ms{goal}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
