"""The cpuset controller. Source: cpuset(7); cgroup-v2.rst, Cpuset; cgroup-v1/cpusets.rst."""

from __future__ import annotations

from kernelproof.impl.cgroups.errors import FormatError, LimitError
from kernelproof.impl.cgroups.formats import format_list, parse_list
from kernelproof.impl.cgroups.limits import Limits
from kernelproof.impl.cgroups.writes import Reader, Write, need

TYPE_CHECKING = False  # typing costs 5 ms at import
if TYPE_CHECKING:
    from typing import NamedTuple
else:
    from kernelproof.impl._syscalls.named import NamedTuple

_FILES = (("cpuset_cpus", "cpuset.cpus"), ("cpuset_mems", "cpuset.mems"))


class CpusetStats(NamedTuple):
    """What a cgroup may use: CPUs and memory nodes, those asked for and those that it has.

    Attributes:
        cpus, mems: as written; empty takes the parent's, on version 2.
        effective_cpus, effective_mems: what processes really get.
        partition: `cpuset.cpus.partition`; version 2 only.
    """

    cpus: tuple[int, ...]
    mems: tuple[int, ...]
    effective_cpus: tuple[int, ...]
    effective_mems: tuple[int, ...]
    partition: str | None


def plan(limits: Limits, read: Reader, *, online: tuple[int, ...] | None = None) -> list[Write]:
    """Writes of the lists.

    Args:
        limits: what is asked.
        read: reads interface files.
        online: CPUs that the machine has; None: the kernel is asked by writing.

    Raises:
        LimitError: no list, or CPUs beyond the machine.
        NoControllerError: the cgroup has no such file.
    """
    writes = []
    for limit, file in _FILES:
        text = getattr(limits, limit)
        if text is None:
            continue
        try:
            numbers = parse_list(text, limit)
        except ValueError as error:
            raise LimitError(limit, text, str(error)) from error
        if limit == "cpuset_cpus" and online is not None and (beyond := sorted(set(numbers) - set(online))):
            raise LimitError(limit, text, f"this machine has no CPU {format_list(beyond)}, only {format_list(online)}")
        writes.append(Write(file, format_list(numbers), limit, need(read, file, limit).strip()))
    return writes


plan_v1 = plan_v2 = plan


def check_machine(limits: Limits, system: str = "/sys/devices/system") -> None:
    """Check lists against the CPUs and nodes that this machine can have.

    Args:
        limits: what is asked.
        system: where the kernel lists them; what it does not list is not checked.

    Raises:
        LimitError: no list, or one beyond the machine.

    Source: ABI/testing/sysfs-devices-system-cpu; ABI/stable/sysfs-devices-node.
    """
    for limit, file in (("cpuset_cpus", "cpu/possible"), ("cpuset_mems", "node/possible")):
        text = getattr(limits, limit)
        if not text:
            continue
        try:
            with open(f"{system}/{file}", encoding="utf-8") as listed:
                possible = parse_list(listed.read(), file)
            wanted = parse_list(text, limit)
        except OSError:
            continue
        except FormatError as error:
            raise LimitError(limit, text, error.reason) from error
        if beyond := sorted(set(wanted) - set(possible)):
            reason = f"this machine can have {format_list(possible)}, and not {format_list(beyond)}"
            raise LimitError(limit, text, reason)


def plan_inherited(read: Reader, read_parent: Reader) -> list[Write]:
    """On version 1 a new cgroup has no CPU and no memory node, and takes no process before it has: the parent's.

    Raises:
        NoControllerError: either has no such file.

    Source: cpuset(7), New cpusets; writing a process gives ENOSPC before.
    """
    writes = []
    for limit, file in _FILES:
        if not need(read, file, limit).strip():
            writes.append(Write(file, need(read_parent, file, limit).strip(), limit))
    return writes


def read_v2(read: Reader) -> CpusetStats | None:
    """What a cgroup may use; None without the controller.

    Raises:
        FormatError: a file that can't be read.
    """
    return _read(read, "cpuset.cpus.effective", "cpuset.mems.effective", "cpuset.cpus.partition")


def read_v1(read: Reader) -> CpusetStats | None:
    """What a cgroup of version 1 may use, which knows no partitions; None without the controller.

    Raises:
        FormatError: a file that can't be read.
    """
    return _read(read, "cpuset.effective_cpus", "cpuset.effective_mems")


def _read(read: Reader, cpus_file: str, mems_file: str, partition_file: str = "") -> CpusetStats | None:
    cpus, effective_cpus = read("cpuset.cpus"), read(cpus_file)  # the root of version 2 has the latter only
    if cpus is None and effective_cpus is None:
        return None
    partition = read(partition_file) if partition_file else None
    return CpusetStats(
        cpus=parse_list(cpus or "", "cpuset.cpus"),
        mems=parse_list(read("cpuset.mems") or "", "cpuset.mems"),
        effective_cpus=parse_list(effective_cpus or "", cpus_file),
        effective_mems=parse_list(read(mems_file) or "", mems_file),
        partition=None if partition is None else partition.strip(),
    )
