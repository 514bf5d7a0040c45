"""The figures of impl.cgroups: a thousand cgroups measured, one made and removed, five hundred device rules.

    kernelproof run -- env PYTHONPATH=. python3 benchmarks/cgroups_figures.py [--cgroups 1000] [--rounds 5]

As root, in a machine: a hierarchy of version 2 is mounted. Prints one line a figure: ours, the other, the ratio, and
the goal. The best of the rounds, which take turns: whoever reads a file of a cgroup first pays for its inode, so one
round is none. Such a machine's clock is the host's, and what else the host does adds to all of it: on a busy one only
ratios say anything, and of what takes a millisecond not even these. The life of one cgroup is therefore held to its
goal by a test too, in a machine whose clock counts instructions (impl/tests/cgroups/machine/test_figures.py).
Exit status 1 if a goal is missed. `--peers DIRECTORY` (with --add for the machine) names where benchexec is unpacked.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from kernelproof.impl._syscalls.mount import UnmountFlag, mount, umount2
from kernelproof.impl.cgroups import Cgroup, Layout, read_layout
from kernelproof.impl.cgroups.devices.attaching import read_programs, set_devices
from kernelproof.impl.cgroups.devices.rules import DeviceRule
from kernelproof.impl.cgroups.directory import Directory
from kernelproof.impl.cgroups.events import CgroupEvents
from kernelproof.impl.cgroups.formats import parse_flat, parse_list, parse_nested

Work = Callable[[], object]
CONTROLLERS = ("cpu", "cpuset", "memory", "io", "pids")
FILES = (
    "cpu.stat", "cpuset.cpus", "cpuset.mems", "cpuset.cpus.effective", "cpuset.mems.effective",
    "cpuset.cpus.partition", "memory.stat", "memory.events", "memory.events.local", "memory.current", "memory.peak",
    "memory.max", "memory.swap.current", "memory.swap.max", "io.stat", "pids.current", "pids.max", "pids.events",
    "pids.peak",
)  # fmt: skip


def plain(path: Path) -> dict[str, Any]:
    """Read and parse the same files by pathlib, as a script would."""
    found: dict[str, Any] = {}
    for name in FILES:
        file = path / name
        if not file.exists():
            continue
        text = file.read_text()
        if name == "io.stat":
            found[name] = {
                device: {key: int(value) for key, value in (pair.split("=") for pair in pairs)}
                for device, *pairs in (line.split() for line in text.splitlines())
            }
        elif name.endswith((".stat", ".events", ".local")):
            found[name] = {key: int(value) for key, value in (line.split() for line in text.splitlines())}
        elif name.startswith("cpuset"):
            found[name] = text.strip()
        else:
            found[name] = None if text.strip() == "max" else int(text)
    return found


def peer_readers(directory: str, paths: list[Path]) -> Work:
    """What benchexec reads of the same cgroups: less than a third of it, no memory.stat."""
    sys.path.insert(0, directory)
    kind = import_module("benchexec.cgroupsv2").CgroupsV2
    groups = [kind(dict.fromkeys(CONTROLLERS, path)) for path in paths]

    def read() -> None:
        for group in groups:
            group.read_cputime()
            group.read_max_mem_usage()
            group.read_memory_limit()
            group.read_oom_kill_count()
            group.read_io_stat()
            group.read_allowed_cpus()
            group.read_allowed_memory_banks()

    return read


def read_same(directory: Directory) -> tuple[object, ...]:
    """What `peer_readers` reads of one cgroup, file by file, by the package's own parts."""
    return (
        parse_flat(directory.read("cpu.stat"), "cpu.stat"),
        directory.read_or_none("memory.peak"),
        directory.read_or_none("memory.max"),
        parse_flat(directory.read("memory.events"), "memory.events"),
        parse_nested(directory.read("io.stat"), "io.stat"),
        parse_list(directory.read("cpuset.cpus.effective"), "cpuset.cpus.effective"),
        parse_list(directory.read("cpuset.mems.effective"), "cpuset.mems.effective"),
    )


class Figure(NamedTuple):
    """One figure: ours beside the other, and the bound on ours / other, or on ours in seconds if there is no other."""

    name: str
    ours: Work
    other: Work | None
    bound: float | None  # None: for information
    repeat: int = 1  # times a round, each counted for itself


def best_of(figure: Figure, rounds: int) -> tuple[float, float | None]:
    """The least time of each, the two taking turns."""
    bests: dict[str, float] = {}
    for _ in range(rounds * figure.repeat):
        for name, work in (("ours", figure.ours), ("other", figure.other)):
            if work is not None:
                begin = time.monotonic()
                work()
                bests[name] = min(time.monotonic() - begin, bests.get(name, float("inf")))
    return bests["ours"], bests.get("other")


