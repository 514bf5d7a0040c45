"""Whether what stands below `linux` can hold together: namespaces with what needs them, mappings, devices, paths.

Source: OCI runtime specification 1.3, config-linux.md; user_namespaces(7), time_namespaces(7).
"""

from __future__ import annotations

from kernelproof.impl.libcontainer.config import names
from kernelproof.impl.libcontainer.config.checking_resources import check_cpu_list, check_resources

TYPE_CHECKING = False  # typing would cost 6 ms at every start
if TYPE_CHECKING:
    from kernelproof.impl.libcontainer.config import checking_seccomp
    from kernelproof.impl.libcontainer.config.findings import Findings
    from kernelproof.impl.libcontainer.config.records import (
        Config,
        Device,
        IdMapping,
        IntelRdt,
        Linux,
        MemoryPolicy,
        Mount,
        Namespace,
        User,
    )
else:
    from kernelproof.impl._syscalls.late import Late

    checking_seccomp = Late("kernelproof.impl.libcontainer.config.checking_seccomp")

MOST_MAPPINGS = 340  # user_namespaces(7): lines of a map since Linux 4.15
IDS = 1 << 32
NAMESPACES = ("$.linux.namespaces",)  # by which much is right or wrong
INTERFACE_BYTES = 15  # IFNAMSIZ less its NUL


def check_linux(config: Config, found: Findings) -> None:
    """Everything below `linux`, and how the rest of the configuration agrees with it."""
    linux = config.linux
    kinds = _namespaces(linux, found)
    _user_namespace(config, kinds.get("user"), found)
    _time_offsets(linux, kinds.get("time"), found)
    _paths(linux, kinds, found)
    for index, device in enumerate(linux.devices):
        _device(device, f"$.linux.devices[{index}]", found)
    if linux.net_devices:
        _net_devices(linux, kinds, found)
    for key, value in linux.sysctl:
        _sysctl(key, value, kinds, found)
    if linux.resources is not None:
        check_resources(linux.resources, found)
    if linux.seccomp is not None:
        checking_seccomp.check_seccomp(linux.seccomp, found)
    _rare(linux, found)


def _namespaces(linux: Linux, found: Findings) -> dict[str, Namespace]:
    kinds: dict[str, Namespace] = {}
    for index, namespace in enumerate(linux.namespaces):
        at = f"$.linux.namespaces[{index}]"
        found.one_of(f"{at}.type", namespace.type, names.NAMESPACES, "namespace")
        if namespace.type in kinds:
            found.wrong(f"{at}.type", namespace.type, "the namespace stands twice in the list", "Keep one of them")
        kinds[namespace.type] = namespace
        if namespace.path:
            found.absolute(f"{at}.path", namespace.path)
    return kinds


def _user_namespace(config: Config, user: Namespace | None, found: Findings) -> None:
    linux = config.linux
    mappings = (("uidMappings", linux.uid_mappings), ("gidMappings", linux.gid_mappings))
    for key, entries in mappings:
        at = f"$.linux.{key}"
        if user is None and entries:
            remedy = 'Add {"type": "user"} to linux.namespaces'
            found.wrong(at, entries, "there is no user namespace to map for", remedy, given=NAMESPACES)
        elif user is not None and user.path and entries:
            found.odd(
                at,
                entries,
                "a user namespace that is joined by its path has its mappings already: these must be the same",
            )
        elif user is not None and not user.path and not entries:
            remedy = f'Add "{key}": [{{"containerID": 0, "hostID": 100000, "size": 65536}}]'
            found.wrong(at, None, "a new user namespace needs mappings", remedy, given=NAMESPACES)
        check_mappings(entries, at, found)
    if user is not None and config.process is not None:
        _mapped(config.process.user, linux, found)


def check_mappings(entries: tuple[IdMapping, ...], at: str, found: Findings) -> None:
    """Ranges of IDs: not empty, within 32 bits, apart from each other on both sides."""
    if len(entries) > MOST_MAPPINGS:
        found.wrong(at, entries, f"the kernel takes at most {MOST_MAPPINGS} ranges")
    for index, entry in enumerate(entries):
        where = f"{at}[{index}]"
        if not entry.size:
            found.wrong(f"{where}.size", 0, "a range has at least one ID")
        for key, first in (("containerID", entry.container_id), ("hostID", entry.host_id)):
            if first + entry.size >= IDS:
                rule = f"with {entry.size} IDs the range leaves the 32 bits that IDs have"
                found.wrong(f"{where}.{key}", first, rule)
    if len(entries) > 1:
        inside = [(entry.container_id, entry.size, index) for index, entry in enumerate(entries)]
        _apart(sorted(inside), at, "inside", found)
        outside = [(entry.host_id, entry.size, index) for index, entry in enumerate(entries)]
        _apart(sorted(outside), at, "outside", found)


