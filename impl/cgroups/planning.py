"""From what is asked to ordered writes, controller by controller. Pure.

The order of controllers is that in which the kernel minds least: cpuset first, because a cgroup without CPUs takes no
process; memory before what depends on it; the raw keys of `unified` last, so that they have the last word.
"""

from __future__ import annotations

from collections.abc import Callable

from kernelproof.impl.cgroups.controllers import cpu, cpuset, hugetlb, io, memory, misc, net, pids, rdma
from kernelproof.impl.cgroups.errors import BelowUsageError, LimitError, NoControllerError
from kernelproof.impl.cgroups.limits import Limits
from kernelproof.impl.cgroups.writes import Reader, Write, need

TYPE_CHECKING = False  # typing costs 5 ms at import
if TYPE_CHECKING:
    from typing import NamedTuple
else:
    from kernelproof.impl._syscalls.named import NamedTuple

_LIMITS_OF = {
    "cpuset": ("cpuset_cpus", "cpuset_mems"),
    "memory": (
        "memory_max_bytes",
        "memory_high_bytes",
        "memory_low_bytes",
        "memory_min_bytes",
        "swap_max_bytes",
        "memory_oom_group",
        "memory_swappiness",
        "memory_disable_oom_kill",
        "kernel_tcp_max_bytes",
    ),
    "cpu": (
        "cpu_weight",
        "cpu_idle",
        "cpu_quota_microseconds",
        "cpu_period_microseconds",
        "cpu_burst_microseconds",
        "cpu_rt_runtime_microseconds",
        "cpu_rt_period_microseconds",
    ),
    "io": ("io_weight", "io_weights", "io"),
    "pids": ("pids_max",),
    "hugetlb": ("hugetlb_bytes",),
    "rdma": ("rdma",),
    "misc": ("misc",),
    "net": ("net_class_id", "net_priorities"),
}
ORDER = tuple(_LIMITS_OF)
_MODULES = {
    "cpuset": cpuset,
    "memory": memory,
    "cpu": cpu,
    "io": io,
    "pids": pids,
    "hugetlb": hugetlb,
    "rdma": rdma,
    "misc": misc,
    "net": net,
}
V1_NAMES = {"io": ("blkio",), "net": ("net_cls", "net_prio")}


class Step(NamedTuple):
    """A write, and the controller of version 1 whose hierarchy it goes to ("" on version 2)."""

    controller: str
    write: Write


def wanted_controllers(limits: Limits) -> tuple[str, ...]:
    """The controllers that some limit is asked of, in their order."""
    asked = limits._asdict()
    return tuple(
        name for name, members in _LIMITS_OF.items() if any(asked[member] not in (None, ()) for member in members)
    )


def plan_v2(limits: Limits, read: Reader, *, check_usage: bool = True) -> list[Write]:
    """Writes for version 2.

    Args:
        limits: what is asked.
        read: reads interface files.
        check_usage: refuse a memory limit below what is in use: the kernel would kill for it.

    Raises:
        LimitError: a limit that no kernel takes, or one of version 1 only.
        NoControllerError: the cgroup lacks a file.
        BelowUsageError: see `check_usage`.
    """
    _check_usage(limits, memory.usage_v2(read) if check_usage else None)
    writes = [write for name in wanted_controllers(limits) for write in _MODULES[name].plan_v2(limits, read)]
    return [*writes, *_plan_unified(limits, read)]


def plan_v1(limits: Limits, reader_of: Callable[[str], Reader | None], *, check_usage: bool = True) -> list[Step]:
    """Writes for version 1.

    Args:
        limits: what is asked.
        reader_of: gives for a controller what reads its files; None where no hierarchy has it.
        check_usage: as in `plan_v2`. The kernel refuses it itself there, by EBUSY.

    Raises:
        As `plan_v2`.
    """
    if limits.unified:
        raise LimitError("unified", dict(limits.unified), "version 1 of cgroups has no unified hierarchy")
    steps = []
    for name in wanted_controllers(limits):
        found = {controller: reader_of(controller) for controller in V1_NAMES.get(name, (name,))}
        readers = {controller: read for controller, read in found.items() if read is not None}
        if not readers:
            raise NoControllerError(
                f"no mounted hierarchy has {' or '.join(found)}, which is needed for a limit of {name}"
            )

        def read(file: str, readers: dict[str, Reader] = readers) -> str | None:
            return next((text for reader in readers.values() if (text := reader(file)) is not None), None)

        if name == "memory":
            _check_usage(limits, memory.usage_v1(read) if check_usage else None)
        for write in _MODULES[name].plan_v1(limits, read):
            owner = next(controller for controller, reader in readers.items() if reader(write.file) is not None)
            steps.append(Step(owner, write))
    return steps


def _check_usage(limits: Limits, usage: int | None) -> None:
    asked = limits.memory_max_bytes
    if usage is not None and asked is not None and 0 <= asked < usage:
        raise BelowUsageError("memory_max_bytes", asked, usage)


# Files of every cgroup that set no limit, but act on its processes or on what is below it.
_NO_LIMITS = tuple(f"cgroup.{name}" for name in ("freeze", "kill", "procs", "subtree_control", "threads", "type"))


def _plan_unified(limits: Limits, read: Reader) -> list[Write]:
    writes = []
    for file, text in (limits.unified or {}).items():
        if "/" in file or not file:
            raise LimitError("unified", file, "the name of an interface file, without slashes")
        if file in _NO_LIMITS:
            raise LimitError("unified", file, "a file that sets a limit; this one moves, stops or divides processes")
        before = need(read, file, "unified").strip()
        lines = text.splitlines() or [""]
        undo = before if len(lines) == 1 and "\n" not in before else None
        writes += [Write(file, line, "unified", undo) for line in lines]
    return writes