def one_life(layout: Layout, top: Path, pid: int) -> tuple[Work, Work]:
    """Make a cgroup, move a process in and out, remove it: by the package, and by the calls alone."""
    root = os.open(top / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)

    def ours() -> None:
        with Cgroup.create("life", layout, controllers=CONTROLLERS) as cgroup:
            cgroup.add(pid)
            os.write(root, str(pid).encode())
            cgroup.remove()

    with Cgroup.create("warm", layout, controllers=CONTROLLERS) as warm:  # what is imported at first use is imported
        warm.add(pid)
        os.write(root, str(pid).encode())
        warm.remove()

    def calls() -> None:
        os.mkdir(f"{top}/life")
        fd = os.open(f"{top}/life/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
        os.write(fd, str(pid).encode())
        os.close(fd)
        os.write(root, str(pid).encode())
        os.rmdir(f"{top}/life")

    return ours, calls


def load_rules(layout: Layout, count: int) -> Work:
    """Put that many rules on a cgroup, no two of one device."""
    rules = [DeviceRule("c", 200 + number // 256, number % 256, "rw") for number in range(count)]

    def load() -> None:
        with Cgroup.create("devices", layout) as cgroup:
            set_devices(cgroup.directory, rules)
            (program,) = read_programs(cgroup.directory)
            assert len(program.instructions) > count
            cgroup.remove()

    return load


def list_figures(top: Path, cgroups: int, peers: str | None, sleeper: int) -> list[Figure]:
    """Make what is measured, and list the figures."""
    layout = read_layout()
    opened = [Cgroup.create(f"many/{number}", layout, controllers=CONTROLLERS) for number in range(cgroups)]
    paths = [top / f"many/{number}" for number in range(cgroups)]
    only = (*CONTROLLERS,)
    opened[0].read_stats(only)  # what is imported at first use is imported
    plain(paths[0])
    name = f"stats of {cgroups} cgroups, {len(CONTROLLERS)} controllers"
    figures = [
        Figure(
            f"{name}; pathlib",
            lambda: [cgroup.read_stats(only) for cgroup in opened],
            lambda: [plain(path) for path in paths],
            1 / 3,
        )
    ]
    if peers is not None:
        peer = peer_readers(peers, paths)
        figures += [
            Figure(
                f"the same 7 files of {cgroups} cgroups; benchexec",
                lambda: [read_same(cgroup.directory) for cgroup in opened],
                peer,
                1.0,
            ),
            Figure(
                f"{name}; benchexec, 7 of the {len(FILES)} files",
                lambda: [cgroup.read_stats(only) for cgroup in opened],
                peer,
                None,
            ),
        ]
    ours, calls = one_life(layout, top, sleeper)
    figures.append(Figure("create, apply, delete; bare calls", ours, calls, 1.5, repeat=40))
    figures.append(Figure("500 device rules compiled, loaded, attached", load_rules(layout, 500), None, None))
    return figures


def wall_figures(layout: Layout, processes: int) -> list[tuple[str, float, float]]:
    """Freezing and killing many processes: name, seconds that passed, goal."""
    with Cgroup.create("crowd", layout) as crowd:
        program = ["/bin/sh", "-c", "read line"]
        reader, writer = os.pipe2(0)
        started = [subprocess.Popen(program, stdin=reader, pass_fds=()) for _ in range(processes)]
        for process in started:
            crowd.add(process.pid)
        found = []
        for name, act, goal in (
            (f"freeze of {processes} processes", crowd.freeze, 0.003),
            (f"thaw of {processes} processes", crowd.thaw, 0.003),
            (f"kill of {processes} processes", crowd.kill, 0.030),
        ):
            begin = time.monotonic()
            act()
            found.append((name, time.monotonic() - begin, goal))
        for process in started:
            process.wait()
        os.close(reader)
        os.close(writer)
        with CgroupEvents.open(crowd.directory) as events:
            begin = time.monotonic()
            list(events.watch(0))
            found.append(("events without any", time.monotonic() - begin, 0.010))
        crowd.remove()
    return found


def line(name: str, ours: float, other: float | None, bound: float | None) -> str:
    """One figure as text."""
    value = ours if other is None else ours / other
    word = "    " if bound is None else "ok  " if value <= bound else "MISS"
    beside = "" if other is None else f"  other {other * 1e3:10.3f} ms  ratio {value:6.3f}"
    goal = "" if bound is None else f"  goal <= {bound:.3g}" if other is not None else f"  goal <= {bound * 1e3:g} ms"
    return f"{word} {name:64} ours {ours * 1e3:10.3f} ms{beside}{goal}"


def main() -> int:
    """Measure, and return the exit status."""
    parser = argparse.ArgumentParser(description="The figures of impl.cgroups.")
    parser.add_argument("--cgroups", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=100)
    parser.add_argument("--peers", help="directory with benchexec and yaml")
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(f"descriptors: {soft} of {hard}; python {sys.version.split()[0]}; kernel {os.uname().release}")
    missed = 0
    with tempfile.TemporaryDirectory() as folder, subprocess.Popen(["sleep", "100000"]) as sleeper:
        top = Path(folder)
        mount("cgroup2", top, "cgroup2")
        for figure in list_figures(top, options.cgroups, options.peers, sleeper.pid):
            ours, other = best_of(figure, options.rounds)
            missed += figure.bound is not None and (ours if other is None else ours / other) > figure.bound
            print(line(figure.name, ours, other, figure.bound), flush=True)
        for name, passed, _ in wall_figures(read_layout(), options.processes):
            print(line(name, passed, None, None), flush=True)
        sleeper.kill()
        umount2(top, UnmountFlag.DETACH)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
