"""Limits of version 1 as version 2 has them, each written once with its formula and where it is from. Pure."""

from __future__ import annotations

from kernelproof.impl.cgroups.errors import LimitError

LEAST_SHARES, MOST_SHARES = 2, 262_144  # MIN_SHARES and MAX_SHARES, kernel/sched/sched.h
LEAST_WEIGHT, MOST_WEIGHT, DEFAULT_WEIGHT = 1, 10_000, 100  # cgroup-v2.rst, Weights
LEAST_BLKIO, MOST_BLKIO = 10, 1000  # cgroup-v1/blkio-controller.rst, blkio.weight
DEFAULT_PERIOD_MICROSECONDS = 100_000  # cgroup-v2.rst, cpu.max
LEAST_PERIOD_MICROSECONDS, MOST_PERIOD_MICROSECONDS = 1_000, 1_000_000  # kernel/sched/core.c
LEAST_QUOTA_MICROSECONDS, MOST_QUOTA_MICROSECONDS = 1_000, (1 << 44) - 1  # there too, max_cfs_runtime


def shares_to_weight(shares: int, formula: str = "quadratic") -> int:
    """CPU shares of version 1 as a weight of version 2.

    Both are relative to their default, 1024 shares and a weight of 100, but their ranges do not fit each other.

    Args:
        shares: 2 to 262144; what is below or above is taken as the nearest of them. 0 is no value at all.
        formula: "quadratic" maps both ends and the default on each other (runc from 1.3.2, crun from 1.23);
            "linear_range" maps the ends only, so that 1024 becomes 39 (older releases of both);
            "linear_default" maps the default only (systemd).

    Returns:
        1 to 10000.

    Raises:
        LimitError: 0, a negative number, or an unknown formula.

    Source: runc#4772, kubernetes#131216; cgroup-v2.rst, Weights; conformance `cgroup-v2.cpu.weight`.

    >>> [shares_to_weight(shares) for shares in (2, 256, 1024, 262144)]
    [1, 35, 100, 10000]
    >>> shares_to_weight(1024, "linear_range")
    39
    """
    if shares <= 0:
        raise LimitError("cpu shares", shares, "at least 2; leave it out to keep what is set")
    within = min(max(shares, LEAST_SHARES), MOST_SHARES)
    if formula == "linear_range":
        return 1 + (within - LEAST_SHARES) * (MOST_WEIGHT - 1) // (MOST_SHARES - LEAST_SHARES)
    if formula == "linear_default":
        return min(max(shares * DEFAULT_WEIGHT // 1024, LEAST_WEIGHT), MOST_WEIGHT)
    if formula != "quadratic":
        raise LimitError("formula", formula, "one of quadratic, linear_range, linear_default")
    if within in (LEAST_SHARES, MOST_SHARES):
        return LEAST_WEIGHT if within == LEAST_SHARES else MOST_WEIGHT
    import math  # measured: 1 ms, it is a library of its own

    logarithm = math.log2(within)
    return math.ceil(10 ** ((logarithm * logarithm + 125 * logarithm) / 612 - 7 / 34))


def weight_to_shares(weight: int, formula: str = "quadratic") -> range:
    """All CPU shares that become this weight: rounding can't be turned back.

    Raises:
        LimitError: not 1 to 10000, or an unknown formula.

    >>> 1024 in weight_to_shares(100)
    True
    """
    check_weight("cpu weight", weight)

    def first_with(least: int) -> int:
        low, high = LEAST_SHARES, MOST_SHARES + 1
        while low < high:
            middle = (low + high) // 2
            if shares_to_weight(middle, formula) >= least:
                high = middle
            else:
                low = middle + 1
        return low

    return range(first_with(weight), first_with(weight + 1))


def check_weight(limit: str, weight: int) -> None:
    """Raises: LimitError: not 1 to 10000."""
    if not LEAST_WEIGHT <= weight <= MOST_WEIGHT:
        raise LimitError(limit, weight, f"a weight is {LEAST_WEIGHT} to {MOST_WEIGHT}")


def blkio_weight_to_io(weight: int) -> int:
    """A weight of the blkio controller as one of the io controller, both ends on each other.

    Args:
        weight: 10 to 1000.

    Raises:
        LimitError: out of that range.

    Source: cgroup-v1/blkio-controller.rst, blkio.weight; cgroup-v2.rst, io.weight.
    """
    if not LEAST_BLKIO <= weight <= MOST_BLKIO:
        raise LimitError("blkio weight", weight, f"{LEAST_BLKIO} to {MOST_BLKIO}")
    return 1 + (weight - LEAST_BLKIO) * (MOST_WEIGHT - 1) // (MOST_BLKIO - LEAST_BLKIO)


def swap_of(memory_and_swap_bytes: int, memory_bytes: int | None) -> int:
    """Version 1 limits memory and swap together, version 2 swap alone.

    Args:
        memory_and_swap_bytes: the sum; negative is no limit.
        memory_bytes: the limit of memory alone; negative or None is no limit, and then the sum can have none either.

    Returns:
        The limit of swap alone; -1 is no limit.

    Raises:
        LimitError: the sum is below its part, or of one that has no limit.

    Source: cgroup-v1/memory.rst, memsw; cgroup-v2.rst, memory.swap.max.
    """
    if memory_and_swap_bytes < 0:
        return -1
    if memory_bytes is None or memory_bytes < 0:
        reason = "memory and swap together can't be limited without a limit of memory: set that too"
        raise LimitError("memory and swap", memory_and_swap_bytes, reason)
    if memory_and_swap_bytes < memory_bytes:
        reason = f"memory and swap together cannot be less than the memory of {memory_bytes} bytes"
        raise LimitError("memory and swap", memory_and_swap_bytes, reason)
    return memory_and_swap_bytes - memory_bytes


def round_down_to_page(limit_bytes: int, page_bytes: int) -> int:
    """What the kernel keeps of a limit in bytes: whole pages, the rest is cut off; negative stays what it is.

    Source: mm/page_counter.c, page_counter_memparse; conformance `cgroup-v2.memory.max`, where the document says
    that it may be rounded up.
    """
    return limit_bytes if limit_bytes < 0 else limit_bytes // page_bytes * page_bytes
