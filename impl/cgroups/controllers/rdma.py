"""The rdma controller, the same in both versions. Source: cgroup-v2.rst, RDMA; cgroup-v1/rdma.rst."""

from __future__ import annotations

from kernelproof.impl.cgroups.errors import LimitError
from kernelproof.impl.cgroups.formats import MAX, format_nested, parse_nested
from kernelproof.impl.cgroups.limits import Limits
from kernelproof.impl.cgroups.writes import Reader, Write, need

TYPE_CHECKING = False  # typing costs 5 ms at import
if TYPE_CHECKING:
    from typing import NamedTuple
else:
    from kernelproof.impl._syscalls.named import NamedTuple

_MEMBERS = (("handles", "hca_handle"), ("objects", "hca_object"))
_MOST = (1 << 31) - 1


class RdmaStats(NamedTuple):
    """Handles and objects that one RDMA device has open for a cgroup."""

    device: str
    handles: int
    objects: int


def plan(limits: Limits, read: Reader) -> list[Write]:
    """Writes of rdma.max, a device each.

    Raises:
        LimitError: no device name, no number, or a device twice.
        NoControllerError: the cgroup has no such file.
    """
    if not limits.rdma:
        return []
    now = parse_nested(need(read, "rdma.max", "rdma"), "rdma.max")
    writes, seen = [], set()
    for limit in limits.rdma:
        values = {key: value for name, key in _MEMBERS if (value := getattr(limit, name)) is not None}
        if not limit.device or limit.device.split() != [limit.device] or limit.device in seen or not values:
            raise LimitError("rdma", limit, "each device once, by its name, with a limit of handles or objects")
        if any(not -1 <= value <= _MOST for value in values.values()):
            raise LimitError("rdma", limit, f"0 to {_MOST}, or -1 for no limit")
        seen.add(limit.device)
        before = {key: now.get(limit.device, {}).get(key, MAX) for key in values}
        undo = format_nested(limit.device, before)
        writes.append(Write("rdma.max", format_nested(limit.device, values), "rdma", undo))
    return writes


plan_v1 = plan_v2 = plan


def read(read_file: Reader) -> tuple[RdmaStats, ...] | None:
    """What was measured; None without the controller.

    Raises:
        FormatError: a file that can't be read.
    """
    text = read_file("rdma.current")
    if text is None:
        return None
    found = parse_nested(text, "rdma.current").items()
    return tuple(RdmaStats(name, *(values.get(key, 0) for _, key in _MEMBERS)) for name, values in found)


read_v1 = read_v2 = read
