"""update: change the limits of a container."""

from __future__ import annotations

import sys

from kernelproof.impl.libcontainer.conditions import require
from kernelproof.impl.libcontainer.config.checking_resources import check_resources
from kernelproof.impl.libcontainer.config.jsontext import MOST_BYTES
from kernelproof.impl.libcontainer.config.reading import check_all, parse_resources, read_bounded
from kernelproof.impl.libcontainer.config.record import Record
from kernelproof.impl.libcontainer.config.resources import BlockIo, Cpu, Memory, Pids, Resources
from kernelproof.impl.libcontainer.config.writing import dump
from kernelproof.impl.libcontainer.controlgroups import find_cgroup
from kernelproof.impl.libcontainer.limiting import set_limits
from kernelproof.impl.libcontainer.locking import StateLock
from kernelproof.impl.libcontainer.nsinit.options import NUMBER, SIZE, TEXT, Command, Given, Option, UsageError
from kernelproof.impl.libcontainer.running import read_config
from kernelproof.impl.libcontainer.state import (
    CREATED,
    PAUSED,
    RUNNING,
    State,
    WrongStatusError,
    default_root,
    open_directory,
)

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from typing import TypeVar

    from kernelproof.impl.cgroups.cgroup import Cgroup
    from kernelproof.impl.libcontainer.nsinit.main import Context

    R = TypeVar("R", bound=Record)

# Option -> the record and its field.
FIELDS: dict[str, tuple[type[Record], str]] = {
    "blkio-weight": (BlockIo, "weight"),
    "cpu-period": (Cpu, "period"),
    "cpu-quota": (Cpu, "quota"),
    "cpu-burst": (Cpu, "burst"),
    "cpu-rt-period": (Cpu, "realtime_period"),
    "cpu-rt-runtime": (Cpu, "realtime_runtime"),
    "cpu-share": (Cpu, "shares"),
    "cpu-idle": (Cpu, "idle"),
    "cpuset-cpus": (Cpu, "cpus"),
    "cpuset-mems": (Cpu, "mems"),
    "memory": (Memory, "limit"),
    "memory-reservation": (Memory, "reservation"),
    "memory-swap": (Memory, "swap"),
    "kernel-memory-tcp": (Memory, "kernel_tcp"),
    "pids-limit": (Pids, "limit"),
}
IGNORED = {"kernel-memory": "no kernel has this limit any more"}
REFUSED = ("l3-cache-schema", "mem-bw-schema")
_PARTS = {BlockIo: "block_io", Cpu: "cpu", Memory: "memory", Pids: "pids"}


def run(context: Context, given: Given) -> int:
    """Changes the limits in the cgroup, then in the container's own copy of its configuration."""
    for name in REFUSED:
        if given.has(name):
            raise UsageError(f"--{name}: this runtime does not use resctrl; leave it out")
    for name in IGNORED:
        if given.has(name):
            context.log.warning(f"--{name} changes nothing: {IGNORED[name]}")
    asked = read_resources(given.text("resources")) if given.has("resources") else plan_resources(given)
    with open_directory(context.root or default_root(), given.operands[0]) as directory, StateLock(directory.fd):
        state = directory.read_state()
        require(directory, state, (CREATED, RUNNING, PAUSED), "updated")
        config = read_config(directory)
        merged = plan_merged(config.linux.resources or Resources(), asked)
        cgroup = find_cgroup(state.cgroup) if state.cgroup else None
        if cgroup is None:
            raise WrongStatusError(f"container {state.id!r} has no cgroup whose limits could be changed")
        with cgroup:
            change_limits(state, cgroup, plan_change(merged, asked))
        changed = config.replace(linux=config.linux.replace(resources=merged))
        directory.write("config.json", dump(changed, None, own=True).encode())
    return 0


def change_limits(state: State, cgroup: Cgroup, asked: Resources) -> None:
    """Sets limits, of a scope by systemd too; errors as limiting.set_limits."""
    scope = next((value for kind, value in state.undo if kind == "scope"), None)
    match scope:
        case [str(name), bool(is_user)]:
            from kernelproof.impl.libcontainer.scopes import set_scope_limits  # D-Bus: 20 modules that few need

            set_scope_limits(name, asked, cgroup, is_user=is_user)
        case _:
            set_limits(cgroup, asked)


