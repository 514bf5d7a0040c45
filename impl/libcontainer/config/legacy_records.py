"""Records of container.json as it was in 2014, the union of its generations B to E; keys are as in the file.

What changed its shape from one generation to the next (namespaces, the capability mask) is not here: `legacy` brings it
into one shape first.

Source: dotcloud/docker v0.10.0 and v0.11.1, pkg/libcontainer; docker/libcontainer v1.0.0 to v1.4.0, container.go.
"""

from __future__ import annotations

from kernelproof.impl.libcontainer.config.record import Record

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.config.record import int64, uint32, uint64


class Legacy(Record):
    """A record whose keys in JSON are snake_case."""

    SNAKE = True


class LegacyNetwork(Legacy):
    """An end of a network; `context` held bridge, prefix and nspath until generation E gave them keys of their own."""

    type: str
    context: tuple[tuple[str, str], ...] = ()
    bridge: str | None = None
    veth_prefix: str | None = None
    ns_path: str | None = None
    address: str | None = None
    gateway: str | None = None
    mtu: uint32 | None = None
    mac_address: str | None = None
    ipv6_address: str | None = None
    ipv6_gateway: str | None = None
    txqueuelen: uint32 | None = None


class LegacyRoute(Legacy):
    """A route inside (D)."""

    destination: str | None = None
    source: str | None = None
    gateway: str | None = None
    interface_name: str | None = None


class LegacyDevice(Legacy):
    """A device (D): type is a letter's number, 99 for c and 98 for b; -1 is every number."""

    type: int64
    path: str = ""
    major_number: int64 = 0
    minor_number: int64 = 0
    cgroup_permissions: str = ""
    file_mode: uint32 | None = None


class LegacyCgroups(Legacy):
    """Limits of the container, version 1 of cgroups."""

    name: str | None = None
    parent: str | None = None
    device_access: bool = False
    allow_all_devices: bool = False
    allowed_devices: tuple[LegacyDevice, ...] = ()
    memory: int64 = 0
    memory_reservation: int64 = 0
    memory_swap: int64 = 0
    cpu_shares: int64 = 0
    cpu_quota: int64 = 0
    cpu_period: int64 = 0
    cpuset_cpus: str | None = None
    cpuset_mems: str | None = None
    freezer: str | None = None
    slice: str | None = None


class LegacyMount(Legacy):
    """A bind mount, read-only unless `writable`; or a devtmpfs entry, which meant a tmpfs on /dev."""

    type: str = "bind"
    source: str | None = None
    destination: str | None = None
    writable: bool = False
    private: bool = False
    slave: bool = False
    relabel: str | None = None


class LegacyMountConfig(Legacy):
    """What generation E put together."""

    no_pivot_root: bool = False
    readonly_fs: bool = False
    mounts: tuple[LegacyMount, ...] = ()
    device_nodes: tuple[LegacyDevice, ...] = ()
    mount_label: str | None = None
    pivot_dir: str | None = None


class LegacyRlimit(Legacy):
    """A limit by the kernel's number (E, v1.4)."""

    type: int64
    hard: uint64 = 0
    soft: uint64 = 0


class LegacyContainer(Legacy):
    """The whole file, but for namespaces and the capability mask."""

    hostname: str | None = None
    user: str | None = None
    working_dir: str | None = None
    environment: tuple[str, ...] = ()
    tty: bool = False
    readonly_fs: bool = False
    no_pivot_root: bool = False
    capabilities: tuple[str, ...] = ()
    networks: tuple[LegacyNetwork, ...] = ()
    routes: tuple[LegacyRoute, ...] = ()
    cgroups: LegacyCgroups | None = None
    context: tuple[tuple[str, str], ...] = ()
    mounts: tuple[LegacyMount, ...] = ()
    device_nodes: tuple[LegacyDevice, ...] = ()
    mount_config: LegacyMountConfig | None = None
    root_fs: str | None = None
    apparmor_profile: str | None = None
    process_label: str | None = None
    restrict_sys: bool = False
    ipc: str | None = None
    rlimits: tuple[LegacyRlimit, ...] = ()
