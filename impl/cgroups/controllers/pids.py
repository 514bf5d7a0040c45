"""The pids controller, the same in both versions. Source: cgroup-v2.rst, PID; cgroup-v1/pids.rst."""

from __future__ import annotations

from kernelproof.impl.cgroups.errors import LimitError
from kernelproof.impl.cgroups.formats import format_value, parse_flat, parse_value
from kernelproof.impl.cgroups.limits import Limits
from kernelproof.impl.cgroups.writes import Reader, Write, need

TYPE_CHECKING = False  # typing costs 5 ms at import
if TYPE_CHECKING:
    from typing import NamedTuple
else:
    from kernelproof.impl._syscalls.named import NamedTuple

_MOST = 1 << 22  # PID_MAX_LIMIT of 64-bit kernels


class PidsStats(NamedTuple):
    """What was measured.

    Attributes:
        current: processes and threads.
        limit: the cgroup's own limit, -1 for none; None in the root.
        refused: how often a fork was refused by this limit or one above or below, as the kernel counts it.
        peak: the most that there were; None before Linux 6.11.
    """

    current: int
    limit: int | None
    refused: int | None
    peak: int | None


def plan(limits: Limits, read: Reader) -> list[Write]:
    """The write of pids.max.

    Raises:
        LimitError: below -1, or more than there can be processes.
        NoControllerError: the cgroup has no such file.
    """
    value = limits.pids_max
    if value is None:
        return []
    if not -1 <= value <= _MOST:
        raise LimitError("pids_max", value, f"0 to {_MOST}, or -1 for no limit")
    return [Write("pids.max", format_value(value), "pids_max", need(read, "pids.max", "pids_max").strip())]


plan_v1 = plan_v2 = plan


def read(read_file: Reader) -> PidsStats | None:
    """What was measured; None without the controller.

    Raises:
        FormatError: a file that can't be read.
    """
    current, limit = read_file("pids.current"), read_file("pids.max")
    if current is None:
        return None
    peak = read_file("pids.peak")
    return PidsStats(
        current=parse_value(current, "pids.current"),
        limit=None if limit is None else parse_value(limit, "pids.max"),
        refused=parse_flat(read_file("pids.events") or "", "pids.events").get("max"),
        peak=None if peak is None else parse_value(peak, "pids.peak"),
    )


read_v1 = read_v2 = read
