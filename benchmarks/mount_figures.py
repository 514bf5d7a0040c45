"""The figures of impl.mount: a table of 5,000 mounts read, searched and asked for, beside a bare loop and findmnt.

    python benchmarks/mount_figures.py [--mounts 5000] [--rounds 9]

As root: the mounts are made in a mount namespace that ends with the process. Prints one line a figure: ours, the other,
the ratio, and the goal. Times are processor time, of child processes too, and the best of the rounds, which take turns:
other work on the machine only ever adds. Exit status 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import errno
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from kernelproof.impl._syscalls.mount import MountAttribute, MountFlag, UnmountFlag, mount, umount2
from kernelproof.impl._syscalls.namespaces import CloneFlag, unshare
from kernelproof.impl._syscalls.statmount import StatmountMask
from kernelproof.impl.mount import (
    Mount,
    MountTable,
    Propagation,
    find_mount,
    is_mount_point,
    mount_by_id,
    mount_of,
    parse_mountinfo,
)
from kernelproof.impl.mount.lookup import attributes_of
from kernelproof.impl.mount.statmounts import read_by_statmount
from kernelproof.impl.mount.table import read_mountinfo

Work = Callable[[], object]
_WORD_BITS = {
    "ro": MountAttribute.RDONLY,
    "nosuid": MountAttribute.NOSUID,
    "nodev": MountAttribute.NODEV,
    "noexec": MountAttribute.NOEXEC,
    "noatime": MountAttribute.NOATIME,
    "nodiratime": MountAttribute.NODIRATIME,
}


def bare_loop() -> list[Mount]:
    """Read mountinfo, split each line and build the same records; no escape, no check, no error."""
    mounts = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            before, after = line.split(" - ")
            mount_id, parent_id, device, root, mount_point, options, *tags = before.split(" ")
            fstype, source, supers = after.split(" ")
            major, minor = device.split(":")
            bits = MountAttribute(0)
            for word in options.split(","):
                if word in _WORD_BITS:
                    bits |= _WORD_BITS[word]
            peer_group = int(tags[0][7:]) if tags else None
            mounts.append(
                Mount(
                    int(mount_id), int(parent_id), int(major), int(minor), root, mount_point, bits,
                    Propagation.SHARED if tags else Propagation.PRIVATE, peer_group, None, None, fstype, source,
                    tuple(supers.rstrip("\n").split(",")),
                )
            )  # fmt: skip
    return mounts


def plainest_loop() -> list[tuple[object, ...]]:
    """Read mountinfo and split each line into tuples of text: less than any record has."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return [(*line.split(" - ")[0].split(" "), *line.split(" - ")[1].split(" ")) for line in file]


class Figure(NamedTuple):
    """One figure: ours beside the other, and the bound on ours / other, or on ours in seconds if there is no other."""

    name: str
    ours: Work
    other: Work | None
    bound: float | None  # None: for information
    repeat: int = 1


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
                for _ in range(figure.repeat):
                    work()
                times.append((spent() - start) / figure.repeat)
    return min(ours), min(others, default=None)


def run(*argv: str) -> Work:
    """Return the work of running a command to its end."""
    return lambda: subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)


def make_mounts(folder: Path, count: int) -> Path:
    """Make so many mounts in a mount namespace of this process, each at a place of its own; return the last."""
    unshare(CloneFlag.NEWNS)
    mount(None, "/", None, MountFlag.REC | MountFlag.PRIVATE)
    mount("figures", folder, "tmpfs", MountFlag.NOSUID | MountFlag.NODEV, "size=64m,mode=755")
    (folder / "source").mkdir()
    place = folder
    for number in range(count - len(MountTable.read())):
        place = folder / f"containers/{number:05}/rootfs"
        place.mkdir(parents=True)
        mount(folder / "source", place, None, MountFlag.BIND)
    return place


def has_statmount(fields: StatmountMask) -> bool:
    """Whether the kernel tells these fields by statmount."""
    try:
        read_by_statmount(fields)
    except NotImplementedError:
        return False
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EPERM):
            return False
        raise
    return True


BASIC = StatmountMask.SB_BASIC | StatmountMask.MNT_BASIC | StatmountMask.MNT_POINT | StatmountMask.FS_TYPE