def _apart(ranges: list[tuple[int, int, int]], at: str, side: str, found: Findings) -> None:
    end, owner = 0, 0
    for first, size, index in ranges:
        if first < end:
            one, other = f"{at}[{max(index, owner)}]", f"{at}[{min(index, owner)}]"
            found.wrong(one, None, f"it overlaps {other} {side}", given=(other,))
        if first + size > end:
            end, owner = first + size, index


def is_mapped(value: int, entries: tuple[IdMapping, ...]) -> bool:
    """Whether an ID of the container has one on the host."""
    return any(entry.container_id <= value < entry.container_id + entry.size for entry in entries)


def _mapped(user: User, linux: Linux, found: Findings) -> None:
    wanted = [("uid", user.uid, "uid"), ("gid", user.gid, "gid")]
    if user.lookup is not None:
        wanted = []
    wanted += [(f"additionalGids[{i}]", gid, "gid") for i, gid in enumerate(user.additional_gids)]
    for key, value, kind in wanted:
        entries = linux.uid_mappings if kind == "uid" else linux.gid_mappings
        if entries and not is_mapped(value, entries):
            rule, remedy = "the user namespace does not map it", "Widen the mappings of linux"
            grounds = (f"$.linux.{kind}Mappings", *NAMESPACES)
            found.wrong(f"$.process.user.{key}", value, rule, remedy, given=grounds)


def check_mount_mappings(mount: Mount, bind: bool, at: str, found: Findings) -> None:
    """The mappings of a mount of its own: both kinds, and only for a bind mount."""
    if not bind:
        rule = "only a bind mount can be id-mapped"
        found.wrong(f"{at}.uidMappings", mount.uid_mappings or None, rule, given=(f"{at}.options",))
    if bool(mount.uid_mappings) != bool(mount.gid_mappings):
        found.wrong(at, None, "uidMappings and gidMappings are given together, or neither")
    check_mappings(mount.uid_mappings, f"{at}.uidMappings", found)
    check_mappings(mount.gid_mappings, f"{at}.gidMappings", found)


def _time_offsets(linux: Linux, time: Namespace | None, found: Findings) -> None:
    if not linux.time_offsets:
        return
    if time is None:
        remedy = 'Add {"type": "time"} to linux.namespaces'
        rule = "there is no time namespace to set clocks in"
        found.wrong("$.linux.timeOffsets", None, rule, remedy, given=NAMESPACES)
    elif time.path:
        rule = "the clocks of a time namespace that is joined can't be set"
        found.wrong("$.linux.timeOffsets", None, rule, "Remove it", given=NAMESPACES)
    for clock, offset in linux.time_offsets:
        at = f"$.linux.timeOffsets.{clock}"
        found.one_of(at, clock, names.CLOCKS, "clock that can have an offset")
        if offset.nanosecs > 999_999_999:
            found.wrong(f"{at}.nanosecs", offset.nanosecs, "it must be 0 to 999999999")


def _paths(linux: Linux, kinds: dict[str, Namespace], found: Findings) -> None:
    for key, paths in (("maskedPaths", linux.masked_paths), ("readonlyPaths", linux.readonly_paths)):
        if paths and "mount" not in kinds:
            rule = "the host's own paths would be changed: there is no mount namespace"
            found.wrong(f"$.linux.{key}", paths, rule, 'Add {"type": "mount"} to linux.namespaces', given=NAMESPACES)
        for index, path in enumerate(paths):
            found.absolute(f"$.linux.{key}[{index}]", path)
    if linux.rootfs_propagation:
        found.one_of("$.linux.rootfsPropagation", linux.rootfs_propagation, names.PROPAGATIONS, "propagation")


def _device(device: Device, at: str, found: Findings) -> None:
    found.one_of(f"{at}.type", device.type, ("c", "b", "u", "p"), "type of device (c, b, u, p)")
    found.absolute(f"{at}.path", device.path)
    if device.type != "p":
        for key, number, most in (("major", device.major, (1 << 12) - 1), ("minor", device.minor, (1 << 20) - 1)):
            if number is None:
                found.wrong(f"{at}.{key}", None, "it is required unless the type is p", given=(f"{at}.type",))
            elif not 0 <= number <= most:
                found.wrong(f"{at}.{key}", number, f"it must be 0 to {most}")
    if device.file_mode is not None and device.file_mode > 0o177777:
        found.wrong(f"{at}.fileMode", device.file_mode, "it must be 0 to 4095 (octal 7777)")


def _net_devices(linux: Linux, kinds: dict[str, Namespace], found: Findings) -> None:
    if "network" not in kinds:
        remedy = 'Add {"type": "network"} to linux.namespaces'
        rule = "there is no network namespace to move interfaces to"
        found.wrong("$.linux.netDevices", None, rule, remedy, given=NAMESPACES)
    inside: dict[str, str] = {}
    for name, device in linux.net_devices:
        at = f"$.linux.netDevices.{name}"
        _interface(name, at, found)
        if device.name:
            _interface(device.name, f"{at}.name", found)
        target = device.name or name
        if target in inside and "%d" not in target:
            found.wrong(at, target, "two interfaces would get this name", given=(inside[target],))
        inside[target] = at


