"""Records of a container's configuration, one class for each JSON object; fields have the JSON name in snake_case.

What the specification does not have stands in `OWN` of its class: networks and routes as in 2014, Landlock. It is read
from our own copies only, never from an engine's config.json.

Source: OCI runtime specification 1.3, config.md and config-linux.md.
"""

from __future__ import annotations

from kernelproof.impl.libcontainer.config.own import Landlock, LandlockPath, Network, Route
from kernelproof.impl.libcontainer.config.record import Record
from kernelproof.impl.libcontainer.config.resources import (
    BlockIo,
    Cpu,
    DeviceRule,
    HugepageLimit,
    InterfacePriority,
    Memory,
    NetworkClass,
    Pids,
    Rdma,
    Resources,
    ThrottleDevice,
    WeightDevice,
)

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from collections.abc import Sequence

    from kernelproof.impl.libcontainer.config.record import int32, int64, uint32, uint64
    from kernelproof.impl.libcontainer.config.writing import Difference

__all__ = [
    "BlockIo",
    "Capabilities",
    "Config",
    "ConsoleSize",
    "Cpu",
    "Device",
    "DeviceRule",
    "ExecCpuAffinity",
    "Hook",
    "Hooks",
    "HugepageLimit",
    "IdMapping",
    "IntelRdt",
    "InterfacePriority",
    "IoPriority",
    "Landlock",
    "LandlockPath",
    "Linux",
    "Memory",
    "MemoryPolicy",
    "Mount",
    "Namespace",
    "NetDevice",
    "Network",
    "NetworkClass",
    "Personality",
    "Pids",
    "Process",
    "Rdma",
    "Resources",
    "Rlimit",
    "Root",
    "Route",
    "Scheduler",
    "Seccomp",
    "SeccompArgument",
    "SeccompRule",
    "ThrottleDevice",
    "TimeOffset",
    "User",
    "WeightDevice",
]


class Root(Record):
    """The root filesystem; a relative path counts from the bundle."""

    path: str
    readonly: bool = False


class ConsoleSize(Record):
    """The size of the terminal, in characters."""

    height: uint64
    width: uint64


class User(Record):
    """Who the process is, in the container's IDs.

    `lookup` is a user as in 2014 ("bob:staff"), looked up in the container's own /etc/passwd; then uid and gid don't
    count.
    """

    uid: uint32 = 0
    gid: uint32 = 0
    umask: uint32 | None = None
    additional_gids: tuple[uint32, ...] = ()
    lookup: str | None = None

    OWN = frozenset({"lookup"})


class Capabilities(Record):
    """The five sets, by names such as CAP_CHOWN."""

    bounding: tuple[str, ...] = ()
    effective: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()


class Rlimit(Record):
    """A resource limit by name, such as RLIMIT_NOFILE."""

    type: str
    hard: uint64
    soft: uint64


class Scheduler(Record):
    """The scheduling policy; runtime, deadline and period in nanoseconds."""

    policy: str
    nice: int32 | None = None
    priority: int32 | None = None
    flags: tuple[str, ...] = ()
    runtime: uint64 | None = None
    deadline: uint64 | None = None
    period: uint64 | None = None


class IoPriority(Record):
    """The I/O scheduling class and the level in it, 0 to 7."""

    class_: str
    priority: int32 | None = None


class ExecCpuAffinity(Record):
    """CPUs of a process that is started by exec: before and after it has entered its cgroup."""

    initial: str | None = None
    final: str | None = None


class Process(Record):
    """The container's process.

    Attributes:
        capabilities: None: not said. A container's first process then has none, a further one those of the first.
    """

    cwd: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    user: User = User()
    terminal: bool = False
    console_size: ConsoleSize | None = None
    capabilities: Capabilities | None = None
    rlimits: tuple[Rlimit, ...] = ()
    no_new_privileges: bool = False
    apparmor_profile: str | None = None
    selinux_label: str | None = None
    oom_score_adj: int32 | None = None
    scheduler: Scheduler | None = None
    io_priority: IoPriority | None = None
    exec_cpu_affinity: ExecCpuAffinity | None = None

    def granted(self) -> Capabilities:
        """The capabilities of a first process. Nothing said is nothing granted: all that root has would be a guess."""
        return self.capabilities or Capabilities()


class IdMapping(Record):
    """A range of IDs: inside, outside, how many."""

    container_id: uint32
    host_id: uint32
    size: uint32


class Mount(Record):
    """One mount, in the order of the list."""

    destination: str
    type: str | None = None
    source: str | None = None
    options: tuple[str, ...] = ()
    uid_mappings: tuple[IdMapping, ...] = ()
    gid_mappings: tuple[IdMapping, ...] = ()


class Hook(Record):
    """A program that is run at a moment of the container's life; `args` or `env` None: not said. Timeout in seconds."""

    path: str
    args: tuple[str, ...] | None = None
    env: tuple[str, ...] | None = None
    timeout: int64 | None = None


