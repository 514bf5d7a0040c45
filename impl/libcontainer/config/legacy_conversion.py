"""What container.json of 2014 says, in the words of config.json: the mounts that were always made, limits, networks.

Source: docker/libcontainer v1.0.0 to v1.4.0, mount/init.go, network/, cgroups/cgroups.go, security/restrict.
"""

from __future__ import annotations

from kernelproof.impl.libcontainer.config import names
from kernelproof.impl.libcontainer.config.records import (
    Capabilities,
    Config,
    Cpu,
    Device,
    DeviceRule,
    Linux,
    Memory,
    Mount,
    Namespace,
    Network,
    Process,
    Resources,
    Rlimit,
    Root,
    Route,
    User,
)
from kernelproof.impl.libcontainer.config.templates import VERSION

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.config.findings import Findings
    from kernelproof.impl.libcontainer.config.legacy_records import (
        LegacyCgroups,
        LegacyContainer,
        LegacyDevice,
        LegacyMount,
        LegacyNetwork,
    )

# The mounts that were always made, in this order: mount/init.go, newSystemMounts.
DEV = Mount("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755"))
PROC = Mount("/proc", "proc", "proc", ("noexec", "nosuid", "nodev"))
SYS = Mount("/sys", "sysfs", "sysfs", ("noexec", "nosuid", "nodev"))
SHM = Mount("/dev/shm", "tmpfs", "shm", ("noexec", "nosuid", "nodev", "mode=1777", "size=65536k"))
PTS = Mount("/dev/pts", "devpts", "devpts", ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=620", "gid=5"))

RESTRICTED = ("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus")
HIDDEN = ("/proc/kcore",)
EVERY_DEVICE = DeviceRule(allow=True, type="a", access="rwm")
NO_DEVICE = DeviceRule(allow=False, access="rwm")


def convert(
    container: LegacyContainer,
    kind: str,
    namespaces: tuple[str, ...],
    kept: tuple[str, ...],
    args: tuple[str, ...],
    found: Findings,
) -> Config:
    """The configuration that a container.json of generation `kind` means; what it can't mean is noted."""
    context = dict(container.context)
    for key in context:
        if key not in ("apparmor_profile", "mount_label", "process_label", "restrictions", "restriction_path"):
            found.odd(f"$.context.{key}", context[key], "no such key is known here; it is ignored")
    inner = container.mount_config
    restricted = container.restrict_sys or bool(context.get("restrictions") or context.get("restriction_path"))
    networks, joined = _networks(container.networks, namespaces, found)
    listed = [Namespace(name) for name in namespaces]
    if container.ipc:
        listed = [*[namespace for namespace in listed if namespace.type != "ipc"], Namespace("ipc", container.ipc)]
    linux = Linux(
        namespaces=(*listed, *[Namespace("network", path) for path in joined]),
        devices=_devices(container, found),
        cgroups_path=_cgroups_path(container.cgroups, found),
        resources=None if container.cgroups is None else _resources(container.cgroups, kind, found),
        masked_paths=HIDDEN if restricted else (),
        readonly_paths=RESTRICTED if restricted else (),
        mount_label=(inner.mount_label if inner else None) or context.get("mount_label") or None,
    )
    return Config(
        VERSION,
        Root(container.root_fs or ".", readonly=container.readonly_fs or bool(inner and inner.readonly_fs)),
        _process(container, kept, args, context, found),
        hostname=container.hostname or None,
        mounts=_mounts(container, kind, restricted, found),
        linux=linux,
        networks=networks,
        routes=tuple([Route(*route.values()) for route in container.routes]),  # type: ignore[arg-type]
        no_pivot_root=container.no_pivot_root or bool(inner and inner.no_pivot_root),
    )


def _process(
    container: LegacyContainer, kept: tuple[str, ...], args: tuple[str, ...], context: dict[str, str], found: Findings
) -> Process:
    for index, entry in enumerate(container.environment):
        if entry.find("=") < 1:
            found.wrong(f"$.environment[{index}]", entry, "an entry is NAME=value")
    rlimits = []
    for index, limit in enumerate(container.rlimits):
        if 0 <= limit.type < len(names.RLIMITS):
            rlimits.append(Rlimit(names.RLIMITS[limit.type], limit.hard, limit.soft))
        else:
            found.wrong(f"$.rlimits[{index}].type", limit.type, "no limit has this number", "setrlimit(2) has the list")
    return Process(
        container.working_dir or "/",
        args,
        container.environment,
        User(lookup=container.user) if container.user else User(),
        terminal=container.tty,
        capabilities=Capabilities(bounding=kept, effective=kept, permitted=kept),
        rlimits=tuple(rlimits),
        apparmor_profile=container.apparmor_profile or context.get("apparmor_profile") or None,
        selinux_label=container.process_label or context.get("process_label") or None,
    )


def _mounts(container: LegacyContainer, kind: str, restricted: bool, found: Findings) -> tuple[Mount, ...]:
    inner = container.mount_config
    given = [(f"$.mounts[{index}]", mount) for index, mount in enumerate(container.mounts)]
    if inner is not None:
        given += [(f"$.mount_config.mounts[{index}]", mount) for index, mount in enumerate(inner.mounts)]
    private_dev = kind in "DE" or any(mount.type == "devtmpfs" for _, mount in given)
    system = SYS.replace(options=(*SYS.options, "ro")) if restricted else SYS
    mounts = [*([DEV] if private_dev else []), PROC, system, SHM, PTS]
    for at, mount in given:
        if mount.type == "bind":
            mounts.append(_bind(mount, at, found))
        elif mount.type != "devtmpfs":
            found.wrong(f"{at}.type", mount.type, "bind or devtmpfs", "Other types were ignored in silence")
    return tuple(mounts)


def _bind(mount: LegacyMount, at: str, found: Findings) -> Mount:
    for key, value in (("source", mount.source), ("destination", mount.destination)):
        if not value:
            found.wrong(f"{at}.{key}", value, "a path is needed")
    if mount.relabel:
        found.odd(f"{at}.relabel", mount.relabel, "files are not relabelled; label them before")
    options = ["rbind", "rw" if mount.writable else "ro"]
    options += [word for word, wanted in (("private", mount.private), ("slave", mount.slave)) if wanted]
    return Mount(mount.destination or "/", "bind", mount.source or "/", tuple(options))


def _networks(
    given: tuple[LegacyNetwork, ...], namespaces: tuple[str, ...], found: Findings
) -> tuple[tuple[Network, ...], tuple[str, ...]]:
    """The networks to make, and the paths of those to join: at most one."""
    made, joined = [], []
    for index, network in enumerate(given):
        at = f"$.networks[{index}]"
        context = dict(network.context)
        if network.type == "netns":
            path = network.ns_path or context.get("nspath")
            if not path:
                found.wrong(f"{at}.context.nspath", None, "the namespace to join has to be named")
            elif "network" in namespaces:
                found.wrong(at, None, "a network namespace is joined and made", "Take NEWNET out of namespaces")
            else:
                joined.append(path)
        elif network.type == "veth":
            made.append(_veth(network, context, at, found))
        elif network.type == "loopback":
            made.append(Network("loopback", mtu=network.mtu or None))
        else:
            found.wrong(f"{at}.type", network.type, "no such network strategy", "veth, loopback or netns")
    if len(joined) > 1:
        found.wrong("$.networks", given, "only one network namespace can be joined")
    return tuple(made), tuple(joined[:1])


def _veth(network: LegacyNetwork, context: dict[str, str], at: str, found: Findings) -> Network:
    bridge, prefix = network.bridge or context.get("bridge"), network.veth_prefix or context.get("prefix")
    if not bridge:
        found.wrong(f"{at}.bridge", bridge, "a veth needs a bridge on the host")
    if not prefix:
        found.wrong(f"{at}.veth_prefix", prefix, "a veth needs the beginning of its names on the host")
    return Network(
        "veth",
        bridge=bridge,
        veth_prefix=prefix,
        address=network.address,
        gateway=network.gateway,
        mtu=network.mtu or None,
        mac_address=network.mac_address,
        ipv6_address=network.ipv6_address,
        ipv6_gateway=network.ipv6_gateway,
        tx_queue_length=network.txqueuelen,
    )


def _devices(container: LegacyContainer, found: Findings) -> tuple[Device, ...]:
    nodes = [(f"$.device_nodes[{index}]", node) for index, node in enumerate(container.device_nodes)]
    if container.mount_config is not None:
        inner = container.mount_config.device_nodes
        nodes += [(f"$.mount_config.device_nodes[{index}]", node) for index, node in enumerate(inner)]
    return tuple(
        [
            Device(_letter(node, at, found), node.path, node.major_number, node.minor_number, node.file_mode)
            for at, node in nodes
        ]
    )


def _letter(node: LegacyDevice, at: str, found: Findings) -> str:
    letter = chr(node.type) if 0 < node.type < 128 else ""
    if letter not in ("c", "b"):
        found.wrong(f"{at}.type", node.type, "99 (a character device) or 98 (a block device)")
        return "c"
    return letter


def _cgroups_path(cgroups: LegacyCgroups | None, found: Findings) -> str | None:
    if cgroups is None:
        return None
    if cgroups.slice:
        remedy = "With --systemd-cgroup write linux.cgroupsPath as slice:prefix:name"
        found.odd("$.cgroups.slice", cgroups.slice, "only systemd has slices; it is ignored", remedy)
    path = "/".join([part.strip("/") for part in (cgroups.parent, cgroups.name) if part])
    return f"/{path}" if path else None


def _resources(cgroups: LegacyCgroups, kind: str, found: Findings) -> Resources:
    if cgroups.freezer == "FROZEN":
        found.wrong("$.cgroups.freezer", "FROZEN", "a container that is born frozen never starts", "Use pause")
    everything = cgroups.device_access or cgroups.allow_all_devices
    allowed = tuple(
        [
            DeviceRule(
                allow=True,
                type=_letter(device, f"$.cgroups.allowed_devices[{index}]", found),
                major=None if device.major_number == -1 else device.major_number,
                minor=None if device.minor_number == -1 else device.minor_number,
                access=device.cgroup_permissions or None,
            )
            for index, device in enumerate(cgroups.allowed_devices)
        ]
    )
    return Resources(
        devices=(EVERY_DEVICE,) if everything else (NO_DEVICE, *allowed),
        memory=_memory(cgroups, kind),
        cpu=_cpu(cgroups),
    )


def _memory(cgroups: LegacyCgroups, kind: str) -> Memory | None:
    """Zero was "not set", and swap then twice the memory; B had no reservation and set it as high as the limit."""
    memory = cgroups.memory
    reservation = cgroups.memory_reservation or (memory if kind == "B" else 0)
    swap = None if cgroups.memory_swap == -1 else cgroups.memory_swap or 2 * memory
    found = Memory(memory or None, reservation or None, (swap or None) if memory else None)
    return None if found == Memory() else found


def _cpu(cgroups: LegacyCgroups) -> Cpu | None:
    found = Cpu(
        shares=cgroups.cpu_shares or None,
        quota=cgroups.cpu_quota or None,
        period=cgroups.cpu_period or None,
        cpus=cgroups.cpuset_cpus or None,
        mems=cgroups.cpuset_mems or None,
    )
    return None if found == Cpu() else found