def _interface(name: str, at: str, found: Findings) -> None:
    odd = any(character in "/:" or character.isspace() for character in name)
    if odd or name in ("", ".", "..") or len(name.encode()) > INTERFACE_BYTES:
        found.wrong(at, name, f"it can't be an interface's name: 1 to {INTERFACE_BYTES} bytes without / : and blanks")
    elif name.count("%") > 1 or ("%" in name and "%d" not in name):
        found.wrong(at, name, "of patterns, one %d is possible")


# Keys of a namespace: sysctl(2) leaves all others to the host.
_IPC_KEYS = frozenset(
    [
        f"kernel.{name}"
        for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")
    ]
)


def sysctl_parts(key: str) -> tuple[str, ...]:
    """The parts of a key as directories below /proc/sys. The first of . and / separates; the other is then a letter.

    net.ipv4.conf.eth0/1.forwarding and net/ipv4/conf/eth0.1/forwarding are the same.

    Source: sysctl.d(5).
    """
    dot, slash = key.find("."), key.find("/")
    if slash >= 0 and (dot < 0 or slash < dot):
        return tuple(key.split("/"))
    return tuple([part.replace("/", ".") for part in key.split(".")])


def _sysctl(key: str, value: str, kinds: dict[str, Namespace], found: Findings) -> None:
    at = f'$.linux.sysctl["{key}"]'
    parts = sysctl_parts(key)
    if len(parts) < 2 or any(part in ("", ".", "..") for part in parts):
        found.wrong(at, value, "it is no key of sysctl")
        return
    name = ".".join(parts)
    if name == "kernel.hostname":
        found.wrong(at, value, "the host name has a place of its own", "Use hostname")
        return
    needed = _namespace_of(name)
    if needed is None:
        found.wrong(at, value, "it belongs to no namespace: it would be set for the host", "Set it on the host")
    elif needed not in kinds:
        remedy = f'Add {{"type": "{needed}"}} to linux.namespaces'
        rule = f"it would be set for the host: there is no {needed} namespace"
        found.wrong(at, value, rule, remedy, given=NAMESPACES)


def _namespace_of(name: str) -> str | None:
    if name in _IPC_KEYS or name.startswith("fs.mqueue."):
        return "ipc"
    if name == "kernel.domainname":
        return "uts"
    return {"net": "network", "user": "user"}.get(name.partition(".")[0])


def _rare(linux: Linux, found: Findings) -> None:
    if linux.personality is not None:
        found.one_of("$.linux.personality.domain", linux.personality.domain, names.PERSONALITIES, "personality")
        if linux.personality.flags:
            found.wrong("$.linux.personality.flags", linux.personality.flags, "no flags are possible", "Remove them")
    if linux.memory_policy is not None:
        _memory_policy(linux.memory_policy, "$.linux.memoryPolicy", found)
    if linux.intel_rdt is not None:
        _intel_rdt(linux.intel_rdt, "$.linux.intelRdt", found)


def _memory_policy(policy: MemoryPolicy, at: str, found: Findings) -> None:
    mode = (f"{at}.mode",)
    found.one_of(f"{at}.mode", policy.mode, names.MEMORY_POLICY_MODES, "mode")
    for index, flag in enumerate(policy.flags):
        found.one_of(f"{at}.flags[{index}]", flag, names.MEMORY_POLICY_FLAGS, "flag")
    if {"MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"} <= set(policy.flags):
        found.wrong(f"{at}.flags", policy.flags, "static and relative nodes exclude each other")
    if policy.mode in ("MPOL_DEFAULT", "MPOL_LOCAL"):
        if policy.nodes:
            found.wrong(f"{at}.nodes", policy.nodes, f"{policy.mode} takes no nodes", "Remove them", given=mode)
    elif not policy.nodes and policy.mode != "MPOL_PREFERRED":
        rule = f"{policy.mode} needs nodes"
        found.wrong(f"{at}.nodes", policy.nodes, rule, 'Write a list such as "0-1"', given=mode)
    if policy.nodes:
        check_cpu_list(policy.nodes, f"{at}.nodes", found)


def _intel_rdt(rdt: IntelRdt, at: str, found: Findings) -> None:
    if rdt.clos_id is not None and (rdt.clos_id in ("", ".", "..") or "/" in rdt.clos_id):
        found.wrong(f"{at}.closID", rdt.clos_id, "it is one directory's name below resctrl")
    for key, text in (("l3CacheSchema", rdt.l3_cache_schema), ("memBwSchema", rdt.mem_bw_schema)):
        if text and "\n" in text:
            found.wrong(f"{at}.{key}", text, "it is one line", "Use schemata for several")
    if rdt.mem_bw_schema and not rdt.mem_bw_schema.startswith("MB:"):
        found.wrong(f"{at}.memBwSchema", rdt.mem_bw_schema, "it begins with MB:")
