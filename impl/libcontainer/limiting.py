"""The limits of a container's cgroup: from the specification's resources to what impl.cgroups sets, on either version.

Source: OCI runtime specification 1.3, config-linux.md, "Control groups"; docs of opencontainers/runc on v2.
"""

from __future__ import annotations

from kernelproof.impl.cgroups.conversions import blkio_weight_to_io, shares_to_weight, swap_of
from kernelproof.impl.cgroups.limits import IoLimit, IoWeight, Limits, RdmaLimit

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.cgroups.cgroup import Cgroup
    from kernelproof.impl.cgroups.devices.rules import DeviceRule
    from kernelproof.impl.libcontainer.config.resources import BlockIo, Cpu, Memory, Resources

_IO_FIELDS = {
    "throttle_read_bps_device": "read_bytes",
    "throttle_write_bps_device": "write_bytes",
    "throttle_read_iops_device": "read_operations",
    "throttle_write_iops_device": "write_operations",
}
# What every container may do with devices: make any node, use the default devices, terminals and tun.
ALWAYS = (
    *(("b", None, None, "m"), ("c", None, None, "m")),
    *(("c", 1, minor, "rwm") for minor in (3, 5, 7, 8, 9)),
    *(("c", 5, 0, "rwm"), ("c", 5, 2, "rwm"), ("c", 136, None, "rwm"), ("c", 10, 200, "rwm")),
)


def limits_of(resources: Resources, version: int) -> Limits:
    """What resources ask for, but devices; shares and weights of version 1 are written by `set_limits` as they are.

    Raises:
        LimitError: memory and swap together are less than memory.
    """
    asked = {**_memory(resources.memory, version), **_cpu(resources.cpu, version), **_io(resources.block_io, version)}
    if resources.pids is not None and resources.pids.limit is not None:
        asked["pids_max"] = max(resources.pids.limit, -1)
    if resources.hugepage_limits:
        asked["hugetlb_bytes"] = {one.page_size: one.limit for one in resources.hugepage_limits}
    if resources.rdma:
        asked["rdma"] = tuple(RdmaLimit(name, one.hca_handles, one.hca_objects) for name, one in resources.rdma)
    if resources.network is not None:
        asked["net_class_id"] = resources.network.class_id
        asked["net_priorities"] = {one.name: one.priority for one in resources.network.priorities} or None
    if resources.unified:
        asked["unified"] = dict(resources.unified)
    return Limits(**{name: value for name, value in asked.items() if value is not None})  # type: ignore[arg-type]


def _memory(memory: Memory | None, version: int) -> dict[str, object]:
    if memory is None:
        return {}
    return {
        "memory_max_bytes": memory.limit,
        "memory_low_bytes": memory.reservation,
        "swap_max_bytes": None if not memory.swap else swap_of(memory.swap, memory.limit),
        "memory_swappiness": memory.swappiness if version == 1 else None,
        "memory_disable_oom_kill": memory.disable_oom_killer or None,
        "kernel_tcp_max_bytes": memory.kernel_tcp or None,
    }


def _cpu(cpu: Cpu | None, version: int) -> dict[str, object]:
    if cpu is None:
        return {}
    return {
        "cpu_weight": shares_to_weight(cpu.shares) if cpu.shares and version == 2 else None,
        "cpu_idle": None if cpu.idle is None else bool(cpu.idle),
        "cpu_quota_microseconds": -1 if cpu.quota is not None and cpu.quota <= 0 else cpu.quota,
        "cpu_period_microseconds": cpu.period or None,
        "cpu_burst_microseconds": cpu.burst,
        "cpu_rt_runtime_microseconds": cpu.realtime_runtime,
        "cpu_rt_period_microseconds": cpu.realtime_period,
        "cpuset_cpus": cpu.cpus or None,
        "cpuset_mems": cpu.mems or None,
    }


def _io(block: BlockIo | None, version: int) -> dict[str, object]:
    if block is None:
        return {}
    by_device: dict[tuple[int, int], IoLimit] = {}
    for field, name in _IO_FIELDS.items():
        for one in getattr(block, field):
            key = (one.major, one.minor)
            by_device[key] = by_device.get(key, IoLimit(*key))._replace(**{name: one.rate or -1})
    weights = tuple(
        IoWeight(one.major, one.minor, blkio_weight_to_io(one.weight)) for one in block.weight_device if one.weight
    )
    return {
        "io": tuple(by_device.values()) or None,
        "io_weight": blkio_weight_to_io(block.weight) if block.weight and version == 2 else None,
        "io_weights": weights or None,
    }


def device_rules(resources: Resources) -> list[DeviceRule]:
    """The rules about devices: what was asked, in order, after a refusal of all; then what every container may."""
    # Measured: few resources name devices.
    from kernelproof.impl.cgroups.devices.rules import DeviceRule

    def number(value: int | None) -> int | None:
        return None if value is None or value < 0 else value

    rules = [DeviceRule(allow=False)]
    for one in resources.devices:
        kind = one.type or "a"
        major, minor = (None, None) if kind == "a" else (number(one.major), number(one.minor))
        rules.append(DeviceRule(kind, major, minor, one.access or "rwm", one.allow))
    return [*rules, *(DeviceRule(*always) for always in ALWAYS)]


def set_limits(
    cgroup: Cgroup,
    resources: Resources,
    *,
    check_usage: bool = True,
    loaded: int | None = None,
    limits: Limits | None = None,
) -> None:
    """Sets all that resources ask for.

    Args:
        cgroup: the container's.
        resources: what is asked.
        check_usage: refuse a memory limit below what is in use.
        loaded: what `prepare_limits` gave.
        limits: in place of what `limits_of` makes of the resources.

    Raises:
        LimitError, NoControllerError, BelowUsageError: see impl.cgroups.
        OSError: what the kernel refuses, with the file.
    """
    limits = limits_of(resources, cgroup.version) if limits is None else limits
    if limits != Limits():
        cgroup.set(limits, check_usage=check_usage)
    if cgroup.version == 1:
        if resources.cpu is not None and resources.cpu.shares:
            cgroup.directory_of("cpu").write("cpu.shares", str(resources.cpu.shares))
        if resources.block_io is not None and resources.block_io.weight:
            cgroup.directory_of("blkio").write("blkio.weight", str(resources.block_io.weight))
    if resources.devices:
        from kernelproof.impl.cgroups.devices.attaching import set_devices  # measured: 10 ms, and few name devices

        directory = cgroup.directory_of("devices") if cgroup.version == 1 else cgroup.directory
        set_devices(directory, device_rules(resources), loaded=loaded)


def prepare_limits(resources: Resources, version: int) -> int | None:
    """Does of `set_limits` what touches no cgroup: on version 2 the kernel verifies the program about devices.

    Returns:
        A descriptor for `set_limits`, the caller's to close; or None: it will do all.

    Raises:
        LimitError: a rule that no kernel could keep.
    """
    if not resources.devices or version == 1:
        return None
    from kernelproof.impl.cgroups.devices.attaching import load_rules  # measured: see set_limits

    try:
        return load_rules(device_rules(resources))
    except OSError:  # set_limits will meet it too, in its turn
        return None
