"""Configurations as container.json of 2014, generation E, for what that file can say.

What was written is read again, and compared: what does not come back is what such a file can't say, and an error.
"""

from __future__ import annotations

from kernelproof.impl.libcontainer.config import jsontext, names
from kernelproof.impl.libcontainer.config.legacy import FILE, NAMESPACES, convert_legacy
from kernelproof.impl.libcontainer.config.legacy_conversion import DEV, EVERY_DEVICE, HIDDEN, PROC, PTS, SHM, SYS
from kernelproof.impl.libcontainer.config.legacy_records import (
    LegacyCgroups,
    LegacyContainer,
    LegacyDevice,
    LegacyMount,
    LegacyMountConfig,
    LegacyNetwork,
    LegacyRlimit,
    LegacyRoute,
)
from kernelproof.impl.libcontainer.config.problems import ConfigError, Problem
from kernelproof.impl.libcontainer.config.templates import VERSION
from kernelproof.impl.libcontainer.config.writing import compare, to_value

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.config.records import Config, DeviceRule, Linux, Mount, Network, Resources

SYSTEM = frozenset((DEV, PROC, SYS, SYS.replace(options=(*SYS.options, "ro")), SHM, PTS))
_KEYS = {kind: key for key, (kind, _) in NAMESPACES.items()}


def dump_legacy(config: Config, indent: int | None = 4) -> str:
    """The text of a container.json of generation E that means the same.

    The program and its arguments are left out: they never were in such a file.

    Raises:
        ConfigError: the configuration says what such a file can't; each such place is a problem.
    """
    value = to_legacy(config)
    again, problems, _ = convert_legacy(value, config.process.args if config.process else ())
    lost = [
        Problem(difference.path, difference.left, f"container.json of 2014 can't say it; read again it is {text}")
        for difference in compare(config.replace(oci_version=VERSION), again)
        if (text := difference.right or "absent")
    ]
    if lost or problems:
        raise ConfigError(FILE, [*lost, *problems])
    return jsontext.format_value(value, indent) + ("" if indent is None else "\n")


def to_legacy(config: Config) -> dict[str, object]:
    """The nearest container.json of generation E, as a JSON value; `dump_legacy` says whether it is near enough."""
    process, linux = config.process, config.linux
    kinds = {namespace.type: namespace.path for namespace in linux.namespaces}
    mounts = tuple([_mount(mount) for mount in config.mounts if mount not in SYSTEM])
    joined = kinds.get("network")
    container = LegacyContainer(
        hostname=config.hostname,
        user=process.user.lookup if process else None,
        working_dir=process.cwd if process else None,
        environment=process.env if process else (),
        tty=bool(process and process.terminal),
        networks=(
            *[_network(network) for network in config.networks],
            *([LegacyNetwork("netns", ns_path=joined)] if joined else []),
        ),
        routes=tuple([LegacyRoute(*route.values()) for route in config.routes]),  # type: ignore[arg-type]
        cgroups=_cgroups(linux),
        root_fs=config.root.path if config.root and config.root.path != "." else None,
        mount_config=LegacyMountConfig(
            no_pivot_root=config.no_pivot_root,
            readonly_fs=bool(config.root and config.root.readonly),
            mounts=mounts,
            device_nodes=_devices(linux),
            mount_label=linux.mount_label,
        ),
        apparmor_profile=process.apparmor_profile if process else None,
        process_label=process.selinux_label if process else None,
        restrict_sys=linux.masked_paths == HIDDEN,
        ipc=kinds.get("ipc"),
        rlimits=_rlimits(config),
    )
    value = to_value(container)
    value.setdefault("mount_config", {})  # what makes it generation E
    value["namespaces"] = {_KEYS[kind]: True for kind, path in kinds.items() if kind in _KEYS and not path}
    kept = process.capabilities.bounding if process and process.capabilities else ()
    value["capabilities"] = [name.removeprefix("CAP_") for name in kept]
    return value


def _rlimits(config: Config) -> tuple[LegacyRlimit, ...]:
    limits = config.process.rlimits if config.process else ()
    return tuple([LegacyRlimit(names.RLIMITS.index(limit.type), limit.hard, limit.soft) for limit in limits])


def _mount(mount: Mount) -> LegacyMount:
    return LegacyMount(
        "bind",
        mount.source,
        mount.destination,
        writable="rw" in mount.options,
        private="private" in mount.options,
        slave="slave" in mount.options,
    )


def _network(network: Network) -> LegacyNetwork:
    return LegacyNetwork(
        network.type,
        bridge=network.bridge,
        veth_prefix=network.veth_prefix,
        ns_path=network.ns_path,
        address=network.address,
        gateway=network.gateway,
        mtu=network.mtu,
        mac_address=network.mac_address,
        ipv6_address=network.ipv6_address,
        ipv6_gateway=network.ipv6_gateway,
        txqueuelen=network.tx_queue_length,
    )


def _devices(linux: Linux) -> tuple[LegacyDevice, ...]:
    return tuple(
        [
            LegacyDevice(ord(device.type), device.path, device.major or 0, device.minor or 0, "", device.file_mode)
            for device in linux.devices
        ]
    )


def _cgroups(linux: Linux) -> LegacyCgroups | None:
    resources = linux.resources
    if resources is None and linux.cgroups_path is None:
        return None
    parent, _, name = (linux.cgroups_path or "").rpartition("/")
    limits = LegacyCgroups(name or None, parent.strip("/") or None)
    if resources is None:
        return limits
    cpu, memory = resources.cpu, resources.memory
    if cpu is not None:
        limits = limits.replace(
            cpu_shares=cpu.shares or 0,
            cpu_quota=cpu.quota or 0,
            cpu_period=cpu.period or 0,
            cpuset_cpus=cpu.cpus,
            cpuset_mems=cpu.mems,
        )
    if memory is not None:
        limits = limits.replace(
            memory=memory.limit or 0, memory_reservation=memory.reservation or 0, memory_swap=memory.swap or -1
        )
    return limits.replace(**_device_rules(resources))


def _device_rules(resources: Resources) -> dict[str, object]:
    if resources.devices == (EVERY_DEVICE,):
        return {"allow_all_devices": True}
    return {"allowed_devices": tuple([_allowed(rule) for rule in resources.devices if rule.allow])}


def _allowed(rule: DeviceRule) -> LegacyDevice:
    numbers = [-1 if number is None else number for number in (rule.major, rule.minor)]
    return LegacyDevice(ord((rule.type or "c")[:1] or "c"), "", numbers[0], numbers[1], rule.access or "")
