"""The cpu controller, with cpuacct on version 1.

Source: cgroup-v2.rst, CPU; cgroup-v1/cpuacct.rst; scheduler/sched-bwc.rst.
"""

from __future__ import annotations

from collections.abc import Callable

from kernelproof.impl.cgroups.conversions import (
    DEFAULT_PERIOD_MICROSECONDS,
    DEFAULT_WEIGHT,
    LEAST_PERIOD_MICROSECONDS,
    LEAST_QUOTA_MICROSECONDS,
    MOST_PERIOD_MICROSECONDS,
    MOST_QUOTA_MICROSECONDS,
    check_weight,
    weight_to_shares,
)
from kernelproof.impl.cgroups.errors import LimitError
from kernelproof.impl.cgroups.formats import MAX, format_value, parse_flat, parse_value
from kernelproof.impl.cgroups.limits import Limits
from kernelproof.impl.cgroups.writes import Reader, Write, need, refuse

TYPE_CHECKING = False  # typing costs 5 ms at import
if TYPE_CHECKING:
    from typing import NamedTuple
else:
    from kernelproof.impl._syscalls.named import NamedTuple

V1_ONLY = ("cpu_rt_runtime_microseconds", "cpu_rt_period_microseconds")

_NANOSECONDS = 1000
_TICKS_A_SECOND = 100  # USER_HZ, which is what user space is shown on every architecture


class CpuStats(NamedTuple):
    """What was measured; microseconds of CPU time, None where the kernel does not say.

    Attributes:
        usage_microseconds: of all processes, those that ended included.
        user_microseconds, system_microseconds: in user space and in the kernel.
        periods: that had something to run; throttled_periods: in which the quota ran out.
        throttled_microseconds: how long processes were held back, of all CPUs together.
        bursts, burst_microseconds: periods that used saved quota, and how much of it.
        per_cpu_microseconds: by CPU; version 1 only.
    """

    usage_microseconds: int
    user_microseconds: int | None
    system_microseconds: int | None
    periods: int | None
    throttled_periods: int | None
    throttled_microseconds: int | None
    bursts: int | None = None
    burst_microseconds: int | None = None
    per_cpu_microseconds: tuple[int, ...] = ()


def plan_v2(limits: Limits, read: Reader) -> list[Write]:
    """Writes for version 2.

    Raises:
        LimitError: out of range, or a weight for a cgroup that is to be idle.
        NoControllerError: the cgroup has no such file.
    """
    refuse(limits._asdict(), V1_ONLY, 2)
    writes = _plan_share(limits, read, "cpu.weight", lambda weight: weight)
    writes += _plan_bandwidth_v2(limits, read)
    return writes


def plan_v1(limits: Limits, read: Reader) -> list[Write]:
    """Writes for version 1; errors as `plan_v2`."""
    writes = _plan_share(limits, read, "cpu.shares", shares_of)
    writes += _plan_bandwidth_v1(limits, read)
    _check_real_time(limits)
    for limit, file in (
        ("cpu_rt_period_microseconds", "cpu.rt_period_us"),
        ("cpu_rt_runtime_microseconds", "cpu.rt_runtime_us"),
    ):
        value = getattr(limits, limit)
        if value is not None:
            writes.append(Write(file, str(value), limit, need(read, file, limit).strip()))
    return writes