class Hooks(Record):
    """Hooks by their moment."""

    prestart: tuple[Hook, ...] = ()
    create_runtime: tuple[Hook, ...] = ()
    create_container: tuple[Hook, ...] = ()
    start_container: tuple[Hook, ...] = ()
    poststart: tuple[Hook, ...] = ()
    poststop: tuple[Hook, ...] = ()


class Namespace(Record):
    """A namespace by kind (pid, network, mount, ipc, uts, user, cgroup, time): new, or the one of the path."""

    type: str
    path: str | None = None


class Device(Record):
    """A device node: type c, u, b or p."""

    type: str
    path: str
    major: int64 | None = None
    minor: int64 | None = None
    file_mode: uint32 | None = None
    uid: uint32 | None = None
    gid: uint32 | None = None


class NetDevice(Record):
    """What becomes of an interface that moves into the container's network namespace: its new name."""

    name: str | None = None


class SeccompArgument(Record):
    """A comparison with an argument of a system call; of SCMP_CMP_MASKED_EQ, `value` is the mask."""

    index: uint32
    value: uint64
    op: str
    value_two: uint64 = 0


class SeccompRule(Record):
    """What system calls of these names lead to."""

    names: tuple[str, ...]
    action: str
    errno_ret: uint32 | None = None
    args: tuple[SeccompArgument, ...] = ()


class Seccomp(Record):
    """The filter of system calls. `flags` None: not said, and the runtime's default holds."""

    default_action: str
    default_errno_ret: uint32 | None = None
    architectures: tuple[str, ...] = ()
    flags: tuple[str, ...] | None = None
    listener_path: str | None = None
    listener_metadata: str | None = None
    syscalls: tuple[SeccompRule, ...] = ()


class IntelRdt(Record):
    """Cache and memory bandwidth by resctrl."""

    clos_id: str | None = None
    schemata: tuple[str, ...] = ()
    l3_cache_schema: str | None = None
    mem_bw_schema: str | None = None
    enable_monitoring: bool = False
    enable_cmt: bool = False
    enable_mbm: bool = False


class MemoryPolicy(Record):
    """The NUMA memory policy, by the names of set_mempolicy(2)."""

    mode: str
    nodes: str | None = None
    flags: tuple[str, ...] = ()


class Personality(Record):
    """The execution domain: LINUX or LINUX32."""

    domain: str
    flags: tuple[str, ...] = ()


class TimeOffset(Record):
    """What is added to a clock."""

    secs: int64 = 0
    nanosecs: uint32 = 0


class Linux(Record):
    """What only Linux has. `namespaces` not listed are inherited."""

    namespaces: tuple[Namespace, ...] = ()
    uid_mappings: tuple[IdMapping, ...] = ()
    gid_mappings: tuple[IdMapping, ...] = ()
    devices: tuple[Device, ...] = ()
    net_devices: tuple[tuple[str, NetDevice], ...] = ()
    cgroups_path: str | None = None
    resources: Resources | None = None
    sysctl: tuple[tuple[str, str], ...] = ()
    seccomp: Seccomp | None = None
    rootfs_propagation: str | None = None
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    mount_label: str | None = None
    intel_rdt: IntelRdt | None = None
    memory_policy: MemoryPolicy | None = None
    personality: Personality | None = None
    time_offsets: tuple[tuple[str, TimeOffset], ...] = ()


class Config(Record):
    """A container's configuration.

    Beyond the specification: networks, routes, Landlock, and whether the root is entered without pivot_root.
    """

    oci_version: str
    root: Root | None = None
    process: Process | None = None
    hostname: str | None = None
    domainname: str | None = None
    mounts: tuple[Mount, ...] = ()
    hooks: Hooks | None = None
    annotations: tuple[tuple[str, str], ...] = ()
    linux: Linux = Linux()
    networks: tuple[Network, ...] = ()
    routes: tuple[Route, ...] = ()
    landlock: Landlock | None = None
    no_pivot_root: bool = False

    OWN = frozenset({"networks", "routes", "landlock", "no_pivot_root"})

    @staticmethod
    def minimal(rootfs: str, args: Sequence[str], **process: object) -> Config:
        """A configuration by which a root filesystem runs a program, in six new namespaces, with three capabilities.

        Args:
            rootfs: the directory, absolute or relative to the bundle.
            args: the program and its arguments.
            process: fields of `Process` that are to be otherwise: cwd="/srv", env=("A=b",), terminal=True …

        Raises:
            TypeError: there is no such field.
        """
        from kernelproof.impl.libcontainer.config.templates import minimal  # measured: no command starts from it

        return minimal(rootfs, args, **process)

    def dump(self, indent: int | None = 4, *, own: bool = False) -> str:
        """The text of config.json; with `own`, what the specification does not have too.

        Raises:
            ValueError: it has what config.json can't say, and `own` was not asked for.
        """
        from kernelproof.impl.libcontainer.config.writing import dump  # measured: starts write no configuration

        return dump(self, indent, own=own)

    def compare(self, other: Config) -> list[Difference]:
        """Where another configuration says something else, in this one's order; empty if they mean the same."""
        from kernelproof.impl.libcontainer.config.writing import compare  # measured: as above

        return compare(self, other)
