"""ps: print the processes of a container.

Source: runc-ps(8); ps(1), "-e" and "-f".
"""

from __future__ import annotations

import os
import sys

from kernelproof.impl.cgroups.ending import all_processes
from kernelproof.impl.libcontainer.controlgroups import find_cgroup
from kernelproof.impl.libcontainer.nsinit.options import Command, Given, UsageError
from kernelproof.impl.libcontainer.nsinit.tables import print_json, print_table
from kernelproof.impl.libcontainer.nsinit.verbs.listing import FORMAT
from kernelproof.impl.libcontainer.state import State, default_root, open_directory

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.nsinit.main import Context

HEADER = ("UID", "PID", "PPID", "STAT", "CMD")
PROGRAMS = ("/usr/bin/ps", "/bin/ps")


def run(context: Context, given: Given) -> int:
    """Prints the processes, by their pids on the host."""
    with open_directory(context.root or default_root(), given.operands[0]) as directory:
        pids = read_pids(directory.read_state())
    if given.text("format", "table") == "json":
        print_json(pids, None)
        return 0
    program = next((path for path in PROGRAMS if os.access(path, os.X_OK)), None)
    if program is not None:
        sys.stdout.write(filter_table(run_ps(program, given.operands[1:] or ["-ef"]), set(pids)))
    elif given.operands[1:]:
        raise UsageError("options for ps(1) need it, and it is not installed (Debian: package procps)")
    else:
        print_table(HEADER, [row for pid in pids if (row := read_row(pid))])
    return 0


def run_ps(program: str, words: list[str]) -> str:
    """What ps(1) prints of all processes.

    Raises:
        RuntimeError: it failed; its words are on standard error.
    """
    import subprocess  # few call this

    done = subprocess.run([program, *words], stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise RuntimeError(f"{program} {' '.join(words)} ended with {done.returncode}")
    return done.stdout.decode(errors="replace")


def filter_table(table: str, pids: set[int]) -> str:
    """Of a table by ps(1) its header and the lines of some processes.

    Raises:
        UsageError: it has no column PID, by which the lines could be told apart.
    """
    header, *lines = table.splitlines() or [""]
    names = header.split()
    if "PID" not in names:
        raise UsageError("the table has no column PID, by which processes are told apart: add it, as in -o pid,comm")
    place = names.index("PID")
    mine = []
    for line in lines:
        words = line.split()
        if len(words) > place and words[place].isdigit() and int(words[place]) in pids:
            mine.append(line)
    return "".join([f"{line}\n" for line in (header, *mine)])


def read_pids(state: State) -> list[int]:
    """The processes of a container's cgroup and of those below, or its first one where it has no cgroup."""
    cgroup = find_cgroup(state.cgroup) if state.cgroup else None
    if cgroup is None:
        return [state.process.pid] if state.process.pid else []
    with cgroup:
        return list(all_processes(cgroup.directory))


def read_row(pid: int, proc: str = "/proc") -> tuple[str, ...]:
    """User, pid, parent, state and command line of a process; empty if it has ended."""
    try:
        owner = os.stat(f"{proc}/{pid}").st_uid
        with open(f"{proc}/{pid}/stat", encoding="utf-8", errors="replace") as file:
            stat = file.read()
        with open(f"{proc}/{pid}/cmdline", "rb") as command:
            words = command.read(4096).rstrip(b"\0").split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return ()
    name = stat[stat.index("(") + 1 : stat.rindex(")")]
    state, parent = stat[stat.rindex(")") + 2 :].split()[:2]
    shown = b" ".join(words).decode(errors="replace") if words != [b""] else f"[{name}]"
    return str(owner), str(pid), parent, state, shown


COMMAND = Command(
    "print the processes of a container",
    (FORMAT,),
    ("ID", "[OPTION-OF-PS...]"),
    run=run,
    in_order=True,
    details="Pids are those of the host. As JSON it is an array of pids. What stands behind the ID are options of "
    "ps(1), -ef by default; of its table the lines that are the container's are printed. Where ps(1) is not installed, "
    "a short table is read from /proc.",
    examples=("nsinit ps web", "nsinit ps web -o pid,comm", "nsinit ps --format json web"),
)
