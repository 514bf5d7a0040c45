"""The memory controller. Source: cgroup-v2.rst, Memory; cgroup-v1/memory.rst."""

from __future__ import annotations

from collections.abc import Mapping

from kernelproof.impl.cgroups.errors import LimitError
from kernelproof.impl.cgroups.formats import MAX, V1_UNLIMITED_BYTES, format_value, parse_flat, parse_value
from kernelproof.impl.cgroups.limits import Limits
from kernelproof.impl.cgroups.writes import Reader, Write, need, refuse

TYPE_CHECKING = False  # typing costs 5 ms at import
if TYPE_CHECKING:
    from typing import NamedTuple
else:
    from kernelproof.impl._syscalls.named import NamedTuple

V1_ONLY = ("memory_swappiness", "memory_disable_oom_kill", "kernel_tcp_max_bytes")
V2_ONLY = ("memory_high_bytes", "memory_min_bytes", "memory_oom_group")

_MOST_BYTES = (1 << 63) - 1
_V2_FILES = (
    ("memory_min_bytes", "memory.min"),
    ("memory_low_bytes", "memory.low"),
    ("memory_high_bytes", "memory.high"),
    ("memory_max_bytes", "memory.max"),
    ("swap_max_bytes", "memory.swap.max"),
)


class MemoryStats(NamedTuple):
    """What was measured; bytes, None where the kernel does not say.

    Attributes:
        usage_bytes: memory in use, caches included.
        peak_bytes: the most that it was.
        limit_bytes: the cgroup's own limit, -1 for none.
        swap_usage_bytes: swap in use.
        swap_limit_bytes: its own limit, -1 for none.
        limit_hits: how often the limit was reached (`max` of memory.events; `failcnt` of version 1).
        oom: how often allocation was about to fail because of this cgroup or one below.
        oom_kills: processes that were killed in this cgroup or one below.
        local_oom_kills: of this cgroup's own processes.
        details: all of memory.stat.
    """

    usage_bytes: int | None
    peak_bytes: int | None
    limit_bytes: int | None
    swap_usage_bytes: int | None
    swap_limit_bytes: int | None
    limit_hits: int | None
    oom: int | None
    oom_kills: int | None
    local_oom_kills: int | None
    details: Mapping[str, int]


def plan_v2(limits: Limits, read: Reader) -> list[Write]:
    """Writes for version 2: limits that are raised or lifted first, those that shrink last.

    Raises:
        LimitError: a limit of version 1, or a number that no kernel takes.
        NoControllerError: the cgroup has no such file.
    """
    asked = limits._asdict()
    refuse(asked, V1_ONLY, 2)
    raising: list[Write] = []
    lowering: list[Write] = []
    for limit, file in _V2_FILES:
        value = asked[limit]
        if value is None:
            continue
        check_bytes(limit, value)
        before = need(read, file, limit).strip()
        write = Write(file, format_value(value), limit, before)
        (raising if _is_raised(value, parse_value(before, file)) else lowering).append(write)
    writes = [*raising, *lowering]
    if limits.memory_oom_group is not None:
        before = need(read, "memory.oom.group", "memory_oom_group").strip()
        writes.append(Write("memory.oom.group", str(int(limits.memory_oom_group)), "memory_oom_group", before))
    return writes


def plan_v1(limits: Limits, read: Reader) -> list[Write]:
    """Writes for version 1. Memory bounds memory and swap together: raising starts with the sum, lowering ends with it.

    Raises:
        LimitError, NoControllerError: as `plan_v2`.
    """
    asked = limits._asdict()
    refuse(asked, V2_ONLY, 1)
    writes = _plan_v1_memory(limits, read)
    for limit, file in (
        ("memory_low_bytes", "memory.soft_limit_in_bytes"),
        ("kernel_tcp_max_bytes", "memory.kmem.tcp.limit_in_bytes"),
    ):
        if (value := asked[limit]) is not None:
            check_bytes(limit, value)
            before = need(read, file, limit).strip()
            writes.append(Write(file, str(max(value, -1)), limit, before))
    if limits.memory_swappiness is not None:
        if not 0 <= limits.memory_swappiness <= 200:
            raise LimitError("memory_swappiness", limits.memory_swappiness, "0 to 200, 100 before Linux 5.8")
        before = need(read, "memory.swappiness", "memory_swappiness").strip()
        writes.append(Write("memory.swappiness", str(limits.memory_swappiness), "memory_swappiness", before))
    if limits.memory_disable_oom_kill is not None:
        control = parse_flat(need(read, "memory.oom_control", "memory_disable_oom_kill"), "memory.oom_control")
        before = str(control.get("oom_kill_disable", 0))
        value = str(int(limits.memory_disable_oom_kill))
        writes.append(Write("memory.oom_control", value, "memory_disable_oom_kill", before))
    return writes


