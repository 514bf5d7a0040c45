"""What is measured of a container, in the form that engines know: events of kind "stats".

Source: opencontainers/runc, runc-events(8), types/events.go.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.cgroups.stats import Stats


def describe_event(kind: str, identifier: str, data: object = None) -> dict[str, object]:
    """An event as a JSON value."""
    event: dict[str, object] = {"type": kind, "id": identifier}
    return event if data is None else {**event, "data": data}


def describe_stats(stats: Stats) -> dict[str, object]:
    """What was measured, as a JSON value; times in nanoseconds, sizes in bytes."""
    return {
        "cpu": _cpu(stats),
        "memory": _memory(stats),
        "pids": {"current": stats.pids.current, "limit": max(stats.pids.limit or 0, 0)} if stats.pids else {},
        "blkio": {
            "ioServiceBytesRecursive": _entries(stats, "Read", "read_bytes") + _entries(stats, "Write", "write_bytes"),
            "ioServicedRecursive": _entries(stats, "Read", "read_operations")
            + _entries(stats, "Write", "write_operations"),
        },
        "hugetlb": {one.size: {"usage": one.usage_bytes, "failcnt": one.refused} for one in stats.hugetlb},
        "rdma": {},
        "intel_rdt": {},
        "network_interfaces": None,
    }


def _cpu(stats: Stats) -> dict[str, object]:
    cpu = stats.cpu
    if cpu is None:
        return {}
    return {
        "usage": {
            "total": cpu.usage_microseconds * 1000,
            "percpu": [microseconds * 1000 for microseconds in cpu.per_cpu_microseconds],
            "kernel": (cpu.system_microseconds or 0) * 1000,
            "user": (cpu.user_microseconds or 0) * 1000,
        },
        "throttling": {
            "periods": cpu.periods or 0,
            "throttledPeriods": cpu.throttled_periods or 0,
            "throttledTime": (cpu.throttled_microseconds or 0) * 1000,
        },
    }


def _memory(stats: Stats) -> dict[str, object]:
    memory = stats.memory
    if memory is None:
        return {}
    details = memory.details
    return {
        "cache": details.get("cache", details.get("file", 0)),
        "usage": {
            "limit": _limit(memory.limit_bytes),
            "usage": memory.usage_bytes or 0,
            "max": memory.peak_bytes or 0,
            "failcnt": memory.limit_hits or 0,
        },
        "swap": {"limit": _limit(memory.swap_limit_bytes), "usage": memory.swap_usage_bytes or 0},
        "raw": dict(details),
    }


def _limit(value: int | None) -> int:
    """A limit as engines know it: no limit is the highest number."""
    return (1 << 64) - 1 if value == -1 else value or 0


def _entries(stats: Stats, operation: str, field: str) -> list[dict[str, object]]:
    return [
        {"major": one.major, "minor": one.minor, "op": operation, "value": getattr(one, field)}
        for one in stats.io or ()
    ]