def shares_of(weight: int) -> int:
    """The shares that stand for a weight: the default for the default, else the middle of those that become it."""
    if weight == DEFAULT_WEIGHT:
        return 1024
    shares = weight_to_shares(weight)
    return shares[len(shares) // 2] if shares else shares.start


def _plan_share(limits: Limits, read: Reader, file: str, convert: Callable[[int], int]) -> list[Write]:
    writes = []
    idle = read("cpu.idle")
    if limits.cpu_idle is not None:
        before = need(read, "cpu.idle", "cpu_idle").strip()
        writes.append(Write("cpu.idle", str(int(limits.cpu_idle)), "cpu_idle", before))
    if limits.cpu_weight is not None:
        check_weight("cpu_weight", limits.cpu_weight)
        will_be_idle = limits.cpu_idle if limits.cpu_idle is not None else (idle or "0").strip() == "1"
        if will_be_idle:
            raise LimitError(
                "cpu_weight", limits.cpu_weight, "an idle cgroup has no weight: set cpu_idle to False first"
            )
        before = need(read, file, "cpu_weight").strip()
        writes.append(Write(file, str(convert(limits.cpu_weight)), "cpu_weight", before if before != "0" else None))
    return writes


def check_bandwidth(limits: Limits) -> None:
    """Raises: LimitError: a quota, period or burst that no kernel takes."""
    period, quota, burst = (
        limits.cpu_period_microseconds,
        limits.cpu_quota_microseconds,
        limits.cpu_burst_microseconds,
    )
    if period is not None and not LEAST_PERIOD_MICROSECONDS <= period <= MOST_PERIOD_MICROSECONDS:
        reason = f"{LEAST_PERIOD_MICROSECONDS} to {MOST_PERIOD_MICROSECONDS} microseconds"
        raise LimitError("cpu_period_microseconds", period, reason)
    if quota is not None and quota != -1 and not LEAST_QUOTA_MICROSECONDS <= quota <= MOST_QUOTA_MICROSECONDS:
        reason = f"{LEAST_QUOTA_MICROSECONDS} to {MOST_QUOTA_MICROSECONDS} microseconds, or -1 for no limit"
        raise LimitError("cpu_quota_microseconds", quota, reason)
    if burst is not None:
        _check_burst(burst, -1 if quota is None else quota, "")


def _check_burst(burst: int, quota: int, where: str) -> None:
    # tg_set_cfs_bandwidth, kernel/sched/core.c; without a quota the kernel keeps any burst.
    if burst < 0 or (quota >= 0 and burst > min(quota, MOST_QUOTA_MICROSECONDS - quota)):
        most = "the quota" if quota < 0 else f"the quota of {quota}{where}"
        reason = f"0 to {most}, and {MOST_QUOTA_MICROSECONDS} with it"
        raise LimitError("cpu_burst_microseconds", burst, reason)


def _check_beside(limits: Limits, quota_now: int, burst_now: int, quota_file: str, burst_file: str) -> None:
    # One of the two is asked for, and the other one is what is set.
    quota, burst = limits.cpu_quota_microseconds, limits.cpu_burst_microseconds
    if quota is None and burst is not None:
        _check_burst(burst, quota_now, f" in {quota_file}: set cpu_quota_microseconds too")
    elif burst is None and quota is not None and 0 <= quota < burst_now:
        reason = f"at least the burst of {burst_now} in {burst_file}: set cpu_burst_microseconds too"
        raise LimitError("cpu_quota_microseconds", quota, reason)


def _check_real_time(limits: Limits) -> None:
    # tg_set_rt_bandwidth, kernel/sched/rt.c; a negative runtime is none.
    period, runtime = limits.cpu_rt_period_microseconds, limits.cpu_rt_runtime_microseconds
    if period is not None and period < 1:
        raise LimitError("cpu_rt_period_microseconds", period, "at least 1 microsecond")
    if runtime is not None and runtime > MOST_QUOTA_MICROSECONDS:
        reason = f"at most {MOST_QUOTA_MICROSECONDS} microseconds, or -1 for no limit"
        raise LimitError("cpu_rt_runtime_microseconds", runtime, reason)


def _plan_bandwidth_v2(limits: Limits, read: Reader) -> list[Write]:
    check_bandwidth(limits)
    quota_now, _ = parse_quota(read("cpu.max") or f"max {DEFAULT_PERIOD_MICROSECONDS}")
    burst_now = parse_value(read("cpu.max.burst") or "0", "cpu.max.burst")
    _check_beside(limits, quota_now, burst_now, "cpu.max", "cpu.max.burst")
    writes = []
    burst = limits.cpu_burst_microseconds
    if limits.cpu_quota_microseconds is not None or limits.cpu_period_microseconds is not None:
        before = need(read, "cpu.max", "cpu_quota_microseconds").strip()
        old_quota, _, old_period = before.partition(" ")
        period = limits.cpu_period_microseconds or int(old_period or DEFAULT_PERIOD_MICROSECONDS)
        quota = limits.cpu_quota_microseconds
        word = old_quota if quota is None else format_value(quota)
        writes.append(Write("cpu.max", f"{word} {period}", "cpu_quota_microseconds", before))
    if burst is not None:
        before = need(read, "cpu.max.burst", "cpu_burst_microseconds").strip()
        write = Write("cpu.max.burst", str(burst), "cpu_burst_microseconds", before)
        # A burst may be at most the quota: it shrinks before the quota does, and grows after it.
        writes = [write, *writes] if burst < int(before) else [*writes, write]
    return writes


def _plan_bandwidth_v1(limits: Limits, read: Reader) -> list[Write]:
    check_bandwidth(limits)
    files = {
        "cpu_period_microseconds": "cpu.cfs_period_us",
        "cpu_quota_microseconds": "cpu.cfs_quota_us",
        "cpu_burst_microseconds": "cpu.cfs_burst_us",
    }
    quota_now, burst_now = [
        int(read(file) or default) for file, default in (("cpu.cfs_quota_us", -1), ("cpu.cfs_burst_us", 0))
    ]
    _check_beside(limits, quota_now, burst_now, "cpu.cfs_quota_us", "cpu.cfs_burst_us")
    writes = {}
    for limit, file in files.items():
        value = getattr(limits, limit)
        if value is not None:
            writes[limit] = Write(file, str(value), limit, need(read, file, limit).strip())
    period, quota, burst = (writes.get(limit) for limit in files)
    # The ratio of quota to period may not pass the parent's in between: what lowers it goes first.
    if period is not None and quota is not None and int(period.value) < int(period.undo or 0):
        ordered = [quota, period]
    else:
        ordered = [write for write in (period, quota) if write is not None]
    if burst is None:
        return ordered
    return [burst, *ordered] if int(burst.value) < int(burst.undo or 0) else [*ordered, burst]


def read_v2(read: Reader) -> CpuStats | None:
    """What version 2 measured: there without the controller too, then without throttling.

    Raises:
        FormatError: a file that can't be read.
    """
    text = read("cpu.stat")
    if text is None:
        return None
    found = parse_flat(text, "cpu.stat")
    return CpuStats(
        usage_microseconds=found.get("usage_usec", 0),
        user_microseconds=found.get("user_usec"),
        system_microseconds=found.get("system_usec"),
        periods=found.get("nr_periods"),
        throttled_periods=found.get("nr_throttled"),
        throttled_microseconds=found.get("throttled_usec"),
        bursts=found.get("nr_bursts"),
        burst_microseconds=found.get("burst_usec"),
    )


def read_v1(read: Reader) -> CpuStats | None:
    """What version 1 measured: usage by cpuacct, throttling by cpu; None without cpuacct.

    Raises:
        FormatError: a file that can't be read.
    """
    usage = read("cpuacct.usage")
    if usage is None:
        return None
    throttled = parse_flat(read("cpu.stat") or "", "cpu.stat")
    ticks = parse_flat(read("cpuacct.stat") or "", "cpuacct.stat")
    per_cpu = (read("cpuacct.usage_percpu") or "").split()

    def microseconds_of(name: str) -> int | None:
        return ticks[name] * (1_000_000 // _TICKS_A_SECOND) if name in ticks else None

    time = throttled.get("throttled_time")
    return CpuStats(
        usage_microseconds=parse_value(usage, "cpuacct.usage") // _NANOSECONDS,
        user_microseconds=microseconds_of("user"),
        system_microseconds=microseconds_of("system"),
        periods=throttled.get("nr_periods"),
        throttled_periods=throttled.get("nr_throttled"),
        throttled_microseconds=None if time is None else time // _NANOSECONDS,
        per_cpu_microseconds=tuple(parse_value(word, "cpuacct.usage_percpu") // _NANOSECONDS for word in per_cpu),
    )


def parse_quota(text: str) -> tuple[int, int]:
    """Quota and period of cpu.max, in microseconds; -1 is no limit.

    Raises:
        FormatError: not two words.

    >>> parse_quota("max 100000")
    (-1, 100000)
    """
    quota, _, period = text.strip().partition(" ")
    return (MAX if quota == "max" else parse_value(quota, "cpu.max")), parse_value(period, "cpu.max")
