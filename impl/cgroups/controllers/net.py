"""net_cls and net_prio, of version 1 only. Source: cgroup-v1/net_cls.rst, net_prio.rst.

On version 2 packets are told apart by cgroup itself (the `cgroup` match of nftables and of BPF programs).
"""

from __future__ import annotations

from kernelproof.impl.cgroups.errors import LimitError
from kernelproof.impl.cgroups.formats import parse_flat
from kernelproof.impl.cgroups.limits import Limits
from kernelproof.impl.cgroups.writes import Reader, Write, need, refuse

V1_ONLY = ("net_class_id", "net_priorities")
_MOST = (1 << 32) - 1


def plan_v2(limits: Limits, read: Reader) -> list[Write]:
    """Raises: LimitError: either is asked for."""
    refuse(limits._asdict(), V1_ONLY, 2)
    return []


def plan_v1(limits: Limits, read: Reader) -> list[Write]:
    """Writes for version 1.

    Raises:
        LimitError: not a number of 32 bits.
        NoControllerError: the cgroup has no such file.
    """
    writes = []
    if limits.net_class_id is not None:
        if not 0 <= limits.net_class_id <= _MOST:
            raise LimitError("net_class_id", limits.net_class_id, "0 to 0xFFFFFFFF")
        before = need(read, "net_cls.classid", "net_class_id").strip()
        writes.append(Write("net_cls.classid", str(limits.net_class_id), "net_class_id", before))
    if limits.net_priorities:
        now = parse_flat(need(read, "net_prio.ifpriomap", "net_priorities"), "net_prio.ifpriomap")
        for name, priority in limits.net_priorities.items():
            if not 0 <= priority <= _MOST or name.split() != [name]:
                raise LimitError("net_priorities", {name: priority}, "an interface by its name, and 0 to 0xFFFFFFFF")
            undo = f"{name} {now[name]}" if name in now else None
            writes.append(Write("net_prio.ifpriomap", f"{name} {priority}", "net_priorities", undo))
    return writes
