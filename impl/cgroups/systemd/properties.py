"""Limits as properties of units, and what systemd makes of them by rounding. Pure.

A limit that systemd has no property for is an error that names it: the unit can be delegated, and the file written in a
cgroup below it.

Source: systemd.resource-control(5); org.freedesktop.systemd1(5).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from kernelproof.impl.cgroups.controllers.cpu import check_bandwidth, parse_quota
from kernelproof.impl.cgroups.controllers.io import check_devices
from kernelproof.impl.cgroups.controllers.memory import check_bytes
from kernelproof.impl.cgroups.conversions import DEFAULT_PERIOD_MICROSECONDS, check_weight
from kernelproof.impl.cgroups.devices.rules import DeviceRule, check_rules
from kernelproof.impl.cgroups.errors import LimitError
from kernelproof.impl.cgroups.formats import parse_list, parse_value
from kernelproof.impl.cgroups.limits import Limits

INFINITY = (1 << 64) - 1
_SECOND = 1_000_000  # microseconds
_QUOTA_STEP_MICROSECONDS = 10_000  # of a second: systemd keeps whole percents

_MEMORY = (
    ("memory_max_bytes", "MemoryMax"),
    ("memory_high_bytes", "MemoryHigh"),
    ("memory_low_bytes", "MemoryLow"),
    ("memory_min_bytes", "MemoryMin"),
    ("swap_max_bytes", "MemorySwapMax"),
)
_RATES = (
    ("read_bytes", "IOReadBandwidthMax"),
    ("write_bytes", "IOWriteBandwidthMax"),
    ("read_operations", "IOReadIOPSMax"),
    ("write_operations", "IOWriteIOPSMax"),
)
_FILES = {
    "memory.max": "memory_max_bytes",
    "memory.high": "memory_high_bytes",
    "memory.low": "memory_low_bytes",
    "memory.min": "memory_min_bytes",
    "memory.swap.max": "swap_max_bytes",
    "pids.max": "pids_max",
    "cpu.weight": "cpu_weight",
}
_UNKNOWN = (
    "memory_swappiness", "memory_disable_oom_kill", "kernel_tcp_max_bytes", "cpu_burst_microseconds",
    "cpu_rt_runtime_microseconds", "cpu_rt_period_microseconds", "hugetlb_bytes", "rdma", "misc", "net_class_id",
    "net_priorities", "unified",
)  # fmt: skip


class Property(NamedTuple):
    """A property of a unit: its name, the type of D-Bus and the value."""

    name: str
    signature: str
    value: Any


def plan_properties(limits: Limits) -> tuple[Property, ...]:
    """Limits as properties of a unit.

    Raises:
        LimitError: out of range, or one that systemd has no property for.

    >>> plan_properties(Limits(pids_max=7))
    (Property(name='TasksMax', signature='t', value=7),)
    """
    _refuse_unknown(limits)
    found = [
        Property(name, "t", _bytes(limit, value))
        for limit, name in _MEMORY
        if (value := getattr(limits, limit)) is not None
    ]
    found += _plan_cpu(limits)
    for limit, name in (("cpuset_cpus", "AllowedCPUs"), ("cpuset_mems", "AllowedMemoryNodes")):
        if (text := getattr(limits, limit)) is not None:
            found.append(Property(name, "ay", mask_of(parse_list(text, limit))))
    if limits.pids_max is not None:
        if limits.pids_max == 0:
            raise LimitError("pids_max", 0, "systemd can't keep 0: delegate the unit and write pids.max below it")
        found.append(Property("TasksMax", "t", INFINITY if limits.pids_max < 0 else limits.pids_max))
    found += _plan_io(limits)
    if limits.memory_oom_group is not None:
        found.append(Property("OOMPolicy", "s", "kill" if limits.memory_oom_group else "continue"))
    return tuple(found)


def keepable(limits: Limits) -> Limits:
    """The limits without those that systemd has no property for, which are the cgroup's files' alone.

    >>> keepable(Limits(pids_max=0, cpu_burst_microseconds=5, memory_max_bytes=4096)) == Limits(memory_max_bytes=4096)
    True
    """
    unknown = (*_UNKNOWN, "pids_max") if limits.pids_max == 0 else _UNKNOWN
    return Limits(**{name: value for name, value in limits._asdict().items() if name not in unknown})


def known_limits(limits: Limits) -> Limits:
    """Limits in which raw keys of `unified` are the limits that they write, where systemd has a property for it.

    The raw keys win. A value that is neither a number nor max stays raw: the kernel may know it, systemd does not.
    memory.oom.group stays too: a unit's OOMPolicy is decided when it is made.

    >>> known_limits(Limits(unified={"memory.high": "max", "cpu.max": "5000", "x.y": "1"}))._asdict()["unified"]
    {'x.y': '1'}
    """
    changed: dict[str, Any] = {}
    left = {}
    for file, text in (limits.unified or {}).items():
        words = text.split()
        if not words or not all(word == "max" or (word.isascii() and word.isdigit()) for word in words):
            left[file] = text
        elif file == "cpu.max" and len(words) <= 2:
            changed["cpu_quota_microseconds"] = parse_value(words[0], file)
            if words[1:]:
                changed["cpu_period_microseconds"] = parse_value(words[1], file)
        elif file in _FILES and len(words) == 1:
            changed[_FILES[file]] = parse_value(words[0], file)
        else:
            left[file] = text
    return limits._replace(**changed, unified=left or None)


def whole_bandwidth(limits: Limits, cpu_max: str) -> Limits:
    """Quota and period where one of them is asked for: systemd keeps the quota of a second, which is both together.

    Args:
        limits: what is asked.
        cpu_max: the text of cpu.max, for what is not.

    >>> whole_bandwidth(Limits(cpu_period_microseconds=20_000), "5000 10000").cpu_quota_microseconds
    5000
    """
    quota, period = limits.cpu_quota_microseconds, limits.cpu_period_microseconds
    if quota is None and period is None:
        return limits
    old_quota, old_period = parse_quota(cpu_max)
    return limits._replace(
        cpu_quota_microseconds=old_quota if quota is None else quota, cpu_period_microseconds=period or old_period
    )


def _refuse_unknown(limits: Limits) -> None:
    asked = limits._asdict()
    for limit in _UNKNOWN:
        if asked[limit] not in (None, ()):
            reason = "systemd has no property for it: delegate the unit and write the file in a cgroup below it"
            raise LimitError(limit, asked[limit], reason)


def _bytes(limit: str, value: int) -> int:
    check_bytes(limit, value)
    return INFINITY if value < 0 else value


def _plan_cpu(limits: Limits) -> list[Property]:
    check_bandwidth(limits)
    found = []
    if limits.cpu_idle:
        if limits.cpu_weight is not None:
            raise LimitError("cpu_weight", limits.cpu_weight, "an idle cgroup has no weight")
        found.append(Property("CPUWeight", "t", 0))
    if limits.cpu_weight is not None:
        check_weight("cpu_weight", limits.cpu_weight)
        found.append(Property("CPUWeight", "t", limits.cpu_weight))
    if limits.cpu_period_microseconds is not None:
        found.append(Property("CPUQuotaPeriodUSec", "t", limits.cpu_period_microseconds))
    if limits.cpu_quota_microseconds is not None:
        found.append(Property("CPUQuotaPerSecUSec", "t", quota_a_second(limits)))
    return found


def quota_a_second(limits: Limits) -> int:
    """A quota as systemd keeps it: microseconds a second, up to whole percents; INFINITY for none."""
    quota = limits.cpu_quota_microseconds
    if quota is None or quota < 0:
        return INFINITY
    period = limits.cpu_period_microseconds or DEFAULT_PERIOD_MICROSECONDS
    exact = -(-quota * _SECOND // period)
    return -(-exact // _QUOTA_STEP_MICROSECONDS) * _QUOTA_STEP_MICROSECONDS


def round_limits(limits: Limits, page_bytes: int) -> Limits:
    """What is left of limits when systemd and the kernel have rounded them: ask for these, and nothing changes later.

    Args:
        limits: as they were asked for.
        page_bytes: size of a page: 4096, 16384 or 65536.

    Source: systemd.resource-control(5), CPUQuota=; conformance `cgroup-v2.memory.unaligned-rounds-up`.
    """
    changed: dict[str, Any] = {
        limit: value - value % page_bytes
        for limit, _ in _MEMORY
        if (value := getattr(limits, limit)) is not None and value > 0
    }
    a_second = quota_a_second(limits)
    if a_second != INFINITY:
        period = limits.cpu_period_microseconds or DEFAULT_PERIOD_MICROSECONDS
        changed["cpu_quota_microseconds"] = a_second * period // _SECOND
    return limits._replace(**changed)


def mask_of(numbers: Sequence[int]) -> bytes:
    """CPUs or nodes as bits, the lowest first, as many bytes as it takes.

    >>> mask_of((0, 9))
    b'\\x01\\x02'
    """
    mask = sum(1 << number for number in set(numbers))
    return mask.to_bytes((mask.bit_length() + 7) // 8, "little")


def _plan_io(limits: Limits) -> list[Property]:
    check_devices(limits.io)
    found = []
    if limits.io_weight is not None:
        check_weight("io_weight", limits.io_weight)
        found.append(Property("IOWeight", "t", limits.io_weight))
    if limits.io_weights:
        for entry in limits.io_weights:
            check_weight("io_weights", entry.weight)
        weights = [(f"/dev/block/{entry.major}:{entry.minor}", entry.weight) for entry in limits.io_weights]
        found.append(Property("IODeviceWeight", "a(st)", weights))
    for member, name in _RATES:
        rates = [
            (f"/dev/block/{limit.major}:{limit.minor}", INFINITY if value < 0 else value)
            for limit in limits.io
            if (value := getattr(limit, member)) is not None
        ]
        if rates:
            found.append(Property(name, "a(st)", rates))
    return found


def plan_devices(rules: Sequence[DeviceRule]) -> tuple[Property, ...]:
    """Device rules as properties: nothing but what the rules allow.

    Args:
        rules: that allow; systemd's list knows no order and no refusals.

    Raises:
        LimitError: a rule that refuses, or one without a major number but with a minor one.

    Source: systemd.resource-control(5), DeviceAllow=, DevicePolicy=.
    """
    checked = check_rules(rules)
    if any(rule.type == "a" and rule.allow for rule in checked):
        return (Property("DevicePolicy", "s", "auto"), Property("DeviceAllow", "a(ss)", []))
    allowed = []
    for rule in checked:
        if not rule.allow:
            raise LimitError("device rule", rule.format(), "systemd keeps what is allowed, not what is refused")
        allowed += [(path, rule.access) for path in _nodes(rule)]
    return (Property("DevicePolicy", "s", "strict"), Property("DeviceAllow", "a(ss)", allowed))


def _nodes(rule: DeviceRule) -> list[str]:
    kinds = {"b": "block", "c": "char"}
    word = kinds[rule.type]
    if rule.major is None and rule.minor is None:
        return [f"{word}-*"]
    if rule.major is None:
        raise LimitError("device rule", rule.format(), "systemd knows no minor number of every major one")
    if rule.minor is None:
        return [f"{word}-{rule.major}"]  # systemd 239: a number in place of a driver's name
    return [f"/dev/{word}/{rule.major}:{rule.minor}"]
