"""The misc controller, the same in both versions. Source: cgroup-v2.rst, Misc; cgroup-v1/misc.rst."""

from __future__ import annotations

from kernelproof.impl.cgroups.errors import LimitError
from kernelproof.impl.cgroups.formats import MAX, format_value, parse_flat
from kernelproof.impl.cgroups.limits import Limits
from kernelproof.impl.cgroups.writes import Reader, Write, need

TYPE_CHECKING = False  # typing costs 5 ms at import
if TYPE_CHECKING:
    from typing import NamedTuple
else:
    from kernelproof.impl._syscalls.named import NamedTuple


class MiscStats(NamedTuple):
    """What a cgroup uses of one resource, in its unit; `refused` is None on kernels that do not count it."""

    resource: str
    current: int
    limit: int
    refused: int | None


def plan(limits: Limits, read: Reader) -> list[Write]:
    """Writes of misc.max, a resource each.

    Raises:
        LimitError: no name of a resource, or a number below -1.
        NoControllerError: the cgroup has no such file.
    """
    if not limits.misc:
        return []
    now = parse_flat(need(read, "misc.max", "misc"), "misc.max")
    writes = []
    for resource, value in limits.misc.items():
        if resource.split() != [resource] or value < -1:
            raise LimitError("misc", {resource: value}, "a resource by its name, and 0 or more, or -1 for no limit")
        before = f"{resource} {format_value(now[resource])}" if resource in now else None
        writes.append(Write("misc.max", f"{resource} {format_value(value)}", "misc", before))
    return writes


plan_v1 = plan_v2 = plan


def read(read_file: Reader) -> tuple[MiscStats, ...] | None:
    """What was measured; None without the controller.

    Raises:
        FormatError: a file that can't be read.
    """
    text = read_file("misc.current")
    if text is None:
        return None
    most = parse_flat(read_file("misc.max") or "", "misc.max")
    events = parse_flat(read_file("misc.events") or "", "misc.events")
    return tuple(
        MiscStats(name, value, most.get(name, MAX), events.get(f"{name}.max"))
        for name, value in parse_flat(text, "misc.current").items()
    )


read_v1 = read_v2 = read