def read_resources(source: str) -> Resources:
    """Reads `linux.resources` from a file, or from standard input for "-".

    Raises:
        OSError, ConfigError: see config.reading.
    """
    data = sys.stdin.buffer.read(MOST_BYTES + 1) if source == "-" else read_bounded(source)
    return parse_resources(data, "standard input" if source == "-" else source)


def plan_resources(given: Given) -> Resources:
    """The resources that single options ask for.

    Raises:
        UsageError: no option was given.
        ConfigError: the values can't hold, whatever is set already.
    """
    parts: dict[type[Record], dict[str, object]] = {}
    for name, (part, field) in FIELDS.items():
        if given.has(name):
            parts.setdefault(part, {})[field] = given.values[name]
    if not parts:
        raise UsageError("nothing to change: --resources or a limit is needed")
    asked = Resources().replace(**{_PARTS[part]: part(**fields) for part, fields in parts.items()})
    check_all(asked, "update", check_resources(asked, at="$", whole=False))
    return asked


def plan_merged(old: Resources, asked: Resources) -> Resources:
    """What holds after a change. Memory without limit has swap without limit, unless that is asked for.

    Raises:
        ConfigError: the old limits and the new ones can't hold together.
    """
    merged = merge(old, asked)
    if asked.memory is not None and merged.memory is not None and not asked.memory.swap:
        before = old.memory.swap if old.memory is not None else None
        swap = -1 if before and (asked.memory.limit or 0) < 0 else before
        merged = merged.replace(memory=merged.memory.replace(swap=swap))
    check_all(merged, "update", check_resources(merged))
    return merged


def plan_change(merged: Resources, asked: Resources) -> Resources:
    """What is to be set: what was asked, and of memory and swap, which are one sum, what holds of both after it."""
    memory = merged.memory
    if asked.memory is None or memory is None or (asked.memory.limit is None and not asked.memory.swap):
        return asked
    return asked.replace(memory=asked.memory.replace(limit=memory.limit, swap=memory.swap))


def merge(old: R, new: Record) -> R:
    """What holds after a change: fields that were not named stay as they are, at each level."""
    changes: dict[str, object] = {}
    for field, value in new.set_fields():
        before = getattr(old, field)
        changes[field] = merge(before, value) if isinstance(before, Record) and isinstance(value, Record) else value
    return old.replace(**changes)


COMMAND = Command(
    "change the limits of a container",
    (
        Option(
            "--resources -r", TEXT, "file with linux.resources, - for standard input; then only that counts", "FILE"
        ),
        Option("--blkio-weight", NUMBER, "weight of block I/O, 10 to 1000", "N"),
        Option("--cpu-period", NUMBER, "microseconds of a period", "N"),
        Option("--cpu-quota", NUMBER, "microseconds of CPU time in each period; -1 for no limit", "N"),
        Option("--cpu-burst", NUMBER, "microseconds of unused quota that can be saved", "N"),
        Option("--cpu-rt-period", NUMBER, "the same for real-time scheduling", "N"),
        Option("--cpu-rt-runtime", NUMBER, "the same for real-time scheduling", "N"),
        Option("--cpu-share", NUMBER, "relative share of CPU time", "N"),
        Option("--cpu-idle", NUMBER, "1: only what nobody else wants; 0: as others", "N"),
        Option("--cpuset-cpus", TEXT, "CPUs to use, such as 0-2,4", "LIST"),
        Option("--cpuset-mems", TEXT, "memory nodes to use", "LIST"),
        Option("--memory", SIZE, "bytes of memory, such as 64m; -1 for no limit", "BYTES"),
        Option("--memory-reservation", SIZE, "bytes that are protected, or on version 1 the soft limit", "BYTES"),
        Option("--memory-swap", SIZE, "bytes of memory and swap together; -1 for no limit", "BYTES"),
        Option("--kernel-memory-tcp", SIZE, "bytes of TCP buffers, on version 1", "BYTES"),
        Option("--pids-limit", NUMBER, "processes and threads; -1 for no limit", "N"),
        Option("--kernel-memory", SIZE, "accepted: no kernel has it any more", "BYTES", hidden=True),
        Option("--l3-cache-schema", TEXT, "refused: resctrl is not used here", "TEXT", hidden=True),
        Option("--mem-bw-schema", TEXT, "refused: resctrl is not used here", "TEXT", hidden=True),
    ),
    ("ID",),
    run=run,
    details="What is not named stays as it is. The container's own copy of its configuration changes with it.",
    examples=("nsinit update --memory 256m --pids-limit 100 web", "nsinit update --resources - web < limits.json"),
)
