"""From a configuration to the operations of scheduling, each name checked."""

from __future__ import annotations

from kernelproof.impl.libcontainer.security.scheduling import (
    DOMAINS,
    IO_CLASSES,
    MEMORY_FLAGS,
    MEMORY_MODES,
    POLICIES,
    SCHEDULER_FLAGS,
    BindRuntime,
    ReleaseRuntime,
    SetAffinity,
    SetDomain,
    SetIoPriority,
    SetMemoryPolicy,
    SetScheduler,
    chosen,
    parse_list,
)

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernelproof.impl.libcontainer.config.records import (
        Config,
        ExecCpuAffinity,
        IoPriority,
        MemoryPolicy,
        Process,
        Scheduler,
    )
    from kernelproof.impl.libcontainer.operations import Operation

_WITH_NICE = ("SCHED_OTHER", "SCHED_BATCH")
_WITH_PRIORITY = ("SCHED_FIFO", "SCHED_RR")
_WITHOUT_NODES = ("MPOL_DEFAULT", "MPOL_LOCAL")


def plan_schedules(config: Config, process: Process, affinity: ExecCpuAffinity | None) -> tuple[Operation, ...]:
    """Return the operations for scheduler, I/O priority, CPUs, memory policy and execution domain.

    Raises:
        ValueError: a name that nobody knows, or a number where the policy takes none.
    """
    return tuple(_plan(config, process, affinity))


def _plan(config: Config, process: Process, affinity: ExecCpuAffinity | None) -> Iterator[Operation]:
    if affinity and affinity.initial:
        yield BindRuntime(parse_list(affinity.initial))
        yield ReleaseRuntime()
    if affinity and affinity.final:
        yield SetAffinity(parse_list(affinity.final))
    if process.scheduler is not None:
        yield plan_scheduler(process.scheduler)
    if process.io_priority is not None:
        yield plan_io(process.io_priority)
    if config.linux.memory_policy is not None:
        yield plan_memory(config.linux.memory_policy)
    if config.linux.personality is not None:
        domain = config.linux.personality
        if domain.flags:
            raise ValueError(f"linux.personality.flags: {', '.join(domain.flags)}: no flag is known")
        chosen(DOMAINS, domain.domain, "execution domain")
        yield SetDomain(domain.domain)


def plan_scheduler(scheduler: Scheduler) -> SetScheduler:
    """Return the operation for a scheduling policy; raises as `plan_schedules`."""
    policy = scheduler.policy
    chosen(POLICIES, policy, "scheduling policy")
    for name in scheduler.flags:
        chosen(SCHEDULER_FLAGS, name, "scheduling flag")
    if scheduler.nice is not None and (policy not in _WITH_NICE or not -20 <= scheduler.nice <= 19):
        raise ValueError(f"process.scheduler.nice: -20 to 19, of {' and '.join(_WITH_NICE)} alone")
    if scheduler.priority and policy not in _WITH_PRIORITY:
        raise ValueError(f"process.scheduler.priority: of {' and '.join(_WITH_PRIORITY)} alone")
    times = (scheduler.runtime or 0, scheduler.deadline or 0, scheduler.period or 0)
    if any(times) and policy != "SCHED_DEADLINE":
        raise ValueError("process.scheduler: runtime, deadline and period are of SCHED_DEADLINE alone")
    return SetScheduler(times, scheduler.flags, scheduler.nice or 0, policy, scheduler.priority or 0)


def plan_io(priority: IoPriority) -> SetIoPriority:
    """Return the operation for an I/O priority; raises as `plan_schedules`."""
    chosen(IO_CLASSES, priority.class_, "I/O class")
    level = priority.priority or 0
    if not 0 <= level <= 7:
        raise ValueError(f"process.ioPriority.priority: {level} is not 0 to 7")
    return SetIoPriority(priority.class_, level)


def plan_memory(policy: MemoryPolicy) -> SetMemoryPolicy:
    """Return the operation for a memory policy; raises as `plan_schedules`."""
    chosen(MEMORY_MODES, policy.mode, "memory policy")
    for name in policy.flags:
        chosen(MEMORY_FLAGS, name, "flag of memory policies")
    nodes = parse_list(policy.nodes) if policy.nodes else ()
    if nodes and policy.mode in _WITHOUT_NODES:
        raise ValueError(f"linux.memoryPolicy.nodes: {policy.mode} takes none")
    if not nodes and policy.mode not in (*_WITHOUT_NODES, "MPOL_PREFERRED"):
        raise ValueError(f"linux.memoryPolicy.nodes: {policy.mode} needs one")
    return SetMemoryPolicy(policy.flags, policy.mode, nodes)
