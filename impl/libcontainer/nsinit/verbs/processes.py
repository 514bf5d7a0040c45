"""ps: print the processes of a container."""

from __future__ import annotations

import os

from kernelproof.impl.cgroups.ending import all_processes
from kernelproof.impl.libcontainer.controlgroups import find_cgroup
from kernelproof.impl.libcontainer.nsinit.options import Command, Given
from kernelproof.impl.libcontainer.nsinit.tables import print_json, print_table
from kernelproof.impl.libcontainer.nsinit.verbs.listing import FORMAT
from kernelproof.impl.libcontainer.state import State, default_root, open_directory

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.nsinit.main import Context

HEADER = ("UID", "PID", "PPID", "STAT", "CMD")


def run(context: Context, given: Given) -> int:
    """Prints the processes, by their pids on the host."""
    with open_directory(context.root or default_root(), given.operands[0]) as directory:
        pids = read_pids(directory.read_state())
    if given.text("format", "table") == "json":
        print_json(pids, None)
    else:
        print_table(HEADER, [row for pid in pids if (row := read_row(pid))])
    return 0


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
    details="Pids are those of the host. As JSON it is an array of pids. Options of ps(1) behind the ID are accepted "
    "and change nothing: the table is read from /proc.",
    examples=("nsinit ps web", "nsinit ps --format json web"),
)