def list_figures(last: Path, count: int) -> list[Figure]:
    """Return what is measured."""
    content = Path("/proc/self/mountinfo").read_bytes()
    missing = last / "etc/hosts"
    ids = [mount.id for mount in MountTable.read()]
    figures = [
        Figure("whole table to records / bare loop that builds the same", MountTable.read, bare_loop, 1.3),
        Figure("whole table to records / loop that splits into tuples", MountTable.read, plainest_loop, None),
        Figure("whole table to records / findmnt -l", MountTable.read, run("findmnt", "-l"), 1.0),
        Figure("find(path) in the text of the table / bare loop", lambda: find_mount(missing), bare_loop, None),
        # The kernel writes a line when it is read: what lies further on costs nothing. This is find_mount before 6.13.
        Figure("mount in the middle by its ID / bare loop", lambda: mount_by_id(ids[count // 2]), bare_loop, 0.2),
        Figure("last mount by its ID / bare loop", lambda: mount_by_id(ids[-1]), bare_loop, None),
        Figure("the table's text read, nothing else / bare loop", read_mountinfo, bare_loop, None),
        Figure("text to records, seconds", lambda: parse_mountinfo(content), None, count / 150_000),
        Figure("is_mount_point, seconds", lambda: is_mount_point(last), None, 15e-6, 500),
    ]
    if has_statmount(BASIC):
        figures += [
            Figure("attributes of one mount by statmount, seconds", lambda: attributes_of(last), None, 1e-3, 200),
            Figure("basic fields of all by statmount / table", lambda: read_by_statmount(BASIC), MountTable.read, None),
        ]
    if has_statmount(BASIC | StatmountMask.SB_SOURCE):
        figures += [
            Figure("find(path) without records / bare loop", lambda: find_mount(last), bare_loop, 0.2),
            Figure("one mount of many by statmount, seconds", lambda: mount_of(last), None, 1e-3, 200),
            Figure("whole table by statmount / by mountinfo", read_by_statmount, MountTable.read, None),
        ]
    else:
        figures.append(Figure("one mount of many by mountinfo, seconds", lambda: mount_of(last), None, None))
    return figures


def import_cost(before: str, statement: str, rounds: int) -> float:
    """Return what a statement adds to a new interpreter that has done something else before, in seconds."""
    both = run(sys.executable, "-c", f"{before}; {statement}")
    figure = Figure("", both, run(sys.executable, "-c", before), None)
    ours, bare = best_of(figure, rounds)
    return ours - (bare or 0.0)


def main() -> int:
    """Measure and print; 0 if every goal is reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mounts", type=int, default=5000, help="in the table (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=9, help="how often each is run (default: %(default)s)")
    options = parser.parse_args()
    missed = 0
    print(f"Linux {os.uname().release}, Python {sys.version.split()[0]}, {options.mounts} mounts")
    for name, before, statement, bound in (
        ("import kernelproof.impl.mount", "pass", "import kernelproof.impl.mount", 0.020),
        ("its table, typing being loaded", "import typing", "from kernelproof.impl.mount import MountTable", 0.020),
        ("its mount and unmount", "import typing", "from kernelproof.impl.mount import mount, unmount", None),
        ("typing alone", "pass", "import typing", None),
    ):
        cost = import_cost(before, statement, 3 * options.rounds)
        missed += bound is not None and cost > bound
        print(line(bound is None or cost <= bound, name, cost, None, bound))
    with tempfile.TemporaryDirectory() as folder:
        last = make_mounts(Path(folder), options.mounts)
        for figure in list_figures(last, options.mounts):
            ours, other = best_of(figure, options.rounds)
            value = ours if other is None else ours / other
            is_met = figure.bound is None or value <= figure.bound
            missed += not is_met
            print(line(is_met, figure.name, ours, other, figure.bound))
        umount2(folder, UnmountFlag.DETACH)
    return 1 if missed else 0


def line(is_met: bool, name: str, ours: float, other: float | None, bound: float | None) -> str:
    """Return one figure as text."""
    beside = "" if other is None else f"  other {other * 1e3:9.3f} ms  ratio {ours / other:6.3f}"
    goal = "" if bound is None else f"  goal <= {bound:g}" if other is not None else f"  goal <= {bound * 1e3:g} ms"
    return f"{'ok  ' if is_met else 'MISS'} {name:56} ours {ours * 1e3:9.3f} ms{beside}{goal}"


if __name__ == "__main__":
    sys.exit(main())
