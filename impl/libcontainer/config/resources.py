"""Records of what is below `linux.resources`: the limits of a container's cgroup.

Source: OCI runtime specification 1.3, config-linux.md, "Control groups".
"""

from __future__ import annotations

from kernelproof.impl.libcontainer.config.record import Record

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.config.record import int64, uint16, uint32, uint64


class DeviceRule(Record):
    """Access to devices is allowed or denied: of all kinds ("a"), of characters, blocks; -1 or None is every number."""

    allow: bool
    type: str | None = None
    major: int64 | None = None
    minor: int64 | None = None
    access: str | None = None


class Memory(Record):
    """Limits of memory in bytes; -1 is none. `swap` is memory and swap together, as cgroup v1 counts."""

    limit: int64 | None = None
    reservation: int64 | None = None
    swap: int64 | None = None
    kernel: int64 | None = None
    kernel_tcp: int64 | None = None
    swappiness: uint64 | None = None
    disable_oom_killer: bool | None = None
    use_hierarchy: bool | None = None
    check_before_update: bool | None = None


class Cpu(Record):
    """Shares of CPU time, quotas and periods in microseconds, lists of CPUs and memory nodes."""

    shares: uint64 | None = None
    quota: int64 | None = None
    burst: uint64 | None = None
    period: uint64 | None = None
    realtime_runtime: int64 | None = None
    realtime_period: uint64 | None = None
    cpus: str | None = None
    mems: str | None = None
    idle: int64 | None = None


class Pids(Record):
    """How many tasks; -1 is without limit."""

    limit: int64 | None = None


class WeightDevice(Record):
    """The weight of one block device."""

    major: int64
    minor: int64
    weight: uint16 | None = None
    leaf_weight: uint16 | None = None


class ThrottleDevice(Record):
    """The limit of one block device: bytes or operations a second."""

    major: int64
    minor: int64
    rate: uint64


class BlockIo(Record):
    """Weights (10 to 1000) and limits of block devices."""

    weight: uint16 | None = None
    leaf_weight: uint16 | None = None
    weight_device: tuple[WeightDevice, ...] = ()
    throttle_read_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_write_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_read_iops_device: tuple[ThrottleDevice, ...] = ()
    throttle_write_iops_device: tuple[ThrottleDevice, ...] = ()


class HugepageLimit(Record):
    """Bytes of huge pages of one size, such as "2MB"."""

    page_size: str
    limit: uint64


class InterfacePriority(Record):
    """The priority of a cgroup's packets on one interface (v1's net_prio)."""

    name: str
    priority: uint32


class NetworkClass(Record):
    """How packets of the cgroup are marked (v1's net_cls and net_prio)."""

    class_id: uint32 | None = None
    priorities: tuple[InterfacePriority, ...] = ()


class Rdma(Record):
    """Handles and objects of one RDMA device."""

    hca_handles: uint32 | None = None
    hca_objects: uint32 | None = None


class Resources(Record):
    """What the container's cgroup allows. `unified` are files of cgroup v2 by name."""

    devices: tuple[DeviceRule, ...] = ()
    memory: Memory | None = None
    cpu: Cpu | None = None
    pids: Pids | None = None
    block_io: BlockIo | None = None
    hugepage_limits: tuple[HugepageLimit, ...] = ()
    network: NetworkClass | None = None
    rdma: tuple[tuple[str, Rdma], ...] = ()
    unified: tuple[tuple[str, str], ...] = ()
