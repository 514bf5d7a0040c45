"""What can be asked of a cgroup: one record for both versions. What was measured is in `stats`.

Every member is None for "leave it as it is"; -1 is no limit where a limit can be lifted. Units are in the names. One
that the cgroup's version can't express is an error when it is planned, never left out silently.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing costs 5 ms at import
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NamedTuple
else:
    from kernelproof.impl._syscalls.named import NamedTuple


class IoLimit(NamedTuple):
    """Limits of one block device: per second, -1 for none, None to leave it.

    Source: cgroup-v2.rst, io.max; cgroup-v1/blkio-controller.rst, Throttling.
    """

    major: int
    minor: int
    read_bytes: int | None = None
    write_bytes: int | None = None
    read_operations: int | None = None
    write_operations: int | None = None


class IoWeight(NamedTuple):
    """The weight of one block device, 1 to 10000."""

    major: int
    minor: int
    weight: int


class RdmaLimit(NamedTuple):
    """Handles and objects of one RDMA device; -1 for no limit, None to leave it.

    Source: cgroup-v2.rst, rdma.max.
    """

    device: str
    handles: int | None = None
    objects: int | None = None


class Limits(NamedTuple):
    """What is asked of a cgroup.

    Attributes:
        memory_max_bytes: the hard limit. The kernel keeps whole pages.
        memory_high_bytes: above it processes are slowed down and reclaimed from; version 2 only.
        memory_low_bytes: protected as far as possible; on version 1 the soft limit, which is another thing.
        memory_min_bytes: protected always; version 2 only.
        swap_max_bytes: swap alone; on version 1 written as the sum with the memory limit.
        memory_oom_group: kill all processes or none; version 2 only.
        memory_swappiness: 0 to 200 (100 before Linux 5.8); version 1 only.
        memory_disable_oom_kill: let processes wait instead; version 1 only.
        kernel_tcp_max_bytes: buffers of TCP; version 1 only.
        cpu_weight: 1 to 10000, 100 is the default; on version 1 written as shares.
        cpu_idle: only what nobody else wants (SCHED_IDLE); then there is no weight.
        cpu_quota_microseconds: of CPU time in each period, of all CPUs together; -1 for no limit.
        cpu_period_microseconds: 1000 to 1000000.
        cpu_burst_microseconds: what may be saved up of unused quota.
        cpu_rt_runtime_microseconds, cpu_rt_period_microseconds: for real-time scheduling; version 1 only.
        cpuset_cpus, cpuset_mems: lists such as "0-2,4"; "" takes the parent's, on version 2.
        pids_max: processes and threads; 0 is a limit too.
        io_weight: 1 to 10000, 100 is the default.
        io_weights: of single devices.
        io: limits of single devices.
        hugetlb_bytes: by page size as the kernel writes it: {"2MB": 4194304}.
        rdma: limits of single devices.
        misc: by resource, in its unit.
        net_class_id: tag of packets, 0xAAAABBBB; version 1 only.
        net_priorities: by interface name; version 1 only.
        unified: interface files of version 2 by name, written as they are, a line a write.
    """

    memory_max_bytes: int | None = None
    memory_high_bytes: int | None = None
    memory_low_bytes: int | None = None
    memory_min_bytes: int | None = None
    swap_max_bytes: int | None = None
    memory_oom_group: bool | None = None
    memory_swappiness: int | None = None
    memory_disable_oom_kill: bool | None = None
    kernel_tcp_max_bytes: int | None = None
    cpu_weight: int | None = None
    cpu_idle: bool | None = None
    cpu_quota_microseconds: int | None = None
    cpu_period_microseconds: int | None = None
    cpu_burst_microseconds: int | None = None
    cpu_rt_runtime_microseconds: int | None = None
    cpu_rt_period_microseconds: int | None = None
    cpuset_cpus: str | None = None
    cpuset_mems: str | None = None
    pids_max: int | None = None
    io_weight: int | None = None
    io_weights: tuple[IoWeight, ...] = ()
    io: tuple[IoLimit, ...] = ()
    hugetlb_bytes: Mapping[str, int] | None = None
    rdma: tuple[RdmaLimit, ...] = ()
    misc: Mapping[str, int] | None = None
    net_class_id: int | None = None
    net_priorities: Mapping[str, int] | None = None
    unified: Mapping[str, str] | None = None
