"""Where and when the process runs: CPU and I/O scheduling, CPUs, memory nodes, execution domain.

Source: sched_setattr(2), ioprio_set(2), sched_setaffinity(2), set_mempolicy(2), personality(2).
"""

from __future__ import annotations

import errno
import os

from kernelproof.impl._syscalls.prctl import personality
from kernelproof.impl._syscalls.scheduling import ioprio_set, sched_setattr, set_mempolicy
from kernelproof.impl.libcontainer.operations import Operation, Remedy, Site

POLICIES = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
SCHEDULER_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 1,
    "SCHED_FLAG_RECLAIM": 2,
    "SCHED_FLAG_DL_OVERRUN": 4,
    "SCHED_FLAG_KEEP_POLICY": 8,
    "SCHED_FLAG_KEEP_PARAMS": 16,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 32,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 64,
}
IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
DOMAINS = {"LINUX": 0, "LINUX32": 8}
MEMORY_MODES = {
    "MPOL_DEFAULT": 0,
    "MPOL_PREFERRED": 1,
    "MPOL_BIND": 2,
    "MPOL_INTERLEAVE": 3,
    "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5,
    "MPOL_WEIGHTED_INTERLEAVE": 6,
}
MEMORY_FLAGS = {
    "MPOL_F_STATIC_NODES": 1 << 15,
    "MPOL_F_RELATIVE_NODES": 1 << 14,
    "MPOL_F_NUMA_BALANCING": 1 << 13,
}
_MOST = 4096  # CPUs, and more nodes than there can be


def chosen(table: dict[str, int], name: str, what: str) -> int:
    """Return a name's number.

    Raises:
        ValueError: the table does not have it.
    """
    if name not in table:
        raise ValueError(f"there is no {what} {name!r}; known: {', '.join(table)}")
    return table[name]


def parse_list(text: str) -> tuple[int, ...]:
    """Return the numbers of a list such as "0-3,7", sorted.

    Raises:
        ValueError: a part is no number or range, or above 4095.

    Source: cpuset(7), List format.
    """
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not (first.isascii() and first.isdecimal() and (not dash or (last.isascii() and last.isdecimal()))):
            raise ValueError(f"{text!r}: {part!r} is neither a number nor a range such as 0-3")
        low, high = int(first), int(last or first)
        if low > high or high >= _MOST:
            raise ValueError(f"{text!r}: {part!r} is no range of numbers below {_MOST}")
        found.update(range(low, high + 1))
    return tuple(sorted(found))


class SetScheduler(Operation):
    """Sets the scheduling policy of the process."""

    __slots__ = ("deadline", "flags", "nice", "policy", "priority")
    stage = "final"
    deadline: tuple[int, int, int]
    flags: tuple[str, ...]
    nice: int
    policy: str
    priority: int

    def describe(self) -> str:
        """What will happen."""
        return f"schedule by {self.policy}, nice {self.nice}, priority {self.priority}"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: EPERM: CAP_SYS_NICE is missing, or a cgroup of version 1 has no real-time budget; EINVAL; EBUSY.
        """
        policy = chosen(POLICIES, self.policy, "scheduling policy")
        flags = sum(chosen(SCHEDULER_FLAGS, name, "scheduling flag") for name in self.flags)
        try:
            sched_setattr(0, policy, flags=flags, nice=self.nice, priority=self.priority, deadline=self.deadline)
        except PermissionError as error:
            needed = "CAP_SYS_NICE, and in a cgroup of version 1 a cpu.rt_runtime_us"
            error.add_note(Remedy(f"{self.policy} needs {needed}"))
            raise


class SetIoPriority(Operation):
    """Sets the I/O scheduling class and the level in it."""

    __slots__ = ("ioclass", "level")
    stage = "final"
    ioclass: str
    level: int

    def describe(self) -> str:
        """What will happen."""
        return f"schedule I/O by {self.ioclass}, level {self.level}"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: EPERM: a real-time class without CAP_SYS_NICE and CAP_SYS_ADMIN; EINVAL.
        """
        ioprio_set(0, chosen(IO_CLASSES, self.ioclass, "I/O class"), self.level)


class SetAffinity(Operation):
    """Binds the process to CPUs. Entering a cpuset later would undo it."""

    __slots__ = ("cpus",)
    stage = "final"
    cpus: tuple[int, ...]

    def describe(self) -> str:
        """What will happen."""
        return f"run on the CPUs {' '.join(map(str, self.cpus))}"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: EINVAL: none of them is there, or the cpuset forbids all.
        """
        os.sched_setaffinity(0, self.cpus)


class BindRuntime(Operation):
    """Binds the runtime to CPUs, so that the process is born on them, before it enters its cgroup."""

    __slots__ = ("cpus",)
    stage = "host"
    cpus: tuple[int, ...]

    def describe(self) -> str:
        """What will happen."""
        return f"start on the CPUs {' '.join(map(str, self.cpus))}"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: EINVAL: none of them is there, or the cpuset forbids all.
        """
        site.found["own CPUs"] = os.sched_getaffinity(0)
        os.sched_setaffinity(0, self.cpus)

    def undo(self, site: Site) -> None:
        """Lets the runtime run where it ran before."""
        release_runtime(site)


def release_runtime(site: Site) -> None:
    """Lets the runtime run where it ran before BindRuntime."""
    before = site.found.pop("own CPUs", None)
    if isinstance(before, set):
        os.sched_setaffinity(0, before)


class ReleaseRuntime(Operation):
    """Lets the runtime run where it ran before, once the process is born."""

    __slots__ = ()
    stage = "host"
    late = True

    def describe(self) -> str:
        """What will happen."""
        return "let the runtime run on its own CPUs again"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: EINVAL: a cpuset has taken them all meanwhile.
        """
        release_runtime(site)


class SetMemoryPolicy(Operation):
    """Sets which memory nodes the process's pages come from."""

    __slots__ = ("flags", "mode", "nodes")
    stage = "final"
    flags: tuple[str, ...]
    mode: str
    nodes: tuple[int, ...]

    def describe(self) -> str:
        """What will happen."""
        return f"take memory by {self.mode}" + (f" from nodes {' '.join(map(str, self.nodes))}" if self.nodes else "")

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: EINVAL: a node is not there, or the mode takes none; ENOSYS: a kernel without NUMA.
        """
        flags = sum(chosen(MEMORY_FLAGS, name, "flag of memory policies") for name in self.flags)
        set_mempolicy(chosen(MEMORY_MODES, self.mode, "memory policy") | flags, self.nodes)


class SetDomain(Operation):
    """Sets the execution domain; before any filter, which might forbid it."""

    __slots__ = ("domain",)
    stage = "final"
    domain: str

    def describe(self) -> str:
        """What will happen."""
        return f"set the execution domain {self.domain}"

    def do(self, site: Site) -> None:
        """Does it.

        Raises:
            OSError: EINVAL: the kernel can't.
        """
        wanted = chosen(DOMAINS, self.domain, "execution domain")
        personality(wanted)
        if personality(0xFFFFFFFF) != wanted:
            raise OSError(errno.EINVAL, f"the kernel did not take the execution domain {self.domain}")