def _plan_v1_memory(limits: Limits, read: Reader) -> list[Write]:
    memory, swap = limits.memory_max_bytes, limits.swap_max_bytes
    if memory is None and swap is None:
        return []
    file, both_file = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"
    before = need(read, file, "memory_max_bytes").strip()
    for limit, value in (("memory_max_bytes", memory), ("swap_max_bytes", swap)):
        if value is not None:
            check_bytes(limit, value)
    now = _lifted(parse_value(before, file))
    writes = []
    if memory is not None:
        writes.append(Write(file, str(max(memory, -1)), "memory_max_bytes", before))
    if swap is None:
        return writes
    alone = now if memory is None else memory
    both = -1 if swap < 0 or alone < 0 else alone + swap
    both_before = need(read, both_file, "swap_max_bytes").strip()
    write = Write(both_file, str(both), "swap_max_bytes", both_before)
    is_raised = _is_raised(both, _lifted(parse_value(both_before, both_file)))
    return [write, *writes] if is_raised else [*writes, write]


def _lifted(value: int) -> int:
    return MAX if value >= V1_UNLIMITED_BYTES else value


def _is_raised(value: int, before: int) -> bool:
    return value < 0 or (before >= 0 and value >= before)


def check_bytes(limit: str, value: int) -> None:
    """Raises: LimitError: below -1, or more than a kernel counts."""
    if not -1 <= value <= _MOST_BYTES:
        raise LimitError(limit, value, "bytes, or -1 for no limit")


def usage_v2(read: Reader) -> int | None:
    """Memory in use, in bytes."""
    text = read("memory.current")
    return None if text is None else parse_value(text, "memory.current")


def usage_v1(read: Reader) -> int | None:
    """Memory in use, in bytes."""
    text = read("memory.usage_in_bytes")
    return None if text is None else parse_value(text, "memory.usage_in_bytes")


def read_v2(read: Reader) -> MemoryStats | None:
    """What version 2 measured; None without the controller.

    Raises:
        FormatError: a file that can't be read.
    """
    details = read("memory.stat")
    if details is None:
        return None
    events = parse_flat(read("memory.events") or "", "memory.events")
    local = parse_flat(read("memory.events.local") or "", "memory.events.local")
    return MemoryStats(
        usage_bytes=_number(read, "memory.current"),
        peak_bytes=_number(read, "memory.peak"),
        limit_bytes=_number(read, "memory.max"),
        swap_usage_bytes=_number(read, "memory.swap.current"),
        swap_limit_bytes=_number(read, "memory.swap.max"),
        limit_hits=events.get("max"),
        oom=events.get("oom"),
        oom_kills=events.get("oom_kill"),
        local_oom_kills=local.get("oom_kill"),
        details=parse_flat(details, "memory.stat"),
    )


def read_v1(read: Reader) -> MemoryStats | None:
    """What version 1 measured; None without the controller.

    Raises:
        FormatError: a file that can't be read.
    """
    details = read("memory.stat")
    if details is None:
        return None
    usage, limit = _number(read, "memory.usage_in_bytes"), _number(read, "memory.limit_in_bytes")
    both, both_limit = _number(read, "memory.memsw.usage_in_bytes"), _number(read, "memory.memsw.limit_in_bytes")
    limit = None if limit is None else _lifted(limit)
    both_limit = None if both_limit is None else _lifted(both_limit)
    control = parse_flat(read("memory.oom_control") or "", "memory.oom_control")
    return MemoryStats(
        usage_bytes=usage,
        peak_bytes=_number(read, "memory.max_usage_in_bytes"),
        limit_bytes=limit,
        swap_usage_bytes=None if both is None or usage is None else max(both - usage, 0),
        swap_limit_bytes=None
        if both_limit is None or limit is None
        else MAX
        if MAX in (both_limit, limit)
        else both_limit - limit,
        limit_hits=_number(read, "memory.failcnt"),
        oom=None,
        oom_kills=control.get("oom_kill"),
        local_oom_kills=control.get("oom_kill"),
        details=parse_flat(details, "memory.stat"),
    )


def _number(read: Reader, file: str) -> int | None:
    text = read(file)
    return None if text is None else parse_value(text, file)
